//! A guest with busybox alone and two nodes, one with its dataDir on an ext4 and one on an XFS, both with project quotas
//! (`volumes`, `checks/volumes.sh`).

use super::guest::{BOOT, disk, pack};
use crate::helper::daemon::{JOBLET, PERSIST, RNX};
use crate::helper::programs::{c, cache};
use std::fs::File;
use std::path::Path;
use std::process::Command;

/// Sparse. XFS has at least 300 MiB.
const DISK: u64 = 512 << 20;

/// An empty file system on a disk of its own.
fn formatted(out: &Path, name: &str, command: &[&str]) -> Vec<String> {
    let image = out.join(format!("{name}.img"));
    File::create(&image).and_then(|file| file.set_len(DISK)).expect("room for a sparse file");
    let made = Command::new(command[0]).args(&command[1..]).arg(&image).output();
    let made = made.unwrap_or_else(|why| panic!("{}: {why} (tests/run.sh vm installs it)", command[0]));
    assert!(made.status.success(), "{}: {}", command[0], String::from_utf8_lossy(&made.stderr));
    disk(&image, name)
}

fn image(out: &Path) -> Vec<String> {
    let (cache, tests) = (cache().join("vm"), out.join("tests"));
    let small = ["quota_escape", "project_quota"].map(c);
    let mut files: Vec<&Path> = vec![&cache, out, &tests];
    files.extend([JOBLET, PERSIST, RNX, "/usr/sbin/mke2fs"].map(Path::new));
    files.extend(small.iter().map(|program| program.as_path()));
    pack("image.sh", &files);
    let kernel = format!("-kernel {0}/vmlinuz -initrd {0}/initramfs -append", out.display());
    let mut arguments: Vec<String> = kernel.split(' ').map(str::to_owned).collect();
    arguments.push(format!("{BOOT} rdinit=/volumes"));
    // The disks are there again after the check that cuts the power.
    arguments.extend(["-action", "reboot=reset"].map(str::to_owned));
    arguments.extend(formatted(
        out,
        "ext4",
        &["/usr/sbin/mke2fs", "-q", "-t", "ext4", "-O", "quota,project"],
    ));
    arguments.extend(formatted(out, "xfs", &["/usr/sbin/mkfs.xfs", "-q"]));
    arguments
}

in_guest! { GUEST, "volumes", alone: false, image:
    volume_on_ext4_ends_at_its_quota_of_bytes_and_files
    volume_on_xfs_ends_at_its_quota_of_bytes_and_files
    job_cannot_leave_the_quota_of_its_volume
    copy_into_a_volume_ends_at_its_quota
    quota_grows_under_a_running_job
    kill_amid_changes_of_quota_volumes_leaves_each_whole_or_none
    memory_volume_is_refused_where_tmpfs_maps_no_ids
    image_above_xfs_is_bounded_and_gives_room_back
    volumes_are_whole_and_bounded_after_a_power_cut
    volume_whose_quota_is_no_more_takes_no_job_by_name
    removed_volumes_leave_no_quota_mount_or_loop_device
}
