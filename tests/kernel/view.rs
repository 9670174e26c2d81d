//! The files and names that a job finds: /etc, /run, /sys, its own group, and nothing of what others do with the files
//! that it shares with them.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use joblet::sandbox::etc::PROGRAM_FILES;
use rustix::fs::{FlockOperation, Mode};
use rustix::process::{Signal, pidfd_send_signal};

use crate::helper::programs::job;
use crate::helper::skip::is_root;
use crate::job::{Bench, Finished, Ground, Order, Running, sandbox};

/// Files that jobs and the host have in common, and directories around them.
const SHARED: &[&str] = &[
    "/",
    "/usr",
    "/usr/bin",
    "/usr/bin/env",
    "/etc",
    "/etc/alternatives",
    "/etc/passwd",
    "/dev",
    "/dev/zero",
    // Standard input is /dev/null, the same file for every program of a host.
    "/proc/self/fd/0",
    "/sys/devices/system/cpu",
];

fn python(file: &str, arguments: &[&str]) -> Order {
    let name: &'static str = file.to_owned().leak();
    let mut order = Order::new(&[&["/usr/bin/python3", name], arguments].concat());
    order.files.push((name, fs::read(job(file)).unwrap(), 0o755));
    order
}

/// A job that watches and locks everything it shares.
fn watcher(bench: &Bench) -> Running {
    let running = bench.start(&python("watch.py", SHARED));
    running.hear("watching");
    running
}

fn stop(running: Running) -> Finished {
    pidfd_send_signal(running.started.init.pidfd.as_fd(), Signal::TERM).unwrap();
    running.finish()
}

#[test]
fn a_job_sees_nothing_that_others_do_with_shared_files() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let running = watcher(&bench);
    let script = "/usr/bin/env true; ls -l / /usr/bin /etc /etc/alternatives /dev /sys/devices/system/cpu; cat /etc/passwd </dev/null >/dev/null";
    assert!(Command::new("sh").args(["-c", script]).output().unwrap().status.success());
    assert_eq!(bench.shell(script).code, Some(0));
    let done = stop(running);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("own: True\nothers:\n", ""));
}

#[test]
fn a_lock_of_a_job_holds_up_neither_host_nor_jobs() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let first = watcher(&bench);
    for path in SHARED.iter().map(|path| if path.starts_with("/proc") { "/dev/null" } else { path }) {
        let file = File::open(path).unwrap();
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .unwrap_or_else(|why| panic!("{path}: {why}"));
    }
    // The second one gets the same locks while the first one has them.
    let second = watcher(&bench);
    for running in [first, second] {
        assert_eq!(stop(running).stderr, "");
    }
}

#[test]
fn own_and_local_names_resolve_with_every_flag() {
    needs!(is_root(), "needs root");
    let script = "
import socket as s, itertools
name = s.gethostname()
print(s.gethostbyname(name), s.gethostbyname('localhost'), s.getfqdn(), s.gethostbyaddr('127.0.1.1')[0])
numeric = ['127.0.0.1', '::1']
flags = [0, s.AI_ADDRCONFIG, s.AI_V4MAPPED, s.AI_ALL, s.AI_CANONNAME, s.AI_PASSIVE, s.AI_ADDRCONFIG | s.AI_V4MAPPED]
for host, flag, family in itertools.product([name, 'localhost', *numeric], flags, [s.AF_UNSPEC, s.AF_INET, s.AF_INET6]):
    if (host, family) in [('127.0.0.1', s.AF_INET6), ('::1', s.AF_INET)]:
        continue
    for service in [None, 80]:
        try:
            found = s.getaddrinfo(host, service, family, s.SOCK_STREAM, 0, flag | (s.AI_NUMERICHOST if host in numeric else 0))
            assert found
        except OSError as error:
            print(host, flag, family, service, error)
";
    let bench = Bench::new();
    let order = Order { hostname: "job-1234".into(), ..Order::new(&["/usr/bin/python3", "-c", script]) };
    let done = bench.run(&order);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("127.0.1.1 127.0.0.1 job-1234 job-1234\n", ""));
}

