//! The read-back of a process in a /proc of the test's own, and the faults that break each layer.

use super::super::rootfs::DEVICES as NODES;
use super::*;
use crate::job::Verdict;
use std::os::unix::fs::symlink;

use rustix::fs::{CWD, FileType, Mode};

const STATUS: &str = "Name:\tsleep\nUid:\t70000\t70000\t70000\t70000\nGid:\t70000\t70000\t70000\t70000\n\
    Groups:\t\nNSpid:\t4242\t2\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n\
    CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\n\
    NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";
const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max core file size        1                    1                    bytes
Max processes             64                   64                   processes
Max open files            1024                 1024                 files
Max locked memory         65536                65536                bytes
Max pending signals       4096                 4096                 signals
Max msgqueue size         819200               819200               bytes
Max nice priority         0                    0
Max realtime priority     0                    0
Max realtime timeout      50000                50000                us
";
const MOUNTS: &str = "\
45 47 0:41 / /work rw,nosuid,nodev,relatime - tmpfs none rw
47 46 0:40 /root / ro,nosuid,nodev,relatime - overlay joblet ro
48 47 0:42 / /usr ro,nosuid,nodev,relatime - overlay joblet ro
58 47 0:40 /root/dev /dev ro,nosuid,noexec,relatime - overlay joblet ro
82 47 0:43 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
83 82 0:40 /root/dev/null /proc/kallsyms ro,nosuid,noexec,relatime - overlay joblet ro
110 82 0:43 /sys /proc/sys ro,nosuid,nodev,noexec,relatime - proc proc rw
111 47 0:45 / /tmp rw,nosuid,nodev,relatime - tmpfs tmpfs rw
114 47 0:48 / /run rw,nosuid,nodev,relatime - tmpfs tmpfs rw
112 47 0:46 / /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw
113 47 0:47 / /dev/pts rw,nosuid,noexec,relatime - devpts devpts rw
";
const PROMISE: Promise = Promise {
    host_id: 70_000,
    user: User::Root,
    profile: Profile::Strict,
    own_network: true,
    pids: 64,
    volumes: Vec::new(),
    writable: false,
    opened: &[],
    devices: Vec::new(),
    gpus: Vec::new(),
};

/// A /proc with a host (`self`) and one process.
fn proc_with(status: &str, limits: &str, mountinfo: &str, shared: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (who, number) in [("self", 1), ("4242", 2)] {
        let of = dir.path().join(who);
        fs::create_dir_all(of.join("ns")).unwrap();
        for kind in ["user", "pid", "mnt", "ipc", "uts", "cgroup", "net"] {
            let number = if kind == shared { 1 } else { number };
            symlink(format!("{kind}:[{number}]"), of.join("ns").join(kind)).unwrap();
        }
        fs::create_dir_all(of.join("root/dev/pts")).unwrap();
        symlink("pts/ptmx", of.join("root/dev/ptmx")).unwrap();
        for (name, ..) in NODES {
            fs::write(of.join("root/dev").join(name), "").unwrap();
        }
        for (file, text) in [
            ("status", status),
            ("limits", limits),
            ("mountinfo", mountinfo),
            ("uid_map", "         0      70000          1\n"),
            ("gid_map", "         0      70000          1\n"),
        ] {
            fs::write(of.join(file), text).unwrap();
        }
    }
    dir
}

fn broken(proc: &tempfile::TempDir, promise: Promise) -> Vec<String> {
    let layers = read_back(proc.path(), &[4242], &promise).unwrap();
    let broken = layers.into_iter().filter(|layer| layer.verdict != Verdict::Kept);
    broken.map(|layer| layer.name).collect()
}

#[test]
fn a_job_that_is_as_promised_has_every_layer() {
    let proc = proc_with(STATUS, LIMITS, MOUNTS, "");
    assert_eq!(broken(&proc, PROMISE), Vec::<String>::new());
    let layers = read_back(proc.path(), &[4242], &PROMISE).unwrap();
    assert_eq!(layers.len(), 7 + 5 + 3 + 9 + 11 + 1 + 1);
}

#[test]
fn each_thing_that_is_missing_breaks_its_own_layer() {
    for (from, to, layers) in [
        ("CapEff:\t0000000000000000", "CapEff:\t0000000000000001", vec!["capabilities", "processes"]),
        ("CapBnd:\t0000000000000000", "CapBnd:\t000001ffffffffff", vec!["capabilities", "processes"]),
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0", vec!["no_new_privs", "processes"]),
        ("Seccomp:\t2", "Seccomp:\t0", vec!["seccomp", "processes"]),
        ("Seccomp_filters:\t1", "Seccomp_filters:\t0", vec!["seccomp"]),
        ("Groups:\t", "Groups:\t0 27", vec!["ids.groups"]),
        ("Uid:\t70000\t70000", "Uid:\t70000\t0", vec!["ids.uid"]),
    ] {
        assert!(STATUS.contains(from), "{from}");
        let proc = proc_with(&STATUS.replace(from, to), LIMITS, MOUNTS, "");
        assert_eq!(broken(&proc, PROMISE), layers, "{to}");
    }
    for kind in ["pid", "mnt", "ipc", "uts", "cgroup", "net"] {
        assert_eq!(broken(&proc_with(STATUS, LIMITS, MOUNTS, kind), PROMISE), [format!("namespace.{kind}")]);
    }
    let proc = proc_with(STATUS, LIMITS, MOUNTS, "user");
    assert_eq!(broken(&proc, PROMISE), ["namespace.user", "processes"]);
}

