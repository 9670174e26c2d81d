//! The graph of a workflow as a tree on a terminal: each job once, below the one of its dependencies with the longest way
//! to it; its other dependencies stand behind it. An array is one line with a bar.
//!
//! A graph with more jobs than the terminal has rows is folded: neighbours that have ended well or have not begun become
//! one line with their numbers, so that what runs and what failed stays in sight.

use std::collections::HashMap;

use super::super::terminal::one_line;
use super::fit::{cut, padded, width};
use super::span::{between, took};
use super::text::status_word;
use super::words::{is_terminal_status, short};
use super::workflow::{duration, exit_code, time};
use crate::pb::joblet::{ArrayProgress, GetWorkflowStatusResponse, WorkflowJob};

/// Levels of branches that are drawn; deeper jobs stand at the last of them.
const LEVELS: usize = 12;
/// Most columns of names with their branches.
const NAMES: usize = 44;
/// Columns of the longest status.
const STATUS: usize = 12;
/// Cells of the bar of an array.
const CELLS: i64 = 8;
/// Cells of the bar of the whole workflow.
const ALL_CELLS: i64 = 24;
/// Dependencies that a line names beside the one above it.
const NAMED: usize = 3;
/// Every status, in the order in which sums name them.
const STATUSES: [&str; 8] =
    ["COMPLETED", "FAILED", "STOPPED", "CANCELED", "RUNNING", "INITIALIZING", "SCHEDULED", "PENDING"];

/// The place of each job in the tree. It depends on the dependencies only, so one serves a workflow's whole life.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    job: usize,
    /// The row of the job that it stands below.
    parent: Option<usize>,
    is_last: bool,
}

/// One line below the heading.
enum Item {
    Row(usize),
    /// Rows from this one on that are one line, and how many jobs have each of [`STATUSES`].
    Folded(usize, [usize; STATUSES.len()]),
}

/// The time of a picture and its looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style<'a> {
    /// RFC 3339; running jobs have run until then.
    pub(crate) now: &'a str,
    /// Status words in colour.
    pub(crate) colour: bool,
    /// The first line says which key leaves.
    pub(crate) keys: bool,
}

impl Tree {
    /// The tree of these jobs, in time linear in jobs and dependencies. A server may send a graph with
    /// circles: a job that waits for a circle stands at the first level.
    pub(crate) fn of(jobs: &[WorkflowJob]) -> Tree {
        let by_name: HashMap<&str, usize> =
            jobs.iter().enumerate().map(|(at, job)| (job.jobName.as_str(), at)).collect();
        let named = |job: &WorkflowJob| {
            job.dependencies.iter().filter_map(|name| by_name.get(name.as_str()).copied()).collect()
        };
        let above = parents(&jobs.iter().map(named).collect::<Vec<Vec<usize>>>());
        let (mut below, mut first) = (vec![Vec::new(); jobs.len()], Vec::new());
        for (job, parent) in above.iter().enumerate() {
            parent.map_or(&mut first, |parent| &mut below[parent]).push(job);
        }
        let mut rows: Vec<Row> = Vec::with_capacity(jobs.len());
        // The next one to draw is at the end.
        let mut open: Vec<Row> = siblings(&first, None).collect();
        while let Some(row) = open.pop() {
            open.extend(siblings(&below[row.job], Some(rows.len())));
            rows.push(row);
        }
        Tree { rows }
    }

    /// A picture of the workflow with so many columns and rows.
    pub(crate) fn lines(
        &self,
        of: &GetWorkflowStatusResponse,
        (columns, rows): (usize, usize),
        style: Style<'_>,
    ) -> Vec<String> {
        let mut lines = vec![heading(of, columns, style), cut(&sum(&of.jobs), columns)];
        // Between two answers a server may not change the jobs of a workflow; a row without its job is not drawn.
        let rows_drawn = (0..self.rows.len()).filter(|row| self.rows[*row].job < of.jobs.len());
        let room = rows.saturating_sub(lines.len());
        let mut items: Vec<Item> = rows_drawn.map(Item::Row).collect();
        if items.len() > room {
            items = self.folded(items, &of.jobs);
        }
        let beyond = items.len().saturating_sub(room);
        if beyond > 0 {
            items.truncate(room.saturating_sub(1));
        }
        let names: Vec<String> = items.iter().map(|item| self.name(item, &of.jobs)).collect();
        let widest = names.iter().map(|name| width(name)).max().unwrap_or(0).min(NAMES);
        for (item, name) in items.iter().zip(names) {
            lines.push(match item {
                Item::Folded(..) => cut(&name, columns),
                Item::Row(row) => {
                    self.line(*row, &padded(&cut(&name, widest), widest), &of.jobs, columns, style)
                }
            });
        }
        if beyond > 0 && room > 0 {
            lines.push(cut(&format!("... and {} more lines", beyond + 1), columns));
        }
        lines
    }

