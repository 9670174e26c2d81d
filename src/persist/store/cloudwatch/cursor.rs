//! The local note of what CloudWatch has accepted of a job.
//!
//! Remote state is only eventually readable, so the answer to "how far did we come" is a file here of 64 bytes, numbers
//! little endian: the mark `JOBLETC1`; `through` and `samples` of [`Accepted`]; for stdout and stderr the last sequence and
//! the end of the bytes that were accepted; four zero bytes and the CRC-32 of the 60 bytes before. It is written and
//! synced after each accepted request. A crash between the answer and the write sends that request again; readers drop the
//! double.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::job::JobId;

use super::error::CloudError;

const MARK: [u8; 8] = *b"JOBLETC1";
const LENGTH: usize = 64;
/// The place of the checksum.
const CRC: usize = LENGTH - 4;

/// How far one stream is accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reached {
    /// The sequence of the last row of which something is accepted; 0: none.
    pub sequence: u64,
    /// The end of the accepted bytes, an offset in the stream.
    pub end: u64,
}

/// The part of a job that CloudWatch has accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The last sequence up to which all rows of both streams are accepted; 0: none.
    pub through: u64,
    /// The number of samples that are accepted, from the first one on.
    pub samples: u64,
    /// How far stdout and stderr are accepted; one of them may be ahead of `through`.
    pub streams: [Reached; 2],
}

impl Accepted {
    fn encode(self) -> [u8; LENGTH] {
        let [out, err] = self.streams;
        let numbers = [self.through, self.samples, out.sequence, out.end, err.sequence, err.end];
        let mut block = [0; LENGTH];
        block[..8].copy_from_slice(&MARK);
        for (place, number) in block[8..56].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc(&block[..CRC]);
        block[CRC..].copy_from_slice(&crc.to_le_bytes());
        block
    }

    fn decode(block: &[u8; LENGTH]) -> Option<Accepted> {
        let long = |at: usize| Some(u64::from_le_bytes(block.get(at..at + 8)?.try_into().ok()?));
        let stated = u32::from_le_bytes(block.get(CRC..)?.try_into().ok()?);
        if !block.starts_with(&MARK) || stated != crc(block.get(..CRC)?) {
            return None;
        }
        let reached = |at| Some(Reached { sequence: long(at)?, end: long(at + 8)? });
        let streams = [reached(24)?, reached(40)?];
        Some(Accepted { through: long(8)?, samples: long(16)?, streams })
    }
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// The open note of one job.
#[derive(Debug)]
pub(super) struct Cursor {
    path: PathBuf,
    file: File,
    accepted: Accepted,
}

/// The path of a job's note.
pub(super) fn path(dir: &Path, job: JobId) -> PathBuf {
    dir.join(job.to_string())
}

/// Makes the directory of all notes (0700).
pub(super) fn make_directory(dir: &Path) -> Result<(), CloudError> {
    DirBuilder::new().mode(0o700).recursive(true).create(dir).map_err(|e| failed(dir)(e))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> CloudError {
    move |source| CloudError::Cursor { path: path.to_owned(), source }
}

impl Cursor {
    /// Opens the note of a job, or makes one. A damaged one begins anew: all rows that are still there are sent again.
    pub(super) fn open(dir: &Path, job: JobId) -> Result<Cursor, CloudError> {
        let path = path(dir, job);
        let fresh = !path.exists();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path))?;
        if fresh {
            // A file is not durable until its directory is.
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))?;
        }
        let mut block = [0; LENGTH];
        let accepted = match file.read_exact_at(&mut block, 0) {
            Ok(()) => Accepted::decode(&block).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Accepted::default(),
            Err(e) => return Err(failed(&path)(e)),
        };
        Ok(Cursor { path, file, accepted })
    }

    /// The numbers of the note.
    pub(super) fn accepted(&self) -> Accepted {
        self.accepted
    }

    /// Notes this durably.
    pub(super) fn save(&mut self, accepted: Accepted) -> Result<(), CloudError> {
        if accepted == self.accepted {
            return Ok(());
        }
        self.file.write_all_at(&accepted.encode(), 0).map_err(failed(&self.path))?;
        self.file.sync_data().map_err(failed(&self.path))?;
        self.accepted = accepted;
        Ok(())
    }
}

/// Removes the note of a job; one that is not there is removed.
pub(super) fn remove(dir: &Path, job: JobId) -> Result<(), CloudError> {
    let path = path(dir, job);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(&path)(e)),
        _ => Ok(()),
    }
}

/// Most notes that one call of [`expire`] removes.
const STEP: usize = 100;
/// The age at which a note of an unknown job is removed.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Removes old notes of unknown jobs; their number.
pub(super) fn expire(dir: &Path, known: &dyn Fn(JobId) -> bool) -> Result<usize, CloudError> {
    let mut removed = 0;
    for entry in std::fs::read_dir(dir).map_err(failed(dir))? {
        let entry = entry.map_err(failed(dir))?;
        let Some(job) = entry.file_name().to_str().and_then(JobId::parse) else { continue };
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > KEPT) && !known(job) {
            remove(dir, job)?;
            removed += 1;
        }
        if removed == STEP {
            break;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOME: Accepted = Accepted {
        through: 0x0102,
        samples: 3,
        streams: [Reached { sequence: 4, end: 5 }, Reached { sequence: 6, end: 7 }],
    };

    #[test]
    fn a_note_is_read_back_and_a_damaged_one_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let job = JobId::random();
        Cursor::open(dir.path(), job).unwrap().save(SOME).unwrap();
        assert_eq!(Cursor::open(dir.path(), job).unwrap().accepted(), SOME);
        let file = path(dir.path(), job);
        for damaged in [&b"short"[..], &[0; LENGTH], &[0xff; LENGTH]] {
            std::fs::write(&file, damaged).unwrap();
            assert_eq!(Cursor::open(dir.path(), job).unwrap().accepted(), Accepted::default());
        }
        remove(dir.path(), job).unwrap();
        remove(dir.path(), job).unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn old_notes_of_unknown_jobs_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let jobs = [JobId::random(), JobId::random(), JobId::random()];
        for (job, days) in jobs.iter().zip([31, 31, 29]) {
            Cursor::open(dir.path(), *job).unwrap();
            let time = std::time::SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
            File::options().write(true).open(path(dir.path(), *job)).unwrap().set_modified(time).unwrap();
        }
        assert_eq!(expire(dir.path(), &|job| job == jobs[1]).unwrap(), 1);
        assert!(!path(dir.path(), jobs[0]).exists() && path(dir.path(), jobs[2]).exists());
    }

    #[test]
    fn the_format_of_version_1_is_kept() {
        let block = SOME.encode();
        assert_eq!(&block[..8], b"JOBLETC1");
        let numbers: Vec<_> = block[8..56].chunks(8).map(|n| (n[0], n[1])).collect();
        assert_eq!(numbers, [(2, 1), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0)]);
        assert_eq!(block[56..], [0, 0, 0, 0, CRC_OF_SOME[0], CRC_OF_SOME[1], CRC_OF_SOME[2], CRC_OF_SOME[3]]);
        assert_eq!(Accepted::decode(&block), Some(SOME));
    }

    /// By Python's zlib.crc32 over the first 60 bytes.
    const CRC_OF_SOME: [u8; 4] = [104, 189, 100, 115];

    proptest! {
        #[test]
        fn one_flipped_bit_is_never_believed(through: u64, samples: u64, bit in 0..LENGTH * 8) {
            let mut block = Accepted { through, samples, ..SOME }.encode();
            block[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Accepted::decode(&block), None);
        }
    }
}
