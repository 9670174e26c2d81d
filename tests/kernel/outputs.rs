//! Outputs of jobs of workflows on a file system that shares blocks.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicU64;

use joblet::sys::thread::unshare_mounts;
use joblet::upload::outputs::collect;
use rustix::fs::statvfs;
use rustix::mount::{MountPropagationFlags, mount_change};

use crate::helper::network::has_program;
use crate::helper::skip::is_root;

const FILE: usize = 64 << 20;

/// Mounts an XFS in the mount namespace of this thread.
fn mount_xfs(dir: &Path) {
    let image = dir.join("image");
    File::create(&image).unwrap().set_len(512 << 20).unwrap();
    let run = |program: &str, arguments: &[&str], at: &[&Path]| {
        let out = Command::new(program).args(arguments).args(at).output().unwrap();
        assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
    };
    run("mkfs.xfs", &["-q", "-m", "reflink=1"], &[&image]);
    let at = dir.join("disk");
    fs::create_dir(&at).unwrap();
    run("mount", &["-t", "xfs", "-o", "loop"], &[&image, &at]);
}

#[test]
fn outputs_are_kept_without_a_copy_where_the_disk_shares_blocks() {
    needs!(is_root() && has_program("mkfs.xfs"), "needs root and mkfs.xfs(8)");
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    let alone = move || {
        unshare_mounts().unwrap();
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
        mount_xfs(disk.parent().unwrap());
        let (work, kept) = (disk.join("work"), disk.join("kept"));
        fs::create_dir(&work).unwrap();
        let mut file = File::create(work.join("result")).unwrap();
        file.write_all(&vec![b'x'; FILE]).unwrap();
        file.sync_all().unwrap();
        let used = || {
            let now = statvfs(&disk).unwrap();
            (now.f_blocks - now.f_bfree) * now.f_frsize
        };
        let before = used();
        let room = AtomicU64::new(1 << 30);
        let opened = File::open(&work).unwrap();
        let done = collect(opened.as_fd(), &["result".into()], &kept, &room);
        assert_eq!(done.result, Ok(FILE as u64));
        let more = used() - before;
        assert!(more < FILE as u64 / 16, "{more} bytes for a copy of {FILE}");
        assert_eq!(fs::metadata(kept.join("data")).unwrap().len(), FILE as u64);
    };
    std::thread::spawn(alone).join().unwrap();
}
