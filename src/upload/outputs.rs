//! Files that a job leaves for others: taken out of its /work when it has ended, given to the jobs that name them.
//!
//! `DIR/manifest` is JSON with every entry, its place in `DIR/data`, and its SHA-256; `DIR/data` has the contents one behind the
//! other, each from a page of its own, so that a file system that shares blocks copies none (copy_file_range(2)). The
//! manifest is renamed into its place last: a directory without one holds nothing.
//!
//! Everything in /work is hostile. Names are resolved beneath its descriptor, without links (openat2(2)); what is
//! neither a file nor a directory is left out and named in the manifest, so no pipe or device is ever waited for. A
//! file's size counts before a byte of it is read: a sparse one of terabytes ends the collection at once.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Dir, FileType, Mode, OFlags, fstat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::wanted::Wanted;
use super::write::{Place, beneath, copy, put};
use super::{Upload, UploadError, Written, printable};

/// Most files and directories of one job.
const MOST_ENTRIES: usize = 20_000;
/// Deepest nesting of directories.
const DEEPEST: usize = 64;
/// Most names of the manifest for what was left out.
const NAMED: usize = 100;
/// Contents begin at a multiple of this.
const PAGE: u64 = 4096;

/// The files of one job, as they are stored.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    entries: Vec<Kept>,
    /// Links, pipes, sockets and devices, which are not kept.
    left_out: Vec<String>,
    /// Why nothing is kept.
    failed: Option<String>,
}

/// One file or directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    entry: Entry,
    /// The place of its contents in `data`.
    offset: u64,
    /// SHA-256 of its contents, in hexadecimal digits; empty for a directory.
    sha256: String,
}

/// The fate of the files of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// Bytes of an earlier attempt that are gone.
    pub freed: u64,
    /// Bytes that are kept; or a path that is not there or is a link, a bound, or the disk, as a sentence. It is kept
    /// too, for those who ask for the files.
    pub result: Result<u64, String>,
}

/// Takes files out of a job's /work, and as many bytes from `room`, which all jobs of a workflow share. Those of an
/// earlier attempt in `dir` go, and their bytes with them.
pub fn collect(work: BorrowedFd<'_>, paths: &[String], dir: &Path, room: &AtomicU64) -> Collected {
    let mut freed = kept_bytes(dir);
    let result = match give_way(dir) {
        Ok(()) => {
            room.fetch_add(freed, Ordering::SeqCst);
            collect_into(work, paths, dir, room)
        }
        Err(why) => {
            freed = 0;
            Err(disk(dir, &why))
        }
    };
    if let Err(why) = &result {
        let failed = Manifest { version: 1, entries: vec![], left_out: vec![], failed: Some(why.clone()) };
        // A disk that takes neither leaves no manifest, which says as much to whoever asks.
        let _ = finish(dir, &failed);
    }
    Collected { freed, result }
}

fn disk(dir: &Path, why: &io::Error) -> String {
    format!("cannot keep outputs in {}: {why}", dir.display())
}

