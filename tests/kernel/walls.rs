//! Each layer of the isolation, seen from inside: the answers that a program gets when it looks around and tries each limit.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd;

use joblet::job::Profile;
use joblet::job::exit_file::Begun;
use joblet::sandbox::rootfs::{DEFAULT_DIRECTORIES, ProcMasks};
use rustix::process::{Signal, pidfd_send_signal};

use crate::helper::skip::is_root;
use crate::job::{Bench, Finished, Order};

/// Runs one chapter of `tests/jobs/probe.c` and returns its answers by question.
fn probe(bench: &Bench, chapter: &str) -> BTreeMap<String, String> {
    answers(&bench.run(&Order::program("probe", &[chapter])))
}

fn answers(done: &Finished) -> BTreeMap<String, String> {
    assert_eq!(done.code, Some(0), "{done:?}");
    pairs(&done.stdout)
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let (question, answer) = line.split_once(':').unwrap_or_else(|| panic!("no answer: {line}"));
        (question.to_owned(), answer.trim().to_owned())
    };
    text.lines().map(pair).collect()
}

/// Compares the answers that a test is about.
fn expect(got: &BTreeMap<String, String>, wanted: &[(&str, &str)]) {
    let seen: Vec<(&str, &str)> =
        wanted.iter().map(|(q, _)| (*q, got.get(*q).map_or("no such question", String::as_str))).collect();
    assert_eq!(seen, wanted);
}

/// One line of /proc/self/mountinfo.
#[derive(Debug)]
struct Mount {
    at: String,
    options: Vec<String>,
    propagation: String,
    kind: String,
}

fn mounts(bench: &Bench) -> Vec<Mount> {
    let done = bench.shell("cat /proc/self/mountinfo");
    done.stdout
        .lines()
        .map(|line| {
            let (left, right) = line.split_once(" - ").unwrap();
            let fields: Vec<&str> = left.split(' ').collect();
            Mount {
                at: fields[4].to_owned(),
                options: fields[5].split(',').map(str::to_owned).collect(),
                propagation: fields[6..].join(" "),
                kind: right.split(' ').next().unwrap().to_owned(),
            }
        })
        .collect()
}

const OWN: [&str; 6] = ["/work", "/tmp", "/run", "/dev/shm", "/dev/pts", "/proc"];
/// Mounts for all jobs that nobody writes to.
const READ_ONLY: [&str; 3] = ["/", "/dev", "/sys/fs/cgroup"];

/// The host directories below which a job may find mounts: those that are no symlinks on this host.
fn host_directories() -> Vec<&'static str> {
    let is_bound = |path: &&str| fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_symlink());
    DEFAULT_DIRECTORIES.iter().copied().filter(is_bound).collect()
}

#[test]
fn a_job_sees_the_mounts_of_its_plan_and_no_other() {
    needs!(is_root(), "needs root");
    for bench in Bench::everywhere() {
        let found = mounts(&bench);
        let masks = ProcMasks::probe();
        let masked: Vec<&str> = [masks.files, masks.directories, masks.read_only]
            .concat()
            .iter()
            .map(|path| path.to_str().unwrap().to_owned().leak() as &str)
            .collect();
        let hosts = if bench.image.is_some() { vec!["/usr"] } else { host_directories() };
        let planned: Vec<&str> = [&OWN[..], &READ_ONLY, &masked, &hosts].concat();
        for path in &planned {
            let times = found.iter().filter(|m| m.at == *path).count();
            assert_eq!(times, 1, "{path} is mounted {times} times");
        }
        let below_host = |at: &str| hosts.iter().any(|dir| at.starts_with(&format!("{dir}/")));
        let strange: Vec<&Mount> =
            found.iter().filter(|m| !planned.contains(&m.at.as_str()) && !below_host(&m.at)).collect();
        assert!(strange.is_empty(), "{strange:#?}");
        // A template that keeps the host's root would leave a second entry.
        assert_eq!(found.iter().filter(|m| m.at == "/").count(), 1);
    }
}

