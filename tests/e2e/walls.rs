//! The isolation, seen from inside. One job checks as much as it can, because a start costs a millisecond and a Python thirty;
//! the state of the host is compared before and after.

use crate::helper::profile::has_containers;
use crate::helper::programs::{self, job};
use crate::helper::vessel::has_builds;
use crate::helper::{TestDaemon, residue};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

/// Answers that mean "no" to reading, writing or creating.
const DENIED: &[&str] = &[
    "EPERM", "EACCES", "EROFS", "ENOENT", "ENXIO", "ENOTDIR", "EISDIR", "EIO", "EINVAL", "ETXTBSY", "ENODEV",
];

fn look_around(d: &TestDaemon) -> Value {
    let port = format!("DAEMON_PORT={}", d.port());
    let probe = job("inside.py").display().to_string();
    let text = d.run(["-e", &port, "--upload", &probe, "/usr/bin/python3", "inside.py"]).ok();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The state of the host that must be the same before and after: settings, accounts, our programs.
fn canaries() -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/domainname",
        "/proc/sys/kernel/panic",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/net/ipv4/ip_forward",
        "/etc/passwd",
        "/etc/shadow",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/usr/bin/env",
        "/bin/sh",
        "/proc/swaps",
        crate::helper::daemon::JOBLET,
        crate::helper::daemon::RNX,
    ] {
        found.insert(path.to_owned(), fs::read(path).unwrap_or_default());
    }
    found.insert("mounts".to_owned(), residue::mounts().join("\n").into_bytes());
    found
}

fn denied(found: &Value, group: &str, except: &[&str]) {
    let answers = found[group].as_object().unwrap_or_else(|| panic!("no {group}"));
    for (path, answer) in answers {
        if !except.contains(&path.as_str()) {
            let word = answer.as_str().unwrap_or("something");
            assert!(DENIED.contains(&word), "{group} {path} gave {answer}");
        }
    }
}

#[test]
pub(super) fn files_and_devices_of_the_host_cannot_be_read_written_or_made() {
    let before = canaries();
    let d = TestDaemon::start();
    let found = look_around(&d);
    // A masked path is an empty file or an empty directory.
    for (path, answer) in found["read"].as_object().unwrap() {
        let word = answer.as_str().unwrap();
        assert!(word.is_empty() || DENIED.contains(&word), "read {path} gave {word:?}");
    }
    for (path, answer) in found["list"].as_object().unwrap() {
        let empty = answer.as_array().is_some_and(Vec::is_empty);
        // These are the job's own: links, its tmpfs, a copy of the topology.
        let own = ["/var", "/run", "/sys"].contains(&path.as_str()) || (path == "/opt" && has_builds());
        assert!(
            empty || own || answer.as_str().is_some_and(|w| DENIED.contains(&w)),
            "list {path} gave {answer}"
        );
    }
    let symbols = found["kallsyms"].as_str().unwrap();
    assert!(symbols.lines().all(|l| l.starts_with("0000000000000000") || DENIED.contains(&l)), "{symbols}");
    // A job may make itself a likelier victim of the OOM killer.
    denied(&found, "write", &["/proc/self/oom_score_adj"]);
    let writable = ["/tmp", "/work", "/dev/shm"];
    denied(&found, "create", &writable);
    for path in writable {
        assert_eq!(found["create"][path], "CREATED", "{path} belongs to the job");
    }
    d.stop();
    assert_eq!(canaries(), before, "the host has changed");
}

