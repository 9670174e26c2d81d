//! The description of one job's sandbox.

use std::ffi::CString;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

use super::error::SandboxError;
use super::rootfs::Template;
use crate::job::{Profile, User};

/// The root of a job.
#[derive(Debug, Clone, Copy)]
pub enum Root<'a> {
    /// The host's paths.
    Host,
    /// That of a runtime ([`Sandbox::root`](super::Sandbox::root)).
    Runtime(&'a Template),
}

impl<'a> Root<'a> {
    /// The directories that a layer over it begins with.
    ///
    /// # Errors
    /// It has the host's paths, which no job writes.
    pub fn shared(self) -> Result<&'a [CString], SandboxError> {
        match self {
            Root::Host => Err(SandboxError::NotWritable),
            Root::Runtime(template) => template.root.shared(),
        }
    }
}

/// The network of a job.
#[derive(Debug, Clone, Copy)]
pub enum Network<'a> {
    /// A new namespace of its own, with nothing but loopback.
    Own,
    /// The namespace that an earlier job of the same kind left clean.
    Kept(BorrowedFd<'a>),
    /// A new namespace with a wire.
    Wired(WireSpec<'a>),
    /// The network namespace of the host.
    Host,
}

/// A wire to make: two interfaces that are connected, the outer one in the router.
#[derive(Debug, Clone, Copy)]
pub struct WireSpec<'a> {
    /// The network and the job's address, for the sentence.
    pub what: &'a str,
    /// The job's address, for its own name.
    pub address: Ipv4Addr,
    /// The router, which the job keeps alive.
    pub router: BorrowedFd<'a>,
    /// A netlink socket of the router, for this thread alone.
    pub socket: BorrowedFd<'a>,
    /// Messages to the router, from which the inner interface is born in the namespace of the sender.
    pub outer: Messages<'a>,
    /// Messages to the new namespace.
    pub inner: Messages<'a>,
    /// The file that tells the job what it was refused, as a detached mount.
    pub note: BorrowedFd<'a>,
}

/// Messages of netlink(7) that a child sends at once.
#[derive(Debug, Clone, Copy)]
pub struct Messages<'a> {
    /// Their bytes, complete.
    pub bytes: &'a [u8],
    /// The sequence number of the first.
    pub first: u32,
    /// The sequence number of the one that is answered when all went well.
    pub last: u32,
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
    /// The user that the job is inside.
    pub user: User,
    /// The root that it sees.
    pub root: Root<'a>,
    /// The profile of its walls.
    pub profile: Profile,
    /// Whether it may write its root, which is that of a runtime without the host's paths.
    pub writable: bool,
}

/// Everything that [`Sandbox::create`](super::Sandbox::create) needs for one job.
#[derive(Debug, Clone, Copy)]
pub struct SandboxParts<'a> {
    /// The job's id, which is the name of its exit file too.
    pub id: &'a str,
    /// Names and limits that the plan is made from.
    pub spec: SandboxSpec<'a>,
    /// The job's /work ([`Sandbox::work_tmpfs`](super::Sandbox::work_tmpfs),
    /// [`WorkDisk::create`](super::work::WorkDisk::create)), or with `writable` the mount that has it and the layer over the
    /// root ([`Backing::divide`](super::work::Backing::divide)).
    pub work: BorrowedFd<'a>,
    /// The user namespace whose root owns what belongs to root in the layers of a runtime.
    pub layer_ids: BorrowedFd<'a>,
    /// The user namespace of the lease for that user, or for that profile.
    pub user_namespace: BorrowedFd<'a>,
    /// The directory of the job's cgroup.
    pub cgroup: BorrowedFd<'a>,
}
