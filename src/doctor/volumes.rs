//! Volumes: whether this host can bound them and mount them, on disk and in memory, with the ids of a job.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::mount::{OpenTreeFlags, open_tree};

use super::{Finding, shown};
use crate::config::daemon::{DaemonConfig, VolumeBackend};
use crate::job::VolumeKind;
use crate::job::volume::OWNER;
use crate::sandbox::identity::make_volume_map;
use crate::sys::{self, quota};
use crate::volume::{Backend, SMALLEST_MEMORY, Store, has_formatter};

const PRJQUOTA: &str = "mount the file system of dataDir with prjquota (an ext4 unmounted: tune2fs -O quota,project \
                        DEVICE before), or set volumes.backend: image";

pub(super) fn checks(config: &DaemonConfig) -> Vec<Finding> {
    let data_dir = config.data_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let images = images();
    let is_possible = images.remedy.is_none();
    let enforced = File::open(data_dir).and_then(|dir| quota::is_enforced(dir.as_fd()));
    let backend = config.volumes.backend;
    let by_quota = backend != VolumeBackend::Image && enforced.as_ref().is_ok_and(|enforced| *enforced);
    let mut all = vec![images, quotas(backend, data_dir, enforced, is_possible)];
    if by_quota {
        all.push(mapped_ids("volumes.mapped_ids", data_dir, "set volumes.backend: image"));
    }
    all.push(memory());
    all
}

/// Whether new volumes are bounded by quotas, as configured.
fn quotas(wanted: VolumeBackend, dir: &Path, enforced: io::Result<bool>, has_images: bool) -> Finding {
    const CHECK: &str = "volumes.quotas";
    let why = match (wanted, enforced) {
        (VolumeBackend::Image, _) => return Finding::ok(CHECK, "not needed: volumes.backend is image"),
        (_, Ok(true)) => {
            let seen = format!("{} enforces project quotas: new volumes are directories", shown(dir));
            return Finding::ok(CHECK, seen);
        }
        (_, Ok(false)) => "counts project quotas but does not enforce them".to_owned(),
        (_, Err(why)) => format!("has no project quotas ({why})"),
    };
    let seen = format!("{} {why}", shown(dir));
    match (wanted, has_images) {
        (VolumeBackend::Quota, _) => Finding::fail(CHECK, seen, PRJQUOTA),
        (_, true) => Finding::ok(CHECK, format!("{seen}: new volumes are images")),
        (_, false) => Finding::warn(CHECK, format!("{seen}: no new volumes of type filesystem"), PRJQUOTA),
    }
}

/// Whether a mount of the file system of `dir` can map ids. Nobody sees the mount that is tried.
pub(super) fn mapped_ids(check: &str, dir: &Path, remedy: &str) -> Finding {
    let attempt = || -> Result<(), String> {
        let ids = make_volume_map(OWNER, 1).map_err(|why| why.to_string())?;
        let dir = File::open(dir).map_err(|why| why.to_string())?;
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let mount = open_tree(&dir, "", flags).map_err(|why| why.to_string())?;
        sys::mount::map_ids(mount.as_fd(), 0, ids.as_fd()).map_err(|why| why.to_string())
    };
    match attempt() {
        Ok(()) => Finding::ok(check, format!("mounts of {} can map ids", shown(dir))),
        Err(why) => Finding::warn(check, format!("mounts of {} cannot map ids: {why}", shown(dir)), remedy),
    }
}

fn images() -> Finding {
    const CHECK: &str = "volumes.images";
    if let Err(why) = sys::loop_device::probe() {
        let seen = format!("no volumes with an image: /dev/loop-control: {why}");
        return Finding::warn(CHECK, seen, "modprobe loop");
    }
    match has_formatter() {
        Some(path) => Finding::ok(CHECK, format!("loop devices, and {} to make images", path.display())),
        None => Finding::warn(
            CHECK,
            "no new volumes with an image: mke2fs is not installed",
            "apt-get install e2fsprogs",
        ),
    }
}

/// Mounts a small one, where nobody else sees it, on a thread that ends.
fn memory() -> Finding {
    const CHECK: &str = "volumes.memory";
    let attempt = || -> Result<(), String> {
        sys::thread::unshare_fs().map_err(|why| why.to_string())?;
        let ids = make_volume_map(OWNER, 1).map_err(|why| why.to_string())?;
        // Any directory that every host has.
        let store = Store::new(PathBuf::from("/proc"), Backend::Image);
        let name = "probe".parse().map_err(|why: crate::job::InvalidField| why.to_string())?;
        let volume = store.volume(name, VolumeKind::Memory, SMALLEST_MEMORY, None);
        volume.mount_for(ids.as_fd(), false).map(drop).map_err(|why| why.to_string())
    };
    let tried = std::thread::spawn(attempt).join().unwrap_or_else(|_| Err("the attempt panicked".to_owned()));
    match tried {
        Ok(()) => Finding::ok(CHECK, "volumes of type memory can be made"),
        Err(why) => Finding::warn(
            CHECK,
            format!("no volumes of type memory: {why}"),
            "use Linux 6.3 or newer, or type filesystem",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn quotas_of_volumes_matter_as_the_configuration_says() {
        let ask = |wanted, enforced, has_images| quotas(wanted, Path::new("/x"), enforced, has_images).status;
        let absent = || Err(io::Error::from_raw_os_error(libc::ENOSYS));
        assert_eq!(ask(VolumeBackend::Auto, Ok(true), false), Status::Ok);
        assert_eq!(ask(VolumeBackend::Auto, Ok(false), true), Status::Ok, "there are images instead");
        assert_eq!(ask(VolumeBackend::Auto, absent(), false), Status::Warn);
        assert_eq!(ask(VolumeBackend::Quota, absent(), true), Status::Fail);
        assert_eq!(ask(VolumeBackend::Quota, Ok(true), false), Status::Ok);
        assert_eq!(ask(VolumeBackend::Image, absent(), false), Status::Ok);
    }

    #[test]
    fn file_system_that_maps_no_ids_is_named_with_the_remedy() {
        let found = mapped_ids("x", Path::new("/proc/self"), "do this");
        assert_eq!((found.status, found.remedy.as_deref()), (Status::Warn, Some("do this")), "{found:?}");
    }
}
