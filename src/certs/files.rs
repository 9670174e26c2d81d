//! Files that appear whole or not at all, and never with a mode wider than they end with.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use super::{
    CertError,
    authority::{Authority, Pair},
};
use crate::{config::permissions, job::Secret};

/// Name of the list of revoked certificates below the root of a node.
pub(super) const REVOKED: &str = "revoked.pem";

/// The CA of the node with this root.
///
/// # Errors
/// A file is missing, or it can issue nothing at `now` (Unix seconds).
pub(super) fn load_ca(dir: &Path, now: i64) -> Result<Authority, CertError> {
    let read = |name| {
        let path = dir.join("ca").join(name);
        fs::read_to_string(&path).map_err(|source| CertError::Write { what: "read", path, source })
    };
    Authority::load(&Pair { cert: read("ca-cert.pem")?, key: Secret::new(read("ca-key.pem")?) }, now)
}

/// Writes it: the key first, so that a certificate without one is visibly unfinished.
pub(super) fn write_ca(dir: &Path, ca: &Pair) -> Result<(), CertError> {
    private_dir(&dir.join("ca"))?;
    replace(&dir.join("ca/ca-key.pem"), ca.key.expose(), 0o600)?;
    replace(&dir.join("ca/ca-cert.pem"), &ca.cert, 0o644)
}

/// Makes a directory that only its owner can enter; one that is there is left as it is. A link in its place is
/// refused, and so is a directory that somebody else owns, may write into or can replace: keys are not written to a
/// place of another user's choice.
pub(super) fn private_dir(path: &Path) -> Result<(), CertError> {
    let wrong = |source| CertError::Write { what: "make directory", path: path.into(), source };
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let meta = fs::symlink_metadata(path).map_err(wrong)?;
            if !meta.is_dir() {
                return Err(wrong(io::Error::other("it is there and no directory")));
            }
        }
        other => other.map_err(wrong)?,
    }
    let dir = File::open(path).map_err(wrong)?;
    match permissions::exposure(path, &dir, permissions::UNCHANGED).map_err(wrong)? {
        None => Ok(()),
        Some(exposure) => Err(wrong(io::Error::other(exposure))),
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
        fs::rename(&temporary, path)?;
        // The name too: a revocation that is forgotten at a power cut is none.
        File::open(path.parent().unwrap_or(path))?.sync_all()
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&temporary); // the rest of a failed attempt; the first error says more
        wrong(source)
    })
}

/// The text of a file that no other user can change or replace, of at most `most` bytes.
pub(super) fn read_unshared(path: &Path, most: u64) -> io::Result<String> {
    let file = File::open(path)?;
    if let Some(exposure) = permissions::exposure(path, &file, permissions::UNCHANGED)? {
        return Err(io::Error::other(exposure));
    }
    let mut text = String::new();
    if file.take(most + 1).read_to_string(&mut text)? as u64 > most {
        return Err(io::Error::other(format!("it is larger than {} MiB", most >> 20)));
    }
    Ok(text)
}

/// Holds a directory for one set-up at a time, until the file is dropped.
pub(super) fn lock(dir: &Path) -> Result<File, CertError> {
    let wrong = |source| CertError::Write { what: "lock", path: dir.into(), source };
    let held = File::open(dir).map_err(wrong)?;
    match held.try_lock() {
        Ok(()) => Ok(held),
        Err(fs::TryLockError::WouldBlock) => {
            Err(wrong(io::Error::other("another joblet setup or joblet certs is running")))
        }
        Err(fs::TryLockError::Error(e)) => Err(wrong(e)),
    }
}