/// Makes the directory, and one that there is hold nothing.
fn give_way(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    match fs::remove_file(dir.join("manifest")) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn collect_into(work: BorrowedFd<'_>, paths: &[String], dir: &Path, room: &AtomicU64) -> Result<u64, String> {
    let disk = |e: io::Error| disk(dir, &e);
    let mut options = OpenOptions::new();
    let data = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(dir.join("data"));
    let data = data.map_err(disk)?;
    let mut collection = Collection { work, data, room, bytes: 0, at: 0, kept: vec![], left_out: vec![] };
    let taken = paths.iter().try_for_each(|path| collection.take(path));
    let Collection { data, bytes, kept, left_out, .. } = collection;
    let manifest = Manifest { version: 1, entries: kept, left_out, failed: None };
    let written = taken
        .and_then(|()| data.sync_all().map_err(disk))
        .and_then(|()| finish(dir, &manifest).map_err(disk));
    if let Err(why) = written {
        room.fetch_add(bytes, Ordering::SeqCst);
        // Nobody reads it.
        let _ = data.set_len(0);
        return Err(why);
    }
    Ok(bytes)
}

/// Writes the manifest, which makes the directory complete.
fn finish(dir: &Path, manifest: &Manifest) -> io::Result<()> {
    let part = dir.join("manifest.part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(&serde_json::to_vec(manifest)?)?;
    file.sync_all()?;
    fs::rename(&part, dir.join("manifest"))?;
    File::open(dir)?.sync_all()
}

/// Files that are being taken.
struct Collection<'w> {
    work: BorrowedFd<'w>,
    data: File,
    room: &'w AtomicU64,
    bytes: u64,
    /// The end of `data`.
    at: u64,
    kept: Vec<Kept>,
    left_out: Vec<String>,
}

impl Collection<'_> {
    /// Takes what stands at a path, and all below it.
    fn take(&mut self, path: &str) -> Result<(), String> {
        let plain = path.trim_start_matches("./").trim_end_matches('/');
        let name = if plain.is_empty() { "." } else { plain };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
        let found = match beneath(self.work, name.as_bytes(), flags, Mode::empty()) {
            Ok(found) => found,
            Err(Errno::NOENT) => {
                return Err(format!("output \"{}\" is not there", printable(path.as_bytes())));
            }
            Err(Errno::LOOP) => {
                return Err(format!(
                    "output \"{}\" is a link, or behind one; links are not followed",
                    printable(path.as_bytes())
                ));
            }
            Err(why) => return Err(format!("cannot open output \"{}\": {why}", printable(path.as_bytes()))),
        };
        // Directories that are open: what is left of each, and its path.
        let mut open: Vec<(Dir, Vec<u8>)> = Vec::new();
        self.one(found, plain.as_bytes().to_vec(), &mut open)?;
        while let Some((dir, above)) = open.last_mut() {
            let Some(next) = dir.read() else {
                open.pop();
                continue;
            };
            let next = next.map_err(|why| format!("cannot read output \"{}\": {why}", printable(above)))?;
            let name = next.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let path = if above.is_empty() { name.to_vec() } else { [above.as_slice(), b"/", name].concat() };
            let parent =
                dir.fd().map_err(|why| format!("cannot read output \"{}\": {why}", printable(&path)))?;
            match beneath(parent, name, flags, Mode::empty()) {
                Ok(found) => self.one(found, path, &mut open)?,
                // A link, a socket, or a device that is not there.
                Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => self.leave_out(&path),
                Err(why) => return Err(format!("cannot open output \"{}\": {why}", printable(&path))),
            }
        }
        Ok(())
    }

    /// Takes one file, or goes into one directory.
    fn one(&mut self, found: OwnedFd, path: Vec<u8>, open: &mut Vec<(Dir, Vec<u8>)>) -> Result<(), String> {
        let failed = |why: io::Error| format!("cannot keep output \"{}\": {why}", printable(&path));
        let stat = fstat(&found).map_err(|why| failed(why.into()))?;
        if self.kept.len() >= MOST_ENTRIES {
            return Err(format!("the outputs have more than {MOST_ENTRIES} files and directories"));
        }
        let mode = stat.st_mode & 0o777;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
                let take = |room: u64| room.checked_sub(size);
                if self.room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_err() {
                    return Err(format!(
                        "the outputs of the workflow have more bytes than workflow.maxOutputBytes allows, with \"{}\" \
                         of {size} bytes",
                        printable(&path)
                    ));
                }
                self.bytes += size;
                let sha256 = self.copy(&File::from(found), size).map_err(failed)?;
                let upload = Upload { path, mode, ..Upload::default() };
                self.kept.push(Kept { entry: Entry::new(&upload, size), offset: self.at, sha256 });
                self.at = (self.at + size).next_multiple_of(PAGE);
            }
            FileType::Directory => {
                if open.len() >= DEEPEST {
                    return Err(format!("the outputs are nested deeper than {DEEPEST} directories"));
                }
                if !path.is_empty() {
                    let upload = Upload { path: path.clone(), mode, is_directory: true, ..Upload::default() };
                    self.kept.push(Kept {
                        entry: Entry::new(&upload, 0),
                        offset: self.at,
                        sha256: String::new(),
                    });
                }
                open.push((Dir::new(found).map_err(|why| failed(why.into()))?, path));
            }
            _ => self.leave_out(&path),
        }
        Ok(())
    }

    fn leave_out(&mut self, path: &[u8]) {
        if self.left_out.len() < NAMED {
            self.left_out.push(printable(path));
        }
    }

    /// Copies a file to the end of `data`; the digest of what is there then.
    fn copy(&mut self, from: &File, size: u64) -> io::Result<String> {
        self.data.set_len(self.at)?;
        self.data.seek(SeekFrom::Start(self.at))?;
        copy(&self.data, from, 0, size)?;
        self.data.seek(SeekFrom::Start(self.at))?;
        let (mut digest, mut left, mut buffer) = (openssl::sha::Sha256::new(), size, vec![0; 64 << 10]);
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.data.read_exact(&mut buffer[..most])?;
            digest.update(&buffer[..most]);
            left -= most as u64;
        }
        Ok(digest.finish().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Bytes of what was kept in a directory; 0 where nothing was.
pub fn kept_bytes(dir: &Path) -> u64 {
    read(dir).map_or(0, |manifest| manifest.entries.iter().map(|kept| kept.entry.bytes).sum())
}

fn read(dir: &Path) -> io::Result<Manifest> {
    Ok(serde_json::from_slice(&fs::read(dir.join("manifest"))?)?)
}

/// Files of another job, for one that gets them.
#[derive(Debug, Clone)]
pub struct Input<'p> {
    /// The name of that job.
    pub job: &'p str,
    /// The directory that keeps its files.
    pub from: PathBuf,
    /// The paths that are wanted.
    pub wanted: &'p [String],
    /// A directory below /work that they get; empty: /work itself.
    pub below: String,
}

