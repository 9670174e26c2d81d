//! Reading one series over all its files: by sequence, by offset, by time.
//!
//! A reader takes no lock. Members that are there never change; files only grow at their end, and where one is replaced
//! (rotated, packed, deleted) the open one is still read to its end. The index is searched on the disk, so a reader's
//! memory does not grow with the log: it holds the open file, one member, and a few more where it reads in order
//! ([`ahead`](super::ahead)).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::StoreError;
use super::ahead::{Ahead, Window};
use super::loaded::Loaded;
use super::log_file::index_row;
use super::member::{Header, TIMES_GO_BACK};
use super::names::{Kind, Names};
use super::segment::{is_true, row_at};
use super::sidecar::{self, Row};

/// Looks at the names of files while they change.
const LOOKS: u32 = 10;

/// One file and the rows of its members.
#[derive(Debug)]
struct Segment {
    number: Option<u32>,
    inode: u64,
    file: Arc<File>,
    index: Option<File>,
    /// Rows that the index has.
    indexed: u64,
    /// Members behind those, found by their headers.
    extra: Vec<Row>,
    last: Option<Row>,
}

impl Segment {
    fn open(names: &Names, number: Option<u32>) -> io::Result<Option<Segment>> {
        let file = match File::open(names.log(number)) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let inode = file.metadata()?.ino();
        let index = File::open(names.index(number)).ok();
        let file = Arc::new(file);
        let mut segment = Segment { number, inode, file, index, indexed: 0, extra: Vec::new(), last: None };
        segment.refresh()?;
        Ok(Some(segment))
    }

    /// Takes in the members that were appended since.
    fn refresh(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if self.last.is_some_and(|last| last.end() >= length) {
            return Ok(());
        }
        self.read_index(length)?;
        while let Some(row) = row_at(&self.file, self.last.map_or(0, |row| row.end()), length)? {
            self.last = Some(row);
            self.extra.push(row);
        }
        Ok(())
    }

    /// Believes the index as far as its first and its last row are true: it may be another file's.
    fn read_index(&mut self, length: u64) -> io::Result<()> {
        let Some(index) = &self.index else { return Ok(()) };
        let rows = index.metadata()?.len().saturating_sub(sidecar::MAGIC.len() as u64) / sidecar::ROW as u64;
        if rows <= self.indexed {
            return Ok(());
        }
        let ends = [index_row(index, 0)?, index_row(index, rows - 1)?];
        let mut believed = true;
        for row in ends {
            believed &= match row {
                Some(row) => row.end() <= length && is_true(&self.file, &row)?,
                None => false,
            };
        }
        match ends[1] {
            Some(last) if believed && self.last.is_none_or(|known| known.end() <= last.end()) => {
                (self.indexed, self.last) = (rows, Some(last));
                self.extra.clear();
            }
            _ => {}
        }
        Ok(())
    }

    fn members(&self) -> u64 {
        self.indexed + self.extra.len() as u64
    }

    fn row(&self, n: u64) -> io::Result<Option<Row>> {
        match (&self.index, n.checked_sub(self.indexed)) {
            (_, Some(n)) => Ok(self.extra.get(n as usize).copied()),
            (Some(index), None) => index_row(index, n),
            (None, None) => Ok(None),
        }
    }

