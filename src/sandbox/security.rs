//! The isolation of a running job, read back from the kernel and compared with the promise.
//!
//! Everything comes from `/proc` as any process of the host sees it; nothing comes from the job, which could lie.
//! The directory is an argument, so that tests can put any process before the comparison.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::capability::Capabilities;
use super::create::hard_limits;
use super::plan::{capabilities, rlimits};
use super::rootfs::DEVICES as NODES;
use crate::job::{Layer, Profile, User, VolumeUse};

/// The promises for one job, beside those that hold for all jobs.
#[derive(Debug, Clone)]
pub struct Promise {
    /// The host id that it runs as, or the first of them.
    pub host_id: u32,
    /// The user that it is inside.
    pub user: User,
    /// The profile of its walls.
    pub profile: Profile,
    /// A network namespace of its own, or the host's.
    pub own_network: bool,
    /// Most processes and threads of the job.
    pub pids: u32,
    /// The volumes that it has.
    pub volumes: Vec<VolumeUse>,
    /// Whether it may write its root.
    pub writable: bool,
    /// The names of device nodes in its /dev, beside those of every job.
    pub devices: Vec<String>,
}

/// Processes of a job that are looked at; the payload always is.
const MOST: usize = 256;
/// The payload's number inside: joblet-init is 1 and starts nothing else.
const PAYLOAD: &str = "2";

/// Rows of `/proc/PID/limits` (proc_pid_limits(5)) for the limits of the plan.
const ROWS: [(&str, &str); 9] = [
    ("RLIMIT_NOFILE", "Max open files"),
    ("RLIMIT_CORE", "Max core file size"),
    ("RLIMIT_NPROC", "Max processes"),
    ("RLIMIT_MEMLOCK", "Max locked memory"),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size"),
    ("RLIMIT_SIGPENDING", "Max pending signals"),
    ("RLIMIT_NICE", "Max nice priority"),
    ("RLIMIT_RTPRIO", "Max realtime priority"),
    ("RLIMIT_RTTIME", "Max realtime timeout"),
];

/// Mount points with attributes of their own. All others show the host and are read-only, without setuid programs
/// and without devices.
const OWN_MOUNTS: [(&str, &[&str]); 6] = [
    ("/work", &["nosuid", "nodev"]),
    ("/tmp", &["nosuid", "nodev"]),
    ("/run", &["nosuid", "nodev"]),
    ("/proc", &["nosuid", "nodev", "noexec"]),
    ("/dev/shm", &["nosuid", "nodev", "noexec"]),
    ("/dev/pts", &["nosuid", "noexec"]),
];
/// A volume that is not read-only, and a root.
const WRITTEN: &[&str] = &["rw", "nosuid", "nodev"];
const OF_THE_HOST: &[&str] = &["ro", "nosuid", "nodev"];
/// /dev with its six harmless devices.
const DEVICES: &[&str] = &["ro", "nosuid", "noexec"];
/// One of these devices, or an empty directory, over what is hidden of /proc.
const HIDDEN: &[&str] = &["ro", "nosuid"];

/// The layers of the payload among `processes` (numbers on the host, those of the job's group), and one for all of
/// them together.
///
/// # Errors
/// The payload is not there, or goes while it is looked at.
pub fn read_back(proc: &Path, processes: &[i32], promise: &Promise) -> io::Result<Vec<Layer>> {
    let payload = processes.iter().find(|pid| {
        let status = fs::read_to_string(proc.join(format!("{pid}/status"))).unwrap_or_default();
        field(&status, "NSpid").split_whitespace().last() == Some(PAYLOAD)
    });
    let payload = payload.ok_or(io::ErrorKind::NotFound)?;
    let mut layers = of_process(proc, *payload, promise)?;
    layers.push(together(proc, processes, promise.profile));
    Ok(layers)
}

