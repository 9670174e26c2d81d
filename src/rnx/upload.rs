//! Reading what `--upload` and `--upload-dir` name.
//!
//! A file goes under its base name, a tree under its names relative to the directory. Within a tree a
//! symlink is followed only to a regular file below the same directory, and sent as that file; every other
//! symlink and everything that is neither file nor directory (sockets, pipes, devices) is left out with a
//! warning, because following it would send files that the user did not mean to send. Everything travels in one
//! request, so the sum is bounded before anything is read.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use crate::pb::joblet::FileUpload;

/// Largest request in bytes: the server's default receive limit.
pub(crate) const MAX_REQUEST: u64 = 128 << 20;
/// Bytes that are read between two looks at the progress.
const AT_ONCE: u64 = 1 << 20;
/// Largest size of an entry beside its content and its path, bytes.
const ENTRY_COST: u64 = 32;

/// The files that are sent with a job.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    /// In the order in which they were named; the entries of a directory sorted, parents first.
    pub(crate) entries: Vec<FileUpload>,
    /// Sentences about what was left out.
    pub(crate) warnings: Vec<String>,
    /// Files whose content is still to be read.
    unread: Vec<Unread>,
    /// Bytes of content.
    pub(crate) bytes: u64,
    planned: u64,
    names: HashSet<String>,
}

/// A file that was found, and is read when everything is found: so it is known beforehand how much it will be.
#[derive(Debug)]
struct Unread {
    entry: usize,
    path: PathBuf,
    bytes: u64,
}

impl Uploads {
    /// Files, directories not counted.
    pub(crate) fn files(&self) -> usize {
        self.entries.iter().filter(|e| !e.isDirectory).count()
    }

    /// Reads the files that were found; `each` gets the bytes read so far and the sum of all.
    pub(crate) fn read(&mut self, mut each: impl FnMut(u64, u64)) -> Result<()> {
        let mut done = 0;
        for Unread { entry, path, bytes } in std::mem::take(&mut self.unread) {
            let shown = path.display().to_string();
            let file = File::open(&path).map_err(|e| cannot(&shown, &e.to_string()))?;
            let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
            // Files of /proc and /sys have no size, and yet content.
            let most = if bytes == 0 { MAX_REQUEST } else { bytes };
            // One byte more than it had: a file that grows meanwhile is an error, not cut.
            let mut file = file.take(most + 1);
            while file
                .by_ref()
                .take(AT_ONCE)
                .read_to_end(&mut content)
                .map_err(|e| cannot(&shown, &e.to_string()))?
                > 0
            {
                each(done + content.len() as u64, self.bytes);
            }
            let length = content.len() as u64;
            if bytes > 0 && length > bytes {
                return Err(cannot(&shown, "it grew while it was read"));
            }
            // The content of a file without a size is planned for as it is read.
            self.planned += length.saturating_sub(bytes);
            check_size(self.planned)?;
            done += length;
            self.entries[entry].content = content;
        }
        Ok(())
    }

    /// Adds one file under its base name.
    pub(crate) fn add_file(&mut self, path: &str) -> Result<()> {
        let meta = fs::metadata(path).map_err(|e| cannot(path, &e.to_string()))?;
        if meta.is_dir() {
            return Err(failure(format!("use --upload-dir for directories: {path}")));
        }
        if !meta.is_file() {
            return Err(cannot(path, "it is not a regular file"));
        }
        let Some(name) = Path::new(path).file_name().and_then(|n| n.to_str()) else {
            return Err(cannot(path, "it has no file name"));
        };
        self.push_file(Path::new(path), name.to_string())
    }