    /// Neighbours that have ended well or have not begun as one line.
    fn folded(&self, items: Vec<Item>, jobs: &[WorkflowJob]) -> Vec<Item> {
        let mut folded: Vec<Item> = Vec::new();
        for item in items {
            let Item::Row(row) = item else { continue };
            let status = jobs[self.rows[row].job].status.as_str();
            let Some(place) = STATUSES.iter().position(|known| *known == status).filter(|_| is_quiet(status))
            else {
                folded.push(item);
                continue;
            };
            if let Some(Item::Folded(_, counts)) = folded.last_mut() {
                counts[place] += 1;
            } else {
                let mut counts = [0; STATUSES.len()];
                counts[place] = 1;
                folded.push(Item::Folded(row, counts));
            }
        }
        let single = |item| match item {
            Item::Folded(row, counts) if counts.iter().sum::<usize>() == 1 => Item::Row(row),
            other => other,
        };
        folded.into_iter().map(single).collect()
    }

    fn name(&self, item: &Item, jobs: &[WorkflowJob]) -> String {
        match item {
            Item::Row(row) => self.branch(*row) + &one_line(&jobs[self.rows[*row].job].jobName),
            Item::Folded(row, counts) => format!("{}... {}", self.branch(*row), numbers(counts)),
        }
    }

    /// The branches before a job.
    fn branch(&self, row: usize) -> String {
        let mut parts = Vec::new();
        let mut at = &self.rows[row];
        while let (Some(parent), true) = (at.parent, parts.len() < LEVELS) {
            parts.push(match (parts.is_empty(), at.is_last) {
                (true, true) => "\u{2514}\u{2500} ",
                (true, false) => "\u{251c}\u{2500} ",
                (false, true) => "   ",
                (false, false) => "\u{2502}  ",
            });
            at = &self.rows[parent];
        }
        parts.into_iter().rev().collect()
    }

    fn line(&self, row: usize, name: &str, jobs: &[WorkflowJob], columns: usize, style: Style<'_>) -> String {
        let job = &jobs[self.rows[row].job];
        let above = self.rows[row].parent.map(|parent| jobs[self.rows[parent].job].jobName.as_str());
        let rest =
            [about(job, style.now), others(job, above)].into_iter().flatten().collect::<Vec<_>>().join(", ");
        let status = one_line(&job.status);
        let left = width(name) + 2;
        if columns < left + STATUS {
            return cut(&format!("{name}  {status}"), columns);
        }
        let blanks = padded("", STATUS.saturating_sub(width(&status)));
        let rest = cut(&rest, columns.saturating_sub(left + STATUS + 2));
        format!("{name}  {}{blanks}  {rest}", status_word(&cut(&status, STATUS), style.colour))
            .trim_end()
            .to_owned()
    }
}

/// For each job the dependency that it stands below: the one with the longest way to it.
fn parents(needs: &[Vec<usize>]) -> Vec<Option<usize>> {
    let mut after = vec![Vec::new(); needs.len()];
    let mut missing: Vec<usize> = needs.iter().map(Vec::len).collect();
    for (job, before) in needs.iter().enumerate() {
        before.iter().for_each(|before| after[*before].push(job));
    }
    let mut depth = vec![0_usize; needs.len()];
    let mut ready: Vec<usize> = (0..needs.len()).filter(|job| missing[*job] == 0).collect();
    while let Some(job) = ready.pop() {
        for later in &after[job] {
            depth[*later] = depth[*later].max(depth[job] + 1);
            missing[*later] -= 1;
            if missing[*later] == 0 {
                ready.push(*later);
            }
        }
    }
    // The first one of two with the same depth.
    let deepest = |needs: &Vec<usize>| needs.iter().rev().copied().max_by_key(|job| depth[*job]);
    (0..needs.len()).map(|job| deepest(&needs[job]).filter(|_| missing[job] == 0)).collect()
}

/// The rows of jobs with the same parent, the last one first.
fn siblings(jobs: &[usize], parent: Option<usize>) -> impl Iterator<Item = Row> {
    let last = jobs.len().saturating_sub(1);
    jobs.iter().enumerate().rev().map(move |(at, job)| Row { job: *job, parent, is_last: at == last })
}

fn is_quiet(status: &str) -> bool {
    matches!(status, "COMPLETED" | "CANCELED" | "PENDING" | "SCHEDULED")
}

