//! The archive that was sent: a tar file whose entries are found by name.
//!
//! It lies on disk whole before any of it is read, since an archive names its layers last. `docker save` once wrote a
//! layer that two images share as a link; such a link is followed by its name, once, and never in a file system.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::ImageError;
use super::compression::Plain;
use super::digest::{Digest, Hashing};
use super::meter::{Meter, Metered};

/// The most entries of an archive. An image of 127 layers has some 400.
const MOST_ENTRIES: usize = 20_000;
/// The longest document: an index, a manifest, a configuration.
const LONGEST_DOCUMENT: u64 = 4 * 1024 * 1024;

enum Entry {
    /// A file: where its bytes are.
    File { at: u64, bytes: u64 },
    /// A link to another entry.
    Link(String),
}

/// An archive on disk, and where its files are.
pub(super) struct Archive {
    file: File,
    entries: HashMap<String, Entry>,
}

/// A file of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blob {
    at: u64,
    bytes: u64,
}

impl Archive {
    /// Lists the archive's files. `scratch` makes an empty file for the archive's plain bytes, where it is compressed.
    pub(super) fn open(
        file: File,
        meter: &Meter,
        scratch: impl FnOnce() -> io::Result<File>,
    ) -> Result<Archive, ImageError> {
        let open = || -> io::Result<Archive> {
            let mut file = file;
            file.seek(SeekFrom::Start(0))?;
            let mut plain = Plain::new(&file)?;
            if plain.is_compressed() {
                let mut unpacked = scratch()?;
                io::copy(&mut Metered::new(&mut plain, meter), &mut unpacked)?;
                drop(plain);
                file = unpacked;
            }
            let entries = list(&file, meter)?;
            Ok(Archive { file, entries })
        };
        open().map_err(ImageError::ReadArchive)
    }

    /// The file of this name.
    pub(super) fn find(&self, name: &str) -> Option<Blob> {
        let entry = match self.entries.get(name)? {
            Entry::Link(target) => self.entries.get(target)?,
            file @ Entry::File { .. } => file,
        };
        match entry {
            Entry::File { at, bytes } => Some(Blob { at: *at, bytes: *bytes }),
            Entry::Link(_) => None,
        }
    }

    /// As [`find`](Self::find), where the image cannot do without.
    pub(super) fn need(&self, what: &'static str, name: &str) -> Result<Blob, ImageError> {
        self.find(name).ok_or_else(|| ImageError::FindFile { what, name: super::printable(name.as_bytes()) })
    }

    /// The bytes of a document.
    pub(super) fn document(&self, what: &'static str, name: &str) -> Result<Vec<u8>, ImageError> {
        let blob = self.need(what, name)?;
        if blob.bytes > LONGEST_DOCUMENT {
            return Err(ImageError::Parse {
                what,
                why: format!("it has {} bytes, more than 4MiB", blob.bytes),
            });
        }
        let mut bytes = Vec::new();
        self.read(blob).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(ImageError::ReadArchive)?;
        Ok(bytes)
    }

    /// A reader of one file.
    pub(super) fn read(&self, blob: Blob) -> io::Result<impl Read + '_> {
        (&self.file).seek(SeekFrom::Start(blob.at))?;
        Ok((&self.file).take(blob.bytes))
    }

    /// The error unless the file has this digest and, where one is given, this size.
    pub(super) fn verify(
        &self,
        what: &'static str,
        blob: Blob,
        digest: Digest,
        bytes: Option<u64>,
    ) -> Result<(), ImageError> {
        if let Some(bytes) = bytes.filter(|bytes| *bytes != blob.bytes) {
            let why = format!("{digest} has {} bytes, and not {bytes}", blob.bytes);
            return Err(ImageError::Parse { what, why });
        }
        let found = self.read(blob).and_then(|file| Hashing::new(file).finish());
        digest.expect(what, found.map_err(ImageError::ReadArchive)?)
    }
}

fn list(file: &File, meter: &Meter) -> io::Result<HashMap<String, Entry>> {
    let mut found = HashMap::new();
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    let length = file.metadata()?.len();
    let mut archive = tar::Archive::new(Metered::new(file, meter));
    let mut entries = archive.entries_with_seek()?;
    // Content is passed over by seeking: each step reads headers alone.
    while let Some(entry) = meter.head(|| entries.next()) {
        let entry = entry?;
        if found.len() == MOST_ENTRIES {
            return Err(io::Error::other(format!("it has more than {MOST_ENTRIES} entries")));
        }
        let name = normal(&entry.path_bytes());
        let kind = entry.header().entry_type();
        let value = if kind.is_file() || kind.is_contiguous() {
            let (at, bytes) = (entry.raw_file_position(), entry.size());
            if at.checked_add(bytes).is_none_or(|end| end > length) {
                return Err(io::Error::other(format!(
                    "it ends within {}",
                    super::printable(name.as_bytes())
                )));
            }
            Entry::File { at, bytes }
        } else if let (true, Some(target)) =
            (kind.is_symlink() || kind.is_hard_link(), entry.link_name_bytes())
        {
            let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
            let beside = if kind.is_symlink() { format!("{parent}/") } else { String::new() };
            Entry::Link(resolve(&format!("{beside}{}", String::from_utf8_lossy(&target))))
        } else {
            continue;
        };
        found.insert(name, value);
    }
    Ok(found)
}

/// A name without `./` and slashes at its ends. It is a key, and no path of anything.
fn normal(name: &[u8]) -> String {
    resolve(&String::from_utf8_lossy(name))
}

/// A name without `.` and `..`, as text.
fn resolve(name: &str) -> String {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
