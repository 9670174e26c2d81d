//! Every mutable thing of the daemon has one owner, whose fields nobody else changes (`src/daemon/core.rs`).

use super::sources::{Source, sources};

/// Fields of `Core` that are no owners: values of the configuration, and the part of the node that threads share behind an
/// `Arc`, which nobody can change.
const VALUES: &[&str] = &["settings", "node"];
/// Owners within owners.
const INNER: &[&str] = &["Entry", "Job", "Durability", "Standing", "Waiters"];
/// Parts of a job that are open to the steps of its life: of types of their own, but for its name and its state. Those that
/// count something are closed in themselves ([`INNER`]).
const OPEN: &[(&str, &[&str])] = &[(
    "Job",
    &[
        "id",
        "spec",
        "state",
        "times",
        "durability",
        "standing",
        "output",
        "run",
        "held",
        "trace",
        "usage",
        "reach",
        "waiters",
    ],
)];

/// The fields of a struct, as they are written: the visibility, the name, the type.
fn fields(code: &str, name: &str) -> Option<Vec<(String, String, String)>> {
    let head = format!("struct {name} {{");
    let at = code.find(&head)? + head.len();
    let body = &code[at..at + code[at..].find("\n}")?];
    let field = |line: &str| {
        let (left, kind) = line.trim().split_once(": ")?;
        let (open, name) = left.rsplit_once(' ').unwrap_or(("", left));
        Some((open.to_owned(), name.to_owned(), kind.trim_end_matches(',').to_owned()))
    };
    Some(body.lines().filter_map(field).collect())
}

/// Whether a field of a file is seen beyond its room: what is a room of the daemon's own may share its parts.
fn is_open(file: &Source, visibility: &str) -> bool {
    let within = file.path.components().count() > 3 && !file.path.ends_with("mod.rs");
    !(visibility.is_empty() || within && visibility == "pub(super)")
}

/// The open fields of an owner; `None` where none of these files has it.
fn open_fields(files: &[Source], owner: &str) -> Option<Vec<String>> {
    let mut found = files.iter().filter_map(|file| Some((file, fields(&file.code, owner)?)));
    let (file, fields) = found.next()?;
    let allowed = OPEN.iter().find(|(name, _)| *name == owner).map_or(&[][..], |(_, fields)| fields);
    let open = fields.into_iter().filter(|(visibility, ..)| is_open(file, visibility));
    let names: Vec<String> = open.map(|(_, name, _)| name).collect();
    for still in allowed {
        assert!(names.iter().any(|name| name == still), "{owner}.{still} is closed: take it off the list");
    }
    Some(names.into_iter().filter(|name| !allowed.contains(&name.as_str())).collect())
}

#[test]
fn no_owner_has_a_field_that_others_change() {
    let files = sources(&["src/daemon"]);
    let core = files.iter().find(|file| file.path.ends_with("core.rs")).expect("the owners are there");
    let owners = fields(&core.code, "Core").expect("Core has its fields");
    assert!(owners.len() > 12, "{owners:?}");
    let owners = owners.into_iter().filter(|(_, name, _)| !VALUES.contains(&name.as_str()));
    // Those of another room are closed by its walls.
    let of_room = owners.map(|(.., kind)| kind).filter(|kind| kind != "Counts");
    let inner = INNER.iter().map(|name| (*name).to_owned());
    for owner in of_room.chain(inner) {
        let open = open_fields(&files, &owner).unwrap_or_else(|| panic!("no file has struct {owner}"));
        assert_eq!(open, Vec::<String>::new(), "{owner}: fields that all of the daemon may change");
    }
}

#[test]
fn nobody_takes_the_loop() {
    let files = sources(&["src/daemon"]);
    let takes = |file: &&Source| file.code.contains("&mut EventLoop") || file.code.contains("&EventLoop");
    let wrong: Vec<_> = files.iter().filter(takes).map(|file| &file.path).collect();
    assert!(wrong.is_empty(), "an owner returns what the loop does next: {wrong:?}");
}

/// Files that go through all jobs, also the hundred thousand that are over: at the start and at the end of the daemon.
const ALL_JOBS: &[&str] = &["assemble.rs", "takeover.rs", "workflow_takeover.rs"];

#[test]
fn loop_goes_through_no_jobs_that_are_over() {
    let files = sources(&["src/daemon"]);
    let goes = |file: &&Source| {
        let code = file.code.split("#[cfg(test)]").next().unwrap_or_default();
        code.contains("core.jobs.iter()") && !ALL_JOBS.iter().any(|name| file.path.ends_with(name))
    };
    let wrong: Vec<_> = files.iter().filter(goes).map(|file| &file.path).collect();
    assert!(wrong.is_empty(), "only jobs that live are few: {wrong:?}");
}

#[test]
fn open_field_of_an_owner_is_seen() {
    let files = [
        Source::of(
            "src/daemon/a.rs",
            "pub(super) struct A {\n    pub(super) open: u8,\n    closed: u8,\n}\n",
        ),
        Source::of(
            "src/daemon/b/c.rs",
            "struct C {\n    pub(super) shared: u8,\n    pub(crate) wide: u8,\n}\n",
        ),
        Source::of("src/daemon/b/mod.rs", "struct D {\n    pub(super) wide: u8,\n}\n"),
    ];
    assert_eq!(open_fields(&files, "A").unwrap(), ["open"]);
    assert_eq!(open_fields(&files, "C").unwrap(), ["wide"]);
    assert_eq!(open_fields(&files, "D").unwrap(), ["wide"]);
    assert!(open_fields(&files, "E").is_none());
}
