//! The identity of a job on the host: unprivileged ids of its own, in a user namespace where no others exist.
//!
//! Ids are leased from a configured range, one (`process.idsPerJob: 1`) or 65536 at a time. A job of the profile `strict`
//! has the first id of its lease and no other; one of the profile `container` has all 65536, from 0 on inside. A lease has
//! a namespace for each user that its strict jobs may be inside (a map is written once, and no host id can be in it twice),
//! and one for those that have all ids. The daemon makes it for the first such job, writes its maps, and
//! every later one joins it. A child that wrote its own maps would race with
//! its siblings (they share the daemon's memory descriptor, and another's setresuid clears "dumpable").
//!
//! The leased id also *owns* its namespace: whatever a job takes of the kernel's pools for users is counted for the owner
//! of its namespace too. Were that root, one job could empty the pools of all others and of the host.
//!
//! The kernel counts pools for each id of a namespace. For a job of many ids the sum is bounded by what the namespace got
//! when it was made (processes, pending signals, locked memory, message queues), which therefore belongs to one number of
//! processes, and by the host's own limit for the owner (inotify).

use std::collections::VecDeque;
use std::fs::{self, File};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::job::volume::OWNER;
use crate::job::{CONTAINER_IDS, User, ranges};
use crate::sys::user_namespace::{self, Limit, Setting};

use super::error::SandboxError;

/// The right to run one job under ids of the host.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The first host uid and gid, the same number. A job of one id has this one.
    pub id: u32,
    /// Its user namespace for jobs of one id and of each user, at [`User::index`], once one of them has made it.
    pub namespaces: [Option<Arc<OwnedFd>>; User::ALL.len()],
    /// Its user namespace for jobs of all ids that may have so many processes, once one of them has made it.
    pub whole: Option<(u32, Arc<OwnedFd>)>,
    /// The map from the owner of all files of volumes to its one id, or from all owners to all ids, once a job with a
    /// volume has made it.
    pub volumes: [Option<Arc<OwnedFd>>; 2],
}

impl Lease {
    /// Ids that no job has had yet.
    fn new(id: u32) -> Self {
        Lease { id, namespaces: Default::default(), whole: None, volumes: Default::default() }
    }
}

/// The free ids of the configured range. The loop owns them.
#[derive(Debug)]
pub struct Leases {
    free: Vec<Lease>,
    // Ids that were never leased, whole leases each.
    fresh: VecDeque<Range<u32>>,
    // Ids of jobs and of files of an earlier daemon, which may have leased them in other portions.
    inherited: Vec<Range<u32>>,
    each: u32,
    all: Range<u32>,
}

impl Leases {
    /// `count` ids from `base` on, leased `each` at a time ([`ranges`] says which).
    pub fn new(base: u32, count: u32, each: u32) -> Self {
        let (first, number) = ranges(base, count, each);
        let all = first..first + number * each;
        Leases { free: Vec::new(), fresh: VecDeque::from([all.clone()]), inherited: Vec::new(), each, all }
    }

    /// The ids, in words.
    pub fn shown(&self) -> String {
        format!("{} to {}", self.all.start, self.all.end.saturating_sub(1))
    }

    /// How many ids each lease has.
    pub fn each(&self) -> u32 {
        self.each
    }

    /// Takes a lease: the one returned last, whose namespace exists, before a new one. `None`: all are in use.
    pub fn take(&mut self) -> Option<Lease> {
        if let Some(lease) = self.free.pop() {
            return Some(lease);
        }
        let first = self.fresh.front_mut()?;
        let id = first.start;
        first.start += self.each;
        if first.start == first.end {
            self.fresh.pop_front();
        }
        Some(Lease::new(id))
    }

    /// A lease for a job of so many ids. `None` also where none has as many.
    pub fn take_for(&mut self, ids: u32) -> Option<Lease> {
        if ids > self.each { None } else { self.take() }
    }

