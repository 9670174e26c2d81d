//! `job denials`: a row for each destination that a job was refused. Names are the job's own words.

use serde::Serialize;

use super::super::terminal::one_line;
use super::fit::{padded, width};
use crate::pb::joblet::{Denial, GetDenialsRes};

/// The JSON of `job denials`.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    denials: Vec<Row<'a>>,
    uncounted: u64,
}

/// One destination in JSON.
#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    address: &'a str,
    port: u32,
    protocol: &'a str,
    count: u64,
    first_time: &'a str,
    rule: &'a str,
    allow: &'a str,
}

/// Makes a [`Shown`] from the server's message.
pub(crate) fn shown(answer: &GetDenialsRes) -> Shown<'_> {
    Shown { denials: answer.denials.iter().map(row).collect(), uncounted: answer.uncounted }
}

fn row(denial: &Denial) -> Row<'_> {
    let Denial { name, address, port, protocol, count, first_time, rule, allow, .. } = denial;
    Row { name, address, port: *port, protocol, count: *count, first_time, rule, allow }
}

/// The table, and a line for what has no row.
pub(crate) fn table(answer: &GetDenialsRes) -> String {
    if answer.denials.is_empty() && answer.uncounted == 0 {
        return "No denials\n".to_owned();
    }
    let mut rows = vec![["COUNT", "SINCE", "DESTINATION", "RULE", "ALLOWED BY"].map(str::to_owned)];
    rows.extend(answer.denials.iter().map(|denial| {
        let count = denial.count.to_string();
        let cells = [&count, &denial.first_time, &destination(denial), &denial.rule, &denial.allow];
        cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { one_line(cell) })
    }));
    let widths: Vec<usize> =
        (0..4).map(|at| rows.iter().map(|row| width(&row[at])).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().enumerate().map(|(at, cell)| match widths.get(at) {
            Some(columns) => cell.clone() + &padded("", columns - width(cell)),
            None => cell.clone(),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    if answer.uncounted > 0 {
        text.push_str(&format!("{} more, to destinations that have no row\n", answer.uncounted));
    }
    text
}

/// The name or the address, with port and protocol.
fn destination(denial: &Denial) -> String {
    let Denial { name, address, port, protocol, .. } = denial;
    match (name.is_empty(), *port) {
        (false, _) => format!("{name} ({protocol})"),
        (true, 0) => format!("{address} ({protocol})"),
        (true, port) if address.contains(':') => format!("[{address}]:{port} ({protocol})"),
        (true, port) => format!("{address}:{port} ({protocol})"),
    }
}
