//! The program that writes the log, and how it went.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use super::helper::programs;

/// Bytes of a line.
pub const LINE: u64 = 100;

/// The text of the log: half random, or an access log again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corpus {
    App,
    Access,
}

/// One way of storing one log, once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Run {
    /// Lines a second as the producer sees it.
    pub job_side: f64,
    /// Lines a second until the last one is durable.
    pub durable: f64,
    /// Seconds of a processor for a GB of log, without the producer's.
    pub processor: f64,
    /// Bytes of log for a byte that is stored.
    pub ratio: f64,
}

impl Run {
    /// The figures of so many lines between these times (ns since the epoch).
    pub fn new(lines: u64, times: (u64, u64), durable: u64, processor: f64, stored: u64) -> Run {
        let rate = |to: u64| lines as f64 / (to.saturating_sub(times.0) as f64 / 1e9);
        let bytes = (lines * LINE) as f64;
        Run {
            job_side: rate(times.1),
            durable: rate(durable),
            processor: processor / (bytes / 1e9),
            ratio: bytes / stored as f64,
        }
    }
}

/// The path of the producer.
pub fn program() -> std::path::PathBuf {
    programs::c("log_lines")
}

/// The access log of the tests.
pub fn access_log() -> std::path::PathBuf {
    programs::source("docs/examples/access.log")
}

/// The producer as a command of its own; its output goes into a pipe.
pub fn command(corpus: Corpus, lines: u64) -> Command {
    let mut command = Command::new(program());
    match corpus {
        Corpus::App => command.arg("app"),
        Corpus::Access => command.arg(access_log()),
    };
    command.arg(lines.to_string()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Both times that the producer has printed.
pub fn times(said: &str) -> Option<(u64, u64)> {
    let (start, end) = said.trim().split_once(' ')?;
    Some((start.parse().ok()?, end.parse().ok()?))
}

/// Now, ns since the epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// The size of a file; 0 where there is none.
pub fn size(path: &std::path::Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}
