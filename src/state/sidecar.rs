//! A copy of the record of a job that is over, beside its output. `joblet recover` rebuilds a job from it.
//!
//! One line: CRC-32 of the text, eight digits, a blank, the record as JSON. Nothing waits until it is on disk, and the
//! daemon never reads it: the database has the record, and where that is whole, this may be missing or half written.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::Record;
use super::checksum::checksum;

/// The file's name in the spool of the job.
const FILE: &str = "record";

/// Writes the sidecar. A job without a spool gets none.
///
/// # Errors
/// The disk's: [`read`] then finds no record.
pub fn write(spool: &Path, record: &Record) -> io::Result<()> {
    let text = serde_json::to_string(record)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    match options.open(spool.join(FILE)) {
        Ok(mut file) => file.write_all(format!("{:08x} {text}\n", checksum(&text)).as_bytes()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Reads the sidecar, if it is whole.
pub fn read(spool: &Path) -> Option<Record> {
    let line = std::fs::read_to_string(spool.join(FILE)).ok()?;
    let (crc, text) = line.strip_suffix('\n')?.split_once(' ')?;
    (i64::from_str_radix(crc, 16).ok()? == checksum(text)).then(|| serde_json::from_str(text).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Stage;
    use crate::state::database::tests::{record, shown};

    #[test]
    fn sidecar_is_read_whole_or_not_at_all_and_needs_a_spool() {
        let dir = tempfile::tempdir().unwrap();
        let kept = record(7, Stage::Active(None));
        write(dir.path(), &kept).unwrap();
        assert_eq!(read(dir.path()), Some(shown(kept.clone())));
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        let changed = String::from_utf8(whole.clone()).unwrap().replace("nightly", "weekly");
        for broken in [&whole[..whole.len() - 1], changed.as_bytes(), b"", b"0 \n", b"x"] {
            std::fs::write(&path, broken).unwrap();
            assert_eq!(read(dir.path()), None);
        }
        write(&dir.path().join("none"), &kept).unwrap();
        assert!(!dir.path().join("none").exists());
    }
}
