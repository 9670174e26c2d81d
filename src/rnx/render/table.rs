//! `job list -o table` and `-o wide`.

use super::super::terminal::one_line;
use super::fit::{cut, padded, width};
use super::text::{NO_JOBS, start_of, status_word};
use super::words::{command_line, has_exit_code};
use crate::pb::joblet::Job;

/// Where commands are cut on a terminal, columns; pipes and `wide` get them whole.
const COMMAND_WIDTH: usize = 80;

/// One column: its heading and what a job has in it.
type Column = (&'static str, fn(&Job) -> String);

const TABLE: &[Column] = &[
    ("ID", |j| j.uuid.clone()),
    ("NAME", |j| or_dash(&j.name)),
    ("NODE ID", |j| or_dash(&j.nodeId)),
    ("STATUS", status),
    ("START TIME", |j| time(start_of(j).unwrap_or_default())),
    ("COMMAND", |j| command_line(&j.command, &j.args)),
];

const WIDE: &[Column] = &[
    ("ID", |j| j.uuid.clone()),
    ("NAME", |j| or_dash(&j.name)),
    ("NODE ID", |j| or_dash(&j.nodeId)),
    ("STATUS", status),
    ("START TIME", |j| time(start_of(j).unwrap_or_default())),
    ("END TIME", |j| time(&j.endTime)),
    ("SCHEDULED", |j| time(&j.scheduledTime)),
    ("QUEUE", |j| if j.queue_position > 0 { j.queue_position.to_string() } else { "-".into() }),
    ("WAIT REASON", |j| or_dash(&j.wait_reason)),
    ("EXIT", |j| if has_exit_code(&j.status) { j.exitCode.to_string() } else { "-".into() }),
    ("REASON", |j| or_dash(&j.exit_reason)),
    ("CPU", |j| j.maxCPU.to_string()),
    ("MEMORY", |j| j.maxMemory.to_string()),
    ("IOBPS", |j| j.maxIOBPS.to_string()),
    ("CORES", |j| or_dash(&j.cpuCores)),
    ("NETWORK", |j| or_dash(&j.network)),
    ("COMMAND", |j| command_line(&j.command, &j.args)),
];

/// The status, and whether the job is paused.
fn status(job: &Job) -> String {
    if job.frozen_since.is_empty() { job.status.clone() } else { format!("{} (paused)", job.status) }
}

/// How a table is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    /// Print every column.
    pub(crate) wide: bool,
    /// Status words in colour.
    pub(crate) colour: bool,
    /// Long commands cut: stdout is a terminal.
    pub(crate) cut: bool,
}

/// The table, columns padded to their contents.
pub(crate) fn table(jobs: &[Job], style: Style) -> String {
    if jobs.is_empty() {
        return NO_JOBS.to_string();
    }
    let columns = if style.wide { WIDE } else { TABLE };
    let mut rows: Vec<Vec<String>> = vec![columns.iter().map(|(heading, _)| heading.to_string()).collect()];
    for job in jobs {
        rows.push(columns.iter().map(|(heading, cell)| fit(heading, one_line(&cell(job)), style)).collect());
    }
    let longest = |i: usize| rows.iter().map(|r| width(&r[i])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(longest).collect();
    let status = columns.iter().position(|(heading, _)| *heading == "STATUS");
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, columns))| {
            let coloured = style.colour && number > 0 && Some(at) == status;
            status_word(cell, coloured) + &padded("", columns - width(cell))
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
        if number == 0 {
            let rule: Vec<String> = widths.iter().map(|w| "-".repeat(*w)).collect();
            text.push_str(&rule.join("  "));
            text.push('\n');
        }
    }
    text
}

fn fit(heading: &str, cell: String, style: Style) -> String {
    if heading != "COMMAND" || style.wide || !style.cut { cell } else { cut(&cell, COMMAND_WIDTH) }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}

/// `2024-01-15T10:30:00Z` as two columns of digits; anything else stays as it is.
fn time(rfc3339: &str) -> String {
    match (rfc3339.get(..10), rfc3339.get(10..11), rfc3339.get(11..19)) {
        (Some(date), Some("T"), Some(clock)) => format!("{date} {clock}"),
        _ if rfc3339.is_empty() => "N/A".into(),
        _ => rfc3339.into(),
    }
}
