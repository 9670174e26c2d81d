//! The current file of one kind: opened behind its last good member, repaired, appended to, cut back, rotated away.
//!
//! A file is opened for each commit and closed behind it, so the number of open files does not grow with the number of
//! jobs, and a file that somebody removed or replaced is noticed before anything is written to it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::StoreError;
use super::disk;
use super::member::{HEADER, Header, TIMES_GO_BACK};
use super::names::Names;
use super::segment::{is_foreign, is_true, json_of, row_at};
use super::sidecar::{self, Row};

/// The end of a series of records: of all its files together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// The last sequence; 0: there is none.
    pub(super) sequence: u64,
    pub(super) bytes: u64,
    pub(super) lines: u64,
    pub(super) greatest_ns: i64,
    /// Whether times have gone back since the first record.
    pub(super) went_back: bool,
}

impl Tail {
    /// The end behind a member.
    pub(super) fn behind(header: &Header) -> Tail {
        Tail {
            sequence: header.last,
            bytes: header.bytes_before + u64::from(header.bytes),
            lines: header.lines_before + u64::from(header.lines),
            greatest_ns: header.greatest_ns,
            went_back: header.flags & TIMES_GO_BACK != 0,
        }
    }
}

/// The repairs at the opening of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Bytes that were cut off: a member that a crash tore.
    pub cut_bytes: u64,
    /// Whole members that had no row in the index yet.
    pub members_without_row: u64,
    /// Files that were set aside because another program wrote them.
    pub foreign_files: u64,
}

impl Repaired {
    pub(super) fn add(&mut self, other: Repaired) {
        self.cut_bytes += other.cut_bytes;
        self.members_without_row += other.members_without_row;
        self.foreign_files += other.foreign_files;
    }
}

/// The writer's view of the current file.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) names: Names,
    pub(super) tail: Tail,
    /// The greatest `through` of all members.
    pub(super) through: u64,
    pub(super) repaired: Repaired,
    /// Bytes of the durable members, and their number.
    end: u64,
    members: u64,
    /// Rows that the index has, and those that could not be written yet.
    rows: u64,
    unwritten: Vec<Row>,
    /// The inode of the file; `None`: it does not exist yet.
    inode: Option<u64>,
    /// Whether a failed commit left bytes behind `end` that could not be cut off.
    has_rest: bool,
    /// Whether the file was made, and its name may not be durable.
    unnamed: bool,
}

/// Members that are written and not durable yet.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) file: File,
    is_new: bool,
    rows: Vec<Row>,
}

impl LogFile {
    /// Looks at the files of one kind and repairs the end of the current one. Creates nothing.
    pub(super) fn open(names: Names) -> Result<LogFile, StoreError> {
        let mut log = LogFile {
            names,
            tail: Tail::default(),
            through: 0,
            repaired: Repaired::default(),
            end: 0,
            members: 0,
            rows: 0,
            unwritten: Vec::new(),
            inode: None,
            has_rest: false,
            unnamed: false,
        };
        log.reopen()?;
        Ok(log)
    }