/// The layers around one process.
///
/// # Errors
/// It is not there, or goes while it is looked at.
pub fn of_process(proc: &Path, pid: i32, promise: &Promise) -> io::Result<Vec<Layer>> {
    let read = |file: &str| fs::read_to_string(proc.join(format!("{pid}/{file}")));
    let mut layers = namespaces(proc, pid, promise)?;
    let status = read("status")?;
    layers.extend(identity(&status, &read("uid_map")?, &read("gid_map")?, promise));
    layers.extend(privileges(&status, promise.profile));
    layers.extend(limits(&read("limits")?, promise.pids, &hard_limits()));
    layers.extend(mounts(&read("mountinfo")?, &promise.volumes, promise.writable));
    layers.push(devices(&proc.join(format!("{pid}/root/dev")), &promise.devices));
    Ok(layers)
}

fn namespaces(proc: &Path, pid: i32, promise: &Promise) -> io::Result<Vec<Layer>> {
    let of = |who: &str, kind: &str| fs::read_link(proc.join(format!("{who}/ns/{kind}")));
    let layer = |kind: &str| {
        let (host, job) = (of("self", kind)?, of(&pid.to_string(), kind)?);
        let (host, job) = (host.display().to_string(), job.display().to_string());
        let name = format!("namespace.{kind}");
        Ok(if kind == "net" && !promise.own_network {
            Layer::new(name, format!("the host's, {host}"), &job, job == host)
        } else {
            Layer::new(name, format!("not the host's, {host}"), &job, job != host)
        })
    };
    ["user", "pid", "mnt", "ipc", "uts", "cgroup", "net"].into_iter().map(layer).collect()
}

/// The text behind `name:` in a status file, trimmed; empty where there is none.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.map(str::trim).unwrap_or_default()
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn identity(status: &str, uid_map: &str, gid_map: &str, promise: &Promise) -> Vec<Layer> {
    let id = promise.host_id;
    let same = |name: &str, expected: String, seen: String| {
        let kept = seen == expected;
        Layer::new(name, expected, if seen.is_empty() { "none".to_owned() } else { seen }, kept)
    };
    let map = || match promise.profile {
        Profile::Strict => format!("{} {id} 1", promise.user.id()),
        Profile::Container => format!("0 {id} {}", promise.profile.ids()),
    };
    let [uid, gid, groups] = ["Uid", "Gid", "Groups"].map(|name| words(field(status, name)));
    let [uid, gid, groups] = match promise.profile {
        Profile::Strict => {
            // Real, effective, saved and of the file system.
            let four = || format!("{id} {id} {id} {id}");
            let none = if groups.is_empty() { "none" } else { &groups };
            [
                same("ids.uid", four(), uid),
                same("ids.gid", four(), gid),
                Layer::new("ids.groups", "none", none, groups.is_empty()),
            ]
        }
        // A job of many ids changes between them.
        Profile::Container => {
            let ids = id..id + promise.profile.ids();
            let within = |name: &str, seen: String, least: usize| {
                let mut numbers = seen.split(' ').filter(|word| !word.is_empty());
                let kept = numbers.clone().count() >= least
                    && numbers.all(|word| word.parse().is_ok_and(|number: u32| ids.contains(&number)));
                let seen = if seen.is_empty() { "none".to_owned() } else { seen };
                Layer::new(name, format!("within {} to {}", ids.start, ids.end - 1), seen, kept)
            };
            [within("ids.uid", uid, 4), within("ids.gid", gid, 4), within("ids.groups", groups, 0)]
        }
    };
    vec![
        uid,
        gid,
        groups,
        same("ids.uid_map", map(), words(uid_map)),
        same("ids.gid_map", map(), words(gid_map)),
    ]
}

/// The names of capability sets that are not empty.
fn held_sets(status: &str) -> Vec<(&'static str, &str)> {
    let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].into_iter();
    let sets = sets.map(|set| (set, field(status, set)));
    sets.filter(|(_, held)| u64::from_str_radix(held, 16) != Ok(0)).collect()
}