#[test]
fn a_mount_that_lost_an_attribute_or_is_shared_is_named() {
    for (from, to, layer) in [
        ("/usr ro,nosuid", "/usr rw,nosuid", "mount /usr"),
        ("/root / ro,nosuid,nodev", "/root / ro,nosuid", "mount /"),
        ("/tmp rw,nosuid,nodev", "/tmp rw,nodev", "mount /tmp"),
        ("noexec,relatime - proc", "relatime - proc", "mount /proc"),
        ("/usr ro,nosuid,nodev,relatime -", "/usr ro,nosuid,nodev,relatime shared:7 -", "mount /usr"),
    ] {
        assert!(MOUNTS.contains(from), "{from}");
        let proc = proc_with(STATUS, LIMITS, &MOUNTS.replacen(from, to, 1), "");
        assert_eq!(broken(&proc, PROMISE), [layer], "{to}");
    }
    let without = MOUNTS.lines().filter(|line| !line.contains(" /tmp ")).map(|line| format!("{line}\n"));
    let proc = proc_with(STATUS, LIMITS, &without.collect::<String>(), "");
    assert_eq!(broken(&proc, PROMISE), ["mount /tmp"]);
}

#[test]
fn root_is_writable_only_where_it_was_promised() {
    let written = MOUNTS.replace("/root / ro,", "/ / rw,");
    let promise = Promise { writable: true, ..PROMISE };
    for (mounts, promise, layers) in [
        (written.as_str(), &promise, vec![]),
        (&written, &PROMISE, vec!["mount /"]),
        (MOUNTS, &promise, vec!["mount /"]),
        (&written.replace("/usr ro", "/usr rw"), &promise, vec!["mount /usr"]),
        (&written.replace("/ / rw,nosuid", "/ / rw"), &promise, vec!["mount /"]),
    ] {
        assert_eq!(broken(&proc_with(STATUS, LIMITS, mounts, ""), promise.clone()), layers, "{mounts}");
    }
}

#[test]
fn place_of_a_build_is_the_last_mount_there() {
    let line = |access: &str| format!("120 47 7:0 / /opt/x {access},nosuid,nodev - tmpfs x rw\n");
    let promise = || Promise { opened: &["/opt/x"], ..PROMISE };
    for (first, last, layers) in
        [("ro", "rw", vec![]), ("rw", "ro", vec!["mount /opt/x"; 2]), ("rw", "rw", vec!["mount /opt/x"])]
    {
        let proc = proc_with(STATUS, LIMITS, &format!("{MOUNTS}{}{}", line(first), line(last)), "");
        assert_eq!(broken(&proc, promise()), layers, "{first} {last}");
    }
    assert_eq!(broken(&proc_with(STATUS, LIMITS, MOUNTS, ""), promise()), ["mount /opt/x"]);
}

#[test]
fn volume_that_is_missing_or_wrongly_writable_is_named() {
    let volume = |text: &str| text.parse::<VolumeUse>().unwrap();
    let with = |lines: &str| proc_with(STATUS, LIMITS, &format!("{MOUNTS}{lines}"), "");
    let line = |name: &str, access: &str| {
        format!("120 47 7:0 / /volumes/{name} {access},nosuid,nodev,relatime - ext4 /dev/loop0 rw\n")
    };
    let proc = with(&format!("{}{}", line("a", "rw"), line("b", "ro")));
    let promise = |a: &str, b: &str| Promise { volumes: vec![volume(a), volume(b)], ..PROMISE };
    assert_eq!(broken(&proc, promise("a", "b:ro")), Vec::<String>::new());
    assert_eq!(broken(&proc, promise("a:ro", "b")), ["mount /volumes/a", "mount /volumes/b"]);
    assert_eq!(broken(&proc, PROMISE), ["mount /volumes/a"]);
    assert_eq!(broken(&with(&line("a", "rw")), promise("a", "b:ro")), ["mount /volumes/b"]);
}

