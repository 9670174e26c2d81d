//! Files that appear whole or not at all, and never with a mode wider than they end with.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use super::CertError;

/// Makes a directory that only its owner can enter; one that is there is left as it is. A link in its place is
/// refused: keys are not written to where somebody else points.
pub(super) fn private_dir(path: &Path) -> Result<(), CertError> {
    let wrong = |source| CertError::Write { what: "make directory", path: path.into(), source };
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let meta = fs::symlink_metadata(path).map_err(wrong)?;
            if meta.is_dir() { Ok(()) } else { Err(wrong(io::Error::other("it is there and no directory"))) }
        }
        other => other.map_err(wrong),
    }
}

/// Writes a file under another name and moves it into place.
pub(super) fn replace(path: &Path, text: &str, mode: u32) -> Result<(), CertError> {
    let wrong = |source| CertError::Write { what: "write", path: path.into(), source };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", uuid::Uuid::new_v4()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&temporary); // what is left of a failed attempt; the first error tells more
        wrong(source)
    })
}

/// Holds a directory for one set-up at a time, until the file is dropped.
pub(super) fn lock(dir: &Path) -> Result<File, CertError> {
    let wrong = |source| CertError::Write { what: "lock", path: dir.into(), source };
    let held = File::open(dir).map_err(wrong)?;
    match held.try_lock() {
        Ok(()) => Ok(held),
        Err(fs::TryLockError::WouldBlock) => Err(wrong(io::Error::other("another joblet setup is running"))),
        Err(fs::TryLockError::Error(e)) => Err(wrong(e)),
    }
}
