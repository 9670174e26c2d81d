//! The receiver of a copy.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use crossbeam_channel::tick;
use openssl::sha::sha256;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, chownat, fchmod,
    fchown, fstat, futimens, mkdirat, renameat, renameat_with, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::digest::{self, Digest};
use super::error::{At, FilesError};
use super::link::Link;
use super::piece::{Entry, Have, Kind, Piece};
use super::send::Point;
use super::{BLOCK, LONGEST_PATH, PARTS, RESUMABLE, Watch, beneath, wire};
use crate::pb::joblet::FilesMessage;

/// A part that nobody has written to for so long is removed.
const PART_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the copy of a lost connection may take to let go of its part, and how often that is looked at.
const LEAVING: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
/// Most directories around an entry: a path has no more.
const DEEPEST: usize = LONGEST_PATH / 2 + 1;
/// Most parts that one copy looks at for that.
const PARTS_SEEN: usize = 10_000;

/// Where a copy arrives.
#[derive(Debug)]
pub struct Receiver {
    root: OwnedFd,
    parts: OwnedFd,
    /// The directory that the copy goes into.
    base: Vec<u8>,
    /// The name that the one thing that is copied gets, instead of its own.
    name: Option<Vec<u8>>,
    /// The owner of what is made; `None`: whoever makes it.
    owner: Option<u32>,
    /// Directories that have begun: the paths of their places, modes and times.
    open: Vec<(Vec<u8>, Entry)>,
    current: Option<Current>,
    /// The parent of the last entry, so that one with many entries is opened once.
    parent: Option<(Vec<u8>, OwnedFd)>,
}

/// The entry that is being received.
#[derive(Debug)]
enum Current {
    /// A link of this path, which is made already.
    Link(Vec<u8>),
    /// A file, whose content comes.
    File(Box<Part>),
}

/// A file that is being received.
#[derive(Debug)]
struct Part {
    file: File,
    name: String,
    entry: Entry,
    at: u64,
    digest: Digest,
    /// The bytes that the sender has heard of, with their digest; it has to say first where it goes on.
    have: Option<(u64, Digest)>,
}

impl Receiver {
    /// Prepares to receive at `path` beneath a root: into it, if it is a directory or if `into` says that it shall be one; else
    /// under its name. New entries belong to `owner`, where one is given.
    ///
    /// # Errors
    /// A path that leads out or through a link, or whose directory is not there.
    pub fn new(root: OwnedFd, path: &[u8], into: bool, owner: Option<u32>) -> Result<Receiver, FilesError> {
        beneath::check_path(path)?;
        let failed = FilesError::file("make", PARTS.as_bytes());
        let parts =
            make_directory(&root, &root, PARTS.as_bytes(), PARTS.as_bytes(), owner).map_err(failed)?;
        let mut receiver = Receiver {
            root,
            parts,
            base: path.to_vec(),
            name: None,
            owner,
            open: Vec::new(),
            current: None,
            parent: None,
        };
        receiver.forget_old_parts();
        match beneath::directory(receiver.root.as_fd(), path) {
            Ok(_) => {}
            Err(Errno::NOENT) if into => receiver.make_all(path)?,
            Err(Errno::NOENT | Errno::NOTDIR) if !into => {
                let (base, name) = beneath::split_path(path)?;
                beneath::directory(receiver.root.as_fd(), base)
                    .map_err(FilesError::file("open the directory", base))?;
                (receiver.base, receiver.name) = (base.to_vec(), Some(name.to_vec()));
            }
            Err(why) => return Err(FilesError::file("open the directory", path)(why)),
        }
        Ok(receiver)
    }