#[test]
fn files_of_programs_in_etc_are_those_of_the_host() {
    needs!(is_root(), "needs root");
    let names = PROGRAM_FILES.iter().flat_map(|(_, names)| *names).copied().collect::<Vec<_>>().join(" ");
    // Files that every user may read, and links.
    let script = format!(
        "cd /etc; for name in {names}; do [ ! -e $name ] || find -H $name -type f -perm -o=r -exec sha256sum {{}} + -o -type l -printf '%p %l\\n'; done | sort"
    );
    let outside = Command::new("sh").args(["-c", &script]).output().unwrap();
    let inside = Bench::new().shell(&script);
    let outside = String::from_utf8_lossy(&outside.stdout).into_owned();
    let missing: Vec<&str> = outside.lines().filter(|line| !inside.stdout.contains(line)).take(5).collect();
    assert_eq!(missing, Vec::<&str>::new());
    assert!(outside.lines().count() > 10, "{outside}");
}

#[test]
fn no_private_file_of_etc_is_visible() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    // Made for jobs: they differ from the host's.
    let made = ["etc/group", "etc/hostname", "etc/hosts", "etc/mtab", "etc/passwd", "etc/resolv.conf"];
    let done = bench.shell(
        "cd /; find etc -type f -readable ! -perm -o=r; find etc -mindepth 1 -maxdepth 1; cat etc/passwd etc/group etc/hosts",
    );
    let listed = PROGRAM_FILES.iter().flat_map(|(_, names)| *names);
    let tops: Vec<&str> = listed.map(|name| name.split('/').next().unwrap().trim_end_matches('*')).collect();
    for line in done.stdout.lines().filter(|line| line.starts_with("etc/")) {
        let known = tops.iter().any(|top| line[4..].starts_with(top));
        assert!(known || made.contains(&line), "{line}");
    }
    let private =
        ["shadow", "ssh", "ssl/private", "machine-id", "sudoers", "fstab", "maven/settings.xml", "pip.conf"];
    for name in private {
        assert_eq!(bench.shell(&format!("ls -d /etc/{name}")).code, Some(2), "{name} is there");
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert!(!done.stdout.contains(&host), "the host's name is in {}", done.stdout);
}

#[test]
fn a_root_is_open_whatever_mask_the_daemon_has() {
    needs!(is_root(), "needs root");
    let ground = Ground::new();
    let build = || {
        joblet::sys::thread::unshare_fs().unwrap();
        rustix::process::umask(Mode::from_raw_mode(0o077));
        sandbox(&ground.dir, 60)
    };
    let sandbox = std::thread::scope(|scope| scope.spawn(build).join().unwrap());
    let bench = Bench { sandbox, ground, image: None };
    let done = bench.shell(
        "ls -d /etc/alternatives/. /etc/ssl/certs/. /usr/. /sys/devices/system/cpu/cpu0/. | wc -l
        find / -xdev -maxdepth 2 -type d ! -perm -o=rx; stat -c %a / /etc /dev /sys /var /dev/null",
    );
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("4\n755\n755\n755\n755\n755\n666\n", ""));
}

#[test]
fn run_and_its_links_are_writable_and_bounded() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let script = "for at in /run /var/run /run/lock /var/lock /run/log /var/log /var/tmp; do
        echo $$ >$at/x.pid && rm $at/x.pid && mkdir $at/own && rmdir $at/own || echo $at; done
        echo x >/etc/hosts || echo x >/run/hosts || rm -f /run/hosts
        getent hosts localhost; head -c 2000000 /dev/zero >/var/log/big; stat -c %s /run/log/big";
    let done = bench.shell(script);
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("localhost"), "{done:?}");
    let kept: u64 = lines[1].parse().unwrap();
    assert!((1..=1 << 20).contains(&kept) && done.stderr.contains("No space left"), "{done:?}");
    assert_eq!(
        bench.shell("ls -A /run /run/log").stdout,
        "/run:\nhosts\nlock\nlog\nresolv.conf\n\n/run/log:\n"
    );
}

