//! `job list` on a terminal: one line for each job, as wide as the terminal.

use std::collections::HashSet;

use super::super::terminal::one_line;
use super::fit::{cut, padded, width};
use super::span::{age, between, took};
use super::text::{NO_JOBS, queued, status_word};
use super::words::{command_line, has_exit_code};
use crate::pb::joblet::Job;

const HEADINGS: [&str; 7] = ["ID", "NAME", "STATUS", "EXIT", "AGE", "TOOK", "COMMAND"];
const STATUS: usize = 2;
/// Letters of an id. More where two jobs of the list share these.
const ID_LETTERS: usize = 8;
/// Columns of the widest name, which is cut to a sixth of the terminal within these; names may have 64 characters.
const NAME_COLUMNS: (usize, usize) = (8, 20);

/// The list in a terminal of so many columns. `now` is the time for ages, RFC 3339.
pub(crate) fn overview(jobs: &[Job], columns: usize, now: &str, colour: bool) -> String {
    if jobs.is_empty() {
        return NO_JOBS.to_string();
    }
    let letters = id_letters(jobs);
    let names = (columns / 6).clamp(NAME_COLUMNS.0, NAME_COLUMNS.1);
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(jobs.iter().map(|job| cells(job, letters, names, now)));
    let mut widths = [0; HEADINGS.len()];
    let mut left = columns;
    for (at, column) in widths.iter_mut().enumerate() {
        let widest = rows.iter().map(|row| width(&row[at])).max().unwrap_or(0);
        *column = widest.min(left);
        left = left.saturating_sub(*column + 2);
    }
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(widths).enumerate().filter(|(_, (_, column))| *column > 0);
        let cells = cells.map(|(at, (cell, column))| {
            let shown = cut(cell, column);
            let blanks = padded("", column - width(&shown));
            // A status that is cut is no status word any more, and has no colour.
            status_word(&shown, colour && number > 0 && at == STATUS) + &blanks
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn cells(job: &Job, letters: usize, names: usize, now: &str) -> [String; HEADINGS.len()] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    // Where a server gives no time of creation, the start is the oldest that is known.
    let created = if job.created_time.is_empty() { &job.startTime } else { &job.created_time };
    let end = if job.status == "RUNNING" { now } else { &job.endTime };
    [
        one_line(job.uuid.get(..letters).unwrap_or(&job.uuid)),
        or_dash((!job.name.is_empty()).then(|| cut(&one_line(&job.name), names))),
        one_line(&job.status),
        or_dash(has_exit_code(&job.status).then(|| job.exitCode.to_string())),
        or_dash(between(created, now).map(age)),
        or_dash(between(&job.startTime, end).map(took)),
        command_line(&job.command, &job.args) + &queued(job),
    ]
}

/// The fewest letters, [`ID_LETTERS`] or more, that tell the ids of the list apart.
fn id_letters(jobs: &[Job]) -> usize {
    let ids: HashSet<&str> = jobs.iter().map(|job| job.uuid.as_str()).collect();
    let longest = ids.iter().map(|id| id.len()).max().unwrap_or(0);
    let different = |letters: &usize| {
        let cut: HashSet<&str> = ids.iter().map(|id| id.get(..*letters).unwrap_or(id)).collect();
        cut.len() == ids.len()
    };
    (ID_LETTERS..longest).find(different).unwrap_or(longest)
}