    /// Makes a directory with all those around it.
    fn make_all(&self, path: &[u8]) -> Result<(), FilesError> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let (dir, name) = beneath::split_path(&path[..end])?;
            let what = ("make the directory", &path[..end][..]);
            let parent = beneath::directory(self.root.as_fd(), dir).at(what)?;
            make_directory(&parent, &self.parts, name, &[name, b".dir"].concat(), self.owner).at(what)?;
        }
        Ok(())
    }

    /// Removes the parts that nobody goes on with. The next copy tries again where one cannot be removed.
    fn forget_old_parts(&self) {
        let Ok(dir) = beneath::root_file(self.parts.as_fd()).and_then(Dir::new) else { return };
        for entry in dir.flatten().take(PARTS_SEEN) {
            let name = entry.file_name();
            let Ok(file) = beneath::look(self.parts.as_fd(), name.to_bytes()) else { continue };
            let Ok(stat) = fstat(&file) else { continue };
            let written = u64::try_from(stat.st_mtime).unwrap_or_default();
            let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(written));
            if FileType::from_raw_mode(stat.st_mode).is_file() && age.is_ok_and(|age| age > PART_LIFE) {
                let _ = unlinkat(&self.parts, name, AtFlags::empty());
            }
        }
    }

    /// The place of an entry: its path beneath the root.
    fn place(&self, path: &[u8]) -> Result<Vec<u8>, FilesError> {
        beneath::split_path(path)?;
        let renamed = self.name.as_ref().map(|name| match path.iter().position(|byte| *byte == b'/') {
            Some(end) => [name, &path[end..]].concat(),
            None => name.clone(),
        });
        let place = beneath::join(&self.base, renamed.as_deref().unwrap_or(path));
        beneath::check_path(&place)?;
        if place.split(|byte| *byte == b'/').next() == Some(PARTS.as_bytes()) {
            return Err(FilesError::Path { path: path.to_vec(), why: "it is where parts of files are kept" });
        }
        Ok(place)
    }

    /// The directory around a place, and the name in it.
    fn parent<'a>(&mut self, place: &'a [u8]) -> Result<(&OwnedFd, &'a [u8]), FilesError> {
        let (dir, name) = beneath::split_path(place)?;
        if self.parent.as_ref().is_none_or(|(path, _)| path != dir) {
            let opened = beneath::directory(self.root.as_fd(), dir);
            self.parent = Some((dir.to_vec(), opened.map_err(FilesError::file("open the directory", dir))?));
        }
        let (_, opened) = self.parent.as_ref().ok_or(FilesError::Peer("an entry without a directory"))?;
        Ok((opened, name))
    }

    /// Takes a piece; what is there already, where the sender waits for that.
    fn take(
        &mut self,
        piece: Piece,
        watch: &mut dyn Watch,
        path: &mut Vec<u8>,
    ) -> Result<Option<Have>, FilesError> {
        match (piece, &mut self.current) {
            (Piece::Begin(entry), None) => return self.begin(entry),
            (Piece::Skipped(skipped, why), None) => {
                watch.skipped(&skipped, &why);
                *path = skipped;
            }
            (Piece::Resume(at), Some(Current::File(part))) => {
                watch.copied(at);
                part.resume(at)?;
            }
            (Piece::Data(block), Some(Current::File(part))) => {
                watch.copied(block.len() as u64);
                part.data(&block)?;
            }
            (Piece::Zeros(blocks), Some(Current::File(part))) => {
                watch.copied(blocks.saturating_mul(BLOCK as u64));
                part.zeros(blocks)?;
            }
            (Piece::End(digest), Some(Current::File(_))) => {
                if let Some(Current::File(part)) = self.current.take() {
                    path.clone_from(&part.entry.path);
                    self.end_file(*part, digest, watch)?;
                }
            }
            (Piece::End(None), Some(Current::Link(link))) => {
                *path = std::mem::take(link);
                self.current = None;
            }
            (Piece::End(None), None) => {
                let (place, entry) = self.open.pop().ok_or(FilesError::Peer("an end without a beginning"))?;
                self.end_directory(&place, &entry)?;
                *path = entry.path;
            }
            _ => return Err(FilesError::Peer("pieces in another order than it may")),
        }
        Ok(None)
    }

    fn begin(&mut self, entry: Entry) -> Result<Option<Have>, FilesError> {
        let place = self.place(&entry.path)?;
        let owner = self.owner;
        match entry.kind {
            Kind::Directory if self.open.len() >= DEEPEST => {
                return Err(FilesError::Peer("more open directories than a path has"));
            }
            Kind::Directory => {
                let parts = self.parts.try_clone().map_err(FilesError::file("make the directory", &place))?;
                let (parent, name) = self.parent(&place)?;
                let made = make_directory(parent, &parts, name, &part_name(&entry), owner);
                made.map_err(FilesError::file("make the directory", &place))?;
                self.open.push((place, entry));
            }
            Kind::Link => {
                self.make_link(&entry, &place)?;
                self.current = Some(Current::Link(entry.path));
            }
            Kind::File => {
                let part = self.open_part(entry)?;
                let have =
                    part.have.as_ref().map(|(bytes, digest)| Have { bytes: *bytes, digest: digest.value() });
                self.current = Some(Current::File(Box::new(part)));
                return Ok(have);
            }
        }
        Ok(None)
    }

    fn make_link(&mut self, entry: &Entry, place: &[u8]) -> Result<(), FilesError> {
        let what = ("make the link", place);
        let part = part_name(entry);
        let parts = self.parts.try_clone().at(what)?;
        remove(&parts, &part).at(what)?;
        symlinkat(entry.link.as_slice(), &parts, part.as_slice()).at(what)?;
        if let Some(owner) = self.owner {
            let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
            chownat(&parts, part.as_slice(), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).at(what)?;
        }
        let times = times(entry.mtime_ns);
        utimensat(&parts, part.as_slice(), &times, AtFlags::SYMLINK_NOFOLLOW).at(what)?;
        let (parent, name) = self.parent(place)?;
        renameat(&parts, part.as_slice(), parent, name).at(what)
    }

    /// Opens the part of a file, with what an earlier copy has left of a large one.
    fn open_part(&self, entry: Entry) -> Result<Part, FilesError> {
        let what = ("write", &entry.path[..]);
        let name = part_name(&entry);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY;
        // Somebody may have put something else there, which is not opened.
        if let Ok(shown) = beneath::look(self.parts.as_fd(), &name) {
            let stat = fstat(&shown).at(what)?;
            if !FileType::from_raw_mode(stat.st_mode).is_file() || stat.st_nlink != 1 {
                remove(&self.parts, &name).at(what)?;
            }
        }
        let file = beneath::open(self.parts.as_fd(), &name, flags, Mode::RUSR | Mode::WUSR).at(what)?;
        let file = File::from(file);
        // The copy of a client that has come again may not know yet that its connection is lost.
        let looks = tick(LOOK).into_iter().take((LEAVING.as_millis() / LOOK.as_millis()) as usize);
        if !std::iter::once(()).chain(looks.map(drop)).any(|()| file.try_lock().is_ok()) {
            return Err(FilesError::Twice(entry.path));
        }
        give(file.as_fd(), self.owner).at(what)?;
        let mut have = None;
        if entry.size > RESUMABLE {
            let bytes = file.metadata().at(what)?.len().min(entry.size);
            let bytes = bytes - bytes % BLOCK as u64;
            let digest = digest::of_file(&file, bytes).at(what)?;
            have = Some(digest.map_or((0, Digest::new()), |digest| (bytes, digest)));
        } else {
            file.set_len(0).at(what)?;
        }
        let name = String::from_utf8_lossy(&name).into_owned();
        Ok(Part { file, name, entry, at: 0, digest: Digest::new(), have })
    }

    /// Puts a file in its place, if it came as it was sent.
    fn end_file(
        &mut self,
        part: Part,
        digest: Option<[u8; 32]>,
        watch: &mut dyn Watch,
    ) -> Result<(), FilesError> {
        let place = self.place(&part.entry.path)?;
        let what = ("write", &place[..]);
        let Some(digest) = digest else {
            watch.skipped(&part.entry.path, "it changed while it was copied, or could not be read");
            return remove(&self.parts, part.name.as_bytes()).at(what);
        };
        if part.have.is_some() || part.at < part.entry.size || part.digest.value() != digest {
            remove(&self.parts, part.name.as_bytes()).at(what)?;
            return Err(FilesError::Digest(part.entry.path));
        }
        part.file.set_len(part.entry.size).at(what)?;
        fchmod(&part.file, Mode::from_raw_mode(part.entry.mode)).at(what)?;
        futimens(&part.file, &times(part.entry.mtime_ns)).at(what)?;
        let parts = self.parts.try_clone().at(what)?;
        let (parent, name) = self.parent(&place)?;
        renameat(&parts, part.name.as_str(), parent, name).at(what)
    }

    /// Removes the part of a file that cannot become complete: it would take room from others for a day.
    fn discard(&mut self) {
        if let Some(Current::File(part)) = self.current.take() {
            // The next copy removes it otherwise, when it is a day old.
            let _ = remove(&self.parts, part.name.as_bytes());
        }
    }

    /// Gives a directory its mode and time, when nothing more comes into it.
    fn end_directory(&mut self, place: &[u8], entry: &Entry) -> Result<(), FilesError> {
        let what = ("set the mode of", place);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = beneath::open(self.root.as_fd(), place, flags, Mode::empty()).at(what)?;
        fchmod(&dir, Mode::from_raw_mode(entry.mode)).at(what)?;
        futimens(&dir, &times(entry.mtime_ns)).at(what)
    }

    /// Writes all of it to the disk.
    fn finish(&self) -> Result<(), FilesError> {
        if self.current.is_some() || !self.open.is_empty() {
            return Err(FilesError::Peer("an end before all entries are complete"));
        }
        let root = beneath::root_file(self.root.as_fd());
        let written = root.and_then(rustix::fs::syncfs);
        written.map_err(FilesError::file("write to the disk", &self.base))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Parts that a copy can go on with stay, and so does their directory then.
        let _ = unlinkat(&self.root, PARTS, AtFlags::REMOVEDIR);
    }
}

