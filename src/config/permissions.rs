//! Files that no other user may read or replace: the mode and owner of what was opened, and of the directories
//! on the way to it.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use super::ConfigError;

/// Bits of a mode that a file with a private key must not have.
pub const SECRET: u32 = 0o077;
/// Bits of a mode that a file must not have whose contents decide which clients are trusted.
pub const UNCHANGED: u32 = 0o022;
/// With the sticky bit, as in /tmp, others can add files but not replace ours.
const STICKY: u32 = 0o1000;

/// An access that others have to a file, and the command that ends it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}; run: {remedy}")]
pub struct Exposure {
    /// Such as "others have access to it (mode 0644)".
    pub why: String,
    /// A shell command.
    pub remedy: String,
}

/// Looks at an open file and the directories of its real path; `forbidden` is [`SECRET`] or [`UNCHANGED`].
///
/// # Errors
/// The system refuses access to the file or a directory.
pub fn exposure(path: &Path, file: &File, forbidden: u32) -> io::Result<Option<Exposure>> {
    let found = |why: String, remedy: String| Ok(Some(Exposure { why, remedy }));
    let (meta, shown) = (file.metadata()?, path.display());
    if meta.mode() & forbidden != 0 {
        let (can, mode) =
            if forbidden == SECRET { ("have access to", "600") } else { ("can change", "go-w") };
        return found(
            format!("others {can} it (mode {:04o})", meta.mode() & 0o7777),
            format!("chmod {mode} {shown}"),
        );
    }
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != 0 && meta.uid() != me {
        return found(format!("it belongs to uid {}", meta.uid()), format!("chown {me} {shown}"));
    }
    replaceable(path)
}

/// A user or group that can replace a file or directory: it may write into a directory on the way, or owns one. A link on
/// the way is judged by the directories that it stands in and by those that it leads to.
///
/// # Errors
/// The system refuses access to a directory.
pub fn replaceable(path: &Path) -> io::Result<Option<Exposure>> {
    let me = rustix::process::geteuid().as_raw();
    for path in [std::path::absolute(path)?, path.canonicalize()?] {
        for dir in path.ancestors().skip(1) {
            let (meta, shown) = (dir.metadata()?, dir.display());
            let (why, remedy) = if meta.uid() != 0 && meta.uid() != me {
                // The sticky bit does not bind the directory's owner.
                let why = format!("uid {}, the owner of {shown}, can replace it", meta.uid());
                (why, format!("chown {me} {shown}"))
            } else if meta.mode() & STICKY != 0 {
                continue;
            } else if meta.mode() & 0o002 != 0 {
                ("everybody can replace it".to_owned(), format!("chmod o-w {shown}"))
            } else if foreign_group_writes(&meta) {
                (format!("group {} can replace it", meta.gid()), format!("chmod g-w {shown}"))
            } else {
                continue;
            };
            return Ok(Some(Exposure { why, remedy }));
        }
    }
    Ok(None)
}

/// The kind of secret or trust in a file of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// A private key.
    Key,
    /// Certificates that decide which clients are trusted.
    Trust,
}

/// Refuses an open file that others can read although it holds a key, or can change or replace.
pub(super) fn guard(path: &Path, file: &File, holds: Holds) -> Result<(), ConfigError> {
    let (what, forbidden) = match holds {
        Holds::Key => ("holds a private key", SECRET),
        Holds::Trust => ("decides who comes in", UNCHANGED),
    };
    let read = |source| ConfigError::Read { path: path.into(), source };
    match exposure(path, file, forbidden).map_err(read)? {
        None => Ok(()),
        Some(Exposure { why, remedy }) => Err(ConfigError::Exposed { path: path.into(), what, why, remedy }),
    }
}

fn foreign_group_writes(dir: &Metadata) -> bool {
    dir.mode() & 0o020 != 0 && dir.gid() != 0 && dir.gid() != rustix::process::getegid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn look(path: &Path, forbidden: u32) -> Option<String> {
        exposure(path, &File::open(path).unwrap(), forbidden).unwrap().map(|e| e.to_string())
    }

    #[test]
    fn list_may_be_read_by_all_and_changed_only_by_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "").unwrap();
        chmod(&file, 0o644);
        assert_eq!(look(&file, UNCHANGED), None);
        assert!(
            look(&file, SECRET).unwrap().contains("others have access to it (mode 0644); run: chmod 600")
        );
        chmod(&file, 0o664);
        assert!(
            look(&file, UNCHANGED).unwrap().contains("others can change it (mode 0664); run: chmod go-w")
        );
    }

    #[test]
    fn world_writable_directory_exposes_files_far_below_it() {
        let dir = tempfile::tempdir().unwrap();
        let (open, below) = (dir.path().join("open"), dir.path().join("open/a/b"));
        fs::create_dir_all(&below).unwrap();
        let file = below.join("f");
        fs::write(&file, "").unwrap();
        chmod(&file, 0o600);
        chmod(&open, 0o777);
        assert!(look(&file, SECRET).unwrap().contains("everybody can replace it; run: chmod o-w /"));
        chmod(&open, 0o1777);
        assert_eq!(look(&file, SECRET), None);
    }

    #[test]
    fn owner_and_group_of_any_directory_above_expose_a_file() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (above, below) = (dir.path().join("above"), dir.path().join("above/a/b"));
        fs::create_dir_all(&below).unwrap();
        let (file, link) = (below.join("f"), above.join("link"));
        fs::write(&file, "").unwrap();
        chmod(&file, 0o600);
        assert_eq!(look(&file, SECRET), None);
        // The sticky bit does not bind the owner.
        chmod(&above, 0o1755);
        chown(&above, Some(4711), None).unwrap();
        let said = look(&file, SECRET).unwrap();
        assert!(said.contains("uid 4711, the owner of") && said.contains("run: chown 0 /"), "{said}");
        chown(&above, Some(0), Some(4711)).unwrap();
        chmod(&above, 0o775);
        assert!(look(&file, SECRET).unwrap().contains("group 4711 can replace it; run: chmod g-w /"));
        // A link that somebody else can point elsewhere, to a file that nobody can replace.
        let good = dir.path().join("good");
        fs::write(&good, "").unwrap();
        chmod(&good, 0o600);
        symlink(&good, &link).unwrap();
        assert_eq!(look(&good, SECRET), None);
        assert!(look(&link, SECRET).unwrap().contains("group 4711 can replace it"));
    }
}
