//! `<dataDir>/volumes`: the images of volumes, and what a change that was cut short has left there.

use std::fs::{self, File};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::error::VolumeError;
use super::image::{Image, free_bytes, free_memory};
use super::mounted::{Mounted, Volume};
use crate::job::volume::OWNER;
use crate::job::{VolumeKind, VolumeName};

/// The smallest image: an ext4 with a journal takes some five MiB of it.
pub const SMALLEST_IMAGE: u64 = 16 << 20;
/// The smallest volume in memory.
pub const SMALLEST_MEMORY: u64 = 1 << 20;
/// Sizes are multiples of it: blocks of the file system, pages of memory.
const UNIT: u64 = 4096;

/// The directory of the images.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The images in this directory, which exists.
    pub fn new(dir: PathBuf) -> Store {
        Store { dir }
    }

    /// The directory of the images.
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// A volume of this node. Nothing is opened yet.
    pub fn volume(&self, name: VolumeName, kind: VolumeKind, bytes: u64) -> Volume {
        let path = self.image(&name);
        Volume::new(name, kind, bytes, path)
    }

    fn image(&self, name: &VolumeName) -> PathBuf {
        self.dir.join(format!("{name}.img"))
    }

    /// The image while it is being made, or removed.
    fn aside(&self, name: &VolumeName) -> PathBuf {
        self.dir.join(format!("{name}.new"))
    }

    /// The size that a volume gets for so many bytes; `had` is the one that it has already, 0 for a new one.
    ///
    /// # Errors
    /// Too few for this kind, or more than the host has.
    pub fn size(&self, kind: VolumeKind, bytes: u64, had: u64) -> Result<u64, VolumeError> {
        let (least, free, what) = match kind {
            VolumeKind::Filesystem => (SMALLEST_IMAGE, free_bytes(&self.dir), self.dir.display().to_string()),
            VolumeKind::Memory => (SMALLEST_MEMORY, free_memory(), "its memory".to_owned()),
        };
        if bytes < least {
            return Err(VolumeError::TooSmall { bytes, kind, least });
        }
        let doing = "look at the disk of";
        let free = free.map_err(|source| VolumeError::Image { doing, path: self.dir.clone(), source })?;
        if bytes.saturating_sub(had) > free {
            return Err(VolumeError::TooLarge { bytes, what, free });
        }
        Ok(bytes.next_multiple_of(UNIT))
    }

    /// Makes what a volume needs, aside: nobody can find it yet. Its file system is mounted, and its ids mapped once by
    /// `ids`. The calling thread must have an own root.
    ///
    /// # Errors
    /// The step that failed; nothing is left then.
    pub fn prepare(&self, volume: &Volume, ids: BorrowedFd<'_>) -> Result<(), VolumeError> {
        if volume.kind == VolumeKind::Filesystem {
            if volume.path.symlink_metadata().is_ok() {
                return Err(VolumeError::InTheWay(volume.path.clone()));
            }
            let aside = self.aside(&volume.name);
            remove(&aside)?;
            let made = Image::make(&volume.name, &aside, volume.bytes(), OWNER);
            volume.keep(Mounted::Image(made.inspect_err(|_| drop(remove(&aside)))?));
        }
        volume.mount_for(ids, false).map(drop).inspect_err(|_| self.discard(volume))
    }

    /// Gives the image of a prepared volume its name: from now on it is there.
    ///
    /// # Errors
    /// The file system's refusal; it is still aside then.
    pub fn publish(&self, volume: &Volume) -> Result<(), VolumeError> {
        if volume.kind == VolumeKind::Memory {
            return Ok(());
        }
        self.rename(&self.aside(&volume.name), &volume.path)
    }

    /// Takes the image of a volume aside: it is there no more, and comes back by [`Store::publish`].
    ///
    /// # Errors
    /// The file system's refusal; it is still there then.
    pub fn withdraw(&self, volume: &Volume) -> Result<(), VolumeError> {
        match self.rename(&volume.path, &self.aside(&volume.name)) {
            // Somebody has removed it already.
            Err(VolumeError::Image { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Removes a volume that is aside.
    pub fn discard(&self, volume: &Volume) {
        volume.release();
        // The next daemon removes it where this fails.
        let _ = remove(&self.aside(&volume.name));
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), VolumeError> {
        let failed =
            |source| VolumeError::Image { doing: "rename the image to", path: to.to_owned(), source };
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) => return Err(VolumeError::InTheWay(to.to_owned())),
            renamed => renamed.map_err(|why| failed(why.into()))?,
        }
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    /// Ends the changes that an earlier daemon did not: an image that is aside gets its name if the database has its volume,
    /// and is removed if it has not. An image with its name is never removed, whatever the database says. Failures are
    /// returned in words.
    pub fn tidy(&self, known: &[&VolumeName]) -> Vec<String> {
        let mut findings = Vec::new();
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(why) => return vec![format!("cannot read {}: {why}", self.dir.display())],
        };
        for entry in entries.flatten() {
            let file = entry.file_name();
            let Some((name, state)) = file.to_str().and_then(|file| file.rsplit_once('.')) else { continue };
            let known = known.iter().find(|known| known.as_str() == name);
            match (state, known) {
                ("new", Some(name)) if !self.image(name).exists() => {
                    findings
                        .extend(self.rename(&entry.path(), &self.image(name)).err().map(|e| e.to_string()));
                }
                ("new", _) => findings.extend(remove(&entry.path()).err().map(|e| e.to_string())),
                ("img", None) => findings
                    .push(format!("no volume has the image {}: it is left as it is", entry.path().display())),
                _ => {}
            }
        }
        findings
    }
}

fn remove(path: &Path) -> Result<(), VolumeError> {
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            Err(VolumeError::Image { doing: "remove", path: path.to_owned(), source: why })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned());
        (dir, store)
    }

    #[test]
    fn half_made_image_is_removed_and_a_recorded_one_gets_its_name() {
        let (dir, store) = store();
        for file in ["half.new", "done.new", "there.img", "there.new", "alone.img"] {
            fs::write(dir.path().join(file), file).unwrap();
        }
        let [done, there] = ["done", "there"].map(|name| name.parse::<VolumeName>().unwrap());
        let findings = store.tidy(&[&done, &there]);
        assert!(findings.len() == 1 && findings[0].contains("alone.img"), "{findings:?}");
        let mut left: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["alone.img", "done.img", "there.img"]);
        assert_eq!(fs::read(dir.path().join("there.img")).unwrap(), b"there.img");
    }

    #[test]
    fn sizes_are_bounded_by_kind_and_host() {
        let (_dir, store) = store();
        assert!(store.size(VolumeKind::Filesystem, 1 << 62, 1 << 62).is_ok(), "it has that already");
        let size = |kind, bytes| store.size(kind, bytes, 0).map_err(|why| why.to_string());
        assert_eq!(size(VolumeKind::Filesystem, (16 << 20) + 1), Ok((16 << 20) + 4096));
        assert_eq!(size(VolumeKind::Memory, 1 << 20), Ok(1 << 20));
        for (kind, bytes, why) in [
            (VolumeKind::Filesystem, 1 << 20, "at least 16MiB"),
            (VolumeKind::Memory, 0, "at least 1MiB"),
            (VolumeKind::Filesystem, 1 << 62, "more than the host has"),
            (VolumeKind::Memory, 1 << 62, "more than the host has"),
        ] {
            let said = size(kind, bytes).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn image_of_a_volume_is_not_made_over_another_file() {
        let (dir, store) = store();
        let volume = store.volume("data".parse().unwrap(), VolumeKind::Filesystem, SMALLEST_IMAGE);
        fs::write(dir.path().join("data.img"), "kept").unwrap();
        let null = File::open("/dev/null").unwrap();
        let why = store.prepare(&volume, std::os::fd::AsFd::as_fd(&null)).unwrap_err();
        assert!(why.to_string().contains("move it away"), "{why}");
        fs::write(dir.path().join("data.new"), "new").unwrap();
        assert!(store.publish(&volume).is_err());
        assert_eq!(fs::read(dir.path().join("data.img")).unwrap(), b"kept");
    }
}
