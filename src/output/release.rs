//! Rows of a spool that another store keeps are released: their bytes leave the disk.
//!
//! The order matters. The header says first what is released, durably; then holes are punched into the files. A reader
//! takes bytes, *then* looks at the header: bytes that may be those of a hole are thrown away and taken from the history
//! ([`super::joined`]). A daemon that dies in between leaves released bytes on the disk, which the next release removes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use log::Level;
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::Errno;

use super::header::Header;
use super::row::{INDEX, ROW, Row, place};
use super::{OutputError, Stream};
use crate::diag;

/// Holes consist of whole pages.
pub(super) const PAGE: u64 = 4096;
/// Rows that are read at once.
const AT_ONCE: u64 = 512;

/// Releases the rows up to the one with the sequence `through`, all of which must be published and durable in another
/// store, and returns the header as it is then. `None`: fewer than `least` bytes would go, the file system has no holes,
/// or the spool is gone.
///
/// It waits for the disk, so it runs on a worker. Two releases of one spool may run at the same time.
///
/// # Errors
/// The file that could not be read or written. The rows that the header releases are released all the same.
pub fn release(dir: &Path, through: u64, least: u64) -> Result<Option<Header>, OutputError> {
    let path = dir.join(INDEX);
    let index = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(index) => index,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OutputError::Release { path, source }),
    };
    let failed = |source| OutputError::Release { path: path.clone(), source };
    // Two releases must not write older numbers over newer ones.
    flock(&index, FlockOperation::LockExclusive).map_err(|why| failed(why.into()))?;
    let Some(before) = Header::read(&index).map_err(failed)? else {
        return Err(OutputError::Format { path });
    };
    if before.is_ring || through <= before.released {
        return Ok(None);
    }
    if !has_holes(&index).map_err(failed)? {
        diag::limited!(
            Level::Warn,
            "the file system has no holes: output stays in the spool until its job has ended",
            path = dir.display()
        );
        return Ok(None);
    }
    let header = walk(&index, before, |row, _| row.sequence <= through).map_err(failed)?;
    if header.released == before.released || header.bytes() - before.bytes() < least {
        return Ok(None);
    }
    index.write_all_at(&header.encode(), 0).map_err(failed)?;
    // A power cut must not bring back a header that knows nothing of the holes.
    index.sync_data().map_err(failed)?;
    for stream in [Stream::Stdout, Stream::Stderr] {
        let path = dir.join(stream.file_name());
        let file = OpenOptions::new().write(true).open(&path);
        let punched = file.and_then(|file| punch(&file, 0, header.end(stream)));
        punched.map_err(|source| OutputError::Release { path, source })?;
    }
    punch(&index, PAGE, place(header.released)).map_err(failed)?;
    Ok(Some(header))
}

/// The header of a spool as it is now; `None`: it cannot be read, or the spool is gone.
pub fn released(dir: &Path) -> Option<Header> {
    let index = File::open(dir.join(INDEX)).ok()?;
    Header::read(&index).ok().flatten()
}

/// Removes the files of a spool whose rows are all durable in another store, and of which no more will come. Readers that
/// have opened them read on.
///
/// # Errors
/// The file that could not be removed.
pub fn remove(dir: &Path) -> Result<(), OutputError> {
    // The index first: without it nobody looks for the others.
    for name in [INDEX, Stream::Stdout.file_name(), Stream::Stderr.file_name()] {
        let path = dir.join(name);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(OutputError::Release { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The header with those next rows released too that `goes` accepts, by the row and the header before it. It ends at the
/// first row that it does not accept, or that is none.
pub(super) fn walk(
    index: &File,
    mut header: Header,
    goes: impl Fn(&Row, &Header) -> bool,
) -> io::Result<Header> {
    let mut blocks = vec![0; AT_ONCE as usize * ROW];
    loop {
        let read = index.read_at(&mut blocks, place(header.released))?;
        let (rows, _torn) = blocks.get(..read).unwrap_or_default().as_chunks::<ROW>();
        if rows.is_empty() {
            return Ok(header);
        }
        for block in rows {
            let Some(row) = Row::decode(block) else { return Ok(header) };
            if row.sequence != header.released + 1 || !goes(&row, &header) {
                return Ok(header);
            }
            header.note(row);
            header.released += 1;
        }
    }
}

/// Whether the file system can take pages out of a file.
pub(super) fn has_holes(index: &File) -> io::Result<bool> {
    // Behind the end of any index there is nothing to lose.
    match fallocate(index, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 1 << 40, PAGE) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(why) => Err(why.into()),
    }
}

/// Takes the whole pages between two offsets out of a file, whose length stays.
pub(super) fn punch(file: &File, from: u64, to: u64) -> io::Result<()> {
    let to = to / PAGE * PAGE;
    if from >= to {
        return Ok(());
    }
    Ok(fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, from, to - from)?)
}

#[cfg(test)]
#[path = "release_tests.rs"]
mod tests;