#[test]
fn every_mount_but_the_jobs_own_is_read_only_nodev_and_nosuid() {
    needs!(is_root(), "needs root");
    for bench in Bench::everywhere() {
        for mount in mounts(&bench) {
            let has = |option: &str| mount.options.iter().any(|o| o == option);
            let own = OWN.contains(&mount.at.as_str()) || (bench.image.is_some() && mount.at == "/");
            assert!(has("nosuid"), "{mount:?}");
            assert_eq!(has("ro"), !own, "{mount:?}");
            // Devices are bound one by one, and the mask over a file of /proc is the same /dev/null.
            let hides = mount.kind == "overlay" && mount.at.starts_with("/proc/");
            let may_have_devices = ["/dev", "/dev/pts"].contains(&mount.at.as_str()) || hides;
            assert!(has("nodev") || may_have_devices, "{mount:?}");
            assert_eq!(mount.propagation, "", "nothing is shared with the host: {mount:?}");
        }
    }
}

#[test]
fn the_root_is_small_and_nothing_of_the_host_is_in_it() {
    needs!(is_root(), "needs root");
    for bench in Bench::everywhere() {
        let done = bench.shell(
            "ls -A / | wc -l; ls -A /home /mnt /volumes | grep -v : | grep . ; ls -A /etc; cat /etc/passwd",
        );
        let mut lines = done.stdout.lines();
        let entries: usize = lines.next().unwrap().trim().parse().unwrap();
        assert!(entries < 30, "{entries}");
        for secret in ["shadow", "ssh", "sudoers", "machine-id", "joblet"] {
            assert!(!done.stdout.contains(secret), "{secret}: {}", done.stdout);
        }
        for gone in [
            "/root",
            "/opt",
            "/sys/firmware",
            "/sys/power",
            "/sys/class/dmi",
            "/boot",
            "/srv",
            "/etc/shadow",
            "/etc/ssl/private",
            "/run/dbus",
        ] {
            let done = bench.shell(&format!("test -e {gone}"));
            assert_eq!(done.code, Some(1), "{gone} is there");
        }
    }
}