    /// Adds everything below a directory.
    pub(crate) fn add_tree(&mut self, dir: &str) -> Result<()> {
        let root = fs::canonicalize(dir).map_err(|e| cannot(dir, &e.to_string()))?;
        if !root.is_dir() {
            return Err(failure(format!("use --upload for files: {dir} is not a directory")));
        }
        // Depth first with a list of our own: a deep tree costs no stack.
        let mut open = vec![(root.clone(), String::new())];
        while let Some((at, prefix)) = open.pop() {
            let mut below = Vec::new();
            for name in sorted_names(&at)? {
                let path = at.join(&name);
                let sent = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
                if self.add_entry(&root, &path, &sent)? {
                    below.push((path, sent));
                }
            }
            open.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// One entry of a tree; true for a directory to walk.
    fn add_entry(&mut self, root: &Path, path: &Path, sent: &str) -> Result<bool> {
        let meta =
            fs::symlink_metadata(path).map_err(|e| cannot(&path.display().to_string(), &e.to_string()))?;
        if meta.is_dir() {
            self.reserve(sent, 0)?;
            self.entries.push(FileUpload {
                path: sent.to_string(),
                mode: mode_of(&meta),
                isDirectory: true,
                ..Default::default()
            });
            return Ok(true);
        }
        if meta.is_file() {
            self.push_file(path, sent.to_string())?;
        } else if !meta.is_symlink() {
            self.warnings.push(format!("left out {sent}: neither a file nor a directory"));
        } else {
            match fs::canonicalize(path) {
                Ok(target) if target.starts_with(root) && target.is_file() => {
                    self.push_file(&target, sent.into())?
                }
                Ok(target) if !target.starts_with(root) => {
                    self.warnings.push(format!("left out {sent}: a symlink that leads out of the directory"));
                }
                Ok(_) => self.warnings.push(format!("left out {sent}: a symlink to a directory")),
                Err(_) => self.warnings.push(format!("left out {sent}: a symlink that leads nowhere")),
            }
        }
        Ok(false)
    }

    fn push_file(&mut self, path: &Path, sent: String) -> Result<()> {
        let shown = path.display().to_string();
        let meta = fs::metadata(path).map_err(|e| cannot(&shown, &e.to_string()))?;
        self.reserve(&sent, meta.len())?;
        self.bytes += meta.len();
        if !self.names.insert(sent.clone()) {
            self.warnings.push(format!("{sent} is uploaded twice; the last one ({shown}) is kept"));
        }
        self.unread.push(Unread { entry: self.entries.len(), path: path.to_path_buf(), bytes: meta.len() });
        self.entries.push(FileUpload { path: sent, mode: mode_of(&meta), ..Default::default() });
        Ok(())
    }

    fn reserve(&mut self, sent: &str, bytes: u64) -> Result<()> {
        self.planned += bytes + sent.len() as u64 + ENTRY_COST;
        check_size(self.planned)
    }
}

/// Refuses what the server would refuse after everything was sent.
pub(crate) fn check_size(bytes: u64) -> Result<()> {
    if bytes <= MAX_REQUEST {
        return Ok(());
    }
    let text = format!("the uploads are larger than one request may be ({} MiB)", MAX_REQUEST >> 20);
    Err(failure(text).hint("upload less, or put large inputs where the job can fetch them"))
}

fn sorted_names(dir: &Path) -> Result<Vec<String>> {
    let shown = dir.display().to_string();
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| cannot(&shown, &e.to_string()))? {
        let name = entry.map_err(|e| cannot(&shown, &e.to_string()))?.file_name();
        match name.into_string() {
            Ok(name) => names.push(name),
            Err(name) => {
                return Err(cannot(
                    &PathBuf::from(dir).join(name).display().to_string(),
                    "its name is not UTF-8",
                ));
            }
        }
    }
    names.sort();
    Ok(names)
}

/// Permission bits only: the set-uid bit and the type of the local file are left out.
#[cfg(unix)]
fn mode_of(meta: &fs::Metadata) -> u32 {
    use std::os::unix::fs::MetadataExt;
    meta.mode() & 0o777
}

/// Where files have no such bits the server's defaults hold.
#[cfg(not(unix))]
fn mode_of(_: &fs::Metadata) -> u32 {
    0
}

fn cannot(path: &str, why: &str) -> Error {
    failure(format!("cannot upload {path}: {why}"))
}

fn failure(text: String) -> Error {
    Error::Upload(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("up");
        fs::create_dir_all(root.join("sub/deep")).unwrap();
        fs::create_dir(root.join("empty")).unwrap();
        fs::write(root.join("b.txt"), "bee").unwrap();
        fs::write(root.join("sub/deep/run.sh"), "#!").unwrap();
        fs::set_permissions(root.join("sub/deep/run.sh"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::write(dir.path().join("outside"), "secret").unwrap();
        symlink("../b.txt", root.join("sub/link")).unwrap();
        symlink("../../outside", root.join("sub/out")).unwrap();
        symlink("/etc", root.join("etc")).unwrap();
        symlink("sub", root.join("same")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        dir
    }

    #[test]
    fn tree_is_sent_with_directories_and_without_outward_symlinks() {
        let dir = tree();
        let mut up = Uploads::default();
        up.add_tree(dir.path().join("up").to_str().unwrap()).unwrap();
        let sent: Vec<(&str, u32)> = up.entries.iter().map(|e| (e.path.as_str(), e.mode & 0o700)).collect();
        let expected = [
            ("b.txt", 0o600),
            ("empty", 0o700),
            ("sub", 0o700),
            ("sub/deep", 0o700),
            ("sub/link", 0o600),
            ("sub/deep/run.sh", 0o700),
        ];
        assert_eq!(sent, expected);
        assert!(up.entries.iter().all(|e| e.mode & !0o777 == 0));
        assert_eq!((up.files(), up.bytes), (3, 8));
        assert_eq!(
            up.warnings,
            [
                "left out etc: a symlink that leads out of the directory",
                "left out loop: a symlink that leads nowhere",
                "left out same: a symlink to a directory",
                "left out sub/out: a symlink that leads out of the directory",
            ]
        );
        let mut told = Vec::new();
        up.read(|done, all| told.push((done, all))).unwrap();
        assert_eq!(told, [(3, 8), (6, 8), (8, 8)]);
        let contents: Vec<&[u8]> = up.entries.iter().map(|e| e.content.as_slice()).collect();
        assert_eq!(contents, [&b"bee"[..], b"", b"", b"", b"bee", b"#!"]);
    }

    #[test]
    fn file_goes_by_base_name_and_directory_is_refused_with_a_hint() {
        let dir = tree();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
        let mut up = Uploads::default();
        up.add_file(&at("up/b.txt")).unwrap();
        assert_eq!(up.entries[0].path, "b.txt");
        let refused = up.add_file(&at("up")).unwrap_err().to_string();
        assert_eq!(refused, format!("use --upload-dir for directories: {}", at("up")));
        assert!(up.add_tree(&at("outside")).unwrap_err().to_string().starts_with("use --upload for files"));
        assert!(up.add_file("/dev/null").unwrap_err().to_string().ends_with("it is not a regular file"));
        assert!(up.add_file(&at("absent")).unwrap_err().to_string().contains("No such file"));
        up.add_file(&at("up/b.txt")).unwrap();
        assert!(up.warnings[0].starts_with("b.txt is uploaded twice"));
    }

    #[test]
    fn file_that_grows_or_vanishes_before_its_read_is_an_error() {
        let dir = tree();
        let path = dir.path().join("up/b.txt");
        let found = || {
            let mut up = Uploads::default();
            up.add_file(path.to_str().unwrap()).unwrap();
            up
        };
        let mut up = found();
        fs::write(&path, "bees").unwrap();
        assert!(up.read(|_, _| ()).unwrap_err().to_string().ends_with("it grew while it was read"));
        let mut up = found();
        fs::write(&path, "be").unwrap();
        up.read(|_, _| ()).unwrap();
        assert_eq!(up.entries[0].content, b"be");
        let mut up = found();
        fs::remove_file(&path).unwrap();
        assert!(up.read(|_, _| ()).unwrap_err().to_string().contains("No such file"));
    }

    #[test]
    fn too_much_is_refused_before_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("huge");
        File::create(&path).unwrap().set_len(MAX_REQUEST + 1).unwrap();
        let mut up = Uploads::default();
        let e = up.add_file(path.to_str().unwrap()).unwrap_err();
        assert_eq!(e.to_string(), "the uploads are larger than one request may be (128 MiB)");
        assert_eq!((up.bytes, up.entries.len()), (0, 0));
    }
}
