//! The check of a whole trail.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

use super::line::{self, Hash, Links};
use super::trail::{self, HEAD, name, number, numbers};

/// A trail that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The number of its files.
    pub files: usize,
    /// The number of its lines.
    pub lines: u64,
    /// The name of the oldest file.
    pub first: String,
    /// The time of its first and its last line, as they are written.
    pub times: (String, String),
    /// Ends that a kill or a power cut left incomplete, as `file, line N: M bytes`.
    pub torn: Vec<String>,
    /// Lines that could not be written, as other lines tell.
    pub lost: u64,
    /// The hash of the last line.
    pub last: Hash,
    /// Whether the wanted hash is that of a line.
    pub has_wanted: bool,
}

/// A fault of a trail, with its place.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file or directory.
        path: String,
        /// The system's refusal.
        source: io::Error,
    },
    /// There is no file of a trail.
    #[error("{0} has no audit trail")]
    Empty(String),
    /// A file is gone.
    #[error("{0} is missing: it was removed, and not by audit.keep")]
    Missing(String),
    /// A line is not as it was written.
    #[error("{file}, line {line}: the line was changed, or is none of joblet's")]
    Changed {
        /// The name of the file.
        file: String,
        /// The line, from 1.
        line: u64,
    },
    /// A line does not continue the one before.
    #[error(
        "{file}, line {line}: it does not continue the line before: lines were removed, added or swapped"
    )]
    Broken {
        /// The name of the file.
        file: String,
        /// The line, from 1.
        line: u64,
    },
    /// The wanted hash is that of no line.
    #[error("no line has the hash {0}: the trail was cut behind it, or is another one")]
    Cut(Hash),
}

/// Checks all files of a trail; `wanted` is the hash of a line that it must have.
///
/// # Errors
/// The first fault.
pub fn verify(dir: &Path, wanted: Option<Hash>) -> Result<Report, Fault> {
    let read = |path: &Path| {
        let path = path.display().to_string();
        move |source| Fault::Read { path, source }
    };
    let all = numbers(dir).map_err(read(dir))?;
    let Some((first, newest)) = all.first().zip(all.last()) else {
        return Err(Fault::Empty(dir.display().to_string()));
    };
    let mut check = Check::new(name(*first), wanted);
    for number in *first..=*newest {
        let path = dir.join(name(number));
        let text = match fs::read(&path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Err(Fault::Missing(name(number))),
            text => text.map_err(read(&path))?,
        };
        check.file(name(number), &text, number == *newest)?;
    }
    // A trail that no daemon has opened to its end has none yet: then it has one file.
    let head = match fs::read_to_string(dir.join(HEAD)) {
        Err(why) if why.kind() == io::ErrorKind::NotFound && all.len() == 1 => None,
        head => Some(head.map_err(read(&dir.join(HEAD)))?),
    };
    if let Some(head) = head {
        let named = head.split(' ').next().and_then(number).filter(|number| trail::head(*number) == head);
        let named = named.ok_or_else(|| Fault::Changed { file: HEAD.into(), line: 1 })?;
        if named > *newest {
            return Err(Fault::Missing(name(named)));
        }
    }
    check.finish(*first, wanted)
}

struct Check {
    report: Report,
    /// The hash that the first line continues, and the one that the next line has to.
    begins: Option<Hash>,
    last: Option<Hash>,
    /// Last hashes of files that lines tell as removed.
    removed: HashSet<String>,
    wanted: Option<Hash>,
}

impl Check {
    fn new(first: String, wanted: Option<Hash>) -> Check {
        let report = Report {
            files: 0,
            lines: 0,
            first,
            times: Default::default(),
            torn: Vec::new(),
            lost: 0,
            last: Hash::default(),
            has_wanted: wanted.is_none(),
        };
        Check { report, begins: None, last: None, removed: HashSet::new(), wanted }
    }

    fn file(&mut self, file: String, text: &[u8], newest: bool) -> Result<(), Fault> {
        self.report.files += 1;
        let (mut at, mut line) = (0, 0);
        while at < text.len() {
            line += 1;
            let Some(length) = text[at..].iter().position(|byte| *byte == b'\n') else {
                // The daemon writes just now, or was killed and has not come back.
                if !newest || ends_otherwise(&text[at..]) {
                    return Err(Fault::Changed { file, line });
                }
                self.report.torn.push(format!("{file}, line {line}: {} bytes", text.len() - at));
                return Ok(());
            };
            match line::links(&text[at..at + length]) {
                Some(links) => {
                    self.line(&file, line, links, &text[at..at + length])?;
                    at += length + 1;
                }
                None => {
                    let torn = self.torn(&text[at..]).ok_or(Fault::Changed { file: file.clone(), line })?;
                    self.report.torn.push(format!("{file}, line {line}: {torn} bytes"));
                    let lines = text[at..at + torn].iter().filter(|byte| **byte == b'\n').count() as u64;
                    line += lines;
                    at += torn;
                    if text.get(at) == Some(&b'\n') {
                        at += 1;
                    } else {
                        line -= 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// The bytes of a torn end that the next line closes; `None`: it is not closed.
    fn torn(&self, text: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            at += text[at..].iter().position(|byte| *byte == b'\n')? + 1;
            let end = text[at..].iter().position(|byte| *byte == b'\n')? + at;
            let Some(links) = line::links(&text[at..end]) else { continue };
            let value: Value = serde_json::from_slice(&text[at..end]).ok()?;
            let bytes = usize::try_from(value.get("bytes")?.as_u64()?).ok()?;
            let closes = value.get("event")?.as_str()? == "torn"
                && links.prev == self.last.unwrap_or_default()
                && (bytes == at || bytes + 1 == at)
                && value.get("digest")?.as_str()? == Hash::of(&text[..bytes]).to_string();
            return closes.then_some(bytes);
        }
    }

    fn line(&mut self, file: &str, line: u64, links: Links, text: &[u8]) -> Result<(), Fault> {
        if self.last.is_some_and(|last| last != links.prev) {
            return Err(Fault::Broken { file: file.to_owned(), line });
        }
        self.begins.get_or_insert(links.prev);
        self.last = Some(links.hash);
        let value: Value = serde_json::from_slice(text).unwrap_or_default();
        let of = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
        match of("event") {
            "removed" => {
                self.removed.insert(of("digest").to_owned());
            }
            "gap" => self.report.lost += value.get("times").and_then(Value::as_u64).unwrap_or_default(),
            _ => {}
        }
        let report = &mut self.report;
        if report.lines == 0 {
            report.times.0 = of("time").to_owned();
        }
        report.times.1 = of("time").to_owned();
        report.lines += 1;
        report.has_wanted |= self.wanted == Some(links.hash);
        Ok(())
    }

    fn finish(mut self, first: u64, wanted: Option<Hash>) -> Result<Report, Fault> {
        let begins = self.begins.unwrap_or_default();
        if begins != Hash::default() && !self.removed.contains(&begins.to_string()) {
            return match first {
                // The first file of all is there, but not its beginning.
                1 => Err(Fault::Broken { file: name(1), line: 1 }),
                _ => Err(Fault::Missing(name(first - 1))),
            };
        }
        if let Some(wanted) = wanted.filter(|_| !self.report.has_wanted) {
            return Err(Fault::Cut(wanted));
        }
        self.report.last = self.last.unwrap_or_default();
        Ok(self.report)
    }
}

/// Whether an end without the end of a line is more than a cut line: a whole line with something else behind it.
fn ends_otherwise(text: &[u8]) -> bool {
    text.len() > 1 && line::links(&text[..text.len() - 1]).is_some()
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
