//! The profile `container`: what images expect works within the job's own ids, and nothing beyond them is in reach. The walls
//! that both profiles have are tested where they are (`walls.rs`, `calls.rs`).

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use joblet::job::{CONTAINER_IDS, Layer, Profile, User, Verdict};
use joblet::sandbox::capability::Capabilities;
use joblet::sandbox::security::{Promise, read_back};
use joblet::sandbox::{Credentials, RuntimeMount, RuntimeRoot};
use rustix::process::{Signal, pidfd_send_signal};

use crate::helper::programs::job;
use crate::helper::skip::is_root;
use crate::job::{Bench, Order, Running, image_with_programs};

fn order(arguments: &[&str]) -> Order {
    let mut order = Order::new(&[&["python3", "container.py"], arguments].concat());
    order.files.push(("container.py", fs::read(job("container.py")).unwrap(), 0o755));
    order
}

fn answers(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| line.split_once(": ").map(|(what, answer)| (what.to_owned(), answer.to_owned()));
    text.lines().filter_map(pair).collect()
}

/// The processes of a ground.
fn processes(bench: &Bench) -> Vec<i32> {
    let procs = fs::read_to_string(bench.ground.cgroup.join("cgroup.procs")).unwrap();
    procs.lines().map(|line| line.parse().unwrap()).collect()
}

/// A running job as the kernel shows it from outside.
pub(crate) fn layers_of(bench: &Bench) -> Vec<Layer> {
    let promise = Promise {
        host_id: bench.ground.uid,
        user: User::Root,
        profile: bench.ground.profile,
        own_network: true,
        pids: 64,
        volumes: Vec::new(),
        writable: bench.image.is_some(),
        opened: &[],
        devices: Vec::new(),
        gpus: Vec::new(),
    };
    read_back(Path::new("/proc"), &processes(bench), &promise).unwrap()
}

pub(crate) fn broken(bench: &Bench) -> Vec<Layer> {
    layers_of(bench).into_iter().filter(|layer| layer.verdict != Verdict::Kept).collect()
}

fn kill(running: Running) {
    pidfd_send_signal(&running.started.init.pidfd, Signal::KILL).unwrap();
    running.wait();
}

#[test]
fn container_does_what_images_expect_within_its_own_ids() {
    needs!(is_root(), "needs root");
    let bench = Bench::of(Profile::Container);
    let done = bench.run(&order(&["may"]));
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    let got = answers(&done.stdout);
    let (none, all) = ("0000000000000000", format!("{:016x}", Capabilities::CONTAINER.bits()));
    let without_chown = format!("{:016x}", Capabilities::CONTAINER.bits() & !1);
    for (what, wanted) in [
        ("capabilities", format!("{none} {all} {all} {all} {none}").as_str()),
        ("become a user", "(999, 999, 999) (998, 998, 998) [27, 65533]"),
        ("become the last", "(65535, 65535, 65535) (65535, 65535, 65535) []"),
        ("capabilities of a user", &format!("{none} {none}")),
        ("a user comes back", "EPERM"),
        ("give a file away", "999 998 600"),
        ("read it all the same", "x"),
        ("a user reads its own", "x"),
        ("another does not", "EACCES"),
        ("keep the bits of a group", "999 998 6755"),
        ("kill a user's process", "9"),
        ("a user kills root's", "EPERM"),
        ("a user kills another's", "EPERM"),
        ("serve port 80", "done"),
        ("another root", "['inner']"),
        ("drop a capability", "done"),
        ("bounding set", &without_chown),
    ] {
        assert_eq!(got.get(what).map(String::as_str), Some(wanted), "{what}: {done:?}");
    }
}

#[test]
fn strict_job_can_do_none_of_what_containers_can() {
    needs!(is_root(), "needs root");
    let done = Bench::new().run(&order(&["may"]));
    let got = answers(&done.stdout);
    for (what, wanted) in [
        ("capabilities", ["0000000000000000"; 5].join(" ").as_str()),
        ("become a user", "EPERM"),
        ("give a file away", "EPERM"),
    ] {
        assert_eq!(got.get(what).map(String::as_str), Some(wanted), "{what}: {done:?}");
    }
}