/// Whether no set has a capability beyond these. Each process may give up what it has.
fn has_only(status: &str, most: Capabilities) -> bool {
    let within = |held: &str| u64::from_str_radix(held, 16).is_ok_and(|bits| bits & !most.bits() == 0);
    held_sets(status).into_iter().all(|(_, held)| within(held))
}

fn privileges(status: &str, profile: Profile) -> Vec<Layer> {
    let held: Vec<String> =
        held_sets(status).into_iter().map(|(set, held)| format!("{set} {held}")).collect();
    let seen = if held.is_empty() { "none".to_owned() } else { held.join(", ") };
    let most = capabilities(profile);
    let expected = match profile {
        Profile::Strict => "none in any set".to_owned(),
        Profile::Container => format!("in each set at most {:016x} ({})", most.bits(), most.names()),
    };
    let (mode, filters) = (field(status, "Seccomp"), field(status, "Seccomp_filters"));
    // The job may add filters of its own; before Linux 5.9 the kernel does not show the number.
    let at_least_one = filters.is_empty() || filters.parse::<u32>().is_ok_and(|count| count > 0);
    let no_new = field(status, "NoNewPrivs");
    vec![
        Layer::new("capabilities", expected, seen, has_only(status, most)),
        Layer::new("no_new_privs", "1", no_new, no_new == "1"),
        Layer::new(
            "seccomp",
            "mode 2 (filter), 1 filter or more",
            format!("mode {mode}, {filters} filters"),
            mode == "2" && at_least_one,
        ),
    ]
}

/// The payload may lower its limits, but not raise them.
fn limits(text: &str, pids: u32, ceilings: &[u64; 16]) -> Vec<Layer> {
    let number = |word: &str| if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() };
    let shown = |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
    let layer = |(_, name, soft, hard): (u32, &'static str, u64, u64)| {
        let row = ROWS.iter().find(|(of, _)| *of == name).map_or("", |(_, row)| *row);
        let line = text.lines().find_map(|line| line.strip_prefix(row)).unwrap_or_default();
        let mut values = line.split_whitespace().map(number);
        let seen = values.next().flatten().zip(values.next().flatten());
        let expected = format!("{}/{} or less", shown(soft), shown(hard));
        match seen {
            Some((now, most)) => {
                // Soft limits are the job's to raise up to the hard ones (setrlimit(2)).
                let kept = most <= hard && now <= hard;
                Layer::new(name, expected, format!("{}/{}", shown(now), shown(most)), kept)
            }
            None => Layer::new(name, expected, "not told", false),
        }
    };
    rlimits(u64::from(pids), ceilings).map(layer).collect()
}

/// One layer for each mount, and one for each that should be there and is not.
fn mounts(mountinfo: &str, volumes: &[VolumeUse], writable: bool) -> Vec<Layer> {
    let written = volumes.iter().filter(|used| !used.read_only).map(VolumeUse::place);
    let written: Vec<String> = written.chain(writable.then(|| "/".to_owned())).collect();
    let mut layers: Vec<Layer> = mountinfo.lines().filter_map(|line| mount(line, &written)).collect();
    let own = OWN_MOUNTS.iter().map(|(at, _)| (*at).to_owned()).chain(["/".to_owned()]);
    for at in own.chain(volumes.iter().map(VolumeUse::place)) {
        let name = format!("mount {at}");
        if !layers.iter().any(|layer| layer.name == name) {
            layers.push(Layer::new(name, "a mount of the job's own", "not mounted", false));
        }
    }
    layers
}

