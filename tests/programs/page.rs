//! docs/programs.md has every program of the table, and no other.

use super::table::{LONG, Program, SHORT, Verdict};
use crate::helper::programs::source;
use std::collections::BTreeSet;
use std::fs;

fn all() -> impl Iterator<Item = &'static Program> {
    SHORT.iter().chain(LONG)
}

/// The words between backticks in the first cells of the table behind a heading.
fn listed(page: &str, heading: &str) -> BTreeSet<String> {
    let part = page.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no {heading}"));
    let part = part.split("\n## ").next().unwrap_or(part);
    let rows = part.lines().filter_map(|row| row.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).map(str::to_owned).collect()
}

fn names(differs: bool) -> BTreeSet<String> {
    let wanted = all().filter(|p| matches!(p.verdict, Verdict::Differs(_)) == differs);
    wanted.map(|p| p.name.to_owned()).collect()
}

#[test]
fn page_lists_every_program_with_its_verdict() {
    let page = fs::read_to_string(source("docs/programs.md")).unwrap();
    assert_eq!(listed(&page, "Programs that work as on the host"), names(false));
    assert_eq!(listed(&page, "Programs that do not work"), names(true));
    for program in all() {
        if let Verdict::Differs(why) = program.verdict {
            assert!(page.contains(&format!("| `{}` | {why} |", program.name)), "{}: {why}", program.name);
        }
    }
}

#[test]
fn short_list_has_twelve_programs_and_names_differ() {
    assert_eq!(SHORT.len(), 12);
    let names: BTreeSet<_> = all().map(|p| p.name).collect();
    assert_eq!(names.len(), SHORT.len() + LONG.len());
}