    /// Looks at the files anew.
    pub(super) fn reopen(&mut self) -> Result<(), StoreError> {
        let path = self.names.log(None);
        let failed = |source| StoreError::Open { path: path.clone(), source };
        self.cut_rest(&path).map_err(failed)?;
        self.begin();
        let _ = fs::remove_file(self.names.temporary());
        let mut last = None;
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => match self.repair(&file).map_err(failed)? {
                Some(end) => last = end,
                None => {
                    self.rotate()?;
                    self.repaired.foreign_files += 1;
                }
            },
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => return Err(failed(why)),
        }
        if last.is_none() {
            for number in self.names.rotated().map_err(failed)?.into_iter().rev() {
                last = last_row(&self.names, number).map_err(failed)?;
                if last.is_some() {
                    break;
                }
            }
        }
        self.tail = last.map_or_else(Tail::default, |row| Tail::behind(&row.header));
        self.through = last.map_or(0, |row| row.header.through);
        Ok(())
    }

    /// Cuts off what a failed commit has left, before the file is looked at: its members may be whole in memory, and never
    /// come to the disk.
    fn cut_rest(&mut self, path: &Path) -> io::Result<()> {
        if !self.has_rest {
            return Ok(());
        }
        match OpenOptions::new().write(true).open(path) {
            Ok(file) if Some(file.metadata()?.ino()) == self.inode => disk::cut(&file, self.end)?,
            // Another file has no such rest.
            Ok(_) => {}
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => return Err(why),
        }
        self.has_rest = false;
        Ok(())
    }

    /// Takes in whole members without a row and cuts off what is behind them. `None`: another program wrote the file.
    fn repair(&mut self, file: &File) -> io::Result<Option<Option<Row>>> {
        let meta = file.metadata()?;
        let length = meta.len();
        self.inode = Some(meta.ino());
        let path = self.names.index(None);
        let mut rows = believed_rows(file, &path, length)?;
        let had = rows.len();
        let mut last = rows.last().copied();
        let mut end = last.map_or(0, |row| row.end());
        while let Some(row) = next_whole(file, last.as_ref(), end, length)? {
            (end, last) = (row.end(), Some(row));
            rows.push(row);
        }
        if end < length {
            if is_foreign(file, end)? {
                return Ok(None);
            }
            disk::cut(file, end)?;
            self.repaired.cut_bytes += length - end;
        }
        self.repaired.members_without_row += (rows.len() - had) as u64;
        if let Some(first) = rows.get(had) {
            write_again(file, first.offset.max(end.saturating_sub(AGAIN)), end)?;
        }
        if end < length || rows.len() > had {
            disk::sync(file)?;
            // Whoever wrote it may have ended before its name was durable.
            disk::sync_names(&self.names.dir)?;
        }
        (self.end, self.rows, self.members) = (end, had as u64, rows.len() as u64);
        let index_length = fs::metadata(&path).map_or(0, |index| index.len());
        if index_length != sidecar::place(rows.len() as u64) || had == 0 {
            if had == 0 {
                let _ = fs::remove_file(&path);
            }
            self.publish(rows.split_off(had));
        }
        Ok(Some(last))
    }

    /// The number of members in the current file, and its bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.members, self.end)
    }

    /// Appends members. They are not durable before [`LogFile::sync`] and not part of the file before
    /// [`LogFile::finish`].
    pub(super) fn write(&mut self, bytes: &[u8], headers: &[Header]) -> Result<Written, StoreError> {
        let path = self.names.log(None);
        let failed = |source| StoreError::Write { path: path.clone(), source };
        let (file, is_new) = self.open_current()?;
        if self.has_rest {
            disk::cut(&file, self.end).map_err(failed)?;
            self.has_rest = false;
        }
        let mut end = self.end;
        let rows = headers.iter().map(|header| {
            let row = Row { offset: end, header: *header };
            end = row.end();
            row
        });
        let rows = rows.collect();
        // Whatever happens from here on, bytes may stand behind the end.
        self.has_rest = true;
        disk::write(&file, bytes, self.end).map_err(failed)?;
        disk::start_sync(&file);
        Ok(Written { file, is_new, rows })
    }

    fn open_current(&mut self) -> Result<(File, bool), StoreError> {
        let path = self.names.log(None);
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let is_new = self.inode.is_none();
        if is_new {
            let dir = &self.names.dir;
            disk::make_directory(dir).map_err(|source| StoreError::Create { path: dir.clone(), source })?;
            options.create_new(true);
            // The index of a file that is gone.
            let _ = fs::remove_file(self.names.index(None));
        }
        let file = match options.open(&path) {
            Err(why) if [io::ErrorKind::NotFound, io::ErrorKind::AlreadyExists].contains(&why.kind()) => {
                return Err(StoreError::Changed { path });
            }
            opened => opened.map_err(|source| StoreError::Write { path: path.clone(), source })?,
        };
        let meta = file.metadata().map_err(|source| StoreError::Write { path: path.clone(), source })?;
        let is_ours = self.inode.is_none_or(|inode| inode == meta.ino());
        if !is_ours || meta.len() < self.end || (meta.len() > self.end && !self.has_rest) {
            return Err(StoreError::Changed { path });
        }
        self.inode = Some(meta.ino());
        // Until a commit has ended: one that fails may have made the file.
        self.unnamed |= is_new;
        Ok((file, self.unnamed))
    }

    /// Makes written members durable.
    pub(super) fn sync(&self, written: &Written) -> Result<(), StoreError> {
        let synced = disk::sync(&written.file)
            .and_then(|()| if written.is_new { disk::sync_names(&self.names.dir) } else { Ok(()) });
        synced.map_err(|source| StoreError::Write { path: self.names.log(None), source })
    }

    /// Takes durable members into the file and writes their rows.
    pub(super) fn finish(&mut self, written: Written) {
        let Some(last) = written.rows.last() else { return };
        (self.end, self.has_rest, self.unnamed) = (last.end(), false, false);
        self.tail = Tail::behind(&last.header);
        self.through = self.through.max(last.header.through);
        self.members += written.rows.len() as u64;
        self.publish(written.rows);
    }

    /// Writes rows into the index, in their order. The index is never the truth: rows that cannot be written now are
    /// written with the next ones, and until then their members are found by their headers.
    fn publish(&mut self, rows: Vec<Row>) {
        self.unwritten.extend(rows);
        let blocks: Vec<u8> = self.unwritten.iter().flat_map(Row::encode).collect();
        let path = self.names.index(None);
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let written = opened.and_then(|index| {
            let end = sidecar::place(self.rows);
            if index.metadata()?.len() > end {
                disk::cut(&index, end)?;
            }
            if self.rows == 0 {
                disk::write(&index, &sidecar::MAGIC, 0)?;
            }
            disk::write(&index, &blocks, end)
        });
        if written.is_ok() {
            self.rows += self.unwritten.len() as u64;
            self.unwritten.clear();
        }
    }

    /// Cuts the file back to its durable members after a failed commit. The error of fdatasync(2) comes once, and the
    /// kernel then calls the pages clean, so what was written must never be taken for durable.
    pub(super) fn cut_back(&mut self) {
        if !self.has_rest {
            return;
        }
        let path = self.names.log(None);
        let opened = OpenOptions::new().write(true).open(&path);
        if opened.and_then(|file| disk::cut(&file, self.end)).is_ok() {
            self.has_rest = false;
        }
    }

    /// Sets the current file aside under the next number.
    pub(super) fn rotate(&mut self) -> Result<(), StoreError> {
        let dir = &self.names.dir;
        let numbers = self.names.rotated();
        let numbers = numbers.map_err(|source| StoreError::Read { path: dir.clone(), source })?;
        let number = numbers.last().map_or(1, |last| last + 1);
        let rename = |from: PathBuf, to: &Path| {
            disk::rename(&from, to).map_err(|source| StoreError::Rename { path: from, source })
        };
        rename(self.names.log(None), &self.names.log(Some(number)))?;
        // Without its index a file is still read, by its headers.
        let _ = rename(self.names.index(None), &self.names.index(Some(number)));
        self.begin();
        Ok(())
    }

    /// Knows of no current file.
    fn begin(&mut self) {
        (self.end, self.rows, self.members, self.inode, self.has_rest) = (0, 0, 0, None, false);
        self.unwritten.clear();
        self.unnamed = false;
    }

    /// Takes over a file with the same records that has replaced the current one, and writes its index.
    pub(super) fn replaced(&mut self, file: &File, rows: Vec<Row>) -> io::Result<()> {
        let tail = self.tail;
        self.begin();
        self.inode = Some(file.metadata()?.ino());
        (self.end, self.members) = (rows.last().map_or(0, Row::end), rows.len() as u64);
        self.tail = tail;
        self.publish(rows);
        Ok(())
    }

    /// Removes the oldest rotated files until at most `keep` are left, and returns the number of those removed.
    pub(super) fn remove_rotated(&self, keep: usize) -> u64 {
        // Those of a directory that cannot be read now go behind the next commit.
        let numbers = self.names.rotated().unwrap_or_default();
        let surplus = numbers.len().saturating_sub(keep);
        let removed = numbers.iter().take(surplus).filter(|number| {
            let _ = disk::remove(&self.names.index(Some(**number)));
            disk::remove(&self.names.log(Some(**number))).is_ok()
        });
        removed.count() as u64
    }
}