/// `id parent major:minor root point options [tags...] - type source super-options` (proc_pid_mountinfo(5))
/// `written`: the places of volumes that the job may write, and `/` where it may write its root.
fn mount(line: &str, written: &[String]) -> Option<Layer> {
    let (before, after) = line.split_once(" - ")?;
    let fields: Vec<&str> = before.split(' ').collect();
    let (at, options, tags) = (*fields.get(4)?, *fields.get(5)?, fields.get(6..)?);
    let kind = after.split(' ').next().unwrap_or_default();
    let wanted = match OWN_MOUNTS.iter().find(|(own, _)| *own == at) {
        Some((_, wanted)) => wanted,
        None if written.iter().any(|place| place == at) => WRITTEN,
        None if at == "/dev" => DEVICES,
        None if kind == "overlay" && at.starts_with("/proc/") => HIDDEN,
        None => OF_THE_HOST,
    };
    let has = |option: &&str| options.split(',').any(|word| word == *option);
    // A mount with a tag passes changes on, to the job or out of it.
    let private = tags.iter().all(|tag| tag.is_empty());
    let seen = if private { options.to_owned() } else { format!("{options} {}", tags.join(" ")) };
    let kept = private && wanted.iter().all(has);
    Some(Layer::new(format!("mount {at}"), format!("{}, private", wanted.join(",")), seen, kept))
}

/// Most names of /dev that are looked at; a job cannot make any.
const MOST_NODES: usize = 1024;

/// One layer that says whether the job has its device nodes and no others. A job that may write its root can put files of
/// its own there, also in the place of a node, and no devices.
fn devices(dev: &Path, added: &[String]) -> Layer {
    let mut expected: Vec<String> = NODES.iter().map(|(name, ..)| (*name).to_owned()).collect();
    expected.extend_from_slice(added);
    expected.sort_unstable();
    let name = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        let kind = entry.file_type()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let node = kind.is_char_device() || kind.is_block_device() || expected.contains(&name);
        Ok(node.then_some(name))
    };
    let found = fs::read_dir(dev)
        .and_then(|entries| entries.take(MOST_NODES).map(name).collect::<io::Result<Vec<Option<String>>>>());
    match found {
        Err(why) => Layer::new("devices", expected.join(" "), why.to_string(), false),
        Ok(found) => {
            let mut seen: Vec<String> = found.into_iter().flatten().collect();
            seen.sort_unstable();
            let kept = seen == expected;
            Layer::new("devices", expected.join(" "), seen.join(" "), kept)
        }
    }
}

/// One layer that says whether every process of the job has the same isolation.
fn together(proc: &Path, processes: &[i32], profile: Profile) -> Layer {
    let own = fs::read_link(proc.join("self/ns/user")).ok();
    let weak = |pid: &&i32| {
        let Ok(status) = fs::read_to_string(proc.join(format!("{pid}/status"))) else { return false };
        let user = fs::read_link(proc.join(format!("{pid}/ns/user"))).ok();
        // A process that is ending has given its namespaces back.
        let outside = user.is_some() && user == own;
        outside
            || !has_only(&status, capabilities(profile))
            || field(&status, "Seccomp") != "2"
            || field(&status, "NoNewPrivs") != "1"
    };
    let looked: Vec<_> = processes.iter().take(MOST).collect();
    let weak: Vec<String> = looked.iter().copied().filter(weak).map(ToString::to_string).collect();
    let seen = match weak.as_slice() {
        [] if looked.len() < processes.len() => {
            format!("{} of {} processes looked at", looked.len(), processes.len())
        }
        [] => format!("all {}", looked.len()),
        weak => format!("not so: {}", weak.join(" ")),
    };
    let expected = match profile {
        Profile::Strict => "no capability, seccomp, no_new_privs and the user namespace in every process",
        Profile::Container => {
            "the profile's capabilities at most, seccomp, no_new_privs and the user namespace in every process"
        }
    };
    Layer::new("processes", expected, seen, weak.is_empty())
}

#[cfg(test)]
mod tests {
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
        devices: Vec::new(),
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
            assert_eq!(
                broken(&proc_with(STATUS, LIMITS, MOUNTS, kind), PROMISE),
                [format!("namespace.{kind}")]
            );
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
        for name in ["namespace.pid", "namespace.mnt", "namespace.user", "ids.uid", "ids.uid_map", "mount /"]
        {
            assert!(!kept(name), "{name}");
        }
        assert!(read_back(Path::new("/proc"), &[me], &PROMISE).is_err(), "it is no payload");
    }
}
