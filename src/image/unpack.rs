//! The entries of a tar stream, made into a tree: the rules for names, kinds, owners and modes.

use std::io::{self, Read};
use std::os::fd::AsFd;

use tar::{Entry, EntryType};

use super::meter::Meter;
use super::notes::Notes;
use super::printable;
use super::tree::{Attributes, Tree};

/// The mark of a name that hides one of the layers below, and of a directory that hides the one below it
/// (image-spec, layer.md).
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Marks of aufs for itself; nothing of the image.
const AUFS: &[u8] = b".wh..wh.";
/// The last id of a container: user namespaces of images map as many (systemd-nspawn, `process.idsPerJob`).
const LAST_ID: u64 = 65_535;
/// Bytes that stay free on the file system of the layers.
const RESERVE: u64 = 256 * 1024 * 1024;
/// Entries between two looks at the free space.
const LOOK: u64 = 64;

/// Where an entry went wrong, for the error.
pub(super) struct Failed {
    pub(super) at: String,
    pub(super) source: io::Error,
}

impl From<io::Error> for Failed {
    fn from(source: io::Error) -> Self {
        Failed { at: String::new(), source }
    }
}

/// The meaning of a stream's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A layer of an image: whiteouts hide names of the layers below.
    Layer,
    /// Files as they are, which belong to root.
    Files,
}

/// Fills a tree with the entries of one tar stream, whose reader is on the budget of `meter`.
pub(super) struct Unpacking<'a> {
    tree: Tree,
    content: Content,
    meter: &'a Meter,
    notes: &'a mut Notes,
    /// Bytes of files.
    bytes: u64,
}

impl<'a> Unpacking<'a> {
    pub(super) fn new(tree: Tree, content: Content, meter: &'a Meter, notes: &'a mut Notes) -> Self {
        Unpacking { tree, content, meter, notes, bytes: 0 }
    }