    /// Keeps `ids` ids from `id` on from being leased: a job or files of an earlier daemon have them. They come
    /// back by [`Leases::release`]. Only before the first [`Leases::take`]; `None`: they are outside of the range, or
    /// reserved already.
    pub fn reserve(&mut self, id: u32, ids: u32) -> Option<Lease> {
        let wanted = id..id.checked_add(ids)?;
        let leases = self.leases_of(&wanted);
        if leases.is_empty() || self.inherited.iter().any(|other| overlap(other, &wanted)) {
            return None;
        }
        let fresh = self.fresh.iter().flat_map(|range| without(range, &leases));
        self.fresh = fresh.collect();
        self.inherited.push(wanted);
        Some(Lease::new(id))
    }

    /// Frees ids when no process of their job is left, and no file that counts for them.
    pub fn release(&mut self, lease: Lease) {
        let Some(at) = self.inherited.iter().position(|range| range.start == lease.id) else {
            self.free.push(lease);
            return;
        };
        let range = self.inherited.swap_remove(at);
        let mut back = vec![self.leases_of(&range)];
        if back[0].len() == self.each as usize && back[0].start == lease.id {
            if !self.inherited.iter().any(|other| overlap(other, &back[0])) {
                self.free.push(lease);
            }
            return;
        }
        for other in &self.inherited {
            let kept = self.leases_of(other);
            back = back.iter().flat_map(|range| without(range, &kept)).collect();
        }
        self.fresh.extend(back);
    }

    /// The leases of ours that have an id of a range: all ids of them, none where the range is outside.
    fn leases_of(&self, range: &Range<u32>) -> Range<u32> {
        let (start, end) = (range.start.max(self.all.start), range.end.min(self.all.end));
        if start >= end {
            return 0..0;
        }
        let first = self.all.start + (start - self.all.start) / self.each * self.each;
        first..self.all.start + (end - self.all.start).next_multiple_of(self.each)
    }
}

fn overlap(one: &Range<u32>, other: &Range<u32>) -> bool {
    one.start < other.end && other.start < one.end
}

/// The parts of a range that are not in another.
fn without(range: &Range<u32>, other: &Range<u32>) -> impl Iterator<Item = Range<u32>> + use<> {
    let parts = match overlap(range, other) {
        true => [range.start..other.start, other.end..range.end],
        false => [range.clone(), 0..0],
    };
    parts.into_iter().filter(|part| !part.is_empty())
}

/// Checks that no user, group or subordinate range of this host lies within ours.
///
/// `passwd`, `group`, `subuid`, `subgid` are the texts of those files.
///
/// # Errors
/// The entry that overlaps.
pub fn check_range(base: u32, count: u32, files: [(&str, &str); 4]) -> Result<(), SandboxError> {
    let (first, last) = (u64::from(base), u64::from(base) + u64::from(count));
    if base == 0 || count == 0 || last > u64::from(u32::MAX) {
        return Err(SandboxError::IdRange { base, count, why: "it must lie within 1..4294967294".into() });
    }
    let owners = u64::from(OWNER)..u64::from(OWNER) + u64::from(CONTAINER_IDS);
    if first < owners.end && owners.start < last {
        let why = format!("{} to {} are the owners of files in volumes", owners.start, owners.end - 1);
        return Err(SandboxError::IdRange { base, count, why });
    }
    for (name, text) in files {
        let is_range = name.ends_with("subuid") || name.ends_with("subgid");
        for line in text.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let start = fields.get(if is_range { 1 } else { 2 }).and_then(|f| f.parse::<u64>().ok());
            let size = if is_range { fields.get(2).and_then(|f| f.parse().ok()).unwrap_or(1u64) } else { 1 };
            if let Some(start) = start
                && start < last
                && start + size > first
            {
                let who = fields.first().copied().unwrap_or_default();
                return Err(SandboxError::IdRange {
                    base,
                    count,
                    why: format!("{name} has \"{who}\" in it"),
                });
            }
        }
    }
    Ok(())
}

