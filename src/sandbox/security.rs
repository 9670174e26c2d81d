//! The isolation of a running job, read back from the kernel and compared with the promise.
//!
//! Everything comes from `/proc` as any process of the host sees it; nothing comes from the job, which could lie.
//! The directory is an argument, so that tests can put any process before the comparison.

use std::fs;
use std::io;
use std::path::Path;

use super::capability::Capabilities;
use super::create::hard_limits;
use super::device_layers::{devices, listed};
use super::plan::{capabilities, rlimits};
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
    /// The places outside of /work that lead into it.
    pub opened: &'static [&'static str],
    /// The names of device nodes in its /dev, beside those of every job.
    pub devices: Vec<String>,
    /// The PCI addresses of its GPUs. /proc shows it no others.
    pub gpus: Vec<String>,
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
    layers.extend(mounts(&read("mountinfo")?, promise));
    layers.push(devices(&proc.join(format!("{pid}/root/dev")), &promise.devices));
    layers.extend(listed(&proc.join(format!("{pid}/root")), &promise.gpus));
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
fn mounts(mountinfo: &str, Promise { volumes, writable, opened, .. }: &Promise) -> Vec<Layer> {
    let written = volumes.iter().filter(|used| !used.read_only).map(VolumeUse::place);
    let opened = || opened.iter().map(|at| (*at).to_owned());
    let written: Vec<String> = written.chain(writable.then(|| "/".to_owned())).chain(opened()).collect();
    let lines: Vec<&str> = mountinfo.lines().collect();
    let place = |line: &str| line.split(' ').nth(4).map(str::to_owned);
    let layer = |(n, line): (usize, &&str)| {
        // The job sees the last of several mounts at one place.
        let is_seen = !lines[n + 1..].iter().any(|later| place(later) == place(line));
        mount(line, if is_seen { &written } else { &[] })
    };
    let mut layers: Vec<Layer> = lines.iter().enumerate().filter_map(layer).collect();
    let own = OWN_MOUNTS.iter().map(|(at, _)| (*at).to_owned()).chain(["/".to_owned()]).chain(opened());
    for at in own.chain(volumes.iter().map(VolumeUse::place)) {
        let name = format!("mount {at}");
        if !layers.iter().any(|layer| layer.name == name) {
            layers.push(Layer::new(name, "a mount of the job's own", "not mounted", false));
        }
    }
    layers
}

/// `id parent major:minor root point options [tags...] - type source super-options` (proc_pid_mountinfo(5))
/// `written`: the places of volumes that the job may write, `/` where it may write its root, and those that lead into /work.
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
#[path = "security_tests.rs"]
mod tests;
