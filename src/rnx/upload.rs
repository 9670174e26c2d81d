//! Finding what `--upload` and `--upload-dir` name.
//!
//! A file goes under its base name, a directory of `--upload` too, and what is below one of `--upload-dir` under its names
//! relative to it. A symlink within a tree stays a symlink where its target can be the same in the job: within the tree,
//! or in a system directory. One that leads elsewhere, and everything that is neither file nor directory (sockets, pipes,
//! devices), is left out with a warning: following it would send files that the user did not mean to send. Names that are
//! not UTF-8 are sent as they are: a job that misses one file of its tree would fail in some odd place.
//!
//! Files that fit into one request travel in it; more are streamed ([`super::send`]).

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::error::{Error, Result};
use crate::pb::joblet::FileUpload;

/// Largest request in bytes: the server's default receive limit.
pub(crate) const MAX_REQUEST: u64 = 128 << 20;
/// Bytes of a request beside its uploads, at most: arguments and variables.
const REST: u64 = 4 << 20;
/// Bytes that are read between two looks at the progress.
const AT_ONCE: u64 = 1 << 20;
/// Largest size of an entry beside its content and its path, bytes.
const ENTRY_COST: u64 = 32;
/// Where an absolute symlink may lead: what a job has of a host's system, or its own in its place.
const SYSTEM: [&str; 10] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/dev", "/proc"];

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
    names: HashSet<Vec<u8>>,
}

/// A file that was found, and is read when everything is found: so it is known beforehand how much it will be.
#[derive(Debug)]
pub(crate) struct Unread {
    /// The place of its entry.
    pub(crate) entry: usize,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Bytes that it had.
    pub(crate) bytes: u64,
}

/// A name within the job's /work, as bytes with `/` in between.
#[derive(Debug, Clone, Default)]
struct Name(Vec<u8>);

impl Name {
    fn of(name: &OsStr) -> Name {
        Name(bytes(name))
    }

    fn join(&self, name: &OsStr) -> Name {
        if self.0.is_empty() {
            return Name::of(name);
        }
        Name([self.0.as_slice(), b"/", &bytes(name)].concat())
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// An entry of this name, whose name need not be UTF-8.
    fn entry(self) -> FileUpload {
        match String::from_utf8(self.0) {
            Ok(path) => FileUpload { path, ..Default::default() },
            Err(odd) => FileUpload { path_bytes: odd.into_bytes(), ..Default::default() },
        }
    }
}

impl Uploads {
    /// Files, directories not counted.
    pub(crate) fn files(&self) -> usize {
        self.entries.iter().filter(|e| !e.isDirectory).count()
    }

    /// Whether everything fits into one request.
    pub(crate) fn fit(&self) -> bool {
        self.planned <= MAX_REQUEST - REST
    }

