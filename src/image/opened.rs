//! The image of an archive, and its layers one by one.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::archive::Archive;
use super::compression::Plain;
use super::digest::{Digest, Hashing};
use super::find::{Image, find};
use super::meter::{Limits, Meter, Metered};
use super::notes::Notes;
use super::tree::Tree;
use super::unpack::{Content, Failed, Unpacking};
use super::{Choice, ImageConfig, ImageError};

/// An image that can be unpacked. Its documents and compressed layers are what their digests promise.
pub struct OpenImage {
    archive: Archive,
    image: Image,
    meter: Meter,
    notes: Notes,
}

impl OpenImage {
    /// Finds the wanted image of an archive. `scratch` makes an empty file for the bytes of an archive that is compressed.
    /// Touches the disk.
    ///
    /// # Errors
    /// The mistake of the archive, or a bound; or no image is the wanted one.
    pub fn open(
        archive: File,
        choice: &Choice,
        limits: Limits,
        scratch: impl FnOnce() -> io::Result<File>,
    ) -> Result<OpenImage, ImageError> {
        let archive = Archive::open(archive, &Meter::new(limits), scratch)?;
        let image = find(&archive, choice)?;
        // The budget is that of the layers; the archive had one of its own.
        Ok(OpenImage { archive, image, meter: Meter::new(limits), notes: Notes::default() })
    }

    /// How the image is run.
    pub fn config(&self) -> &ImageConfig {
        &self.image.config
    }

    /// The diff ids of its layers, bottom to top, each once.
    pub fn layers(&self) -> Vec<Digest> {
        self.image.layers.iter().map(|layer| layer.diff_id).collect()
    }

    /// Unpacks a layer into an empty directory that nobody else changes; the bytes of its files. They are not synced. On an
    /// error the directory holds a part of the layer. Touches the disk.
    ///
    /// # Errors
    /// The mistake of the archive, a bound, or the disk's refusal.
    pub fn unpack(&mut self, diff_id: Digest, into: &Path) -> Result<u64, ImageError> {
        let failed = |Failed { at, source }| ImageError::Unpack { layer: diff_id.to_string(), at, source };
        let layer = self.image.layers.iter().find(|layer| layer.diff_id == diff_id);
        let layer = layer.ok_or(ImageError::FindImage)?;
        let (meter, notes) = (&self.meter, &mut self.notes);
        let root = open_directory(into).map_err(|source| failed(source.into()))?;
        let blob = self.archive.read(layer.blob).map_err(|source| failed(source.into()))?;
        let (bytes, found) = fill(blob, root, Content::Layer, meter, notes).map_err(failed)?;
        diff_id.expect("a layer", found)?;
        Ok(bytes)
    }

    /// Parts that were changed or left out, one sentence each; at most 21.
    pub fn into_notes(self) -> Vec<String> {
        self.notes.into_lines()
    }
}

/// Unpacks a tar archive of files, plain or compressed, into an empty directory that nobody else changes. Everything belongs to
/// root, and a name that begins with `.wh.` is one like any other. Changes are
/// returned, one sentence each. On an error the directory holds a part of it. Touches the disk.
///
/// # Errors
/// The mistake of the archive, a bound, or the disk's refusal.
pub fn extract(archive: File, into: &Path, limits: Limits) -> Result<Vec<String>, ImageError> {
    let failed = |Failed { at, source }| ImageError::Extract { at, source };
    let (meter, mut notes) = (Meter::new(limits), Notes::default());
    let root = open_directory(into).map_err(|source| failed(source.into()))?;
    fill(archive, root, Content::Files, &meter, &mut notes).map_err(failed)?;
    Ok(notes.into_lines())
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    // The umask has no say.
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o755))?;
    Ok(directory)
}

/// Unpacks an archive into a directory; the bytes of its files, and the digest of its plain bytes.
fn fill(
    blob: impl Read,
    root: OwnedFd,
    content: Content,
    meter: &Meter,
    notes: &mut Notes,
) -> Result<(u64, Digest), Failed> {
    let room = root.try_clone()?;
    let plain = Hashing::new(Metered::new(Plain::new(blob)?, meter));
    let mut archive = tar::Archive::new(plain);
    let bytes = Unpacking::new(Tree::new(root), content, meter, notes).run(&mut archive, room)?;
    Ok((bytes, archive.into_inner().finish()?))
}
