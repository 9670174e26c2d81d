//! The files of the trail: the thread's side.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use log::Level;
use rustix::fs::{FallocateFlags, fallocate};

use super::line::{self, Hash, LONGEST};
use super::{AuditError, Entry, Event, Settings};
use crate::diag;

/// Bytes that are kept free in the file for answers of calls that have begun.
const RESERVE: u64 = 256 << 10;
/// The file that names the newest one.
pub(super) const HEAD: &str = "head";

/// The name of a file by its number.
pub(super) fn name(number: u64) -> String {
    format!("audit-{number:06}.jsonl")
}

/// The number of a file by its name.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
    let number = digits.parse().ok()?;
    (self::name(number) == name).then_some(number)
}

/// The text that names the newest file, with a digest.
pub(super) fn head(number: u64) -> String {
    let name = name(number);
    format!("{name} {}\n", Hash::of(name.as_bytes()))
}

/// The numbers of all files, in order.
pub(super) fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        found.extend(entry?.file_name().to_str().and_then(number));
    }
    found.sort_unstable();
    Ok(found)
}

/// The end of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tail {
    /// The hash of its last whole line.
    hash: Option<Hash>,
    /// Where that line ends.
    whole: u64,
    /// Where the file ends.
    end: u64,
}

/// Looks for the last whole line, from the end on.
fn tail(file: &mut File) -> io::Result<Tail> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut window = 4 * LONGEST as u64;
    loop {
        let begin = end.saturating_sub(window);
        file.seek(SeekFrom::Start(begin))?;
        let mut bytes = Vec::new();
        file.take(end - begin).read_to_end(&mut bytes)?;
        let mut at = bytes.len();
        while let Some(stop) = bytes[..at].iter().rposition(|byte| *byte == b'\n') {
            let start = bytes[..stop].iter().rposition(|byte| *byte == b'\n').map_or(0, |before| before + 1);
            if let Some(links) = line::links(&bytes[start..stop]) {
                return Ok(Tail { hash: Some(links.hash), whole: begin + stop as u64 + 1, end });
            }
            at = stop;
        }
        if begin == 0 {
            return Ok(Tail { hash: None, whole: 0, end });
        }
        window *= 16;
    }
}

/// The newest file, and what comes into it next.
#[derive(Debug)]
pub(super) struct Trail {
    dir: PathBuf,
    max_bytes: u64,
    keep: usize,
    number: u64,
    file: File,
    /// Bytes of the file that are ours.
    len: u64,
    /// Bytes up to which the disk has room for the file for certain.
    reserved: u64,
    /// The hash of the newest line.
    last: Hash,
    /// Lines that come before all others.
    first: Vec<Entry>,
    /// Whether the file ends without the end of a line.
    unclosed: bool,
    /// Files that go when the lines about them are written.
    leaving: Vec<PathBuf>,
    // Keeps other daemons out for as long as it is open.
    _lock: File,
}