/// The sizes of a job's pools in the kernel (namespaces(7), inotify(7)). The host's own limit for one user holds too,
/// where it is lower. A job makes no namespaces and watches no mounts; the filter refuses both before.
const POOLS: &[Setting] = &[
    (c"sys/user/max_user_namespaces", c"0"),
    (c"sys/user/max_pid_namespaces", c"0"),
    (c"sys/user/max_mnt_namespaces", c"0"),
    (c"sys/user/max_ipc_namespaces", c"0"),
    (c"sys/user/max_uts_namespaces", c"0"),
    (c"sys/user/max_cgroup_namespaces", c"0"),
    (c"sys/user/max_net_namespaces", c"0"),
    (c"sys/user/max_time_namespaces", c"0"),
    (c"sys/user/max_fanotify_groups", c"0"),
    (c"sys/user/max_fanotify_marks", c"0"),
    (c"sys/user/max_inotify_instances", c"128"),
    // A watch keeps an inode of the host in memory, about a KiB that is not always the job's.
    (c"sys/user/max_inotify_watches", c"16384"),
];

/// Makes the user namespace, owned by `id`, in which the ids of `user` are `id` on the host and no other id exists.
///
/// # Errors
/// The kernel's refusal, by step.
pub fn make_namespace(id: u32, user: User) -> Result<OwnedFd, SandboxError> {
    make_with(id, Map { inside: user.id(), count: 1 }, &[])
}

/// Makes the user namespace, owned by `id`, in which 0 to 65535 are the ids from `id` on and no other id exists. `limits`
/// bound what all of them take together.
///
/// # Errors
/// The kernel's refusal, by step.
pub fn make_whole_namespace(id: u32, limits: &[Limit]) -> Result<OwnedFd, SandboxError> {
    make_with(id, Map { inside: 0, count: CONTAINER_IDS }, limits)
}

/// Makes the map from [`OWNER`], to whom the files of volumes belong on disk, to `id`: a user namespace that no process
/// ever joins. With a `count` above 1 the owners behind it belong to the ids behind `id`.
///
/// # Errors
/// The kernel's refusal, by step.
pub fn make_volume_map(id: u32, count: u32) -> Result<OwnedFd, SandboxError> {
    make_with(id, Map { inside: OWNER, count }, &[])
}

/// The ids inside of a user namespace.
struct Map {
    inside: u32,
    count: u32,
}