    /// The first member that `is_wanted` accepts, if it accepts all behind that one. A row of the index that is damaged
    /// ends the search there: the index is dropped, and the headers are read.
    fn search(&mut self, is_wanted: &impl Fn(&Header) -> bool) -> io::Result<Option<Row>> {
        let (mut low, mut high) = (0, self.members());
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(row) = self.row(middle)? else {
                (self.index, self.indexed, self.last) = (None, 0, None);
                self.extra.clear();
                self.refresh()?;
                (low, high, found) = (0, self.members(), None);
                continue;
            };
            if is_wanted(&row.header) {
                (high, found) = (middle, Some(row));
            } else {
                low = middle + 1;
            }
        }
        Ok(found)
    }

    /// The first member that `is_wanted` accepts, whatever it says of others.
    fn scan(&self, is_wanted: &impl Fn(&Header) -> bool) -> io::Result<Option<Row>> {
        for n in 0..self.members() {
            if let Some(row) = self.row(n)?.filter(|row| is_wanted(&row.header)) {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

/// The reader of one series.
#[derive(Debug)]
pub(super) struct SeriesReader {
    names: Names,
    /// The last header of each file but the open one, oldest first. The current file is the last.
    files: Vec<(Option<u32>, Option<Row>)>,
    open: Option<Segment>,
    /// The inode that the current file had in this list.
    current: Option<u64>,
    loaded: Option<Loaded>,
    ahead: Arc<Ahead>,
    window: Window,
    /// Damaged members that were met.
    damaged: u64,
}

impl SeriesReader {
    pub(super) fn open(dir: &Path, kind: Kind, ahead: &Arc<Ahead>) -> Result<SeriesReader, StoreError> {
        let mut reader = SeriesReader {
            names: Names { dir: dir.to_owned(), kind },
            files: Vec::new(),
            open: None,
            current: None,
            loaded: None,
            ahead: ahead.clone(),
            window: Window::default(),
            damaged: 0,
        };
        reader.list()?;
        Ok(reader)
    }

    fn failed(&self, number: Option<u32>) -> impl Fn(io::Error) -> StoreError + use<> {
        let path = self.names.log(number);
        move |source| StoreError::Read { path: path.clone(), source }
    }

    fn rotated(&self) -> Result<Vec<u32>, StoreError> {
        let path = || self.names.dir.clone();
        self.names.rotated().map_err(|source| StoreError::Read { path: path(), source })
    }

    /// Looks which files there are. The current one stays open. A file that is rotated away meanwhile would be missed
    /// under both of its names, so the look is repeated until no name has changed.
    fn list(&mut self) -> Result<(), StoreError> {
        for _ in 0..LOOKS {
            let rotated = self.rotated()?;
            let mut files = Vec::new();
            for number in rotated.iter().copied().map(Some).chain([None]) {
                if let Some(segment) = Segment::open(&self.names, number).map_err(self.failed(number))? {
                    files.push((number, segment.last));
                    self.open = Some(segment);
                }
            }
            self.files = files;
            self.current = self.open.as_ref().filter(|open| open.number.is_none()).map(|open| open.inode);
            if self.rotated()? == rotated {
                break;
            }
        }
        Ok(())
    }

    /// Whether the series has files.
    pub(super) fn exists(&self) -> bool {
        !self.files.is_empty()
    }

    /// Takes in what was appended since, also in new files. Files that are gone are read on as long as they are open.
    pub(super) fn refresh(&mut self) -> Result<(), StoreError> {
        let failed = self.failed(None);
        let inode = fs::metadata(self.names.log(None)).map(|meta| meta.ino()).ok();
        if inode.is_none() && self.rotated()?.is_empty() {
            return Ok(());
        }
        // The open file may be a newer one than the list knows, so the list's own inode counts.
        if inode.is_none() || inode != self.current {
            return self.list();
        }
        let Some(open) = self.switch(None)?.filter(|open| inode == Some(open.inode)) else {
            return self.list();
        };
        open.refresh().map_err(failed)?;
        let last = open.last;
        if let Some(file) = self.files.iter_mut().find(|file| file.0.is_none()) {
            file.1 = last;
        }
        Ok(())
    }

    /// The last header of the series.
    pub(super) fn last(&self) -> Option<Header> {
        self.files.iter().rev().find_map(|(_, last)| Some(last.as_ref()?.header))
    }

    /// Opens a file of the list. Where the current one is a newer one by now, the list is taken anew, and `None` says
    /// so, as it does of a file that is gone.
    fn switch(&mut self, number: Option<u32>) -> Result<Option<&mut Segment>, StoreError> {
        if self.open.as_ref().is_none_or(|open| open.number != number) {
            let failed = self.failed(number);
            self.open = Segment::open(&self.names, number).map_err(failed)?;
            let inode = self.open.as_ref().map(|open| open.inode);
            if number.is_none() && inode != self.current && !self.rotated()?.is_empty() {
                self.list()?;
                return Ok(None);
            }
        }
        Ok(self.open.as_mut())
    }

    /// The first member that `is_wanted` accepts, if it accepts all behind that one; then it is in memory.
    fn search(&mut self, is_wanted: impl Fn(&Header) -> bool) -> Result<Option<&Loaded>, StoreError> {
        let holds = |last: &Option<Row>| last.as_ref().is_some_and(|last| is_wanted(&last.header));
        for _ in 0..LOOKS {
            let Some((number, _)) = self.files.iter().find(|(_, last)| holds(last)).copied() else {
                return Ok(None);
            };
            let failed = self.failed(number);
            let Some(segment) = self.switch(number)? else { continue };
            return match segment.search(&is_wanted).map_err(failed)? {
                Some(row) => self.load(row).map(Some),
                None => Ok(None),
            };
        }
        Ok(None)
    }

    fn load(&mut self, row: Row) -> Result<&Loaded, StoreError> {
        let (kind, failed) = (self.names.kind, self.failed(None));
        let open = self.open.as_ref().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let known = self.loaded.take().filter(|it| it.row == row && it.inode == open.inode);
        let loaded = match known {
            Some(loaded) => loaded,
            None => {
                let place = (&open.file, open.inode);
                let loaded = match self.window.take(open.inode, &row) {
                    Some(loaded) => loaded,
                    None => Loaded::read(kind, (&open.file, open.inode), row).map_err(failed)?,
                };
                let end = open.last.map_or(0, |last| last.end());
                self.window.read_on(&self.ahead, kind, place, |at| row_at(&open.file, at, end).ok()?);
                if loaded.is_damaged {
                    self.damaged += 1;
                    let path = self.names.log(open.number);
                    crate::diag::limited!(
                        log::Level::Warn,
                        "a part of a job's history is damaged and left out",
                        file = path.display(),
                        offset = row.offset
                    );
                }
                loaded
            }
        };
        Ok(self.loaded.insert(loaded))
    }

    /// The member with the first record at or behind a sequence.
    pub(super) fn at_sequence(&mut self, sequence: u64) -> Result<Option<&Loaded>, StoreError> {
        let holds = |loaded: &Loaded| (loaded.row.header.first..=loaded.row.header.last).contains(&sequence);
        if self.loaded.as_ref().is_some_and(holds) {
            return Ok(self.loaded.as_ref());
        }
        self.search(|header| header.last >= sequence)
    }

    /// The member with the byte at an offset, or the next one behind a hole.
    pub(super) fn at_offset(&mut self, offset: u64) -> Result<Option<&Loaded>, StoreError> {
        let end = |header: &Header| header.bytes_before + u64::from(header.bytes);
        let holds = |loaded: &Loaded| {
            let header = &loaded.row.header;
            (header.bytes_before..end(header)).contains(&offset)
        };
        if self.loaded.as_ref().is_some_and(holds) {
            return Ok(self.loaded.as_ref());
        }
        self.search(|header| end(header) > offset)
    }

    /// The first sequence with a time of `time_ns` or later; `None`: all are earlier. Where times go back, it is the
    /// first of them.
    pub(super) fn at_time(&mut self, time_ns: i64) -> Result<Option<u64>, StoreError> {
        let is_new = |header: &Header| header.greatest_ns >= time_ns;
        let lasts = || self.files.iter().filter_map(|(_, last)| Some(last.as_ref()?.header));
        let went_back = lasts().any(|last| last.flags & TIMES_GO_BACK != 0)
            || !lasts().is_sorted_by_key(|last| last.greatest_ns);
        let loaded = if went_back { self.scan(is_new)? } else { self.search(is_new)? };
        let Some(loaded) = loaded else { return Ok(None) };
        let first = loaded.records.iter().find(|(_, record)| record.time_ns >= time_ns);
        Ok(Some(first.map_or(loaded.row.header.first, |(_, record)| record.sequence)))
    }

    fn scan(&mut self, is_wanted: impl Fn(&Header) -> bool) -> Result<Option<&Loaded>, StoreError> {
        for (number, _) in self.files.clone() {
            let failed = self.failed(number);
            let Some(segment) = self.switch(number)? else { continue };
            if let Some(row) = segment.scan(&is_wanted).map_err(failed)? {
                return self.load(row).map(Some);
            }
        }
        Ok(None)
    }

    /// The members that end behind a sequence, newest first, at most `most`.
    pub(super) fn newest(&mut self, sequence: u64, most: usize) -> Result<Vec<Header>, StoreError> {
        let mut found = Vec::new();
        for (number, last) in self.files.clone().into_iter().rev() {
            if last.is_some_and(|last| last.header.last <= sequence) {
                break;
            }
            let failed = self.failed(number);
            let Some(segment) = self.switch(number)? else { break };
            for n in (0..segment.members()).rev() {
                let Some(row) = segment.row(n).map_err(&failed)? else { break };
                if row.header.last <= sequence || found.len() == most {
                    return Ok(found);
                }
                found.push(row.header);
            }
        }
        Ok(found)
    }

    /// Damaged members that were met.
    pub(super) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Gives the member in memory back.
    pub(super) fn forget(&mut self) {
        self.loaded = None;
        self.window.clear();
    }
}