#[test]
fn proc_shows_nothing_of_the_host_and_cannot_control_it() {
    needs!(is_root(), "needs root");
    for bench in Bench::everywhere() {
        let masks = ProcMasks::probe();
        let list = |paths: &[std::ffi::CString]| {
            paths.iter().map(|p| p.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        let script = format!(
            "for f in {}; do head -c 100 $f; done; for d in {}; do ls -A $d; done",
            list(&masks.files),
            list(&masks.directories)
        );
        let done = bench.shell(&script);
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
        for path in
            ["sys/kernel/core_pattern", "sys/vm/drop_caches", "sys/kernel/modprobe", "sysrq-trigger", "irq/0"]
        {
            let done = bench.shell(&format!("test ! -e /proc/{path} || echo b > /proc/{path}"));
            let refused = ["Read-only file system", "Permission denied", "Is a directory"]
                .iter()
                .any(|word| done.stderr.contains(word));
            let absent = !std::path::Path::new("/proc").join(path).exists();
            assert!(refused || absent, "{path}: {done:?}");
        }
        let done = bench.shell("cd /proc; ls -d [0-9]* | sort -n | head -3 | tr '\\n' ' '");
        assert!(done.stdout.starts_with("1 2 "), "pids are the job's own: {}", done.stdout);
        assert_eq!(bench.shell("cat /proc/self/cgroup | grep ^0").stdout, "0::/\n");
    }
}

#[test]
fn a_program_starts_with_three_descriptors_wherever_it_looks() {
    needs!(is_root(), "needs root");
    for bench in Bench::everywhere() {
        assert_eq!(probe(&bench, "descriptors")["open"], "0 1 2");
        // The first is /dev/null; the others are pipes; none leads to a directory (CVE-2024-21626).
        expect(
            &probe(&bench, "ways-out"),
            &[
                ("directories among descriptors", "0"),
                ("above the root", "/"),
                ("old root", "ENOENT"),
                ("chroot", if bench.ground.profile.is_strict() { "EPERM" } else { "0" }),
            ],
        );
    }
}

#[test]
fn a_job_starts_however_many_descriptors_its_daemon_has_open() {
    needs!(is_root(), "needs root");
    // More than a job may have: a hundred running jobs were enough for the next one to fail with EMFILE.
    let many: Vec<File> = (0..1100).map(|_| File::open("/dev/null").expect("the test's own limit")).collect();
    let done = Bench::new().run(&Order::new(&["/bin/sh", "-c", "ulimit -n"]));
    assert_eq!((done.code, done.stdout.trim()), (Some(0), "1024"));
    drop(many);
}

#[test]
fn a_working_directory_that_leads_to_the_host_is_refused() {
    needs!(is_root(), "needs root");
    for bench in Bench::everywhere() {
        // A descriptor that this process holds open, as a daemon that leaks would.
        let host = fs::File::open("/etc").unwrap();
        for fd in 0..=host.as_raw_fd() {
            let order = Order { work_dir: format!("/proc/self/fd/{fd}"), ..Order::new(&["pwd"]) };
            let done = bench.run(&order);
            assert_eq!(done.record.unwrap().begun, Begun::NotEntered, "/proc/self/fd/{fd}: {}", done.stdout);
        }
    }
}

#[test]
fn no_process_of_a_job_has_a_privilege() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let payload = bench.shell("cat /proc/self/status").stdout;
    // The job cannot read the files of its first process; the host sees its own ids.
    let running = bench.start(&Order::new(&["sleep", "1000"]));
    let init = fs::read_to_string(format!("/proc/{}/status", running.started.init.pid)).unwrap();
    pidfd_send_signal(&running.started.init.pidfd, Signal::KILL).unwrap();
    running.wait();
    for (status, id) in [(payload, 0), (init, bench.ground.uid)] {
        let status = pairs(&status);
        let none = "0000000000000000";
        let ids = [id; 4].map(|id| id.to_string()).join("\t");
        expect(
            &status,
            &[
                ("CapInh", none),
                ("CapPrm", none),
                ("CapEff", none),
                ("CapBnd", none),
                ("CapAmb", none),
                ("NoNewPrivs", "1"),
                ("Seccomp", "2"),
                ("Seccomp_filters", "1"),
                ("Groups", ""),
                ("Uid", &ids),
                ("Gid", &ids),
            ],
        );
    }
    let map = bench.shell("cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups").stdout;
    let words: Vec<String> = map.split_whitespace().map(str::to_owned).collect();
    let id = bench.ground.uid.to_string();
    assert_eq!(words, ["0", &id, "1", "0", &id, "1", "deny"]);
    let done = bench.shell("cp /usr/bin/id /work/x; chmod 6755 /work/x; /work/x -u; for p in /usr/bin/su /usr/bin/passwd; do test ! -e $p || ls -l $p; done");
    assert!(done.stdout.starts_with("0\n"), "{done:?}");
}

#[test]
fn program_has_its_own_session_default_signals_and_known_umask() {
    needs!(is_root(), "needs root");
    expect(&probe(&Bench::new(), "signals"), &[("not default", ""), ("blocked", "")]);
    expect(
        &probe(&Bench::new(), "self"),
        &[
            ("umask", "022"),
            ("pid", "2"),
            ("parent", "1"),
            ("leads its session", "yes"),
            ("leads its group", "yes"),
            ("terminal", "ENXIO"),
            ("cwd", "/work"),
            ("ids", "0 0 0 0"),
            ("nice", "0"),
            ("groups", "0"),
            ("become another user", "EINVAL"),
            ("become another group", "EINVAL"),
            ("take a group", "EPERM"),
            ("be nicer", "EACCES"),
        ],
    );
}

#[test]
fn resources_have_the_limits_of_the_plan() {
    needs!(is_root(), "needs root");
    let [limits, of_container] =
        Profile::ALL.map(|profile| Bench::of(profile).shell("cat /proc/self/limits").stdout);
    assert_eq!(limits, of_container);
    let line = |name: &str| -> (String, u64) {
        let line = limits.lines().find(|l| l.starts_with(name)).unwrap();
        let words: Vec<&str> = line[name.len()..].split_whitespace().collect();
        (words[0].to_owned(), words[1].parse().unwrap_or(u64::MAX))
    };
    for (name, soft, most) in [
        ("Max core file size", "1", 1),
        // One more than the job may have: pids.max refuses first and is counted, where there is one.
        ("Max processes", "65", 65),
        ("Max open files", "1024", 1 << 20),
        ("Max locked memory", "65536", 65_536),
        ("Max pending signals", "4096", 4096),
        ("Max msgqueue size", "819200", 819_200),
        ("Max nice priority", "0", 0),
        ("Max realtime priority", "0", 0),
        ("Max realtime timeout", "500000", 500_000),
    ] {
        let (is, hard) = line(name);
        // A limit can only be lower where the host's own is.
        assert!(is.parse::<u64>().unwrap() <= soft.parse().unwrap() && hard <= most, "{name}: {is} {hard}");
    }
    assert_eq!(line("Max open files").0, "1024");
}

#[test]
fn devices_work_and_everything_around_them_is_closed() {
    needs!(is_root(), "needs root");
    for bench in Bench::everywhere() {
        let got = probe(&bench, "devices");
        expect(
            &got,
            &[
                ("write to null", "5"),
                ("read from null", "0"),
                ("read from zero", "5"),
                ("write to full", "ENOSPC"),
                ("read from random", "5"),
                ("read from urandom", "5"),
                ("a new terminal", "0"),
                ("write to shm", "5"),
                ("write to tmp", "5"),
                ("write to work", "5"),
                ("make a file in dev", "EROFS"),
                ("remove a device", "EROFS"),
                ("change a device's mode", "EROFS"),
                ("kernel messages", "ENOENT"),
                ("memory", "ENOENT"),
                ("firmware", "ENOENT"),
            ],
        );
        for place in ["make a file in the root", "make a file in etc", "change passwd"] {
            let written = got[place].parse::<u32>().is_ok();
            assert_eq!(written, bench.image.is_some(), "{place}: {got:?}");
            assert!(written || got[place] == "EROFS", "{place}: {got:?}");
        }
    }
}

#[test]
fn outputs_may_be_reopened_for_writing_and_never_for_reading() {
    needs!(is_root(), "needs root");
    for bench in Bench::everywhere() {
        let done = bench.run(&Order::program("probe", &["outputs"]));
        assert_eq!(done.stderr, "reopened\n");
        expect(
            &answers(&done),
            &[
                ("write to reopened stderr", "9"),
                ("write to reopened stdout", "0"),
                ("read stdout", "EACCES"),
                ("read and write stdout", "EACCES"),
                ("read stdin", "0"),
                ("write stdin", "EBADF"),
            ],
        );
    }
}

#[test]
fn payload_cannot_reach_the_first_process_or_the_host() {
    needs!(is_root(), "needs root");
    for bench in Bench::everywhere() {
        expect(
            &probe(&bench, "init"),
            &[
                // Sent and dropped: the probe's next answers are the proof.
                ("kill init", "0"),
                ("stop init", "0"),
                ("kill init by pidfd", "0"),
                ("seize init", "EPERM"),
                ("attach to init", "EPERM"),
                ("read init's memory", "EPERM"),
                ("open init's memory", "EPERM"),
                ("follow init's descriptors", "EPERM"),
                ("open init's output", "EPERM"),
                ("open init's program", "EPERM"),
                ("write init's program", "EPERM"),
                ("open init's root", "EPERM"),
                ("open init's environment", "EPERM"),
                ("open init's namespaces", "EPERM"),
                ("init's limits", "EPERM"),
                ("signal somebody else", "ESRCH"),
                ("a process of the host", "ESRCH"),
            ],
        );
    }
}

#[test]
fn job_has_its_own_host_name_and_loopback_and_nothing_else() {
    needs!(is_root(), "needs root");
    for bench in Bench::everywhere() {
        let done = bench.run(&Order {
            hostname: "job-1234".into(),
            ..Order::new(&[
                "sh",
                "-c",
                "hostname; cat /etc/hostname; tail -n +3 /proc/net/dev | cut -d: -f1; tail -n +2 /proc/net/route",
            ])
        });
        let words: Vec<&str> = done.stdout.split_whitespace().collect();
        assert_eq!(words, ["job-1234", "job-1234", "lo"], "{done:?}");
        let python = "import socket as s; a=s.socket(); a.bind(('127.0.0.1',0)); a.listen(); s.create_connection(a.getsockname()); print('up')";
        assert_eq!(bench.run(&Order::new(&["python3", "-c", python])).stdout, "up\n");
    }
}

#[test]
fn job_gets_its_given_environment_and_nothing_of_the_daemons() {
    needs!(is_root(), "needs root");
    for bench in Bench::everywhere() {
        let done = bench.run(&Order::new(&["cat", "/proc/self/environ"]));
        assert_eq!(done.stdout, "PATH=/usr/bin:/bin\0A=b\0");
    }
}