/// Makes a user namespace, owned by `id`, in which the ids of `map` are those from `id` on and no other id exists.
fn make_with(id: u32, map: Map, limits: &[Limit]) -> Result<OwnedFd, SandboxError> {
    let failed = |doing: &'static str| move |source| SandboxError::UserNamespace { doing, id, source };
    let refused = |(doing, source)| SandboxError::UserNamespace { doing, id, source };
    let holder = user_namespace::hold(id, POOLS, limits).map_err(refused)?;
    let proc = format!("/proc/{}", holder.pid());
    let Map { inside, count } = map;
    if count == 1 {
        // Denied for ever: a payload of one id has no business with groups (user_namespaces(7)).
        fs::write(format!("{proc}/setgroups"), "deny").map_err(failed("deny setgroups"))?;
    }
    let map = format!("{inside} {id} {count}");
    fs::write(format!("{proc}/uid_map"), &map).map_err(failed("write uid_map"))?;
    fs::write(format!("{proc}/gid_map"), &map).map_err(failed("write gid_map"))?;
    File::open(format!("{proc}/ns/user")).map(OwnedFd::from).map_err(failed("open it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_handed_out_once_and_come_back() {
        let mut leases = Leases::new(1000, 2, 1);
        let (a, b) = (leases.take().unwrap(), leases.take().unwrap());
        assert_eq!((a.id, b.id), (1000, 1001));
        assert!(leases.take().is_none());
        leases.release(b);
        assert_eq!(leases.take().unwrap().id, 1001);
    }

    #[test]
    fn reserved_id_is_leased_once_and_only_after_its_release() {
        let mut leases = Leases::new(1000, 2, 1);
        let reserved = leases.reserve(1000, 1).unwrap();
        assert!(leases.reserve(1000, 1).is_none() && leases.reserve(999, 1).is_none());
        assert_eq!(leases.take().unwrap().id, 1001);
        assert!(leases.take().is_none());
        leases.release(reserved);
        assert_eq!(leases.take().unwrap().id, 1000);
        assert!(leases.take().is_none());
    }

    const EACH: u32 = CONTAINER_IDS;
    const BASE: u32 = 0x7000_0000;

    #[test]
    fn ranges_are_leased_whole_and_inherited_ids_keep_theirs() {
        let mut leases = Leases::new(BASE, 3 * EACH, EACH);
        // Two jobs of one id each, of a daemon that leased single ids, and the project of a directory.
        let one = leases.reserve(BASE + EACH, 1).unwrap();
        let other = leases.reserve(BASE + EACH + 7, 1).unwrap();
        assert!(leases.reserve(BASE + EACH + 7, 1).is_none() && leases.reserve(BASE + 3 * EACH, 1).is_none());
        let taken = [leases.take(), leases.take()].map(|lease| lease.unwrap().id);
        assert_eq!(taken, [BASE, BASE + 2 * EACH]);
        leases.release(one);
        assert!(leases.take().is_none(), "another job has an id of it");
        leases.release(other);
        assert_eq!(leases.take().unwrap().id, BASE + EACH);
        assert!(leases.take().is_none());
    }

    #[test]
    fn inherited_range_keeps_all_its_ids_from_single_leases() {
        let mut leases = Leases::new(BASE, EACH + 2, 1);
        let range = leases.reserve(BASE + 1, EACH).unwrap();
        assert_eq!([leases.take(), leases.take()].map(|lease| lease.unwrap().id), [BASE, BASE + EACH + 1]);
        assert!(leases.take().is_none());
        leases.release(range);
        assert_eq!(leases.take().unwrap().id, BASE + 1);
        assert_eq!(leases.take().unwrap().id, BASE + 2);
    }

    #[test]
    fn inherited_range_that_is_one_of_ours_is_leased_as_one() {
        let mut leases = Leases::new(BASE, 2 * EACH, EACH);
        let range = leases.reserve(BASE, EACH).unwrap();
        assert_eq!(leases.take().unwrap().id, BASE + EACH);
        assert!(leases.take().is_none());
        leases.release(range);
        assert_eq!(leases.take().unwrap().id, BASE);
        // Half of it lies outside of what is configured now.
        let mut leases = Leases::new(BASE, EACH, EACH);
        let range = leases.reserve(BASE - 5, EACH).unwrap();
        assert!(leases.take().is_none());
        leases.release(range);
        assert_eq!(leases.take().unwrap().id, BASE);
    }

    #[test]
    fn a_range_that_somebody_owns_is_refused_by_name() {
        let none = [("/etc/passwd", ""), ("/etc/group", ""), ("/etc/subuid", ""), ("/etc/subgid", "")];
        assert!(check_range(100_000, 10, none).is_ok());
        assert!(check_range(0, 10, none).is_err());
        assert!(check_range(u32::MAX - 3, 10, none).is_err());
        let owners = check_range(OWNER + EACH - 1, 10, none).unwrap_err().to_string();
        assert!(owners.contains("are the owners of files in volumes"), "{owners}");
        let mut taken = none;
        taken[2].1 = "alice:99990:65536\n";
        assert!(check_range(100_000, 10, taken).unwrap_err().to_string().contains("alice"));
        let mut taken = none;
        taken[0].1 = "bob:x:100005:100005::/:/bin/sh\n";
        assert!(check_range(100_000, 10, taken).unwrap_err().to_string().contains("bob"));
    }
}
