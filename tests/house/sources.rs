//! Rules about the sources under `src`, `tests` and `benches`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const LONGEST_FILE: usize = 600;
const LONGEST_FUNCTION: usize = 75;

/// Room by room: what it may import. A room that is not listed may import nothing.
const ARROWS: &[(&str, &[&str])] = &[
    ("bin", &["*"]),
    // Level 4: the daemon's command line puts everything together.
    ("joblet", &["*"]),
    // A crate of its own, which build.rs compiles: `crate` is not ours there.
    ("init", &["*"]),
    // Level 3. The api knows only the commands of the daemon.
    (
        "api",
        &[
            "daemon::command",
            "stream",
            "audit",
            "files",
            "forward",
            "input",
            "exporter",
            "output",
            "metrics",
            "persist::query",
            "upload",
            // Pure: a request is checked before the loop gets it.
            "workflow",
            "monitor",
            "job",
            "pb",
            "config",
            "certs",
            "diag",
            "sys::clock",
            "sys::mailbox",
        ],
    ),
    (
        "rnx",
        &[
            "files",
            "pb",
            "config",
            // It lists a registry without a node.
            "registry",
            "job::env",
            "job::id",
            "job::limits",
            "job::runtime",
            "job::units",
            "job::Secret",
            "certs",
            "sys::exit_now",
            // Pure: a workflow file is checked before the first byte is sent.
            "workflow",
        ],
    ),
    // Level 2.
    ("daemon", &["@1", "@0"]),
    ("doctor", &["@1", "@0"]),
    // Level 1.
    ("sandbox", &["@0"]),
    ("cgroup", &["@0"]),
    ("stream", &["@0"]),
    // The output of all jobs is among its figures.
    ("exporter", &["@0", "output"]),
    // Its lines are read while more are written.
    ("audit", &["@0", "stream"]),
    ("output", &["@0", "stream"]),
    ("state", &["@0"]),
    // The history keeps rows and samples as the spool has them, and reads them back for the same cursors.
    ("persist", &["@0", "pb", "stream", "output", "metrics"]),
    ("metrics", &["@0", "stream"]),
    // Jobs take turns there as clients do in the pump.
    ("forward", &["@0", "stream::turns"]),
    ("input", &["@0"]),
    ("workflow", &["@0"]),
    ("runtime", &["@0", "sandbox::step"]),
    ("network", &["@0", "sandbox::step"]),
    // A process beside the daemon: it reads egress lists, and confines itself by the filters of sandboxes.
    ("resolver", &["@0", "network", "sandbox::filter"]),
    ("volume", &["@0", "sandbox::step"]),
    ("image", &["@0"]),
    ("registry", &["@0"]),
    ("upload", &["@0"]),
    // The daemon and the client play both parts of a copy, so its messages stand there once.
    ("files", &["@0", "pb"]),
    ("gpu", &["@0", "sandbox::step"]),
    ("monitor", &["@0"]),
    // Level 0: values are parsed into job's words wherever they come in.
    ("job", &["init_abi"]),
    ("sys", &["diag"]),
    ("config", &["job", "diag"]),
    ("certs", &["config", "job::Secret", "job::Enforcement"]),
    ("diag", &[]),
    ("pb", &[]),
];

const LEVEL_0: &[&str] = &["job", "init_abi", "sys", "config", "certs", "diag"];
const LEVEL_1: &[&str] = &[
    "sandbox", "cgroup", "stream", "forward", "input", "exporter", "audit", "output", "state", "persist",
    "metrics", "workflow", "runtime", "network", "resolver", "volume", "upload", "files", "gpu", "monitor",
    "image", "registry",
];

/// One source file, with comments and the contents of strings blanked out in `code`.
pub(super) struct Source {
    pub(super) path: PathBuf,
    text: String,
    pub(super) code: String,
}

impl Source {
    /// A file that is not on disk.
    pub(super) fn of(path: &str, text: &str) -> Source {
        Source { path: path.into(), code: blank(text), text: text.to_owned() }
    }
}

