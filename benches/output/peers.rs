//! Programs that store the same log: the producer writes into their standard input, or they read it from a file.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::producer::{self, Corpus, Run};

/// The filters, as commands from standard input to standard output.
pub const FILTERS: [(&str, &[&str]); 4] = [
    ("cat", &["cat"]),
    ("zstd -1", &["zstd", "-q", "-1"]),
    ("gzip -1", &["gzip", "-1"]),
    ("gzip -6", &["gzip", "-6"]),
];
/// journald's writer of files.
pub const JOURNAL: &str = "systemd-journal-remote";

/// Where a program is; `None`: it is not installed.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/lib/systemd".into(), "/usr/lib/systemd".into()]);
    dirs.map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// Processor time of our children that have ended, in seconds.
pub fn children() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel tells");
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
}

/// The producer into a filter into a file, which is made durable.
pub fn filter(words: &[&str], corpus: Corpus, lines: u64, into: &Path) -> Run {
    let mut from = producer::command(corpus, lines).spawn().expect("the producer can be executed");
    let file = File::create(into).expect("the file of a peer");
    let mut peer = Command::new(words[0]);
    let pipe = from.stdout.take().expect("it has a pipe");
    peer.args(&words[1..]).stdin(pipe).stdout(file.try_clone().expect("a second descriptor"));
    let mut peer = peer.spawn().expect("the peer can be executed");
    let mut said = String::new();
    from.stderr.take().expect("it has a pipe").read_to_string(&mut said).expect("the producer's times");
    from.wait().expect("our own child");
    let before = children();
    assert!(peer.wait().expect("our own child").success(), "{words:?} fails");
    let processor = children() - before;
    file.sync_all().expect("the file becomes durable");
    let times = producer::times(&said).expect("the producer says its times");
    Run::new(lines, times, producer::now(), processor, producer::size(into))
}

/// The messages of a log with three more fields each, in the export format of journald.
pub fn export(lines: u64, into: &Path) {
    let out = producer::command(Corpus::App, lines).output().expect("the producer can be executed");
    let mut text = String::with_capacity(out.stdout.len() * 2);
    for (n, line) in String::from_utf8_lossy(&out.stdout).lines().enumerate() {
        let time = 1_796_000_000_000_000 + n * 20;
        writeln!(
            text,
            "__REALTIME_TIMESTAMP={time}\nPRIORITY=6\nSYSLOG_IDENTIFIER=app\n_PID=4711\nMESSAGE={line}\n"
        )
        .expect("a text takes all");
    }
    fs::write(into, text).expect("the file of entries");
}

/// journald's writer from a file of entries into a journal, which is made durable.
pub fn journal(program: &Path, entries: &Path, lines: u64, into: &Path) -> Run {
    let _ = fs::remove_file(into);
    let start = producer::now();
    let before = children();
    let out = Command::new(program)
        .arg(format!("--output={}", into.display()))
        .arg(entries)
        .stdin(Stdio::null())
        .output()
        .expect("it can be executed");
    assert!(out.status.success(), "{JOURNAL}: {}", String::from_utf8_lossy(&out.stderr));
    let processor = children() - before;
    File::open(into).and_then(|file| file.sync_all()).expect("the journal becomes durable");
    let end = producer::now();
    Run::new(lines, (start, end), end, processor, producer::size(into))
}