    /// Takes the list of files to read, in the order of their entries.
    pub(crate) fn take_unread(&mut self) -> Vec<Unread> {
        std::mem::take(&mut self.unread)
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

    /// Adds one file, or a directory with all that is below it, under its base name.
    pub(crate) fn add_named(&mut self, path: &str) -> Result<()> {
        let meta = fs::metadata(path).map_err(|e| cannot(path, &e.to_string()))?;
        if !meta.is_file() && !meta.is_dir() {
            return Err(cannot(path, "it is neither a regular file nor a directory"));
        }
        let name = Path::new(path).file_name().map(OsStr::to_owned);
        // "." and ".." have a name elsewhere.
        let name = name.or_else(|| Some(fs::canonicalize(path).ok()?.file_name()?.to_owned()));
        let Some(name) = name.map(|name| Name::of(&name)) else {
            return Err(cannot(path, "it has no name"));
        };
        if meta.is_file() {
            return self.push_file(Path::new(path), name);
        }
        self.push_directory(&meta, name.clone());
        self.walk(path, name)
    }

    /// Adds one regular file under the name that is given.
    pub(crate) fn add_file_as(&mut self, path: &Path, name: &str) -> Result<()> {
        let shown = path.display().to_string();
        let meta = fs::metadata(path).map_err(|e| cannot(&shown, &e.to_string()))?;
        if !meta.is_file() {
            return Err(cannot(&shown, "it is no regular file"));
        }
        self.push_file(path, Name::of(OsStr::new(name)))
    }

    /// Adds everything below a directory.
    pub(crate) fn add_tree(&mut self, dir: &str) -> Result<()> {
        let root = fs::canonicalize(dir).map_err(|e| cannot(dir, &e.to_string()))?;
        if !root.is_dir() {
            return Err(failure(format!("use --upload for files: {dir} is not a directory")));
        }
        self.walk(dir, Name::default())
    }

    /// Adds everything below a directory, under `prefix`.
    fn walk(&mut self, dir: &str, prefix: Name) -> Result<()> {
        let root = fs::canonicalize(dir).map_err(|e| cannot(dir, &e.to_string()))?;
        // Depth first with a list of our own: a deep tree costs no stack.
        let mut open = vec![(root.clone(), prefix)];
        while let Some((at, prefix)) = open.pop() {
            let mut below = Vec::new();
            for name in sorted_names(&at)? {
                let path = at.join(&name);
                let sent = prefix.join(&name);
                if self.add_entry(&root, &path, &sent)? {
                    below.push((path, sent));
                }
            }
            open.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// One entry of a tree; true for a directory to walk.
    fn add_entry(&mut self, root: &Path, path: &Path, sent: &Name) -> Result<bool> {
        let meta =
            fs::symlink_metadata(path).map_err(|e| cannot(&path.display().to_string(), &e.to_string()))?;
        if meta.is_dir() {
            self.push_directory(&meta, sent.clone());
            return Ok(true);
        }
        if meta.is_file() {
            self.push_file(path, sent.clone())?;
        } else if meta.is_symlink() {
            self.add_link(root, path, sent)?;
        } else {
            self.warnings.push(format!("left out {}: neither a file nor a directory", sent.shown()));
        }
        Ok(false)
    }

    fn add_link(&mut self, root: &Path, path: &Path, sent: &Name) -> Result<()> {
        let target = fs::read_link(path).map_err(|e| cannot(&path.display().to_string(), &e.to_string()))?;
        let below = path.parent().and_then(|at| at.strip_prefix(root).ok()).unwrap_or(Path::new(""));
        let kept = if target.is_absolute() {
            SYSTEM.iter().any(|system| target.starts_with(system))
        } else {
            stays_within(below, &target)
        };
        if let (true, Some(target)) = (kept, target.to_str()) {
            self.planned += sent.0.len() as u64 + target.len() as u64 + ENTRY_COST;
            self.entries.push(FileUpload { symlink_target: target.to_owned(), ..sent.clone().entry() });
            return Ok(());
        }
        match fs::canonicalize(path) {
            // By its absolute path, which is another one in the job.
            Ok(file) if file.starts_with(root) && file.is_file() => self.push_file(&file, sent.clone())?,
            _ => {
                let why = if kept { "whose target is not UTF-8" } else { "that leads out of the directory" };
                self.warnings.push(format!("left out {}: a symlink {why}", sent.shown()));
            }
        }
        Ok(())
    }

    fn push_directory(&mut self, meta: &fs::Metadata, sent: Name) {
        self.planned += sent.0.len() as u64 + ENTRY_COST;
        self.entries.push(FileUpload { mode: mode_of(meta), isDirectory: true, ..sent.entry() });
    }

    fn push_file(&mut self, path: &Path, sent: Name) -> Result<()> {
        let shown = path.display().to_string();
        let meta = fs::metadata(path).map_err(|e| cannot(&shown, &e.to_string()))?;
        self.planned += meta.len() + sent.0.len() as u64 + ENTRY_COST;
        self.bytes += meta.len();
        if !self.names.insert(sent.0.clone()) {
            self.warnings.push(format!("{} is uploaded twice; the last one ({shown}) is kept", sent.shown()));
        }
        self.unread.push(Unread { entry: self.entries.len(), path: path.to_path_buf(), bytes: meta.len() });
        self.entries.push(FileUpload { mode: mode_of(&meta), ..sent.entry() });
        Ok(())
    }
}

/// Whether a relative target, seen from a directory of the tree, stays within the tree.
fn stays_within(from: &Path, target: &Path) -> bool {
    let mut depth = from.components().count();
    for step in target.components() {
        match step {
            Component::ParentDir if depth == 0 => return false,
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            _ => {}
        }
    }
    true
}

/// Refuses what the server would refuse after everything was sent.
pub(crate) fn check_size(bytes: u64) -> Result<()> {
    if bytes <= MAX_REQUEST {
        return Ok(());
    }
    let text = format!("the request is larger than one may be ({} MiB)", MAX_REQUEST >> 20);
    Err(failure(text).hint("give fewer or shorter arguments and variables"))
}

fn sorted_names(dir: &Path) -> Result<Vec<OsString>> {
    let shown = dir.display().to_string();
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| cannot(&shown, &e.to_string()))? {
        names.push(entry.map_err(|e| cannot(&shown, &e.to_string()))?.file_name());
    }
    names.sort();
    Ok(names)
}

/// The bytes of a name, as the file system has them.
#[cfg(unix)]
fn bytes(name: &OsStr) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    name.as_bytes().to_vec()
}

/// Where names are not bytes they are sent as UTF-8.
#[cfg(not(unix))]
fn bytes(name: &OsStr) -> Vec<u8> {
    name.to_string_lossy().into_owned().into_bytes()
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
    use std::os::unix::ffi::OsStrExt;
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
    fn tree_is_sent_with_its_links_and_without_outward_ones() {
        let dir = tree();
        let root = dir.path().join("up");
        symlink("/usr/bin/python3", root.join("python")).unwrap();
        symlink("nowhere", root.join("sub/dangling")).unwrap();
        symlink(root.join("b.txt"), root.join("sub/own")).unwrap();
        symlink(std::ffi::OsStr::from_bytes(b"\xff"), root.join("odd")).unwrap();
        let mut up = Uploads::default();
        up.add_tree(root.to_str().unwrap()).unwrap();
        let sent: Vec<(&str, u32, &str)> =
            up.entries.iter().map(|e| (e.path.as_str(), e.mode & 0o700, e.symlink_target.as_str())).collect();
        let expected = [
            ("b.txt", 0o600, ""),
            ("empty", 0o700, ""),
            ("etc", 0, "/etc"),
            ("loop", 0, "loop"),
            ("python", 0, "/usr/bin/python3"),
            ("same", 0, "sub"),
            ("sub", 0o700, ""),
            ("sub/dangling", 0, "nowhere"),
            ("sub/deep", 0o700, ""),
            ("sub/link", 0, "../b.txt"),
            ("sub/own", 0o600, ""),
            ("sub/deep/run.sh", 0o700, ""),
        ];
        assert_eq!(sent, expected);
        assert!(up.entries.iter().all(|e| e.mode & !0o777 == 0));
        assert_eq!(up.bytes, 8);
        assert_eq!(
            up.warnings,
            [
                "left out odd: a symlink whose target is not UTF-8",
                "left out sub/out: a symlink that leads out of the directory",
            ]
        );
        let mut told = Vec::new();
        up.read(|done, all| told.push((done, all))).unwrap();
        assert_eq!(told, [(3, 8), (6, 8), (8, 8)]);
        let contents: Vec<u8> = up.entries.iter().flat_map(|e| e.content.clone()).collect();
        assert_eq!(contents, b"beebee#!");
    }

    #[test]
    fn file_whose_name_is_not_utf_8_is_sent_under_that_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9")), "x").unwrap();
        fs::write(dir.path().join("plain"), "y").unwrap();
        let mut up = Uploads::default();
        up.add_tree(dir.path().to_str().unwrap()).unwrap();
        let sent: Vec<_> = up.entries.iter().map(|e| (e.path.as_str(), e.path_bytes.as_slice())).collect();
        assert_eq!(sent, [("", &b"caf\xe9"[..]), ("plain", b"")]);
        assert!(up.warnings.is_empty());
    }