/// Bytes at the end of a file that may be those of its last commit.
const AGAIN: u64 = 32 << 20;
/// Bytes that are written again at once.
const BLOCK: u64 = 1 << 20;

/// Writes bytes over themselves. Where an earlier process could not sync them, the kernel calls them clean, and would
/// sync them without writing them.
fn write_again(file: &File, mut from: u64, to: u64) -> io::Result<()> {
    while from < to {
        let mut block = vec![0; BLOCK.min(to - from) as usize];
        file.read_exact_at(&mut block, from)?;
        disk::write(file, &block, from)?;
        from += block.len() as u64;
    }
    Ok(())
}

/// The rows of an index that describe this file. An index that belongs to another file, such as one that packing has
/// replaced, has none.
pub(super) fn believed_rows(file: &File, index: &Path, length: u64) -> io::Result<Vec<Row>> {
    let rows = match fs::read(index) {
        Ok(bytes) => sidecar::believed(&bytes, length),
        Err(_) => Vec::new(),
    };
    let ends = [rows.first(), rows.last()];
    for row in ends.into_iter().flatten() {
        if !is_true(file, row)? {
            return Ok(Vec::new());
        }
    }
    Ok(rows)
}

/// The member at `end`, behind the member `last`, if it is whole and continues it.
fn next_whole(file: &File, last: Option<&Row>, end: u64, length: u64) -> io::Result<Option<Row>> {
    let Some(row) = row_at(file, end, length)? else { return Ok(None) };
    let before = last.map_or_else(Tail::default, |last| Tail::behind(&last.header));
    if row.header.first <= before.sequence && last.is_some() || row.header.bytes_before < before.bytes {
        return Ok(None);
    }
    if json_of(file, &row)?.is_some() {
        return Ok(Some(row));
    }
    // Damaged, but durable once: a later member says that the commit of this one had ended.
    Ok(is_vouched_for(file, &row, length)?.then_some(row))
}

