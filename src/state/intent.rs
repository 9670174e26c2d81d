//! The record of a job that is about to start, in the job's exit file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Record, is_writable};
use crate::job::exit_file;

/// Offset of the intent in bytes: a page behind the exit block, which has a page of its own.
pub const PLACE: u64 = 4096;

/// Writes the intent; it survives the daemon when this returns.
///
/// # Errors
/// The disk's: full, read-only.
pub fn put(file: &File, record: &Record) -> io::Result<()> {
    is_writable(file)?;
    file.write_all_at(&serde_json::to_vec(record)?, PLACE)
}

/// Removes the intent from the exit file at `path`: the job has ended, and may be deleted. A missing file is no trouble.
pub fn void(path: &Path) {
    let cut = OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(exit_file::SIZE as u64));
    // A disk that refuses to make a file shorter keeps it until it is removed, which is next.
    let _ = cut;
}

/// Reads the intent; `None`: there is none, or half a record, whose payload never ran.
pub fn read(mut file: &File) -> Option<Record> {
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(PLACE)).ok()?;
    file.read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::exit_file::ExitFile;
    use crate::state::Stage;
    use crate::state::database::tests::record;

    #[test]
    fn intent_stays_in_the_exit_file_until_void_and_a_half_is_none() {
        let named = tempfile::NamedTempFile::new().unwrap();
        let file = named.as_file();
        file.write_all_at(&[0; exit_file::SIZE], 0).unwrap();
        assert_eq!(read(file), None);
        put(file, &record(7, Stage::Active(None))).unwrap();
        let ended = ExitFile { wait_status: 256, ..ExitFile::default() }.encode();
        file.write_all_at(&ended, 0).unwrap();
        assert_eq!(read(file).unwrap().serial, 7);
        file.set_len(PLACE + 40).unwrap();
        assert_eq!(read(file), None);
        void(named.path());
        let mut block = [1; exit_file::SIZE];
        file.read_exact_at(&mut block, 0).unwrap();
        assert_eq!((block, file.metadata().unwrap().len()), (ended, exit_file::SIZE as u64));
        void(&named.path().with_extension("absent"));
        assert!(!named.path().with_extension("absent").exists());
    }
}
