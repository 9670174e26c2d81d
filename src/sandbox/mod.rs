//! The sandbox of one job: namespaces, file systems, identity, limits and system call policy.
//!
//! # Processes and their privileges
//!
//! ```text
//! joblet, spawner thread   root; own fs_struct; joins the template mount namespace for one clone
//!   └ child                clone3(VM|VFORK, new pid, mount, ipc, uts, cgroup, net; into the job's cgroup);
//!                          shares our memory, walks the plan (child.rs), then executes:
//!     └ joblet-init        pid 1 of the job, uid 0 of a user namespace where only one unprivileged host id
//!                          exists, no capability, no_new_privs, seccomp; not dumpable, so the job cannot touch it;
//!                          waits for its exec request. With the profile `container`: 65536 unprivileged host ids,
//!                          and the few capabilities over them that images expect (capability.rs)
//!       └ payload          its own session; the same credentials; dumpable
//! ```
//!
//! # Two halves
//!
//! *Create* ([`Sandbox::create`]) needs nothing of the job but its id, and costs nearly all of the time; *start*
//! ([`Init::start`]) gives the waiting joblet-init its exec request. The daemon creates sandboxes ahead of time. There
//! is one path: a job that finds no warm sandbox has one created, then is started, by the same two calls. Differences
//! between jobs are applied from outside in between: cgroup files, the sizes of its file systems
//! ([`Sandbox::resize`]), the files in /work.
//!
//! # Pipes and files
//!
//! | pipe or file | job's side | daemon's side |
//! |---|---|---|
//! | stdout, stderr | write ends (mode 0222: may be reopened, never read) | read ends; joblet-init keeps duplicates, so nothing is lost while no daemon lives |
//! | report | joblet-init's child, closed by the payload's exec, or the errno (four bytes) | read end: EOF is "executed" |
//! | control | joblet-init reads: the length of the exec request; later a byte, "all output is collected, exit"; EOF is "the daemon is gone" | write end |
//! | orders | both ends: any later daemon finds its own there; joblet-init receives ([`session`]) | by `pidfd_getfd(2)`, for one order |
//! | router | the network namespace that its wire leads to, which joblet-init keeps alive and the payload has not | by `pidfd_getfd(2)`, by any later daemon |
//! | exec request | memory file, mapped by joblet-init, closed before the payload runs (`init_abi.rs`) | written once, closed |
//! | exit file | regular file, written once by joblet-init | read by path, by any later daemon |
//!
//! Every step of the plan isolates the job: when one fails the child leaves `{step, errno}` in the struct it shares
//! with the spawner and exits, and the job is FAILED with the step's sentence. Tunings (an oom score below
//! zero, raised limits) are not steps; they are tried from outside and may fail.

mod amend;
pub mod capability;
mod child;
mod clone_context;
pub mod create;
mod device_layers;
mod devices;
mod error;
pub mod etc;
pub mod filter;
pub mod gpu_tree;
pub mod identity;
mod parts;
pub mod plan;
pub mod rootfs;
mod roots;
pub mod runtime_root;
pub mod security;
pub mod session;
mod spec;
pub mod start;
pub mod step;
mod sysfs;
pub mod work;

pub use clone_context::CloneContext;
pub use create::{Created, Sandbox, SandboxConfig};
pub use error::SandboxError;
pub use runtime_root::{RuntimeMount, RuntimeRoot};
pub use spec::{Messages, Network, Root, SandboxParts, SandboxSpec, WireSpec};
pub use start::{Credentials, ExecRequest, Init};