/// Whether a member behind `row` states that all rows up to the last one of `row` were durable.
fn is_vouched_for(file: &File, row: &Row, length: u64) -> io::Result<bool> {
    let mut at = row.end();
    while let Some(next) = row_at(file, at, length)? {
        if next.header.through >= row.header.last {
            return Ok(true);
        }
        at = next.end();
    }
    Ok(false)
}

/// The last member of ours in a rotated file.
fn last_row(names: &Names, number: u32) -> io::Result<Option<Row>> {
    let file = File::open(names.log(Some(number)))?;
    let length = file.metadata()?.len();
    let mut last = believed_rows(&file, &names.index(Some(number)), length)?.last().copied();
    while let Some(row) = row_at(&file, last.map_or(0, |row| row.end()), length)? {
        last = Some(row);
    }
    Ok(last)
}

/// Reads the index and the headers of a file as its readers do: without repairing anything.
pub(super) fn all_rows(file: &File, index: &Path) -> io::Result<Vec<Row>> {
    let length = file.metadata()?.len();
    let mut rows = believed_rows(file, index, length)?;
    while let Some(row) = row_at(file, rows.last().map_or(0, Row::end), length)? {
        rows.push(row);
    }
    Ok(rows)
}

/// Reads the block of an index, for a reader that does not hold all rows. `None`: it is not there, or damaged.
pub(super) fn index_row(index: &File, n: u64) -> io::Result<Option<Row>> {
    let mut block = [0; sidecar::ROW];
    match index.read_exact_at(&mut block, sidecar::place(n)) {
        // The writer has just cut it.
        Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|()| Row::decode(&block)),
    }
}

const _: () = assert!(sidecar::ROW == 8 + HEADER - 16);
