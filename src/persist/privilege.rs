//! The directories of history, and the end of root's rights.
//!
//! Root makes the directories and gives them to the user `joblet`, then becomes that user for good. Without such a user,
//! or where a directory above lets it not pass, the process stays what it is and says so.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, lchown};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User, setgroups, setresgid, setresuid};

use super::PersistError;

/// The user without rights that keeps history.
pub(super) const USER: &str = "joblet";

/// The lock file, and the directory for whose sake the process keeps the rights of root.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The lock file, open and not locked.
    pub(super) file: File,
    /// A directory that the user `joblet` cannot pass.
    pub(super) stays_root: Option<PathBuf>,
}

/// Makes the directories, opens the lock file in `state`, and becomes the user `joblet` where that works. To be called
/// before any thread exists.
///
/// # Errors
/// A directory or the lock file cannot be made, or the rights cannot be given up.
pub(super) fn prepare(trees: &[PathBuf], state: &Path) -> Result<Prepared, PersistError> {
    for tree in trees {
        make(tree)?;
    }
    let path = state.join("persist.lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(&path).map_err(|source| PersistError::Lock { path, source })?;
    let mut stays_root = None;
    if Uid::effective().is_root()
        && let Ok(Some(user)) = User::from_name(USER)
        && !user.uid.is_root()
    {
        stays_root = closed_to(trees, user.uid, user.gid);
        if stays_root.is_none() {
            step_down(trees, user.uid, user.gid)?;
        }
    }
    rustix::thread::set_no_new_privs(true).map_err(|why| PersistError::Become(why.into()))?;
    Ok(Prepared { file, stays_root })
}

fn make(dir: &Path) -> Result<(), PersistError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| PersistError::MakeDirectory { path: dir.to_owned(), source })
}

/// The first directory above a tree that a user cannot pass.
pub(super) fn closed_to(trees: &[PathBuf], uid: Uid, gid: Gid) -> Option<PathBuf> {
    let passes = |dir: &Path| {
        fs::metadata(dir).is_ok_and(|meta| {
            let bit = match meta {
                _ if meta.uid() == uid.as_raw() => 0o100,
                _ if meta.gid() == gid.as_raw() => 0o010,
                _ => 0o001,
            };
            meta.mode() & bit != 0
        })
    };
    let above = trees.iter().flat_map(|tree| tree.ancestors().skip(1));
    above.filter(|dir| !dir.as_os_str().is_empty()).find(|dir| !passes(dir)).map(Path::to_path_buf)
}

fn step_down(trees: &[PathBuf], uid: Uid, gid: Gid) -> Result<(), PersistError> {
    for tree in trees {
        give(tree, uid, gid).map_err(|source| PersistError::MakeDirectory { path: tree.clone(), source })?;
    }
    let gone =
        setgroups(&[gid]).and_then(|()| setresgid(gid, gid, gid)).and_then(|()| setresuid(uid, uid, uid));
    gone.map_err(|why| PersistError::Become(why.into()))
}

/// Gives a tree to a user, unless it has it already: then everything in it was made by that user.
fn give(dir: &Path, uid: Uid, gid: Gid) -> io::Result<()> {
    if fs::symlink_metadata(dir)?.uid() == uid.as_raw() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // The type of the entry itself: a link leads nowhere here.
        if entry.file_type()?.is_dir() {
            give(&entry.path(), uid, gid)?;
        } else {
            lchown(entry.path(), Some(uid.as_raw()), Some(gid.as_raw()))?;
        }
    }
    // Last, so that a walk that was cut off is made again.
    lchown(dir, Some(uid.as_raw()), Some(gid.as_raw()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn directory_that_keeps_a_user_out_is_found() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().join("a");
        let tree = base.join("logs");
        fs::create_dir_all(&tree).unwrap();
        let set = |mode| fs::set_permissions(&base, fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let (uid, gid) = (Uid::from_raw(4711), Gid::from_raw(4712));
        set(0o700);
        assert_eq!(closed_to(std::slice::from_ref(&tree), uid, gid), Some(base.clone()));
        set(0o711);
        assert_eq!(closed_to(&[tree], uid, gid), None);
    }
}