    /// Reads the stream's entries; the bytes of all files. The rest of the stream is the caller's to read.
    pub(super) fn run<R: Read>(
        mut self,
        archive: &mut tar::Archive<R>,
        room: impl AsFd,
    ) -> Result<u64, Failed> {
        let mut entries = archive.entries()?;
        let mut count = 0;
        // One step reads headers, and passes over nothing but padding: content is read here.
        while let Some(entry) = self.meter.head(|| entries.next()) {
            let mut entry = entry?;
            self.meter.entry()?;
            if count % LOOK == 0 || entry.size() > RESERVE {
                has_room(&room, entry.size())?;
            }
            count += 1;
            let path = entry.path_bytes().into_owned();
            let fail = |source| Failed { at: printable(&path), source };
            self.entry(&mut entry, &path).map_err(fail)?;
            io::copy(&mut entry, &mut io::sink()).map_err(fail)?;
        }
        self.tree.finish()?;
        Ok(self.bytes)
    }

    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>, name: &[u8]) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let path = clean(name)?;
        let is_sparse = self.extensions(entry, &path)?;
        if is_sparse || kind.is_gnu_sparse() {
            return Err(io::Error::other("it is a sparse file; write the archive without --sparse"));
        }
        let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if self.content == Content::Layer && last.starts_with(WHITEOUT) {
            return self.whiteout(&path, last);
        }
        let attributes = self.attributes(entry, &path)?;
        match kind {
            EntryType::Directory => self.tree.directory(&path, attributes),
            // Archives older than POSIX mark directories by a slash.
            EntryType::Regular if name.ends_with(b"/") => self.tree.directory(&path, attributes),
            EntryType::Regular | EntryType::Continuous => {
                let bytes = entry.size();
                self.bytes = self.bytes.saturating_add(bytes);
                self.tree.file(&path, attributes, bytes, entry)
            }
            EntryType::Symlink => self.tree.link(&path, &target(entry)?, attributes),
            EntryType::Link => self.tree.hard_link(&path, &clean(&target(entry)?)?),
            EntryType::Fifo => self.tree.fifo(&path, attributes),
            EntryType::Char | EntryType::Block if path.starts_with(b"dev/") => {
                self.notes.add(format!(
                    "left out the device \"{}\": every job has a /dev of its own",
                    printable(&path)
                ));
                Ok(())
            }
            EntryType::Char | EntryType::Block => {
                Err(io::Error::other("it is a device, which no image may bring"))
            }
            other => {
                Err(io::Error::other(format!("it is of the unknown kind {:?}", char::from(other.as_byte()))))
            }
        }
    }

    fn whiteout(&mut self, path: &[u8], last: &[u8]) -> io::Result<()> {
        let above = &path[..path.len() - last.len()];
        if last == OPAQUE {
            return self.tree.opaque(above.strip_suffix(b"/").unwrap_or(above));
        }
        if last.starts_with(AUFS) {
            return Ok(());
        }
        let hidden = &last[WHITEOUT.len()..];
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(io::Error::other("it hides no name"));
        }
        self.tree.whiteout(&[above, hidden].concat())
    }

    /// Looks at the PAX records, of which tar has taken name, size and owner; whether they describe a sparse file.
    fn extensions<R: Read>(&mut self, entry: &mut Entry<'_, R>, path: &[u8]) -> io::Result<bool> {
        let mut is_sparse = false;
        let mut drops_capability = false;
        for record in entry.pax_extensions()?.into_iter().flatten() {
            let key = record?.key_bytes();
            is_sparse |= key.starts_with(b"GNU.sparse.");
            drops_capability |= key == b"SCHILY.xattr.security.capability";
        }
        if drops_capability {
            self.notes.add(format!("left out the file capabilities of \"{}\"", printable(path)));
        }
        Ok(is_sparse)
    }

    fn attributes<R: Read>(&mut self, entry: &Entry<'_, R>, path: &[u8]) -> io::Result<Attributes> {
        let header = entry.header();
        let id = |what: &str, id: u64| match u32::try_from(id) {
            Ok(number) if id <= LAST_ID => Ok(number),
            _ => Err(io::Error::other(format!("its {what} {id} is beyond {LAST_ID}"))),
        };
        let mode = header.mode()?;
        if mode & 0o6000 != 0 && header.entry_type().is_file() {
            self.notes.add(format!("cleared the setuid or setgid bit of \"{}\"", printable(path)));
        }
        let (uid, gid) = match self.content {
            Content::Layer => (id("user id", header.uid()?)?, id("group id", header.gid()?)?),
            Content::Files => (0, 0),
        };
        Ok(Attributes {
            uid,
            gid,
            mode,
            modified: i64::try_from(header.mtime().unwrap_or_default()).unwrap_or_default(),
        })
    }
}

fn target<R: Read>(entry: &Entry<'_, R>) -> io::Result<Vec<u8>> {
    let target = entry.link_name_bytes().filter(|target| !target.is_empty() && !target.contains(&0));
    target.map(std::borrow::Cow::into_owned).ok_or_else(|| io::Error::other("it is a link without a target"))
}

/// A name as a path beneath the root, without slashes at its ends; the empty path is the root.
fn clean(name: &[u8]) -> io::Result<Vec<u8>> {
    if name.contains(&0) {
        return Err(io::Error::other("its name contains a NUL byte"));
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(io::Error::other("its path leads upwards by \"..\"")),
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

/// Looks whether so many bytes can be added to the file system of an open file, and 256 MiB stay free.
///
/// # Errors
/// ENOSPC where they cannot, or what fstatvfs(3) answers.
pub fn has_room(of: impl AsFd, bytes: u64) -> io::Result<()> {
    let room = rustix::fs::fstatvfs(of)?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    if free < bytes.saturating_add(RESERVE) {
        return Err(rustix::io::Errno::NOSPC.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_beneath_the_root() {
        for (name, path) in
            [("./", ""), ("/", ""), ("/etc/passwd", "etc/passwd"), ("a//b/./c/", "a/b/c"), ("...", "...")]
        {
            assert_eq!(clean(name.as_bytes()).unwrap(), path.as_bytes(), "{name}");
        }
        for bad in ["..", "../x", "a/../b", "/..", "a/..", "x\0y"] {
            assert!(clean(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