fn repository() -> &'static Path {
    Path::new(".")
}

/// The Rust files below these directories of the repository.
pub(super) fn sources(below: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for dir in below {
        collect(&repository().join(dir), &mut found);
    }
    assert!(!found.is_empty(), "no sources below {below:?}");
    found
}

fn collect(dir: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            let relative = path.strip_prefix(repository()).expect("below the repository").to_owned();
            found.push(Source { path: relative, code: blank(&text), text });
        }
    }
}

/// The text with comments, strings and character literals replaced by spaces; line breaks stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        match end {
            Some(end) => {
                for byte in &mut out[at..end] {
                    if *byte != b'\n' {
                        *byte = b' ';
                    }
                }
                at = end;
            }
            None => at += 1,
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment or literal that begins at `at` ends; `None` when none begins there.
fn literal_end(b: &[u8], at: usize) -> Option<usize> {
    let rest = &b[at..];
    let find = |from: usize, what: &[u8]| {
        let hit = b[from..].windows(what.len()).position(|w| w == what);
        hit.map_or(b.len(), |n| from + n + what.len())
    };
    if rest.starts_with(b"//") {
        return Some(find(at, b"\n").saturating_sub(1).max(at + 2));
    }
    if rest.starts_with(b"/*") {
        return Some(find(at + 2, b"*/"));
    }
    if rest[0] == b'r' && (at == 0 || !(b[at - 1].is_ascii_alphanumeric() || b[at - 1] == b'_')) {
        let hashes = rest[1..].iter().take_while(|c| **c == b'#').count();
        if rest.get(1 + hashes) == Some(&b'"') {
            let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
            return Some(find(at + 2 + hashes, &close));
        }
    }
    match rest[0] {
        b'"' => Some(quoted_end(b, at, b'"')),
        // A character, not a lifetime: 'x' or an escape.
        b'\'' if rest.get(1) == Some(&b'\\') || rest.get(2) == Some(&b'\'') => Some(quoted_end(b, at, b'\'')),
        _ => None,
    }
}

fn quoted_end(b: &[u8], at: usize, quote: u8) -> usize {
    let mut i = at + 1;
    while i < b.len() && b[i] != quote {
        i += if b[i] == b'\\' { 2 } else { 1 };
    }
    (i + 1).min(b.len())
}

