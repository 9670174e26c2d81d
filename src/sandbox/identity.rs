//! The identity of a job on the host: one unprivileged uid and gid per running job, in a user namespace of its own.
//!
//! Ids are leased from a configured range. A lease has a namespace for each user that its jobs may be inside (a map is
//! written once, and no host id can be in it twice). The daemon makes it for the first such job, writes its maps, and
//! every later one joins it. A child that wrote its own maps would race with
//! its siblings (they share the daemon's memory descriptor, and another's setresuid clears "dumpable").
//!
//! The leased id also *owns* its namespace: whatever a job takes of the kernel's pools for users is counted for the owner
//! of its namespace too. Were that root, one job could empty the pools of all others and of the host.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::job::User;
use crate::job::volume::OWNER;
use crate::sys::user_namespace::{self, Setting};

use super::error::SandboxError;

/// The right to run one job under one host id.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Host uid and gid, the same number.
    pub id: u32,
    /// Its user namespace for jobs of each user, at [`User::index`], once one of them has made it.
    pub namespaces: [Option<Arc<OwnedFd>>; User::ALL.len()],
    /// The map from the owner of all files of volumes to this id, once a job with a volume has made it.
    pub volumes: Option<Arc<OwnedFd>>,
}

impl Lease {
    /// An id that no job has had yet.
    fn new(id: u32) -> Self {
        Lease { id, namespaces: Default::default(), volumes: None }
    }
}

/// The free ids of the range. The loop owns them.
#[derive(Debug)]
pub struct Leases {
    free: Vec<Lease>,
    first: u32,
    next: u32,
    end: u32,
    reserved: HashSet<u32>,
}

impl Leases {
    /// `count` ids from `base` on.
    pub fn new(base: u32, count: u32) -> Self {
        let end = base.saturating_add(count);
        Leases { free: Vec::new(), first: base, next: base, end, reserved: HashSet::new() }
    }

    /// The range, in words.
    pub fn shown(&self) -> String {
        format!("{} to {}", self.first, self.end.saturating_sub(1))
    }

    /// Takes an id: the one returned last, whose namespace exists, before a new one. `None`: all are in use.
    pub fn take(&mut self) -> Option<Lease> {
        if let Some(lease) = self.free.pop() {
            return Some(lease);
        }
        while self.next < self.end {
            self.next += 1;
            // Reserved ids come by way of `free`.
            if !self.reserved.contains(&(self.next - 1)) {
                return Some(Lease::new(self.next - 1));
            }
        }
        None
    }

    /// Keeps an id of the range from being leased: an earlier daemon's files still count for it. It comes
    /// back by [`Leases::release`]. Only before the first [`Leases::take`]; `None`: the id is outside of the range, or
    /// reserved already.
    pub fn reserve(&mut self, id: u32) -> Option<Lease> {
        let ours = (self.next..self.end).contains(&id) && self.reserved.insert(id);
        ours.then(|| Lease::new(id))
    }

    /// Frees an id when no process of its job is left, and no file that counts for it.
    pub fn release(&mut self, lease: Lease) {
        self.free.push(lease);
    }
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
    make_with(id, user.id())
}

/// Makes the map from [`OWNER`], to whom all files of volumes belong on disk, to `id`: a user namespace that no process ever joins.
///
/// # Errors
/// The kernel's refusal, by step.
pub fn make_volume_map(id: u32) -> Result<OwnedFd, SandboxError> {
    make_with(id, OWNER)
}

/// Makes a user namespace, owned by `id`, in which `inside` is `id` and no other id exists.
fn make_with(id: u32, inside: u32) -> Result<OwnedFd, SandboxError> {
    let failed = |doing: &'static str| move |source| SandboxError::UserNamespace { doing, id, source };
    let refused = |(doing, source)| SandboxError::UserNamespace { doing, id, source };
    let holder = user_namespace::hold(id, POOLS).map_err(refused)?;
    let proc = format!("/proc/{}", holder.pid());
    // setgroups stays denied for ever: the payload has no business with groups (user_namespaces(7)).
    fs::write(format!("{proc}/setgroups"), "deny").map_err(failed("deny setgroups"))?;
    let map = format!("{inside} {id} 1");
    fs::write(format!("{proc}/uid_map"), &map).map_err(failed("write uid_map"))?;
    fs::write(format!("{proc}/gid_map"), &map).map_err(failed("write gid_map"))?;
    File::open(format!("{proc}/ns/user")).map(OwnedFd::from).map_err(failed("open it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_handed_out_once_and_come_back() {
        let mut leases = Leases::new(1000, 2);
        let (a, b) = (leases.take().unwrap(), leases.take().unwrap());
        assert_eq!((a.id, b.id), (1000, 1001));
        assert!(leases.take().is_none());
        leases.release(b);
        assert_eq!(leases.take().unwrap().id, 1001);
    }

    #[test]
    fn reserved_id_is_leased_once_and_only_after_its_release() {
        let mut leases = Leases::new(1000, 2);
        let reserved = leases.reserve(1000).unwrap();
        assert!(leases.reserve(1000).is_none() && leases.reserve(999).is_none());
        assert_eq!(leases.take().unwrap().id, 1001);
        assert!(leases.take().is_none());
        leases.release(reserved);
        assert_eq!(leases.take().unwrap().id, 1000);
        assert!(leases.take().is_none());
    }

    #[test]
    fn a_range_that_somebody_owns_is_refused_by_name() {
        let none = [("/etc/passwd", ""), ("/etc/group", ""), ("/etc/subuid", ""), ("/etc/subgid", "")];
        assert!(check_range(100_000, 10, none).is_ok());
        assert!(check_range(0, 10, none).is_err());
        assert!(check_range(u32::MAX - 3, 10, none).is_err());
        let mut taken = none;
        taken[2].1 = "alice:99990:65536\n";
        assert!(check_range(100_000, 10, taken).unwrap_err().to_string().contains("alice"));
        let mut taken = none;
        taken[0].1 = "bob:x:100005:100005::/:/bin/sh\n";
        assert!(check_range(100_000, 10, taken).unwrap_err().to_string().contains("bob"));
    }
}