#[test]
fn sys_has_the_topology_and_no_device() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let script = "lscpu | grep -E '^(CPU\\(s\\)|On-line|Thread|Core|Socket|L[123])' | tr -s ' '";
    let outside = Command::new("sh").args(["-c", script]).output().unwrap().stdout;
    assert_eq!(bench.shell(script).stdout, String::from_utf8_lossy(&outside));
    let done = bench.shell("lscpu >/dev/null && lsblk; echo $?; ls -A /sys/block /sys/class/net; cat /sys/devices/system/cpu/possible");
    let possible = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    assert_eq!(done.stdout, format!("0\n/sys/block:\n\n/sys/class/net:\n{possible}"), "{done:?}");
    let done = bench.shell("echo never >/sys/kernel/mm/transparent_hugepage/enabled; find /sys -type l -o -type b -o -type c; find /sys -mindepth 1 -writable | head");
    assert_eq!(done.stdout, "", "{done:?}");
}

#[test]
fn the_own_group_is_the_root_of_the_cgroup_mount() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let done = bench.shell(
        "stat -c %i /sys/fs/cgroup; ls -d /sys/fs/cgroup/job-* /sys/fs/cgroup/joblet*; cat /sys/fs/cgroup/cgroup.procs | head -1
        grep cgroup2 /proc/self/mountinfo | cut -d' ' -f4,5; echo 1 >/sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/x",
    );
    let own = fs::metadata(&bench.ground.cgroup).unwrap().ino();
    assert_eq!(done.stdout, format!("{own}\n1\n/ /sys/fs/cgroup\n"), "{done:?}");
    assert_eq!(done.stderr.matches("Read-only file system").count(), 2, "{done:?}");
    // The host's mount stays as it is.
    assert!(!Path::new(&bench.ground.cgroup).join("x").exists());
}

#[test]
fn mount_table_names_no_disk_and_no_path_of_the_host() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let table = bench.shell("cat /proc/self/mountinfo").stdout;
    let dir = bench.ground.dir.display().to_string();
    for line in table.lines() {
        let (left, right) = line.split_once(" - ").unwrap();
        let (kind, source) = right.split_once(' ').unwrap();
        let own = ["overlay", "tmpfs", "proc", "devpts", "cgroup2"].contains(&kind);
        assert!(own && !source.starts_with("/dev") && !line.contains(&dir), "{left} - {right}");
    }
}

#[test]
fn directory_of_proc_shows_only_what_is_kept() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let script = "echo ready; until [ ! -e /proc/tty/drivers ]; do sleep 0.01; done
        ls /proc/tty; mkdir /proc/tty/x 2>/dev/null || echo refused; grep -c ' /proc/acpi ' /proc/self/mountinfo";
    let running = bench.start(&Order::new(&["sh", "-c", script]));
    running.hear("ready");
    // It stands for the vendor's directory, which is covered in every job.
    let covered = Path::new("/proc/acpi").is_dir().then_some("/proc/acpi");
    std::thread::scope(|scope| {
        let narrow = || {
            let _context = bench.sandbox.adopt_thread().unwrap();
            let keep = ["ldisc".to_owned(), "gone".to_owned(), "../fs".to_owned()];
            bench.sandbox.narrow(running.started.mounts.as_fd(), covered, "/proc/tty", &keep).unwrap();
            bench.sandbox.narrow(running.started.mounts.as_fd(), None, "/proc/none", &keep).unwrap();
        };
        scope.spawn(narrow).join().unwrap();
    });
    let done = running.finish();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("ldisc\nrefused\n0\n", ""));
}
