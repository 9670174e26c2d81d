//! The store of unpacked layers, and the import of an image into it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::archive::Archive;
use super::compression::Plain;
use super::digest::{Digest, Hashing};
use super::find::{Layer, find};
use super::meter::{Limits, Meter, Metered};
use super::notes::Notes;
use super::tree::Tree;
use super::unpack::{Failed, Unpacking};
use super::{Choice, ImageConfig, ImageError};

/// The directory of layers: one directory each, named by the digits of its diff id.
#[derive(Debug, Clone)]
pub struct Layers(PathBuf);

/// One layer of an imported image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLayer {
    /// The digest of its plain bytes, which names its directory.
    pub diff_id: Digest,
    /// Whether this import has unpacked it.
    pub is_new: bool,
}

/// An image whose layers are all in the store.
#[derive(Debug)]
pub struct Imported {
    /// How the image is run.
    pub config: ImageConfig,
    /// The layers, bottom to top, each once.
    pub layers: Vec<StoredLayer>,
    /// Bytes of the files that this import has unpacked.
    pub bytes: u64,
    /// What was not taken as it was, one sentence each; at most 21.
    pub notes: Vec<String>,
}

/// An import: its bounds, and the sign that it is called off.
#[derive(Debug)]
pub struct Import<'a> {
    /// The image that is wanted.
    pub choice: &'a Choice,
    /// The bounds of archive and layers.
    pub limits: Limits,
    /// A directory for what is half-made, empty and on the layers' file system. Its owner removes it.
    pub staging: &'a Path,
    /// Set where nobody wants the import any more.
    pub cancelled: &'a AtomicBool,
}

impl Layers {
    /// The store in this directory, which exists and is the daemon's own.
    pub fn new(directory: PathBuf) -> Layers {
        Layers(directory)
    }

    /// The directory of a layer, whether it is there or not.
    pub fn path(&self, diff_id: Digest) -> PathBuf {
        self.0.join(diff_id.hex())
    }

    /// Unpacks the layers of an archive's image that are not there yet. Each is whole when its directory has its name; the
    /// ones that an import has unpacked before it fails stay, until [`remove_except`](Self::remove_except).
    ///
    /// # Errors
    /// The archive's mistake, a bound, or the disk's refusal.
    pub fn import(&self, archive: File, import: &Import<'_>) -> Result<Imported, ImageError> {
        let meter = Meter::new(import.limits, import.cancelled);
        let scratch = || {
            let path = import.staging.join("archive.tar");
            File::options().read(true).write(true).create_new(true).open(path)
        };
        let archive = Archive::open(archive, &meter, scratch)?;
        let image = find(&archive, import.choice)?;
        // The budget is the image's; what the archive itself took is given back.
        let meter = Meter::new(import.limits, import.cancelled);
        let mut notes = Notes::default();
        let (mut layers, mut bytes) = (Vec::new(), 0);
        for layer in image.layers {
            let is_new = !self.path(layer.diff_id).is_dir();
            if is_new {
                bytes += self.unpack(&archive, layer, import.staging, &meter, &mut notes)?;
            }
            layers.push(StoredLayer { diff_id: layer.diff_id, is_new });
        }
        Ok(Imported { config: image.config, layers, bytes, notes: notes.into_lines() })
    }

    /// Removes every layer that is not among these; their number. What cannot be removed now is left to the next call.
    ///
    /// # Errors
    /// The directory cannot be read, or a layer not be removed.
    pub fn remove_except(&self, used: &HashSet<Digest>) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_used = name.to_str().and_then(Digest::from_hex).is_some_and(|id| used.contains(&id));
            if !is_used {
                fs::remove_dir_all(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn unpack(
        &self,
        archive: &Archive,
        layer: Layer,
        staging: &Path,
        meter: &Meter<'_>,
        notes: &mut Notes,
    ) -> Result<u64, ImageError> {
        let name = layer.diff_id.hex();
        let keep = |doing| move |source| ImageError::Keep { doing, layer: layer.diff_id.to_string(), source };
        let aside = staging.join(&name);
        let root = make_directory(&aside).map_err(keep("make a directory for"))?;
        let again = root.try_clone().map_err(keep("make a directory for"))?;
        let (bytes, found) = archive
            .read(layer.blob)
            .map_err(Failed::from)
            .and_then(|blob| fill(blob, Tree::new(root), meter, notes, &again))
            .map_err(|Failed { at, source }| ImageError::Unpack {
                layer: layer.diff_id.to_string(),
                at,
                source,
            })?;
        layer.diff_id.expect("a layer", found)?;
        // INVARIANT: the bytes are on disk before the directory has its name, also when the power fails.
        rustix::fs::syncfs(&again).map_err(|errno| keep("write")(errno.into()))?;
        match rename(&aside, &self.path(layer.diff_id)) {
            Ok(()) => {}
            // Another import was faster, with the same bytes.
            Err(Errno::EXIST | Errno::NOTEMPTY) => fs::remove_dir_all(&aside).map_err(keep("remove"))?,
            Err(errno) => return Err(keep("move into place")(errno.into())),
        }
        File::open(&self.0).and_then(|dir| dir.sync_all()).map_err(keep("move into place"))?;
        Ok(bytes)
    }
}

fn make_directory(path: &Path) -> io::Result<OwnedFd> {
    fs::DirBuilder::new().mode(0o755).create(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    // The umask has no say.
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o755))?;
    Ok(directory)
}

/// Unpacks a stored layer into a tree; the bytes of its files, and the digest of its plain bytes.
fn fill(
    blob: impl Read,
    tree: Tree,
    meter: &Meter<'_>,
    notes: &mut Notes,
    room: &OwnedFd,
) -> Result<(u64, Digest), Failed> {
    let plain = Hashing::new(Metered::new(Plain::new(blob)?, meter));
    let mut archive = tar::Archive::new(plain);
    let bytes = Unpacking::new(tree, meter, notes).run(&mut archive, room)?;
    Ok((bytes, archive.into_inner().finish()?))
}

fn rename(from: &Path, to: &Path) -> Result<(), Errno> {
    rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, RenameFlags::NOREPLACE)
}
