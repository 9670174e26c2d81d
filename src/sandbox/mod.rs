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
//! | control | joblet-init reads: the length of the exec request; later a byte, "all output is collected, exit"; EOF is "the daemon is gone" | write end |
//! | exec request | memory file, mapped by joblet-init, closed before the payload runs (`init_abi.rs`) | written once, closed |
//! | exit file | regular file, written once by joblet-init | read by path, by any later daemon |
//!
//! Every step of the plan is a wall: when one fails the child leaves `{step, errno}` in the struct it shares
//! with the spawner and exits, and the job is FAILED with the step's sentence. Tunings (an oom score below
//! zero, raised limits) are not steps; they are tried from outside and may fail.

mod amend;
mod child;
mod clone_context;
pub mod create;
mod error;
pub mod filter;
pub mod identity;
pub mod plan;
mod removal;
pub mod rootfs;
pub mod security;
mod spec;
pub mod start;
pub mod step;
pub mod work;

pub use clone_context::CloneContext;
pub use create::{Created, Sandbox, SandboxConfig};
pub use error::SandboxError;
pub use spec::{Network, SandboxParts, SandboxSpec};
pub use start::{ExecRequest, Init};