/// Files of the host that a job sees, each of another owner: root, the numbers that ids have inside, and other jobs.
fn canary(bench: &Bench) -> tempfile::TempDir {
    // Not below /tmp, where jobs have a file system of their own.
    let canary = tempfile::tempdir_in("/var/lib").unwrap();
    let dir = canary.path();
    let (uid, next) = (bench.ground.uid, bench.ground.uid + bench.ground.profile.ids());
    for (name, owner) in [("root", 0), ("user", 1000), ("before", uid - 1), ("behind", next)] {
        fs::write(dir.join(name), "secret").unwrap();
        chown(dir.join(name), Some(owner), Some(owner)).unwrap();
        fs::set_permissions(dir.join(name), Permissions::from_mode(0o600)).unwrap();
    }
    // The way to them is open.
    fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    canary
}

#[test]
fn no_profile_reaches_anything_beyond_the_ids_of_its_job() {
    needs!(is_root(), "needs root");
    for mut bench in Bench::everywhere() {
        let profile = bench.ground.profile;
        let canary = canary(&bench);
        let dir = canary.path();
        match &mut bench.image {
            Some(image) => image.mounts.push(mount(dir)),
            None => bench.show(dir),
        }
        let neighbour = Bench::of(profile);
        let victim = neighbour.start(&Order::new(&["sleep", "1000"]));
        let before = host();
        let (place, pid) = (dir.display().to_string(), victim.started.init.pid.to_string());
        let attack = bench.start(&order(&["may-not", &place, &pid]));
        let mut got = BTreeMap::new();
        loop {
            let line = attack.line();
            if line == "tried everything" {
                break;
            }
            got.extend(answers(&line));
        }
        // While it lasts: its walls stand, its neighbour's too, and the host is as it was.
        assert_eq!(broken(&bench), Vec::new());
        assert_eq!(broken(&neighbour), Vec::new());
        assert_eq!(host(), before);
        let words = ["root", "user", "before", "behind"].map(|name| {
            let file = fs::metadata(dir.join(name)).unwrap();
            assert_eq!(file.permissions().mode() & 0o7777, 0o600, "{name}");
            fs::read_to_string(dir.join(name)).unwrap()
        });
        assert_eq!(words, ["secret"; 4]);
        kill(attack);
        kill(victim);
        check_refusals(profile, &got);
    }
}

/// A directory of the host as a part of a runtime, at its own path.
fn mount(dir: &Path) -> RuntimeMount {
    let source = dir.strip_prefix("/").unwrap().to_owned();
    RuntimeMount { dir: "/".into(), source, target: dir.to_owned() }
}

/// The host's settings that the attack tries to change.
fn host() -> Vec<String> {
    let files = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/user/max_user_namespaces",
        "/etc/passwd",
    ];
    files.iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

fn check_refusals(profile: Profile, got: &BTreeMap<String, String>) {
    let none = "0000000000000000";
    for (what, wanted) in [
        ("processes of others", "[]"),
        ("the way out of a root", if profile.is_strict() { "EPERM" } else { "the job's root" }),
        (
            "a setuid program",
            &if profile.is_strict() { "EPERM".to_owned() } else { format!("['999', 'CapEff:', '{none}']") },
        ),
    ] {
        assert_eq!(got.get(what).map(String::as_str), Some(wanted), "{profile:?} {what}: {got:#?}");
    }
    let answered = ["processes of others", "the way out of a root", "a setuid program"];
    let refusals =
        ["EPERM", "EACCES", "EROFS", "EINVAL", "ESRCH", "EAFNOSUPPORT", "ENOENT", "ENOTTY", "EOPNOTSUPP"];
    let wrong: Vec<_> = got
        .iter()
        .filter(|(what, answer)| !answered.contains(&what.as_str()) && !refusals.contains(&answer.as_str()))
        .collect();
    assert!(wrong.is_empty(), "{profile:?}: {wrong:#?}");
    assert!(got.len() >= 45, "{got:#?}");
}

