//! Limits and accounting of one job, cgroup v2 only, files written directly.
//!
//! ```text
//! <mount>/<own group>/            delegated to us (systemd), or the root of a VM
//!     joblet-main/                the daemon, where "no internal processes" makes it step aside
//!     joblet-<name>/              CgroupTree: its subtree_control names the controllers of jobs
//!         job-<uuid>/             JobCgroup: one for each job, no groups below it
//!         resolver/               ProgramGroup: a program that serves the jobs
//! ```
//!
//! * `locate` finds the mount and our own group in the files of /proc, `tree` makes the shape above and learns
//!   which controllers it has. It writes to no group but those that it made, its own, and the ones that
//!   `cgroup.baseDir` names; it moves no process but the daemon, and programs that the daemon has just started.
//! * A job's process starts in its group (CLONE_INTO_CGROUP with [`JobCgroup::dir_fd`]) after `limits`
//!   wrote and read back every file, so no instruction of it runs unlimited. Moving a process by
//!   `cgroup.procs` instead costs milliseconds and leaves a gap.
//! * All jobs together have a limit of processes, so that the host can always fork (`processes`): `pids.max` of the group
//!   above theirs, or, without the controller, a lower limit for each ([`CgroupTree::share`]).
//! * A program of the kernel's decides which devices the processes of a job may open (`device`): one for all jobs, at
//!   the tree's group, and one of its own for a job with GPUs.
//! * A missing controller is known before a job starts: [`CgroupTree::enforce`] refuses the job or lists
//!   the limits that are not in force, as `cgroup.enforcement` says.
//! * The end: [`JobCgroup::kill`] (the kernel kills the group as a whole, forks in flight included), then
//!   the accounting, then [`JobCgroup::remove`], which may answer "busy" for a moment, until the kernel has
//!   let go of the last process. The caller tries again by a timer; nothing here waits.
//!
//! Every path hangs off the mount that is passed in, so tests run on plain files in a directory of theirs.
//! Sources of rules: the kernel's Documentation/admin-guide/cgroup-v2.rst, cgroups(7), systemd's
//! CGROUP_DELEGATION.md.

mod controller;
mod device;
mod disk;
mod files;
mod job_group;
mod limits;
mod locate;
mod processes;
mod program_group;
mod removal;
mod stat;
mod survey;
mod tree;

use std::io;
use std::path::PathBuf;

pub use controller::{ControllerSet, Unenforced, Why};
pub use device::probe_device_program;
pub use disk::Disk;
pub use job_group::JobCgroup;
pub use processes::{Share, most_processes, share};
pub use program_group::ProgramGroup;
pub use removal::Removal;
pub use stat::{CpuStat, MemoryEvents, Throttling};
pub use survey::{Survey, survey};
pub use tree::{CgroupTree, GroupState, Placement};

/// An operation on a group that failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A job's own program for devices.
    #[error("cannot let the job open its GPUs: a program for devices at {group}: {source}", group = group.display())]
    AllowDevices {
        /// The path of the group.
        group: PathBuf,
        /// The kernel's refusal.
        source: io::Error,
    },
    /// /proc/self/mountinfo names no cgroup v2 mount.
    #[error(
        "cgroup setup failed: no cgroup v2 file system is mounted here; boot with \
         systemd.unified_cgroup_hierarchy=1, or `mount -t cgroup2 none /sys/fs/cgroup`"
    )]
    FindMount,
    /// /proc/self/cgroup names a group that the mount does not show, or none.
    #[error(
        "cgroup setup failed: the daemon's own group {group:?} cannot be seen below {mount}; set \
         cgroup.baseDir to a group that can",
        mount = mount.display()
    )]
    FindOwnGroup {
        /// The path in /proc/self/cgroup.
        group: String,
        /// Where cgroup v2 is mounted.
        mount: PathBuf,
    },
    /// `cgroup.baseDir` lies outside of cgroup v2.
    #[error(
        "cgroup setup failed: security violation: cgroup path outside delegated subtree: {path}; \
         cgroup.baseDir must be a directory below {mount}",
        path = path.display(), mount = mount.display()
    )]
    Place {
        /// The configured directory.
        path: PathBuf,
        /// Where cgroup v2 is mounted.
        mount: PathBuf,
    },
    /// mkdir of a group, or opening it.
    #[error("cgroup setup failed: cannot make the group {path}: {source}", path = path.display())]
    MakeGroup {
        /// Path of the group's directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file of a group did not take a value.
    #[error("cgroup setup failed: cannot write {value:?} to {file}: {source}", file = file.display())]
    Write {
        /// Path of the file.
        file: PathBuf,
        /// The value that the file refused.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file took a value and then shows another one.
    #[error(
        "cgroup setup failed: {file} was given {wrote:?} and reads {reads:?}; another program may be \
         changing the same group",
        file = file.display()
    )]
    Verify {
        /// Path of the file.
        file: PathBuf,
        /// The value that was written.
        wrote: String,
        /// The value that the file shows.
        reads: String,
    },
    /// Strict enforcement, and a limit that cannot be enforced.
    #[error(
        "cgroup setup failed: {0}; {remedy}, or set cgroup.enforcement: best-effort to start jobs without it",
        remedy = .0.why.remedy()
    )]
    Enforce(Unenforced),
    /// Reading a file of a group.
    #[error("cannot read {file}: {source}", file = file.display())]
    Read {
        /// Path of the file.
        file: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Pausing the processes in a job's group, or having them go on.
    #[error("cannot pause or resume the processes in {group}: {source}", group = group.display())]
    Freeze {
        /// The job's group.
        group: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Ending the processes in a job's group.
    #[error("cannot kill the processes in {group}: {source}", group = group.display())]
    Kill {
        /// The job's group.
        group: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Removing a group.
    #[error("cannot remove the group {group}: {source}", group = group.display())]
    Remove {
        /// Path of the group's directory.
        group: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}