impl Part {
    fn resume(&mut self, at: u64) -> Result<(), FilesError> {
        let (bytes, digest) = self.have.take().ok_or(FilesError::Peer("an offset that nobody asked for"))?;
        if at == bytes {
            (self.at, self.digest) = (bytes, digest);
        } else if at != 0 {
            return Err(FilesError::Peer("an offset that is not there"));
        }
        self.file.set_len(self.at).map_err(FilesError::file("write", &self.entry.path))
    }

    fn data(&mut self, block: &[u8]) -> Result<(), FilesError> {
        let left = self.entry.size.saturating_sub(self.at);
        let is_whole = block.len() as u64 == left.min(BLOCK as u64);
        if self.have.is_some() || !is_whole {
            return Err(FilesError::Peer("a block of another size than it must have"));
        }
        self.digest.data(block);
        self.file.write_all_at(block, self.at).map_err(FilesError::file("write", &self.entry.path))?;
        self.at += BLOCK as u64;
        Ok(())
    }

    fn zeros(&mut self, blocks: u64) -> Result<(), FilesError> {
        let left = self.entry.size.saturating_sub(self.at).div_ceil(BLOCK as u64);
        if self.have.is_some() || blocks > left {
            return Err(FilesError::Peer("more zeros than the file has"));
        }
        self.digest.zeros(blocks);
        self.at += blocks * BLOCK as u64;
        let length = self.at.min(self.entry.size);
        self.file.set_len(length).map_err(FilesError::file("write", &self.entry.path))
    }
}

