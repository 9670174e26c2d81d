//! The search for leftovers: objects that a daemon and its jobs must not leave behind, and state that they must not change.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Where the cgroup v2 hierarchy is mounted, on pure and on hybrid hosts.
pub fn cgroup2_mount() -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    table.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        right.starts_with("cgroup2 ").then(|| PathBuf::from(left.split(' ').nth(4).unwrap_or_default()))
    })
}

/// The cgroup of the daemon whose `dataDir` this is; the daemon names it after a hash (FNV-1a) of the path.
pub fn group_of(data_dir: &Path) -> Option<PathBuf> {
    let bytes = data_dir.as_os_str().as_encoded_bytes();
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, b| (hash ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    let name = format!("joblet-{hash:08x}");
    directories(&cgroup2_mount()?, &|found| found == name).pop()
}

/// The processes whose real user id lies in `uids`, as "pid name".
pub fn processes_of(uids: &Range<u32>) -> Vec<String> {
    processes(|status| {
        let uid =
            status.lines().find_map(|l| l.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()?;
        uids.contains(&uid).then_some(())
    })
}

/// Like [`processes_of`], without the joblet-inits: those of warm sandboxes wait for jobs.
pub fn payloads_of(uids: &Range<u32>) -> Vec<String> {
    let mut all = processes_of(uids);
    all.retain(|process| !process.ends_with(" joblet-init"));
    all
}

/// The processes that live in a cgroup whose path has `part` in it, as "pid name".
pub fn processes_in_cgroup(part: &str) -> Vec<String> {
    let mut found = Vec::new();
    for pid in pids() {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if groups.contains(part) {
            found.push(format!("{pid} {}", name(pid)));
        }
    }
    found
}

/// The direct children of a process that still exist (zombies too), as pids.
pub fn children_of(parent: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for pid in pids() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name may hold spaces and brackets: fields are counted behind its last bracket.
        let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        if fields.split(' ').nth(1).and_then(|ppid| ppid.parse().ok()) == Some(parent) {
            found.push(pid);
        }
    }
    found
}

fn processes(mut wanted: impl FnMut(&str) -> Option<()>) -> Vec<String> {
    let mut found = Vec::new();
    for pid in pids() {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        if wanted(&status).is_some() {
            found.push(format!("{pid} {}", name(pid)));
        }
    }
    found
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").expect("/proc can be listed");
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok())
}

fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// The host's mount table, without the small disks that other tests mount meanwhile: those name themselves.
pub fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("our own mount table can be read");
    table.lines().filter(|line| !line.contains(" - tmpfs joblet-test ")).map(str::to_owned).collect()
}

/// The lines of our own mount table with a path below `dir`.
pub fn mounts_below(dir: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("our own mount table can be read");
    let dir = dir.to_str().expect("test directories have plain names");
    table.lines().filter(|line| line.contains(dir)).map(str::to_owned).collect()
}

/// Every directory at or below `dir` whose name satisfies `wanted`.
pub fn directories(dir: &Path, wanted: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        if wanted(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
        found.extend(directories(&entry.path(), wanted));
    }
    found
}

/// Every file below `dir` that is no directory.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(t) if t.is_dir() => found.extend(files(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found
}

/// Every file in `run` of a data directory but the sockets of the history process, which are there while the daemon is.
pub fn run_files(data: &Path) -> Vec<PathBuf> {
    let mut found = files(&data.join("run"));
    found.retain(|file| file.file_name().is_none_or(|name| !name.to_string_lossy().starts_with("persist-")));
    found
}

/// The targets of a process's descriptors, counted by kind; files of jobs are one kind each. User namespaces are left out,
/// because a leased identity keeps its namespace for the daemon's life; so are network namespaces, which the daemon may
/// keep for later jobs, and programs that decide about devices: it keeps one for each set of GPUs that a job had, at most 64.
pub fn descriptors(pid: i32) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        let kind = match target.split_once(":[") {
            Some(("user" | "net", _)) => continue,
            Some((kind, _)) => kind.to_owned(),
            None if target == "anon_inode:bpf-prog" => continue,
            None => without_ids(&target),
        };
        *kinds.entry(kind).or_insert(0) += 1;
    }
    kinds
}

/// Whether the thread of this name is idle: it is in futex(2), call 202 of this machine, like every thread that waits for a
/// channel (proc(5), /proc/pid/task/tid/syscall).
pub fn waits(pid: i32, thread: &str) -> bool {
    fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().any(|task| {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        read("comm").trim() == thread && read("syscall").starts_with("202 ")
    })
}

/// A path whose UUIDs are the word "ID".
fn without_ids(path: &str) -> String {
    let part = |part: &str| match part.rfind('-').filter(|_| part.len() >= 36) {
        Some(_) if uuid::Uuid::parse_str(&part[part.len() - 36..]).is_ok() => {
            format!("{}ID", &part[..part.len() - 36])
        }
        // The number of a process, in /proc.
        None if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) => "N".to_owned(),
        _ => part.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}
