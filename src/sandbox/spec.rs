//! The description of one job's sandbox.

use std::os::fd::BorrowedFd;

/// The network of a job.
#[derive(Debug, Clone, Copy)]
pub enum Network<'a> {
    /// A new namespace of its own, with nothing but loopback.
    Own,
    /// The namespace that an earlier job of the same kind left clean.
    Kept(BorrowedFd<'a>),
    /// The network namespace of the host.
    Host,
}

/// The part of a sandbox that needs no resource: enough to make the plan, and to explain it.
#[derive(Debug, Clone, Copy)]
pub struct SandboxSpec<'a> {
    /// The host name inside the sandbox.
    pub hostname: &'a str,
    /// Size limit of each of /tmp, /dev/shm and /run, in bytes.
    pub scratch_bytes: u64,
    /// Most processes and threads of the job.
    pub pids: u32,
    /// The network of the job.
    pub network: Network<'a>,
}

/// Everything that [`Sandbox::create`](super::Sandbox::create) needs for one job.
#[derive(Debug, Clone, Copy)]
pub struct SandboxParts<'a> {
    /// The job's id, which is the name of its exit file too.
    pub id: &'a str,
    /// Names and limits that the plan is made from.
    pub spec: SandboxSpec<'a>,
    /// The job's /work ([`Sandbox::work_tmpfs`](super::Sandbox::work_tmpfs),
    /// [`WorkDisk::create`](super::work::WorkDisk::create)).
    pub work: BorrowedFd<'a>,
    /// The user namespace of the lease.
    pub user_namespace: BorrowedFd<'a>,
    /// The directory of the job's cgroup.
    pub cgroup: BorrowedFd<'a>,
}
