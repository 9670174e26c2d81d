//! `<dataDir>/volumes`: the images and directories of volumes, and what a change that was cut short has left there.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::directory::{self, Directory};
use super::error::VolumeError;
use super::image::{Image, free_bytes, free_memory};
use super::mounted::{Mounted, Volume};
use super::projects;
use crate::job::volume::OWNER;
use crate::job::{VolumeKind, VolumeName};

/// The smallest volume on disk: in an image, an ext4 with a journal takes some five MiB of it.
pub const SMALLEST_IMAGE: u64 = 16 << 20;
/// The smallest volume in memory.
pub const SMALLEST_MEMORY: u64 = 1 << 20;
/// Sizes are multiples of it: blocks of the file system, pages of memory.
const UNIT: u64 = 4096;

/// The bound of new volumes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A directory with a project quota.
    Quota,
    /// An ext4 in a file.
    Image,
}

/// The directory of the images and directories.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    backend: Backend,
}

impl Store {
    /// The volumes in this directory, which exists; new ones get this backend.
    pub fn new(dir: PathBuf, backend: Backend) -> Store {
        Store { dir, backend }
    }

    /// Tries whether new volumes can have a project quota. `ids` maps the owner of files to any other.
    ///
    /// # Errors
    /// Why not, in words, behind the path of the directory.
    pub fn probe_quota(dir: &Path, ids: BorrowedFd<'_>) -> Result<(), String> {
        directory::probe(dir, ids)
    }

    /// The project that a new volume of this kind gets, if it gets one. It is nobody else's until that volume is prepared, if only one
    /// is at a time.
    ///
    /// # Errors
    /// No number is free, or the file system has no quotas any more.
    pub fn new_project(&self, kind: VolumeKind) -> Result<Option<u32>, VolumeError> {
        match (kind, self.backend) {
            (VolumeKind::Filesystem, Backend::Quota) => {}
            (VolumeKind::Filesystem, Backend::Image) | (VolumeKind::Memory, _) => return Ok(None),
        }
        let failed = |source| VolumeError::Directory {
            doing: "find a free project for a directory in",
            path: self.dir.clone(),
            source,
        };
        let dir = File::open(&self.dir).map_err(failed)?;
        projects::free(dir.as_fd()).map(Some).map_err(failed)
    }

    /// The directory of the images.
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// A volume of this node, with its project if it has one. Nothing is opened yet.
    pub fn volume(&self, name: VolumeName, kind: VolumeKind, bytes: u64, project: Option<u32>) -> Volume {
        let path = self.place(&name, project.is_some());
        Volume::new(name, kind, bytes, path, project)
    }

    /// Where a volume is: a directory or an image.
    fn place(&self, name: &VolumeName, is_directory: bool) -> PathBuf {
        self.dir.join(format!("{name}.{}", if is_directory { "dir" } else { "img" }))
    }

    /// Whether something has the name of a volume.
    fn has(&self, name: &VolumeName) -> Option<PathBuf> {
        [false, true]
            .map(|is_directory| self.place(name, is_directory))
            .into_iter()
            .find(|path| path.symlink_metadata().is_ok())
    }

    /// The image or directory while it is being made, or removed.
    fn aside(&self, name: &VolumeName) -> PathBuf {
        self.dir.join(format!("{name}.new"))
    }

    /// The size that a volume gets for so many bytes. It asks no disk: see [`Store::check_room`].
    ///
    /// # Errors
    /// Too few for this kind.
    pub fn size(kind: VolumeKind, bytes: u64) -> Result<u64, VolumeError> {
        let least = match kind {
            VolumeKind::Filesystem => SMALLEST_IMAGE,
            VolumeKind::Memory => SMALLEST_MEMORY,
        };
        if bytes < least {
            return Err(VolumeError::TooSmall { bytes, kind, least });
        }
        // The host has room for the last of these even less.
        Ok(bytes.checked_next_multiple_of(UNIT).unwrap_or(u64::MAX - (UNIT - 1)))
    }

    /// Whether the host has room for a volume of so many bytes; `had` is the size that it has already, 0 for a new one. Asks the
    /// disk, which may hang.
    ///
    /// # Errors
    /// More than the host has.
    pub fn check_room(&self, kind: VolumeKind, bytes: u64, had: u64) -> Result<(), VolumeError> {
        let (free, what) = match kind {
            VolumeKind::Filesystem => (free_bytes(&self.dir), self.dir.display().to_string()),
            VolumeKind::Memory => (free_memory(), "its memory".to_owned()),
        };
        let doing = "look at the disk of";
        let free = free.map_err(|source| VolumeError::Image { doing, path: self.dir.clone(), source })?;
        if bytes.saturating_sub(had) > free {
            return Err(VolumeError::TooLarge { bytes, what, free });
        }
        Ok(())
    }

    /// Makes what a volume needs, aside: nobody can find it yet. Its file system is mounted, and its ids mapped once by
    /// `ids`. The calling thread must have an own root.
    ///
    /// # Errors
    /// The step that failed; nothing is left then.
    pub fn prepare(&self, volume: &Volume, ids: BorrowedFd<'_>) -> Result<(), VolumeError> {
        if volume.kind.is_on_disk() {
            if let Some(path) = self.has(&volume.name) {
                return Err(VolumeError::InTheWay(path));
            }
            let aside = self.aside(&volume.name);
            remove(&aside)?;
            let made = match volume.project {
                None => Image::make(&volume.name, &aside, volume.bytes(), OWNER).map(Mounted::Image),
                Some(project) => Directory::make(&aside, project, volume.bytes()).map(Mounted::Directory),
            };
            volume.keep(made.inspect_err(|_| drop(remove(&aside)))?);
        }
        volume.mount_for(ids, false).map(drop).inspect_err(|_| self.discard(volume))
    }