/// Puts files of another job beneath a job's /work, owned by its user.
///
/// # Errors
/// They were not kept, with the reason; a path that the other job did not make; or as for writing uploads.
pub fn give(work: BorrowedFd<'_>, input: &Input<'_>, owner: u32) -> Result<Written, UploadError> {
    let Input { job, from, wanted, below } = input;
    let missing = |why: String| UploadError::Input { job: (*job).to_owned(), why };
    let unread = |why: io::Error| match why.kind() {
        io::ErrorKind::NotFound => missing("it left none, or they were lost with its /work".to_owned()),
        _ => missing(format!("cannot read {}: {why}", from.display())),
    };
    let manifest = read(from).map_err(unread)?;
    if let Some(why) = manifest.failed {
        return Err(missing(why));
    }
    let data = File::open(from.join("data")).map_err(unread)?;
    for name in *wanted {
        let one = [name.clone()];
        if !manifest.entries.iter().any(|kept| Wanted::Named(&one).has(&kept.entry.path())) {
            return Err(missing(format!("it did not leave \"{}\"", printable(name.as_bytes()))));
        }
    }
    let all = manifest.entries.iter().map(|kept| kept.entry.bytes).sum();
    let place = Place { dir: work, owner, bytes: all, entries: manifest.entries.len() };
    let mut written = Written::default();
    for Kept { entry, offset, .. } in manifest.entries {
        let bytes = entry.bytes;
        let mut upload = entry.into_upload(Vec::new());
        if !Wanted::Named(wanted).has(&upload.path) {
            continue;
        }
        if !below.is_empty() {
            upload.path = [below.as_bytes(), b"/", &upload.path].concat();
        }
        put(&place, &upload, |file| copy(file, &data, offset, bytes))?;
        written.bytes += bytes;
        written.files += usize::from(!upload.is_directory);
    }
    Ok(written)
}

#[cfg(test)]
#[path = "outputs_tests.rs"]
mod tests;
