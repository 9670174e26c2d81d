//! `job status --security`: a row for each layer around a running job.

use serde::Serialize;

use super::super::terminal::one_line;
use crate::pb::joblet::SecurityLayer;

/// One layer for `--json`.
#[derive(Debug, Serialize)]
pub(crate) struct Row<'a> {
    layer: &'a str,
    expected: &'a str,
    seen: &'a str,
    ok: bool,
    unenforced: bool,
}

/// Makes a [`Row`] from the server's message.
pub(crate) fn row(layer: &SecurityLayer) -> Row<'_> {
    Row {
        layer: &layer.layer,
        expected: &layer.expected,
        seen: &layer.seen,
        ok: layer.ok,
        unenforced: layer.unenforced,
    }
}

/// Whether a layer is not as promised.
pub(crate) fn is_broken(layer: &SecurityLayer) -> bool {
    !layer.ok && !layer.unenforced
}

/// The table and its sum.
pub(crate) fn table(layers: &[SecurityLayer], colour: bool) -> String {
    let mut rows = vec![["LAYER", "", "EXPECTED", "SEEN"].map(str::to_owned)];
    let cells = |l: &SecurityLayer| [l.layer.as_str(), verdict(l), &l.expected, &l.seen].map(one_line);
    rows.extend(layers.iter().map(cells));
    let widths = [0, 1, 2].map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in &rows {
        let gap = |i: usize| " ".repeat(widths[i] - row[i].chars().count() + 2);
        let (start, end) = match row[1].as_str() {
            "" => ("", ""),
            _ if !colour => ("", ""),
            "ok" => ("\x1b[32m", "\x1b[0m"),
            "NOT OK" => ("\x1b[31m", "\x1b[0m"),
            _ => ("\x1b[33m", "\x1b[0m"),
        };
        let [layer, verdict, expected, seen] = row;
        let line = format!("{layer}{}{start}{verdict}{end}{}{expected}{}{seen}", gap(0), gap(1), gap(2));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let unenforced = layers.iter().filter(|layer| layer.unenforced).count();
    let broken = layers.iter().filter(|layer| is_broken(layer)).count();
    let ok = layers.len() - unenforced - broken;
    text + &format!("{} layers: {ok} ok, {broken} NOT OK, {unenforced} not enforced\n", layers.len())
}

fn verdict(layer: &SecurityLayer) -> &'static str {
    match (layer.unenforced, layer.ok) {
        (true, _) => "not enforced",
        (false, true) => "ok",
        (false, false) => "NOT OK",
    }
}