    /// Gives the image or directory of a prepared volume its name: from now on it is there.
    ///
    /// # Errors
    /// The file system's refusal; it is still aside then.
    pub fn publish(&self, volume: &Volume) -> Result<(), VolumeError> {
        if !volume.kind.is_on_disk() {
            return Ok(());
        }
        self.rename(&self.aside(&volume.name), &volume.path)
    }

    /// Takes the image or directory of a volume aside: it is there no more, and comes back by [`Store::publish`].
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

    /// Removes a volume that is aside. A directory with many files takes seconds.
    pub fn discard(&self, volume: &Volume) {
        volume.release();
        // The next daemon removes it where this fails.
        let _ = remove(&self.aside(&volume.name));
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), VolumeError> {
        let failed =
            |source| VolumeError::Image { doing: "rename the volume to", path: to.to_owned(), source };
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) => return Err(VolumeError::InTheWay(to.to_owned())),
            renamed => renamed.map_err(|why| failed(why.into()))?,
        }
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    /// Ends the changes that an earlier daemon did not: an image or directory that is aside gets its name if the database has its
    /// volume, and is removed if it has not ([`Store::sweep`] does that to directories). One with its name is never removed,
    /// whatever the database says. Failures are returned in words.
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
                ("new", Some(name)) if self.has(name).is_none() => {
                    let place = self.place(name, entry.path().is_dir());
                    findings.extend(self.rename(&entry.path(), &place).err().map(|e| e.to_string()));
                }
                ("new", _) if entry.path().is_dir() => {}
                ("new", _) => findings.extend(remove(&entry.path()).err().map(|e| e.to_string())),
                ("img" | "dir", None) => {
                    findings.push(format!("no volume has {}: it is left as it is", entry.path().display()));
                }
                _ => {}
            }
        }
        findings
    }

    /// Removes the directories that are aside, which an earlier daemon made and did not name, or took away and did not remove. To be
    /// called behind [`Store::tidy`] and before any change. May take seconds. Failures are returned in words.
    pub fn sweep(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let aside = entries.flatten().map(|entry| entry.path());
        let aside = aside.filter(|path| path.extension().is_some_and(|end| end == "new") && path.is_dir());
        aside.filter_map(|path| remove(&path).err().map(|why| why.to_string())).collect()
    }
}

/// Removes an image or a directory; a missing one is fine.
fn remove(path: &Path) -> Result<(), VolumeError> {
    let failed = |source| VolumeError::Image { doing: "remove", path: path.to_owned(), source };
    if path.is_dir() && !path.is_symlink() {
        return directory::remove(path).map_err(failed);
    }
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(failed(why)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned(), Backend::Image);
        (dir, store)
    }

    #[test]
    fn half_made_image_is_removed_and_a_recorded_one_gets_its_name() {
        let (dir, store) = store();
        for path in ["half-dir.new/a/b", "done-dir.new/a", "gone.dir"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        for file in ["half.new", "done.new", "there.img", "there.new", "alone.img"] {
            fs::write(dir.path().join(file), file).unwrap();
        }
        let [done, there, directory] =
            ["done", "there", "done-dir"].map(|name| name.parse::<VolumeName>().unwrap());
        let mut findings = store.tidy(&[&done, &there, &directory]);
        findings.sort();
        let named =
            findings.len() == 2 && findings[0].contains("alone.img") && findings[1].contains("gone.dir");
        assert!(named, "{findings:?}");
        assert_eq!(store.sweep(), [""; 0]);
        let mut left: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["alone.img", "done-dir.dir", "done.img", "gone.dir", "there.img"]);
        assert_eq!(fs::read(dir.path().join("there.img")).unwrap(), b"there.img");
    }

    #[test]
    fn sizes_are_bounded_by_kind_without_a_look_at_the_host() {
        let size = |kind, bytes| Store::size(kind, bytes).map_err(|why| why.to_string());
        assert_eq!(size(VolumeKind::Filesystem, (16 << 20) + 1), Ok((16 << 20) + 4096));
        assert_eq!(size(VolumeKind::Memory, 1 << 20), Ok(1 << 20));
        assert_eq!(size(VolumeKind::Memory, u64::MAX), Ok(u64::MAX - 4095));
        for (kind, bytes, why) in
            [(VolumeKind::Filesystem, 1 << 20, "at least 16MiB"), (VolumeKind::Memory, 0, "at least 1MiB")]
        {
            let said = size(kind, bytes).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn volume_larger_than_the_host_has_no_room() {
        let (_dir, store) = store();
        for kind in [VolumeKind::Filesystem, VolumeKind::Memory] {
            let why = store.check_room(kind, u64::MAX - 4095, 0).unwrap_err().to_string();
            assert!(why.contains("more than the host has"), "{why}");
            assert!(store.check_room(kind, 1 << 62, 1 << 62).is_ok(), "it has that already");
        }
    }

    #[test]
    fn image_of_a_volume_is_not_made_over_another_file() {
        let (dir, store) = store();
        let volume = store.volume("data".parse().unwrap(), VolumeKind::Filesystem, SMALLEST_IMAGE, None);
        fs::write(dir.path().join("data.img"), "kept").unwrap();
        let null = File::open("/dev/null").unwrap();
        let why = store.prepare(&volume, std::os::fd::AsFd::as_fd(&null)).unwrap_err();
        assert!(why.to_string().contains("move it away"), "{why}");
        fs::write(dir.path().join("data.new"), "new").unwrap();
        assert!(store.publish(&volume).is_err());
        assert_eq!(fs::read(dir.path().join("data.img")).unwrap(), b"kept");
    }
}
