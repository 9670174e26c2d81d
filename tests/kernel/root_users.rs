//! /etc/passwd and /etc/group of a hostile root: read within it, bounded, and without waiting.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use joblet::job::Profile;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Signal, pidfd_send_signal};
use std::os::fd::AsFd;

use crate::helper::skip::is_root;
use crate::job::{Bench, Order};

/// The texts that a daemon reads of a root, or why it does not.
fn users(change: impl FnOnce(&Path)) -> Result<[String; 2], String> {
    let bench = Bench::writable(Profile::Container);
    let layer = bench.image.as_ref().unwrap().layers[0].clone();
    fs::write(layer.join("etc/group"), "staff:x:50:\n").unwrap();
    change(&layer);
    let running = bench.start(&Order::new(&["sleep", "1000"]));
    let read = std::thread::scope(|scope| {
        let read = || {
            let _context = bench.sandbox.adopt_thread().unwrap();
            let read = bench.sandbox.users(running.started.mounts.as_fd());
            let here = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
            assert_eq!(here, fs::read_link("/proc/self/ns/mnt").unwrap(), "the thread is back");
            read.map(|texts| texts.map(|text| String::from_utf8(text).unwrap()))
                .map_err(|why| why.to_string())
        };
        scope.spawn(read).join().unwrap()
    });
    pidfd_send_signal(&running.started.init.pidfd, Signal::KILL).unwrap();
    running.wait();
    read
}

fn replaced(layer: &Path, by: impl FnOnce(&Path)) {
    let passwd = layer.join("etc/passwd");
    fs::remove_file(&passwd).unwrap();
    by(&passwd);
}

#[test]
fn users_of_a_root_are_read_within_it_and_nowhere_else() {
    needs!(is_root(), "needs root");
    let plain = users(|_| {}).unwrap();
    assert!(plain[0].starts_with("root:x:0:0:") && plain[1] == "staff:x:50:\n", "{plain:?}");
    let linked = users(|layer| {
        fs::write(layer.join("users"), "linked").unwrap();
        replaced(layer, |passwd| symlink("/../../users", passwd).unwrap());
    });
    assert_eq!(linked.unwrap()[0], "linked");
    for (what, target) in
        [("a file of the host", "/../../../../etc/hostname-of-no-image"), ("nothing", "/nowhere")]
    {
        let read = users(|layer| replaced(layer, |passwd| symlink(target, passwd).unwrap()));
        assert_eq!(read.unwrap()[0], "", "{what}");
    }
    for target in [
        "/proc/self/environ",
        "/proc/1/root/etc/passwd",
        "/proc/kmsg",
        "/tmp/x",
        "/work/passwd",
        "/dev/tty",
        "passwd",
    ] {
        let why = users(|layer| replaced(layer, |passwd| symlink(target, passwd).unwrap())).unwrap_err();
        assert!(why.contains("read /etc/passwd of the job's root"), "{target}: {why}");
    }
    let why = users(|layer| replaced(layer, |at| mkfifoat(CWD, at, Mode::RUSR).unwrap())).unwrap_err();
    assert!(why.contains("it is no file"), "{why}");
    let why = users(|layer| replaced(layer, |at| fs::create_dir(at).unwrap())).unwrap_err();
    assert!(why.contains("it is no file"), "{why}");
    let why = users(|layer| fs::File::create(layer.join("etc/passwd")).unwrap().set_len(1 << 40).unwrap())
        .unwrap_err();
    assert!(why.contains("more than 1048576 bytes"), "{why}");
}