#[test]
fn processes_of_all_ids_of_a_job_count_together() {
    needs!(is_root(), "needs root");
    let bench = Bench::of(Profile::Container);
    let crowd = bench.run(&order(&["crowd"]));
    // 64 and one more, of which joblet-init and the program are two.
    assert_eq!(crowd.stdout, "EAGAIN 63\n", "{crowd:?}");
}

#[test]
fn payload_gets_the_ids_of_its_request_and_no_way_back() {
    needs!(is_root(), "needs root");
    let bench = Bench::of(Profile::Container);
    let credentials = Some(Credentials { uid: 999, gid: 998, groups: vec![5, 27] });
    let script = "id -u; id -g; id -G; grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status | tr -d '\\n'; echo; \
                  trap 'echo stopped; exit 3' TERM; sleep 1000 & echo ready; wait";
    let running = bench.start(&Order { credentials, ..Order::new(&["sh", "-c", script]) });
    let none = "0000000000000000";
    assert_eq!([running.line(), running.line(), running.line()], ["999", "998", "998 5 27"]);
    assert_eq!(running.line(), format!("CapPrm:\t{none}CapEff:\t{none}CapAmb:\t{none}"));
    running.hear("ready");
    assert_eq!(broken(&bench), Vec::new());
    // joblet-init, which is another user, passes the stop on, and ends what the payload leaves.
    pidfd_send_signal(&running.started.init.pidfd, Signal::TERM).unwrap();
    running.hear("stopped");
    let done = running.finish();
    assert_eq!(done.record.unwrap().wait_status, 3 << 8);
}

/// The root of an image, with files of root, of a user, and of no id that a job has; its programs are the host's.
fn image(dir: &Path) -> RuntimeRoot {
    for (name, owner, mode) in [("root", 0, 0o600), ("user", 999, 0o600), ("beyond", 70_000, 0o600)] {
        fs::write(dir.join(name), name).unwrap();
        chown(dir.join(name), Some(owner), Some(owner)).unwrap();
        fs::set_permissions(dir.join(name), Permissions::from_mode(mode)).unwrap();
    }
    image_with_programs(dir)
}

#[test]
fn owners_in_an_image_are_users_of_the_container_alone() {
    needs!(is_root(), "needs root");
    let layer = tempfile::tempdir().unwrap();
    let script = "cd /; for f in root user beyond; do stat -c '%n %u:%g' $f; cat $f; echo; chown 0 $f; done 2>&1; \
                  chmod 777 root 2>&1; setpriv --reuid=999 --regid=999 --clear-groups cat user root 2>&1; true";
    let root = image(layer.path());
    let [strict, container] = Profile::ALL.map(|profile| {
        let order = Order { root: Some(root.clone()), ..Order::new(&["sh", "-c", script]) };
        Bench::of(profile).run(&order).stdout
    });
    for line in [
        "root 0:0\nroot\n",
        "user 999:999\nuser\n",
        "beyond 65534:65534\n",
        "cat: beyond: Permission denied",
        "chmod: changing permissions of 'root': Read-only file system",
        "usercat: root: Permission denied",
    ] {
        assert!(container.contains(line), "{line}: {container}");
    }
    assert_eq!(container.matches("chown: changing ownership").count(), 3, "{container}");
    for line in ["root 65534:65534", "user 65534:65534", "cat: root: Permission denied"] {
        assert!(strict.contains(line), "{line}: {strict}");
    }
    assert_eq!(fs::metadata(layer.path().join("user")).unwrap().uid(), 999);
}

#[test]
fn ids_that_no_container_has_are_refused_before_the_program() {
    needs!(is_root(), "needs root");
    let bench = Bench::of(Profile::Container);
    let credentials = Some(Credentials { uid: CONTAINER_IDS, gid: 0, groups: Vec::new() });
    let done = bench.run(&Order { credentials, ..Order::new(&["true"]) });
    let record = done.record.unwrap();
    assert_eq!((record.wait_status, record.errno), (126 << 8, libc::EINVAL));
    // A strict joblet-init cannot change ids, whoever asks.
    let credentials = Some(Credentials { uid: 1, gid: 1, groups: Vec::new() });
    let done = Bench::new().run(&Order { credentials, ..Order::new(&["true"]) });
    assert_eq!(done.record.unwrap().errno, libc::EPERM);
}