impl Trail {
    /// Opens the newest file, or makes the first one.
    pub(super) fn open(settings: &Settings) -> Result<Trail, AuditError> {
        let dir = &settings.directory;
        let failed = |doing, path: &Path| {
            let path = path.display().to_string();
            move |source| AuditError::Open { doing, path, source }
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(failed("make", dir))?;
        let lock = File::open(dir).map_err(failed("open", dir))?;
        lock.try_lock().map_err(|_| AuditError::Locked(dir.display().to_string()))?;
        let found = numbers(dir).map_err(failed("list", dir))?;
        let number = found.last().copied().unwrap_or(1);
        let path = dir.join(name(number));
        let mut file = open(&path, false).map_err(failed("open", &path))?;
        let end = tail(&mut file).map_err(failed("read", &path))?;
        let last = match (end.hash, found.iter().rev().nth(1)) {
            (Some(hash), _) => hash,
            (None, None) => Hash::default(),
            (None, Some(before)) => {
                let path = dir.join(name(*before));
                let before = File::open(&path).and_then(|mut file| tail(&mut file));
                before.map_err(failed("read", &path))?.hash.unwrap_or_default()
            }
        };
        let mut trail = Trail {
            dir: dir.clone(),
            max_bytes: settings.max_bytes,
            keep: settings.keep,
            number,
            file,
            len: end.end,
            reserved: end.end,
            last,
            first: Vec::new(),
            unclosed: false,
            leaving: Vec::new(),
            _lock: lock,
        };
        trail.close_torn(end).map_err(failed("read", &path))?;
        trail.write_head().map_err(failed("write the head of", &path))?;
        Ok(trail)
    }

    /// Notes what stands behind the last whole line.
    fn close_torn(&mut self, end: Tail) -> io::Result<()> {
        if end.whole == end.end {
            return Ok(());
        }
        let mut torn = Vec::new();
        self.file.seek(SeekFrom::Start(end.whole))?;
        self.file.read_to_end(&mut torn)?;
        self.unclosed = torn.last() != Some(&b'\n');
        let digest = Hash::of(&torn).to_string();
        let bytes = torn.len() as u64;
        self.first.push(Entry { bytes, digest, ..Entry::new(Event::Torn) });
        let file = name(self.number);
        diag::event!(Level::Warn, "the audit trail has an incomplete end", file = file, bytes = bytes);
        Ok(())
    }

    /// Appends lines with one write, all or none. With `reserves` there is room afterwards for the answers of these calls.
    pub(super) fn append(&mut self, entries: &[Entry], now_ns: i64, reserves: bool) -> io::Result<()> {
        if self.len >= self.max_bytes {
            self.rotate()?;
        }
        let (mut bytes, mut last) = (Vec::new(), self.last);
        if self.unclosed {
            bytes.push(b'\n');
        }
        for entry in self.first.iter().chain(entries) {
            last = line::append(&mut bytes, entry, last, now_ns);
        }
        if reserves {
            self.reserve(bytes.len() as u64 + RESERVE)?;
        }
        self.file.seek(SeekFrom::Start(self.len))?;
        if let Err(why) = self.file.write_all(&bytes) {
            // The part that was written goes again; if it does not, the next lines overwrite it.
            let _ = self.file.set_len(self.len);
            self.reserved = self.len;
            return Err(why);
        }
        self.len += bytes.len() as u64;
        (self.last, self.unclosed) = (last, false);
        self.first.clear();
        if !self.leaving.is_empty() {
            self.remove_old()?;
        }
        Ok(())
    }

    /// Has the disk keep room behind the end of the file.
    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        if self.len + bytes <= self.reserved {
            return Ok(());
        }
        let reserved = |bytes| fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.len, bytes);
        let (more, need) = (reserved(bytes + 3 * RESERVE).map(|()| bytes + 3 * RESERVE), bytes);
        let got = match more {
            Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => reserved(need).map(|()| need),
            other => other,
        };
        match got {
            Ok(got) => self.reserved = self.len + got,
            // A file system that cannot promise room.
            Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(why) => return Err(why.into()),
        }
        Ok(())
    }

    /// Begins the next file.
    fn rotate(&mut self) -> io::Result<()> {
        // The reserved room goes back.
        self.file.set_len(self.len)?;
        self.file.sync_data()?;
        let path = self.dir.join(name(self.number + 1));
        self.file = open(&path, true)?;
        self.number += 1;
        (self.len, self.reserved, self.unclosed) = (0, 0, false);
        self.write_head()?;
        let all = numbers(&self.dir)?;
        let old = &all[..all.len().saturating_sub(self.keep)];
        for number in old {
            let path = self.dir.join(name(*number));
            let end = File::open(&path).and_then(|mut file| tail(&mut file))?;
            let digest = end.hash.unwrap_or_default().to_string();
            self.first.push(Entry { file: name(*number), digest, ..Entry::new(Event::Removed) });
            self.leaving.push(path);
        }
        Ok(())
    }

    /// Removes files whose end the newest one tells.
    fn remove_old(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        for path in std::mem::take(&mut self.leaving) {
            if let Err(why) = fs::remove_file(&path) {
                let path = path.display();
                diag::event!(Level::Warn, "an old file of the audit trail stays", path = path, error = why);
            }
        }
        Ok(())
    }

    /// Names the newest file, so that its removal is seen.
    fn write_head(&self) -> io::Result<()> {
        let (made, place) = (self.dir.join("head.new"), self.dir.join(HEAD));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&made)?;
        file.write_all(head(self.number).as_bytes())?;
        file.sync_data()?;
        fs::rename(&made, &place)?;
        File::open(&self.dir)?.sync_all()
    }

    /// The newest file, for a thread that has the disk take what was written.
    pub(super) fn newest(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

/// Opens a file of the trail to read and write, and makes it where it is not there; `new`: it must not be.
fn open(path: &Path, new: bool) -> io::Result<File> {
    let mut how = OpenOptions::new();
    how.read(true).write(true).mode(0o600);
    if new {
        how.create_new(true)
    } else {
        how.create(true).truncate(false)
    };
    how.custom_flags(libc::O_NOFOLLOW).open(path)
}