fn heading(of: &GetWorkflowStatusResponse, columns: usize, style: Style<'_>) -> String {
    let workflow = &of.workflow;
    let id = one_line(short(&workflow.uuid));
    let name = if workflow.name.is_empty() { id } else { format!("{}   {id}", one_line(&workflow.name)) };
    let taken = duration(workflow, style.now).map(|taken| format!("   {taken}")).unwrap_or_default();
    let keys = if style.keys { "   (q leaves)" } else { "" };
    cut(&format!("{name}   {}{taken}{keys}", one_line(&workflow.status)), columns)
}

/// `[########----------------]  310 COMPLETED, 2 FAILED, 50 RUNNING, 640 PENDING`.
fn sum(jobs: &[WorkflowJob]) -> String {
    let mut counts = [0; STATUSES.len()];
    let places = jobs.iter().filter_map(|job| STATUSES.iter().position(|status| *status == job.status));
    places.for_each(|place| counts[place] += 1);
    let ended = jobs.iter().filter(|job| is_terminal_status(&job.status)).count();
    format!("{}  {}", bar(ended as i64, jobs.len() as i64, ALL_CELLS), numbers(&counts))
}

fn numbers(counts: &[usize; STATUSES.len()]) -> String {
    let some = STATUSES.iter().zip(counts).filter(|(_, count)| **count > 0);
    some.map(|(status, count)| format!("{count} {status}")).collect::<Vec<_>>().join(", ")
}

