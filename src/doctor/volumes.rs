//! Volumes: whether this host can make images and mount them, and whether its tmpfs can have the ids of a job.

use std::os::fd::AsFd;
use std::path::PathBuf;

use super::Finding;
use crate::job::VolumeKind;
use crate::job::volume::OWNER;
use crate::sandbox::identity::make_volume_map;
use crate::sys;
use crate::volume::{SMALLEST_MEMORY, Store, has_formatter};

pub(super) fn checks() -> Vec<Finding> {
    vec![images(), memory()]
}

fn images() -> Finding {
    const CHECK: &str = "volumes.images";
    if let Err(why) = sys::loop_device::probe() {
        let seen = format!("no volumes of type filesystem: /dev/loop-control: {why}");
        return Finding::warn(CHECK, seen, "modprobe loop");
    }
    match has_formatter() {
        Some(path) => Finding::ok(CHECK, format!("loop devices, and {} to make images", path.display())),
        None => Finding::warn(
            CHECK,
            "no new volumes of type filesystem: mke2fs is not installed",
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
        let store = Store::new(PathBuf::from("/proc"));
        let name = "probe".parse().map_err(|why: crate::job::InvalidField| why.to_string())?;
        let volume = store.volume(name, VolumeKind::Memory, SMALLEST_MEMORY);
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
