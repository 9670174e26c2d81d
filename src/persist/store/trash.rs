//! Deletion: a tombstone first, then the files out of sight, then the files.
//!
//! A tombstone is an empty file with the job's id. Rows of such a job that come late are dropped, so a deleted job does
//! not come back. Directories are renamed into a trash beside them, which takes no time whatever is in them; each tree
//! has its own, because it may be a file system of its own.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::StoreError;
use super::disk;
use crate::job::JobId;

/// The trash in the directory of logs and in that of metrics.
const TRASH: &str = ".trash";
/// The life of a tombstone. It lives on while the daemon still names the job.
const TOMBSTONE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Names that are tried for a directory in the trash.
const NAMES: u32 = 1000;

/// Moves a job's directory out of a tree into the tree's trash. A directory that is not there is no error.
pub(super) fn discard(tree: &Path, job: JobId) -> Result<(), StoreError> {
    let from = tree.join(job.to_string());
    if !from.exists() {
        return Ok(());
    }
    let trash = tree.join(TRASH);
    disk::make_directory(&trash).map_err(|source| StoreError::Create { path: trash.clone(), source })?;
    // A job that was deleted before may still lie there.
    let free = (0..NAMES).map(|n| trash.join(format!("{job}.{n}"))).find(|path| !path.exists());
    let to = free.unwrap_or_else(|| trash.join(job.to_string()));
    let moved = disk::rename(&from, &to).and_then(|()| disk::sync_names(tree));
    moved.map_err(|source| StoreError::Rename { path: from, source })
}

/// Removes all that is in the trash of these trees. An entry that cannot be removed keeps no other one there; the first
/// such failure is returned.
pub(super) fn empty(trees: [&Path; 2]) -> Result<(), StoreError> {
    let entries = trees.into_iter().flat_map(|tree| fs::read_dir(tree.join(TRASH))).flatten().flatten();
    entries.map(|entry| remove(&entry)).fold(Ok(()), Result::and)
}

fn remove(entry: &fs::DirEntry) -> Result<(), StoreError> {
    let path = entry.path();
    let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
    let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError::Remove { path, source }),
        _ => Ok(()),
    }
}

/// The path of a job's tombstone.
pub(super) fn tombstone(dir: &Path, job: JobId) -> PathBuf {
    dir.join(job.to_string())
}

/// Makes a job's tombstone, durably.
pub(super) fn bury(dir: &Path, job: JobId) -> Result<(), StoreError> {
    disk::make_directory(dir).map_err(|source| StoreError::Create { path: dir.to_owned(), source })?;
    let path = tombstone(dir, job);
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    made.and_then(|_| disk::sync_names(dir)).map_err(|source| StoreError::Write { path, source })
}

/// Removes the tombstones that are too old and whose jobs nobody knows, and returns their number.
pub(super) fn expire_tombstones(dir: &Path, now: SystemTime, known: &dyn Fn(JobId) -> bool) -> u64 {
    let is_old = |entry: &fs::DirEntry| {
        let made = entry.metadata().and_then(|meta| meta.modified());
        made.is_ok_and(|made| now.duration_since(made).is_ok_and(|age| age > TOMBSTONE))
    };
    let job = |entry: &fs::DirEntry| JobId::parse(entry.file_name().to_str()?);
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let old = entries.filter(|entry| job(entry).is_some_and(|job| !known(job)) && is_old(entry));
    old.filter(|entry| fs::remove_file(entry.path()).is_ok()).count() as u64
}