/// The details of a job beside its status.
fn about(job: &WorkflowJob, now: &str) -> Option<String> {
    let start = time(job.startTime.as_ref());
    let end =
        time(job.endTime.as_ref()).or_else(|| (!is_terminal_status(&job.status)).then(|| now.to_owned()));
    let taken = start.zip(end).and_then(|(start, end)| between(&start, &end)).map(took);
    let parts = [
        job.array.as_ref().map(elements),
        exit_code(job)
            .filter(|code| job.exit_reason == "exited" && code != "0")
            .map(|code| format!("exit {code}")),
        taken,
        (job.attempts > 1 && job.array.is_none()).then(|| format!("attempt {}", job.attempts)),
        (!job.message.is_empty()).then(|| one_line(&job.message)),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// `[###-----] 312/1000 failed 2`: how many elements have ended, and how many of them not well.
pub(crate) fn elements(array: &ArrayProgress) -> String {
    let counts = [array.completed, array.failed, array.canceled];
    let ended: i64 = counts.iter().map(|count| i64::from((*count).max(0))).sum();
    let failed = if array.failed > 0 { format!(" failed {}", array.failed) } else { String::new() };
    format!("{} {ended}/{}{failed}", bar(ended, array.total.into(), CELLS), array.total)
}

fn bar(done: i64, all: i64, cells: i64) -> String {
    let full = if all > 0 { (done.clamp(0, all) * cells / all) as usize } else { 0 };
    format!("[{}{}]", "#".repeat(full), "-".repeat(cells as usize - full))
}

/// `needs b, c`: the dependencies that the place of the job does not show.
fn others(job: &WorkflowJob, above: Option<&str>) -> Option<String> {
    let others: Vec<&String> = job.dependencies.iter().filter(|name| Some(name.as_str()) != above).collect();
    let mut names: Vec<String> = others.iter().take(NAMED).map(|name| one_line(name)).collect();
    if others.len() > NAMED {
        names.push(format!("{} more", others.len() - NAMED));
    }
    let also = if above.is_some() { "also " } else { "" };
    (!names.is_empty()).then(|| format!("{also}needs {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::joblet::WorkflowInfo;
    use proptest::prelude::*;

    fn job(name: &str, status: &str, needs: &[&str]) -> WorkflowJob {
        WorkflowJob {
            jobUuid: "0".into(),
            jobName: name.into(),
            status: status.into(),
            dependencies: needs.iter().map(|name| name.to_string()).collect(),
            ..Default::default()
        }
    }

    fn of(jobs: Vec<WorkflowJob>) -> GetWorkflowStatusResponse {
        let info = WorkflowInfo { uuid: "a1b2c3d4-0".into(), status: "RUNNING".into(), ..Default::default() };
        GetWorkflowStatusResponse { workflow: Some(info).into(), jobs, ..Default::default() }
    }

    const STYLE: Style<'_> = Style { now: "2026-01-01T00:00:00Z", colour: false, keys: true };

    fn drawn(jobs: Vec<WorkflowJob>, size: (usize, usize)) -> Vec<String> {
        let answer = of(jobs);
        Tree::of(&answer.jobs).lines(&answer, size, STYLE)
    }

    #[test]
    fn job_stands_below_its_farthest_dependency() {
        let mut shards = job("shards", "RUNNING", &["prepare"]);
        shards.array =
            Some(ArrayProgress { total: 1000, completed: 310, failed: 2, running: 50, ..Default::default() })
                .into();
        let jobs = vec![
            job("prepare", "COMPLETED", &[]),
            job("lint", "COMPLETED", &["prepare"]),
            job("join", "PENDING", &["prepare", "shards", "lint"]),
            shards,
            job("alone", "FAILED", &[]),
        ];
        let lines = drawn(jobs, (100, 24));
        assert_eq!(
            lines,
            [
                "a1b2c3d4   RUNNING   (q leaves)",
                "[##############----------]  2 COMPLETED, 1 FAILED, 1 RUNNING, 1 PENDING",
                "prepare     COMPLETED",
                "\u{251c}\u{2500} lint     COMPLETED",
                "\u{2514}\u{2500} shards   RUNNING       [##------] 312/1000 failed 2",
                "   \u{2514}\u{2500} join  PENDING       also needs prepare, lint",
                "alone       FAILED",
            ]
        );
    }

    #[test]
    fn graph_higher_than_its_terminal_is_folded_around_what_runs() {
        let mut jobs = vec![job("first", "COMPLETED", &[])];
        for n in 0..500 {
            let status = match n {
                250 => "RUNNING",
                300 => "FAILED",
                n if n < 250 => "COMPLETED",
                _ => "PENDING",
            };
            jobs.push(job(&format!("job-{n}"), status, &["first"]));
        }
        let lines = drawn(jobs.clone(), (80, 10));
        let shown: Vec<&str> = lines[2..].iter().map(|line| line.trim_end()).collect();
        assert!(shown[0].starts_with("... 251 COMPLETED"), "{shown:?}");
        assert!(shown[1].contains("job-250") && shown[1].contains("RUNNING"), "{shown:?}");
        assert!(shown[2].contains("... 49 PENDING") && shown[3].contains("job-300"), "{shown:?}");
        assert!(shown[4].contains("... 199 PENDING") && shown.len() == 5, "{shown:?}");
        jobs.iter_mut().for_each(|job| job.status = "RUNNING".into());
        let lines = drawn(jobs, (80, 10));
        assert_eq!((lines.len(), lines[9].as_str()), (10, "... and 494 more lines"));
    }

    #[test]
    fn circle_and_a_very_long_chain_are_drawn_in_little_time() {
        let circle =
            vec![job("a", "PENDING", &["b"]), job("b", "PENDING", &["a"]), job("c", "PENDING", &["c", "no"])];
        assert_eq!(Tree::of(&circle).rows.iter().filter(|row| row.parent.is_none()).count(), 3);
        let name = |n: usize| format!("job-{n}");
        let chain: Vec<WorkflowJob> = (0..20_000)
            .map(|n| match n {
                0 => job(&name(0), "RUNNING", &[]),
                n => job(&name(n), "RUNNING", &[&name(n - 1)]),
            })
            .collect();
        let answer = of(chain);
        let tree = Tree::of(&answer.jobs);
        let lines = tree.lines(&answer, (80, 40_000), STYLE);
        assert_eq!(lines.len(), 20_002);
        assert!(lines.iter().all(|line| width(line) <= 80));
    }

    #[test]
    fn names_and_messages_cannot_command_the_terminal() {
        let mut hostile = job("a\u{1b}[2J\nb\u{202e}", "RUN\u{7}", &["x\u{1b}]0;t"]);
        hostile.message = "\u{9b}2J\r".into();
        let mut answer = of(vec![hostile]);
        answer.workflow.as_mut().expect("set above").name = "\u{1b}[31m".into();
        for line in Tree::of(&answer.jobs).lines(&answer, (200, 10), Style { colour: true, ..STYLE }) {
            assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn no_picture_is_wider_or_higher_than_its_terminal(
            edges in prop::collection::vec((0usize..12, 0usize..12), 0..30),
            statuses in prop::collection::vec(0usize..8, 12),
            columns in 0usize..100,
            rows in 0usize..20,
        ) {
            let mut jobs: Vec<WorkflowJob> =
                statuses.iter().enumerate().map(|(n, status)| job(&format!("job-{n}"), STATUSES[*status], &[])).collect();
            for (job, before) in edges {
                jobs[job].dependencies.push(format!("job-{before}"));
            }
            let lines = drawn(jobs, (columns, rows));
            prop_assert!(lines.len() <= rows.max(2));
            prop_assert!(lines.iter().all(|line| width(line) <= columns), "{lines:?}");
        }
    }
}
