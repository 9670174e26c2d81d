//! The file that tells a job what it was refused: `/run/joblet/denials`, one line of JSON for each destination, written when
//! it is refused for the first time.
//!
//! The file lies in a directory of the daemon's own, and the job sees it through a mount of it alone that is read-only: so
//! the job can neither write it nor put another file in its place, and the daemon follows no path that a job made. It has
//! a bound; the last line says that there is more.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use log::Level;
use rustix::mount::{OpenTreeFlags, open_tree};
use serde::Serialize;

use crate::diag;
use crate::job::Denial;
use crate::sys::mount::{READ_ONLY, set_attributes_privately};

/// Most bytes of the file.
const MOST: usize = 64 << 10;
const MORE: &str = "{\"more\":true}\n";

/// Makes the file at this path, and a mount of it that a job may see.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn make(path: &Path) -> io::Result<OwnedFd> {
    // A daemon that was killed may have left one of this id: then nobody had it.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    // The mask of the daemon counts for new files. Its owner must be able to write without a capability.
    file.set_permissions(Permissions::from_mode(0o644))?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = open_tree(&file, "", flags)?;
    set_attributes_privately(mount.as_fd(), READ_ONLY | libc::MOUNT_ATTR_NOEXEC)?;
    Ok(mount)
}

/// Lines that wait to be written.
#[derive(Debug)]
pub(super) struct Note {
    path: PathBuf,
    waiting: String,
    written: usize,
    full: bool,
    // Destinations that an earlier daemon has written: the ledger shows them again.
    told: BTreeSet<String>,
}

/// One destination for the file, in words.
#[derive(Debug)]
pub(super) struct Told {
    key: String,
    line: String,
}

/// Lines that go to the file.
#[derive(Debug)]
pub(super) struct Due {
    path: PathBuf,
    lines: String,
}

/// One line of the file.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<std::net::IpAddr>,
    port: u16,
    protocol: &'a str,
    rule: &'a str,
    allow: &'a str,
}

impl Note {
    /// The file at this path, without a line, or as an earlier daemon left it.
    pub(super) fn new(path: PathBuf, adopted: bool) -> Self {
        let text = if adopted { fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
        let known = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let told = known.map(|line| {
            let word = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            key(&word("name"), &word("address"), line["port"].as_u64().unwrap_or(0), &word("protocol"))
        });
        let (told, full) = (told.collect(), text.ends_with(MORE));
        Note { path, waiting: String::new(), written: text.len(), full, told }
    }

    /// Whether no more lines are taken.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Has a destination written, unless an earlier daemon has.
    pub(super) fn add(&mut self, Told { key, mut line }: Told) {
        if self.full || self.told.contains(&key) {
            return;
        }
        if self.written + line.len() + MORE.len() > MOST {
            self.full = true;
            line = MORE.to_owned();
        }
        self.written += line.len();
        self.waiting += &line;
    }

    /// Takes the lines that wait.
    pub(super) fn due(&mut self) -> Option<Due> {
        let lines = std::mem::take(&mut self.waiting);
        (!lines.is_empty()).then(|| Due { path: self.path.clone(), lines })
    }
}

impl Told {
    /// The line of a destination.
    pub(super) fn new(denial: &Denial) -> Told {
        let address = denial.address.map(|address| address.to_string()).unwrap_or_default();
        let at = Timestamp::from_nanosecond(denial.first_ns.into()).unwrap_or_default();
        let line = Line {
            time: format!("{at:.3}"),
            name: &denial.name,
            address: denial.address,
            port: denial.port,
            protocol: &denial.protocol,
            rule: &denial.rule,
            allow: &denial.allow,
        };
        Told {
            key: key(&denial.name, &address, denial.port.into(), &denial.protocol),
            line: serde_json::to_string(&line).unwrap_or_default() + "\n",
        }
    }
}

/// A text that tells two destinations apart.
fn key(name: &str, address: &str, port: u64, protocol: &str) -> String {
    format!("{name} {address} {port} {protocol}")
}

impl Due {
    /// Writes the lines. The file is there as long as the job may be.
    pub(super) fn write(self) {
        let file = OpenOptions::new().append(true).custom_flags(libc::O_NOFOLLOW).open(&self.path);
        if let Err(why) = file.and_then(|mut file| file.write_all(self.lines.as_bytes()))
            && why.kind() != io::ErrorKind::NotFound
        {
            diag::limited!(
                Level::Warn,
                "cannot tell a job what it was refused",
                path = self.path.display(),
                error = why
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_and_end_at_the_bound_with_a_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("denials");
        std::fs::write(&path, "").unwrap();
        let mut note = Note::new(path.clone(), false);
        let denial = |n: u32| Denial {
            name: String::new(),
            address: Some(std::net::Ipv4Addr::from(n).into()),
            port: 443,
            protocol: "tcp".into(),
            count: 1,
            first_ns: 1_000_000_000,
            rule: "not in the egress list".into(),
            allow: "--egress \"x\"".into(),
        };
        for n in 0..2000 {
            note.add(Told::new(&denial(n)));
            if n % 100 == 0 {
                note.due().into_iter().for_each(Due::write);
            }
        }
        note.due().into_iter().for_each(Due::write);
        assert!(note.due().is_none());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() <= MOST && text.len() > MOST / 2, "{}", text.len());
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["address"], "0.0.0.0");
        assert_eq!(lines[0]["time"], "1970-01-01T00:00:01.000Z");
        assert_eq!(lines.last().unwrap()["more"], true);
        assert!(Note::new(path.clone(), true).is_full());
        // The next daemon sees the same entries of the ledger.
        std::fs::write(&path, text.lines().next().unwrap().to_owned() + "\n").unwrap();
        let mut next = Note::new(path.clone(), true);
        next.add(Told::new(&denial(0)));
        next.add(Told::new(&denial(1)));
        next.due().unwrap().write();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    }
}