/// Receives a whole copy, to its end.
///
/// # Errors
/// The other side is gone or breaks the rules, or an entry cannot be made. Entries that have arrived before stay.
pub fn receive(link: &mut Link, receiver: &mut Receiver, watch: &mut dyn Watch) -> Result<(), FilesError> {
    let mut done = 0;
    loop {
        let message = link.receive()?;
        let before = done;
        for piece in message.pieces {
            let piece = wire::decode(piece)?;
            let counts = match &piece {
                Piece::Skipped(..) | Piece::End(_) => 1,
                _ => 0,
            };
            let mut path = Vec::new();
            let have = receiver.take(piece, watch, &mut path).inspect_err(|_| receiver.discard())?;
            done += counts;
            if counts > 0 && !path.is_empty() {
                watch.done(&Point { source: 0, path });
            }
            if let Some(have) = have {
                link.send(wire::have(&have))?;
            }
        }
        if message.complete {
            receiver.finish()?;
            return link.send(FilesMessage { done, complete: true, ..FilesMessage::default() });
        }
        if done > before {
            link.send(FilesMessage { done, ..FilesMessage::default() })?;
        }
    }
}

/// The name of the part of an entry: another path, size or time is another file.
fn part_name(entry: &Entry) -> Vec<u8> {
    let mut all = entry.path.clone();
    all.push(0);
    all.extend(entry.size.to_le_bytes());
    all.extend(entry.mtime_ns.to_le_bytes());
    sha256(&all)[..16].iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

fn times(mtime_ns: i64) -> Timestamps {
    const SECOND: i64 = 1_000_000_000;
    let mtime = Timespec { tv_sec: mtime_ns.div_euclid(SECOND), tv_nsec: mtime_ns.rem_euclid(SECOND) };
    Timestamps { last_access: mtime, last_modification: mtime }
}

/// Gives a file its owner.
fn give(file: std::os::fd::BorrowedFd<'_>, owner: Option<u32>) -> Result<(), Errno> {
    match owner {
        Some(owner) => fchown(file, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner))),
        None => Ok(()),
    }
}