/// The paths `room::item` that the code names behind `root::` (also inside braces), sorted and unique.
fn imports(code: &str, root: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mark = format!("{root}::");
    for (at, _) in code.match_indices(&mark) {
        if at > 0 && code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let rest = &code[at + mark.len()..];
        if rest.starts_with('{') {
            found.extend(braced(rest));
        } else {
            found.push(first_two(rest));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The first two segments of every branch of `{a::b::c, d::{e, f}}`.
fn braced(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut depth = 0;
    let mut at_branch = false;
    for (i, c) in text.char_indices() {
        match c {
            '{' => {
                depth += 1;
                at_branch = depth == 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            ',' if depth == 1 => at_branch = true,
            c if at_branch && !c.is_whitespace() => {
                found.push(first_two(&text[i..]));
                at_branch = false;
            }
            _ => {}
        }
    }
    found
}

fn first_two(path: &str) -> String {
    let end = path.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(path.len());
    let mut segments = path[..end].split("::").filter(|s| !s.is_empty());
    let first = segments.next().unwrap_or_default();
    segments.next().map_or_else(|| first.to_owned(), |second| format!("{first}::{second}"))
}

fn room_of(path: &Path) -> Option<String> {
    let mut parts = path.components().skip(1);
    let first = parts.next()?.as_os_str().to_str()?;
    parts.next().map(|_| first.to_owned())
}

fn may_import(room: &str, import: &str) -> bool {
    let target = import.split("::").next().unwrap_or_default();
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else { return false };
    target == room
        || allowed.iter().any(|rule| match *rule {
            "*" => true,
            "@0" => LEVEL_0.contains(&target),
            "@1" => LEVEL_1.contains(&target),
            exact => exact == target || exact == import,
        })
}

#[test]
fn rooms_import_only_what_the_plan_lets_them() {
    let mut wrong = Vec::new();
    for source in sources(&["src"]) {
        let Some(room) = room_of(&source.path) else { continue };
        let root = if room == "bin" { "joblet" } else { "crate" };
        for import in imports(&source.code, root) {
            if !may_import(&room, &import) {
                wrong.push(format!("{} imports {root}::{import}", source.path.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_import_form_is_seen() {
    let code = "use crate::{job::{id, spec}, sys::pidfd};\nfn f() { crate::diag::x(); mycrate::no(); }";
    assert_eq!(imports(code, "crate"), ["diag::x", "job", "sys::pidfd"]);
    assert!(may_import("api", "daemon::command") && !may_import("api", "daemon::jobs"));
    assert!(may_import("daemon", "sandbox::create") && !may_import("daemon", "pb::joblet"));
    assert!(!may_import("job", "config"));
}

#[test]
fn literals_and_comments_are_not_code() {
    let code = blank(
        "let a = \"unsafe \\\" {\"; // unsafe\nlet b = '\"'; /* unsafe */ r#\"unsafe\"#; fn f<'a>() {}",
    );
    assert!(!code.contains("unsafe"), "{code}");
    assert!(code.contains("fn f<'a>() {}"), "{code}");
}

#[test]
fn files_are_no_longer_than_six_hundred_lines() {
    let long: BTreeMap<_, _> = sources(&["src", "tests", "benches"])
        .into_iter()
        .map(|s| (s.path, s.text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .collect();
    assert_eq!(long, BTreeMap::new());
}

#[test]
fn functions_fit_a_screen() {
    let mut long = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        let lines: Vec<&str> = source.code.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let Some(name) = function_name(line) else { continue };
            let indent = line.len() - line.trim_start().len();
            let close = format!("{}}}", " ".repeat(indent));
            let Some(length) = lines[start..].iter().position(|l| *l == close) else { continue };
            if length + 1 > LONGEST_FUNCTION {
                long.push(format!("{}: {name} has {} lines", source.path.display(), length + 1));
            }
        }
    }
    assert_eq!(long, Vec::<String>::new());
}

/// The name of the function whose head is on this line. One-line functions are short by nature.
fn function_name(line: &str) -> Option<&str> {
    if line.trim_end().ends_with('}') {
        return None;
    }
    let mut words = line.split_whitespace();
    words
        .by_ref()
        .find(|w| !["pub", "pub(crate)", "pub(super)", "const", "unsafe", "extern", "async"].contains(w))
        .filter(|w| *w == "fn")?;
    let name = words.next()?;
    Some(name.split(['(', '<']).next().unwrap_or(name))
}

#[test]
fn every_room_opens_with_its_theory() {
    let mut silent = Vec::new();
    for source in sources(&["src"]) {
        let is_head = source.path.ends_with("mod.rs") || source.path == Path::new("src/lib.rs");
        let theory = source.text.lines().take_while(|l| l.starts_with("//!")).count();
        if is_head && theory < 3 {
            silent.push(source.path);
        }
    }
    assert_eq!(silent, Vec::<PathBuf>::new(), "a mod.rs opens with at least three lines of //!");
}

#[test]
fn unsafe_stands_only_where_the_kernel_is_made_safe() {
    let mut wrong = Vec::new();
    for source in sources(&["src"]) {
        let free = ["src/sys", "src/init"].iter().any(|room| source.path.starts_with(room))
            || source.path == Path::new("src/sandbox/child.rs");
        // The lint's own name is no use of it.
        let code = source.code.replace("unsafe_code", "").replace("unsafe_op_in_unsafe_fn", "");
        if !free && code.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "unsafe") {
            wrong.push(source.path);
        }
    }
    assert_eq!(wrong, Vec::<PathBuf>::new());
}

#[test]
fn nothing_is_left_for_later() {
    let mut wrong = Vec::new();
    for source in sources(&["src", "benches"]) {
        for mark in ["TODO", "FIXME", "XXX"] {
            if source.text.contains(mark) {
                wrong.push(format!("{}: {mark}", source.path.display()));
            }
        }
        for mark in ["todo!", "unimplemented!", "dbg!"] {
            if source.code.contains(mark) {
                wrong.push(format!("{}: {mark}", source.path.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn types_have_names_that_say_what_they_are() {
    let mut wrong = Vec::new();
    for source in sources(&["src"]) {
        for line in source.code.lines() {
            let mut words =
                line.split_whitespace().skip_while(|w| !["struct", "enum", "trait"].contains(w)).skip(1);
            let Some(name) = words.next() else { continue };
            let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            if ["Manager", "Helper", "Util", "Utils", "Handler", "Data"].iter().any(|bad| name.ends_with(bad))
            {
                wrong.push(format!("{}: {name}", source.path.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn only_the_wait_helper_of_the_tests_sleeps() {
    let sleepers: Vec<_> = sources(&["src", "tests", "benches"])
        .into_iter()
        .filter(|s| s.code.contains("sleep(") && s.path != Path::new("tests/helper/wait.rs"))
        .map(|s| s.path)
        .collect();
    assert_eq!(sleepers, Vec::<PathBuf>::new());
}

/// Files and rooms of the daemon that ask the disk: on other threads than the loop's, or at the start of the daemon, when nobody is served
/// yet.
const BESIDE_THE_LOOP: &[&str] = &[
    // At the start.
    "assemble.rs",
    "companion.rs",
    "directories.rs",
    "history/child.rs",
    "history/sockets.rs",
    "ledger.rs",
    "lifecycle/exec_takeover.rs",
    "lifecycle/first_process.rs",
    "lifecycle/half_started.rs",
    "lifecycle/takeover.rs",
    "lifecycle/workflow_takeover.rs",
    "predecessor.rs",
    // On threads.
    "cleanup.rs",
    "command/work_view.rs",
    "egress/note.rs",
    "evidence.rs",
    "exit_file.rs",
    "execs/room.rs",
    "execs/worker.rs",
    "history/fetches.rs",
    "history/spool_files.rs",
    "history/worker.rs",
    "install",
    "provision/wiring.rs",
    "resolver/layer.rs",
    "resolver/name_servers.rs",
    "resolver/processes.rs",
    "resolver/sockets.rs",
    "volumes/worker.rs",
];

/// Calls that ask a disk, which may hang, or the kernel for something that grows.
const ASKS_A_DISK: &[&str] = &[
    "File::",
    "OpenOptions",
    "fs::",
    "openat",
    "statvfs",
    "read_dir",
    "symlink_metadata",
    ".exists()",
    ".is_dir()",
    ".is_file()",
    // `volume::Store`: statvfs(3) and /proc/meminfo.
    "check_room(",
];

#[test]
fn loop_opens_no_file() {
    let (mut wrong, mut listed) = (Vec::new(), Vec::new());
    for source in sources(&["src/daemon"]) {
        let path = source.path.strip_prefix("src/daemon").unwrap_or(&source.path);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with("_tests.rs") || name == "tests.rs" {
            continue;
        }
        let calls = source.code.lines().filter(|line| {
            let line = line.trim_start();
            !line.starts_with("use ") && !line.starts_with("pub use ") && !line.starts_with("//")
        });
        let calls = calls.filter(|line| ASKS_A_DISK.iter().any(|way| line.contains(way)));
        let calls: Vec<String> = calls.map(|line| format!("{}: {}", path.display(), line.trim())).collect();
        match BESIDE_THE_LOOP.iter().find(|beside| path.starts_with(beside)) {
            Some(beside) if !calls.is_empty() => listed.push(*beside),
            Some(_) => {}
            None => wrong.extend(calls),
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    let mut wanted = BESIDE_THE_LOOP.to_vec();
    wanted.sort_unstable();
    listed.sort_unstable();
    listed.dedup();
    assert_eq!(listed, wanted, "these files ask no disk any more");
}
