//! One job's walls.
//!
//! # Processes and their privileges
//!
//! ```text
//! joblet, spawner thread   root; own fs_struct; joins the template mount namespace for one clone
//!   └ child                clone3(VM|VFORK, new pid, mount, ipc, uts, cgroup, net; into the job's cgroup);
//!                          shares our memory, walks the plan (child.rs), then executes:
//!     └ joblet-init        pid 1 of the job, uid 0 of a user namespace where only one unprivileged host id
//!                          exists, no capability, no_new_privs, seccomp; not dumpable, so the job cannot touch it;
//!                          waits for its order
//!       └ payload          its own session; the same credentials; dumpable
//! ```
//!
//! # Two halves
//!
//! *Raising* the walls ([`Sandbox::create`]) needs nothing of the job but its id, and costs nearly all of the time;
//! *launching* ([`Init::start`]) tells the joblet-init that waits behind them what to run. The daemon raises walls
//! ahead of time. There is one path: a job for which nothing stands ready has its walls raised, then is launched, by
//! the same two calls. What differs from job to job is changed from outside in between: cgroup files, the sizes of
//! its file systems ([`Sandbox::resize`]), the files in /work.
//!
//! # Pipes and files
//!
//! | what | job's side | daemon's side |
//! |---|---|---|
//! | stdout, stderr | write ends (mode 0222: may be reopened, never read) | read ends; joblet-init keeps duplicates, so nothing is lost while no daemon lives |
//! | report | joblet-init's child, closed by the payload's exec, or `{errno, path existed}` | read end: EOF is "executed" |
//! | control | joblet-init reads: the order's length; later a byte, "output drained, you may go"; EOF is "the daemon is gone" | write end |
//! | order | memory file, mapped by joblet-init, closed before the payload runs (`exec_request.rs`) | written once, closed |
//! | exit record | regular file, written once by joblet-init | read by path, by whatever daemon lives then |
//!
//! Every step of the plan is a wall: when one fails the child leaves `{step, errno}` in the struct it shares
//! with the spawner and exits, and the job is FAILED with the step's sentence. Tunings (an oom score below
//! zero, raised limits) are not steps; they are tried from outside and may fail.

mod child;
mod clone_context;
pub mod create;
#[allow(unreachable_pub, reason = "joblet-init has it at its root")]
mod exec_request;
pub mod filter;
pub mod identity;
pub mod plan;
mod removal;
pub mod rootfs;
pub mod security;
pub mod start;
pub mod step;
pub mod work;

use std::io;

use rustix::io::Errno;

pub use clone_context::CloneContext;
pub use create::{Init, Sandbox, SandboxParts, SandboxSpec, Started};
pub use plan::Network;
pub use start::Payload;

/// A wall or its preparation that failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The template root could not be built; nothing can run.
    #[error("cannot prepare the root of jobs: {doing}: {source}; joblet needs root and kernel 5.15 or later")]
    Template {
        /// The step.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// `filesystem.workBackend: disk` without project quotas.
    #[error(
        "filesystem.workBackend: disk cannot be used: {path} has no project quotas: {why}; mount its file system \
         with the option prjquota (an ext4 needs tune2fs -O quota,project before), or choose workBackend: tmpfs"
    )]
    NoQuota {
        /// `<dataDir>/work`.
        path: std::path::PathBuf,
        /// What the probe saw.
        why: String,
    },
    /// The configured ids cannot be used.
    #[error(
        "process.subidBase {base} with process.subidCount {count} cannot be used: {why}; choose another range"
    )]
    IdRange {
        /// First id.
        base: u32,
        /// How many.
        count: u32,
        /// What stands against it.
        why: String,
    },
    /// A lease's user namespace could not be made.
    #[error(
        "failed to create isolated environment: user namespace of id {id}: {doing}: {source}{}",
        shortage(source)
    )]
    UserNamespace {
        /// The step.
        doing: &'static str,
        /// Host id.
        id: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Something the child needs could not be made.
    #[error("failed to create isolated environment: {doing}: {source}{}", shortage(source))]
    Prepare {
        /// What.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The child did not come back from a step of its plan and was killed.
    #[error("failed to create isolated environment: {step}: it does not return, the job was killed")]
    Stuck {
        /// The step, in words.
        step: String,
    },
    /// The child stopped at a step of its plan.
    #[error("failed to create isolated environment: {step}: {source}")]
    Step {
        /// The step, in words.
        step: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl SandboxError {
    /// Whether the node has too little of something to start a job now, rather than a fault: processes, descriptors, memory.
    pub fn is_shortage(&self) -> bool {
        matches!(self, SandboxError::UserNamespace { source, .. } | SandboxError::Prepare { source, .. }
            if !shortage(source).is_empty())
    }
}

/// What to try where clone(2) and the calls that make descriptors lack something; nothing for other answers.
fn shortage(why: &io::Error) -> &'static str {
    match why.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::AGAIN) => {
            "; a limit of processes is reached: end jobs, or raise pids.max of the daemon's group or of the jobs' \
             (TasksMax= of joblet.service and joblet-jobs.service)"
        }
        Some(Errno::MFILE) => "; the daemon's open files are used up: raise LimitNOFILE of the unit",
        Some(Errno::NFILE) => "; the host's open files are used up (fs.file-max)",
        Some(Errno::NOMEM) => "; the host has no memory for it",
        _ => "",
    }
}