#[test]
fn device_node_that_is_missing_or_too_much_breaks_its_layer() {
    let proc = proc_with(STATUS, LIMITS, MOUNTS, "");
    let with = |names: &[&str]| Promise {
        devices: names.iter().map(|name| (*name).to_owned()).collect(),
        ..PROMISE
    };
    assert_eq!(broken(&proc, with(&["nvidia0", "nvidiactl"])), ["devices"]);
    for name in ["nvidia0", "nvidiactl"] {
        fs::write(proc.path().join("4242/root/dev").join(name), "").unwrap();
    }
    assert_eq!(broken(&proc, with(&["nvidia0", "nvidiactl"])), Vec::<String>::new());
    // Everybody may make this one device, the mark of overlayfs.
    let at = proc.path().join("4242/root/dev/other");
    let made = rustix::fs::mknodat(CWD, &at, FileType::CharacterDevice, Mode::from_raw_mode(0o600), 0);
    made.unwrap();
    assert_eq!(broken(&proc, with(&["nvidia0", "nvidiactl"])), ["devices"]);
}

#[test]
fn map_of_the_other_user_is_broken_for_both_users() {
    let proc = proc_with(STATUS, LIMITS, MOUNTS, "");
    let ordinary = Promise { user: User::Job, ..PROMISE };
    assert_eq!(broken(&proc, ordinary.clone()), ["ids.uid_map", "ids.gid_map"]);
    for map in ["uid_map", "gid_map"] {
        fs::write(proc.path().join("4242").join(map), "      1000      70000          1\n").unwrap();
    }
    assert_eq!(broken(&proc, ordinary), Vec::<String>::new());
    assert_eq!(broken(&proc, PROMISE), ["ids.uid_map", "ids.gid_map"]);
}

#[test]
fn container_has_its_ids_and_capabilities_and_no_others() {
    let status = STATUS
        .replace("Uid:\t70000\t70000", "Uid:\t70999\t70000")
        .replace("Groups:\t", "Groups:\t70000 70027")
        .replace("CapBnd:\t0000000000000000", "CapBnd:\t00000000000405fb")
        .replace("CapPrm:\t0000000000000000", "CapPrm:\t0000000000000001");
    let proc = proc_with(&status, LIMITS, MOUNTS, "");
    let container = Promise { profile: Profile::Container, ..PROMISE };
    assert_eq!(broken(&proc, container.clone()), ["ids.uid_map", "ids.gid_map"]);
    for map in ["uid_map", "gid_map"] {
        fs::write(proc.path().join("4242").join(map), "         0      70000      65536\n").unwrap();
    }
    assert_eq!(broken(&proc, container.clone()), Vec::<String>::new());
    let strict = ["ids.uid", "ids.groups", "ids.uid_map", "ids.gid_map", "capabilities", "processes"];
    assert_eq!(broken(&proc, PROMISE), strict);
    for (from, to, layers) in [
        ("00000000000405fb", "00000000000425fb", vec!["capabilities", "processes"]),
        ("CapEff:\t0000000000000000", "CapEff:\t0000000000200000", vec!["capabilities", "processes"]),
        ("70000 70027", "70000 27", vec!["ids.groups"]),
        ("Uid:\t70999", "Uid:\t135536", vec!["ids.uid"]),
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0", vec!["no_new_privs", "processes"]),
    ] {
        assert!(status.contains(from), "{from}");
        fs::write(proc.path().join("4242/status"), status.replace(from, to)).unwrap();
        assert_eq!(broken(&proc, container.clone()), layers, "{to}");
    }
}

#[test]
fn limits_may_be_lower_and_never_higher() {
    let ceilings = [u64::MAX; 16];
    let verdicts = |text: &str| -> Vec<String> {
        let layers = limits(text, 64, &ceilings).into_iter();
        layers.filter(|layer| layer.verdict == Verdict::Broken).map(|layer| layer.name).collect()
    };
    assert_eq!(verdicts(LIMITS), Vec::<String>::new());
    let lower = LIMITS.replace("1024                 1024", "16                   32  ");
    assert_eq!(verdicts(&lower), Vec::<String>::new());
    let higher = LIMITS.replace("64                   64", "64                   unlimited");
    assert_eq!(verdicts(&higher), ["RLIMIT_NPROC"]);
    assert_eq!(verdicts("").len(), 9);
}

#[test]
fn the_hosts_network_is_kept_only_where_it_was_promised() {
    let proc = proc_with(STATUS, LIMITS, MOUNTS, "net");
    assert_eq!(broken(&proc, Promise { own_network: false, ..PROMISE }), Vec::<String>::new());
    let apart = proc_with(STATUS, LIMITS, MOUNTS, "");
    assert_eq!(broken(&apart, Promise { own_network: false, ..PROMISE }), ["namespace.net"]);
}

#[test]
fn unconfined_process_breaks_nearly_every_security_layer() {
    // This very process is as weak as it gets: nothing stands around it that the host has not.
    let me = std::process::id().cast_signed();
    let layers = of_process(Path::new("/proc"), me, &PROMISE).unwrap();
    let kept = |name: &str| layers.iter().any(|l| l.name == name && l.verdict == Verdict::Kept);
    for name in ["namespace.pid", "namespace.mnt", "namespace.user", "ids.uid", "ids.uid_map", "mount /"] {
        assert!(!kept(name), "{name}");
    }
    assert!(read_back(Path::new("/proc"), &[me], &PROMISE).is_err(), "it is no payload");
}
