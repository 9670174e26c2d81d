//! A directory aside: something of a runtime while it is made.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::error::{RuntimeError, disk};
use crate::sys::removal::remove_tree;

/// A directory below `.staging`, removed with this value unless it is published.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
}

impl Staging {
    /// A new, empty one.
    pub(super) fn make(dir: &Path) -> Result<Staging, RuntimeError> {
        let path = free(dir);
        disk(DirBuilder::new().mode(0o755).create(&path), "make", &path)?;
        Ok(Staging { path })
    }

    /// The name that something gets which is moved here to be removed; nothing is there yet.
    pub(super) fn vacant(dir: &Path) -> Staging {
        Staging { path: free(dir) }
    }

    /// The directory, which is on the file system of the runtimes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whatever has this path now belongs to somebody else.
    pub(super) fn forget(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // The next daemon tries again.
            let _ = remove(&self.path);
        }
    }
}

fn free(dir: &Path) -> PathBuf {
    dir.join(uuid::Uuid::new_v4().to_string())
}

/// Removes what has a path, with all that is below it; no link is followed and no mount entered.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let name = CString::new(name.as_bytes())?;
    remove_tree(File::open(parent)?.as_fd(), &name)
}

/// Removes everything in a directory. Failures are returned in words.
pub(super) fn clear(dir: &Path) -> Vec<String> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(why) => return vec![format!("cannot read {}: {why}", dir.display())],
    };
    let refused =
        |path: PathBuf| remove(&path).err().map(|why| format!("cannot remove {}: {why}", path.display()));
    entries.flatten().filter_map(|entry| refused(entry.path())).collect()
}
