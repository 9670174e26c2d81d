//! The directories below dataDir: made, or found as only we could have made them.
//!
//! Their names are known beforehand. Where somebody else can write into dataDir, or made it, a link with one
//! of these names would lead what the daemon writes as root to a place of his choice.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::DaemonError;
use crate::config::permissions;

/// Makes `<data_dir>/<name>` with mode 0700, unless it is there; dataDir itself too.
///
/// # Errors
/// The file system's refusal; a directory that is a link, somebody else's, or open to others' writes; one above that
/// lets others replace dataDir.
pub(super) fn make(data_dir: &Path, name: &str) -> Result<PathBuf, DaemonError> {
    let path = data_dir.join(name);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
    made.map_err(|source| DaemonError::MakeDirectory { path: path.clone(), source })?;
    // A link to dataDir may be the administrator's: it is judged as itself and as what it leads to.
    for (dir, followed) in [(data_dir, false), (data_dir, true), (&path, false)] {
        let meta = if followed { fs::metadata(dir) } else { fs::symlink_metadata(dir) };
        let meta = meta.map_err(|source| DaemonError::MakeDirectory { path: dir.to_owned(), source })?;
        let why = fault(&meta).or((dir == path && meta.is_symlink()).then_some("it is a symbolic link"));
        if let Some(why) = why {
            let source = io::Error::new(io::ErrorKind::PermissionDenied, why);
            return Err(DaemonError::MakeDirectory { path: dir.to_owned(), source });
        }
    }
    let refused = |source| DaemonError::MakeDirectory { path: data_dir.to_owned(), source };
    match permissions::replaceable(data_dir).map_err(refused)? {
        None => Ok(path),
        Some(why) => Err(refused(io::Error::new(io::ErrorKind::PermissionDenied, why))),
    }
}

/// Why this is no directory to write into as root.
fn fault(meta: &Metadata) -> Option<&'static str> {
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me && meta.uid() != 0 {
        return Some("it belongs to somebody else");
    }
    // The mode of a link says nothing.
    (!meta.is_symlink() && meta.mode() & 0o022 != 0).then_some("others may write into it")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn refusal(data_dir: &Path) -> String {
        make(data_dir, "run").unwrap_err().to_string()
    }

    #[test]
    fn a_directory_is_made_once_and_then_found() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        for _ in 0..2 {
            let made = make(&data, "run").unwrap();
            assert_eq!(fs::metadata(made).unwrap().mode() & 0o7777, 0o700);
        }
        // An administrator may put the data elsewhere.
        let link = dir.path().join("link");
        symlink(&data, &link).unwrap();
        make(&link, "spool").unwrap();
    }

    #[test]
    fn symlink_or_directory_writable_by_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc", dir.path().join("run")).unwrap();
        assert!(refusal(dir.path()).contains("it is a symbolic link"), "{}", refusal(dir.path()));
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(refusal(&open).contains("others may write into it"), "{}", refusal(&open));
        let below = open.join("a/b");
        fs::create_dir_all(&below).unwrap();
        assert!(
            refusal(&below).contains("everybody can replace it; run: chmod o-w /"),
            "{}",
            refusal(&below)
        );
    }
}