#[test]
pub(super) fn the_root_holds_no_mount_of_the_host_and_nothing_propagates() {
    let d = TestDaemon::start();
    let found = look_around(&d);
    let root: Vec<&str> = found["root"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(root.len() < 30, "{root:?}");
    for name in ["root", "media", "srv", "boot", "opt", "lost+found", ".oldroot"] {
        // A build has its runtime there.
        assert!(!root.contains(&name) || (name == "opt" && has_builds()), "/{name} of the host: {root:?}");
    }
    // Every mount is private, and no file on it may give rights or be a device (except the nodes of /dev).
    for line in found["mounts"].as_array().unwrap().iter().filter_map(Value::as_str) {
        assert!(!line.contains("shared:") && !line.contains("master:"), "{line}");
        let (left, _) = line.split_once(" - ").unwrap();
        let fields: Vec<&str> = left.split(' ').collect();
        let (place, options) = (fields[4], fields[5]);
        assert!(options.contains("nosuid"), "{line}");
        // Harmless nodes: in /dev, and the null device that masks files of /proc.
        let node = place.starts_with("/dev") || fields[3] == "/root/dev/null";
        assert!(options.contains("nodev") || node, "{line}");
        if ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"].iter().any(|host| place.starts_with(host))
            || place == "/"
        {
            assert!(options.split(',').any(|o| o == "ro"), "{line}");
        }
    }
}

#[test]
pub(super) fn a_job_has_no_capability_and_cannot_gain_one() {
    let d = TestDaemon::start();
    let found = look_around(&d);
    let (none, one, filter) = ("0000000000000000", "1", "2");
    let promised = [
        ("CapInh", none),
        ("CapPrm", none),
        ("CapEff", none),
        ("CapBnd", none),
        ("CapAmb", none),
        ("NoNewPrivs", one),
        ("Seccomp", filter),
    ];
    for (name, value) in promised {
        assert_eq!(found["status"][name].as_str().unwrap().trim(), value, "{name}");
    }
    // Its joblet-init, and those of warm sandboxes, as the host sees them.
    let job = d.submit(["sleep", "1000"]);
    let processes = residue::processes_of(&d.uids());
    for process in processes.iter().filter(|process| process.ends_with(" joblet-init")) {
        let pid = process.split(' ').next().unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        for (name, value) in promised {
            assert!(status.contains(&format!("{name}:\t{value}\n")), "{name} of joblet-init: {status}");
        }
    }
    d.rnx(["job", "stop", &job]).ok();
    assert_eq!(found["ids"], serde_json::json!([0, 0, 0, 0]));
    let map: Vec<u32> =
        found["uid_map"].as_array().unwrap().iter().map(|w| w.as_str().unwrap().parse().unwrap()).collect();
    assert_eq!((map[0], map[2], map.len()), (0, 1, 3), "one id is mapped: {map:?}");
    assert!(d.uids().contains(&map[1]), "the id is leased: {map:?} from {:?}", d.uids());
    // A program with the setuid bit gives no rights, the host's or our own.
    let script =
        "cp /usr/bin/id i; chmod 6755 i; ./i -u; grep CapEff /proc/self/status; su nobody -c id; echo over";
    let text = d.run(["sh", "-c", script]).ok();
    assert!(text.starts_with("0\nCapEff:\t0000000000000000\n") && text.ends_with("over\n"), "{text}");
    assert!(!text.contains("nobody)"), "{text}");
}

#[test]
pub(super) fn only_three_streams_are_open_and_namespaces_are_the_jobs_own() {
    let d = TestDaemon::start();
    // The daemon holds the pipes and files of many jobs meanwhile.
    let sleepers: Vec<String> = (0..40).map(|_| d.submit(["sleep", "1000"])).collect();
    let found = look_around(&d);
    let open: Vec<&String> = found["descriptors"].as_object().unwrap().keys().collect();
    assert_eq!(open, ["0", "1", "2"], "{}", found["descriptors"]);
    assert_eq!(found["cwd"], "/work");
    for (kind, theirs) in found["namespaces"].as_object().unwrap() {
        let ours = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(theirs.as_str(), ours.to_str(), "{kind} namespace is the host's");
    }
    let id = found["environment"]["JOB_ID"].as_str().unwrap();
    assert_eq!(found["hostname"], format!("job-{}", &id[..8]));
    assert_eq!(found["cgroup"][0].as_str().unwrap().rsplit(':').next(), Some("/"), "{}", found["cgroup"]);
    let processes = found["processes"].as_array().unwrap();
    assert!(processes.len() <= 3, "{processes:?}");
    for sleeper in sleepers {
        d.rnx(["job", "stop", &sleeper]).ok();
    }
}

#[test]
pub(super) fn job_without_a_network_has_only_loopback_and_reaches_no_one() {
    let d = TestDaemon::start();
    let listener = {
        use std::os::linux::net::SocketAddrExt;
        let name = std::os::unix::net::SocketAddr::from_abstract_name(b"joblet-test-abstract").unwrap();
        // Another test of this run may hold the name: the job must not reach it either way.
        std::os::unix::net::UnixListener::bind_addr(&name).ok()
    };
    let found = look_around(&d);
    drop(listener);
    assert_eq!(found["interfaces"], serde_json::json!(["lo"]));
    assert_eq!(found["routes"], serde_json::json!([]));
    assert_eq!(found["loopback"], "UP");
    for (whom, answer) in found["connect"].as_object().unwrap() {
        let word = answer.as_str().unwrap();
        assert!(
            ["ECONNREFUSED", "ENETUNREACH", "EADDRNOTAVAIL", "EINVAL", "EHOSTUNREACH", "EPERM", "EACCES"]
                .contains(&word),
            "{whom}: {word}"
        );
    }
}

#[test]
pub(super) fn forbidden_system_calls_answer_eperm_or_enosys() {
    let before = canaries();
    let d = TestDaemon::start();
    let text = d.run(["--upload", programs::c("syscalls").to_str().unwrap(), "./syscalls"]).ok();
    let answers: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once(' ')).collect();
    assert!(answers.len() > 85, "{text}");
    let mut wrong = Vec::new();
    for (name, answer) in &answers {
        let fine = match *name {
            // glibc must fall back to clone, whose flags a filter can check.
            "clone3_user" => *answer == "ENOSYS",
            // Refused by the kernel itself: a foreign object, an id that is not mapped, a missing family.
            "int80_getpid" | "x32_getpid" => ["ENOSYS", "EPERM", "KILLED 31", "KILLED 11"].contains(answer),
            // Containers have more: users of their own, and roots below theirs.
            "setuid_other" | "setgid_other" | "chroot" if has_containers() => *answer == "OK",
            "setuid_other" | "setgid_other" => ["EINVAL", "EPERM"].contains(answer),
            name if name.starts_with("socket_") => {
                ["EPERM", "EACCES", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "ENOSYS"]
                    .contains(answer)
            }
            // The path is missing, or the call behind it is refused.
            name if name.starts_with("setns_") => ["EPERM", "EACCES", "ENOENT", "ENOSYS"].contains(answer),
            "ptrace_attach_init"
            | "ptrace_seize_init"
            | "process_vm_readv_init"
            | "move_pages_init"
            | "kcmp_init" => ["EPERM", "EACCES", "ESRCH", "ENOSYS"].contains(answer),
            "tiocsti" | "tioclinux" => ["EPERM", "EIO", "ENOTTY", "EBADF"].contains(answer),
            _ => ["EPERM", "ENOSYS", "EACCES"].contains(answer),
        };
        if !fine {
            wrong.push(format!("{name} {answer}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    d.stop();
    assert_eq!(canaries(), before, "the host has changed");
}

#[test]
pub(super) fn running_programs_cannot_be_overwritten() {
    let before = canaries();
    let d = TestDaemon::start();
    let text = d.run(["--upload", programs::c("overwrite").to_str().unwrap(), "./overwrite"]).ok();
    for word in text.lines() {
        assert!(["EACCES", "EPERM", "ETXTBSY", "EROFS", "ENOENT", "ESRCH"].contains(&word), "{text}");
    }
    // The interpreter line of the CVE itself: at most our own init runs, which refuses. A build has a shell in between.
    fs::write(d.dir().join("x"), "#!/proc/self/exe\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(d.dir().join("x"), mode).unwrap();
    assert!(has_builds() || d.run(["--upload=x", "./x"]).code != 0);
    assert_eq!(d.run(["echo", "still here"]).ok(), "still here\n");
    d.stop();
    assert_eq!(canaries(), before, "the host has changed");
}

#[test]
fn working_directories_behind_proc_or_outside_are_refused() {
    let d = TestDaemon::start();
    let mut refused = vec![
        "/proc/1/root".to_owned(),
        "/proc/self/cwd".to_owned(),
        "../../etc".to_owned(),
        "/work/../proc".to_owned(),
    ];
    refused.extend((0..16).map(|n| format!("/proc/self/fd/{n}")));
    for place in refused {
        let out = d.run(["--workdir", &place, "pwd"]);
        assert!(!out.text().starts_with('/') || out.text() == "/work/etc\n", "{place} gave {}", out.text());
        assert_ne!(out.code, 0, "{place}");
    }
}

#[test]
pub(super) fn job_can_kill_no_process_but_its_own() {
    let d = TestDaemon::start();
    let neighbour = d.submit(["sleep", "1000"]);
    // All processes that can be named, and init itself.
    let script = "kill -STOP 1; kill -9 1; kill -9 -1; i=2; while [ $i -lt 3000 ]; do [ $i = $$ ] || kill -9 $i; i=$((i+1)); done 2>/dev/null; echo alive";
    assert_eq!(d.run(["bash", "-c", script]).ok(), "alive\n");
    assert_eq!(d.status(&neighbour)["status"], "RUNNING");
    d.rnx(["job", "stop", &neighbour]).ok();
}

#[test]
pub(super) fn classic_ways_out_of_a_root_lead_nowhere() {
    let d = TestDaemon::start();
    // Without chroot, ".." above the root stays in the root.
    let script = "cd / && cd ../../../.. && ls -d work && readlink /proc/1/root /proc/1/cwd; ls /proc/1/fd 2>&1 | head -1; exit 0";
    let text = d.run(["sh", "-c", script]).ok();
    assert!(text.starts_with("work\n") && !text.contains(d.dir().to_str().unwrap()), "{text}");
    // No key of the host, whatever the path. Lists of file types name the words within a line.
    let script = "find / -xdev -path /proc -prune -o -path /usr -prune -o -type f -print 2>/dev/null | xargs -r grep -lE '^-----BEGIN .*PRIVATE KEY' 2>/dev/null; echo over";
    assert_eq!(d.run(["sh", "-c", script]).text(), "over\n");
    // Calls that only restrict the job further are allowed.
    let script = "import ctypes; l = ctypes.CDLL(None); print(l.prctl(38, 1, 0, 0, 0), l.syscall(444, None, 0, 1) > 0)";
    assert_eq!(d.run(["/usr/bin/python3", "-c", script]).ok(), "0 True\n");
}

#[test]
fn nothing_of_a_job_is_visible_in_the_hosts_mount_table() {
    let before = residue::mounts();
    let d = TestDaemon::start();
    let id = d.submit(["sleep", "1000"]);
    assert_eq!(residue::mounts_below(d.dir()), Vec::<String>::new());
    assert_eq!(residue::mounts(), before);
    d.rnx(["job", "stop", &id]).ok();
}

/// The daemon gives a start priority over ordinary load, and the job must not keep it (fields of proc(5): policy 0 is
/// SCHED_OTHER, then neither the shell nor its children have priority).
#[test]
pub(super) fn a_job_is_scheduled_like_everybody() {
    let d = TestDaemon::start();
    let script = "for i in $(seq 50); do cut -d' ' -f41 /proc/self/stat /proc/$$/stat; done | sort | uniq -c";
    assert_eq!(d.run(["sh", "-c", script]).ok().split_whitespace().collect::<Vec<_>>(), ["100", "0"]);
}