/// The directory of this name, made if it is not there. It is made aside, so that nobody ever sees it with another owner.
fn make_directory(
    parent: &OwnedFd,
    aside: &OwnedFd,
    name: &[u8],
    part: &[u8],
    owner: Option<u32>,
) -> Result<OwnedFd, io::Error> {
    let mode = Mode::RWXU;
    let open = || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        beneath::open(parent.as_fd(), name, flags, Mode::empty())
    };
    match open() {
        Err(Errno::NOENT) => {}
        Ok(dir) => {
            // Its own user must be able to write into it until it is complete.
            let now = fstat(&dir)?.st_mode & 0o777;
            if now & 0o700 != 0o700 {
                fchmod(&dir, Mode::from_raw_mode(now | 0o700))?;
            }
            return Ok(dir);
        }
        Err(why) => return Err(why.into()),
    }
    if name == part {
        // The directory of the parts itself.
        mkdirat(parent, name, mode)?;
        let dir = open()?;
        give(dir.as_fd(), owner)?;
        return Ok(dir);
    }
    remove(aside, part)?;
    mkdirat(aside, part, mode)?;
    let made = beneath::open(aside.as_fd(), part, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    give(made.as_fd(), owner)?;
    match renameat_with(aside, part, parent, name, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(made),
        Err(why) => {
            remove(aside, part)?;
            // Somebody else has made it meanwhile.
            if why == Errno::EXIST { Ok(open()?) } else { Err(why.into()) }
        }
    }
}

/// Removes a part, whatever it is.
fn remove(parts: &OwnedFd, name: &[u8]) -> Result<(), io::Error> {
    match unlinkat(parts, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => Ok(unlinkat(parts, name, AtFlags::REMOVEDIR)?),
        Err(Errno::NOENT) => Ok(()),
        removed => Ok(removed?),
    }
}