    #[test]
    fn files_and_directories_go_by_their_base_names() {
        let dir = tree();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
        let mut up = Uploads::default();
        up.add_named(&at("up/b.txt")).unwrap();
        up.add_named(&at("up/sub/")).unwrap();
        up.add_named(&at("up/sub/deep/.")).unwrap();
        let sent: Vec<&str> = up.entries.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(sent, ["b.txt", "sub", "sub/deep", "sub/deep/run.sh", "deep", "deep/run.sh"]);
        assert_eq!(up.warnings.len(), 2, "links of sub lead out of it: {:?}", up.warnings);
        assert!(up.add_tree(&at("outside")).unwrap_err().to_string().starts_with("use --upload for files"));
        let special = up.add_named("/dev/null").unwrap_err().to_string();
        assert!(special.ends_with("it is neither a regular file nor a directory"), "{special}");
        assert!(up.add_named(&at("absent")).unwrap_err().to_string().contains("No such file"));
        up.add_named(&at("up/b.txt")).unwrap();
        assert!(up.warnings[2].starts_with("b.txt is uploaded twice"));
    }

    #[test]
    fn file_that_grows_or_vanishes_before_its_read_is_an_error() {
        let dir = tree();
        let path = dir.path().join("up/b.txt");
        let found = || {
            let mut up = Uploads::default();
            up.add_named(path.to_str().unwrap()).unwrap();
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
    fn more_than_a_request_holds_is_known_before_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("huge");
        File::create(&path).unwrap().set_len(MAX_REQUEST + 1).unwrap();
        let mut up = Uploads::default();
        assert!(up.fit());
        up.add_named(path.to_str().unwrap()).unwrap();
        assert_eq!((up.fit(), up.bytes, up.entries.len()), (false, MAX_REQUEST + 1, 1));
        assert!(check_size(MAX_REQUEST).is_ok() && check_size(MAX_REQUEST + 1).is_err());
    }
}
