//! The network of one job, as those see it who connect inside.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::job::JobId;
use crate::sys::pidfd::network_namespace;

/// The network namespace of a running job. It keeps the namespace, and with it the job's addresses, for as long as it
/// lives: the job's owner drops it with the job.
#[derive(Debug)]
pub struct JobNetwork {
    job: JobId,
    init: OwnedFd,
    pid: i32,
    namespace: OnceLock<OwnedFd>,
    closed: AtomicBool,
}

impl JobNetwork {
    /// The network of a job with this first process, by its pidfd and its number. A job in the host's network has none.
    pub fn new(job: JobId, init: OwnedFd, pid: i32) -> Self {
        JobNetwork { job, init, pid, namespace: OnceLock::new(), closed: AtomicBool::new(false) }
    }

    /// The job behind it.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// Takes no new connection. A connection that is being made meanwhile is closed before it carries a byte.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Whether it was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Whether the job's first process has ended, and with it every process of the job.
    pub(super) fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.init, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// The namespace, looked up with the first call. `home` is the host's: it is never returned.
    ///
    /// # Errors
    /// The job has ended, or is in the host's network.
    pub(super) fn namespace(&self, home: BorrowedFd<'_>) -> io::Result<BorrowedFd<'_>> {
        if let Some(namespace) = self.namespace.get() {
            return Ok(namespace.as_fd());
        }
        let namespace = network_namespace(self.init.as_fd(), self.pid)?;
        // On old kernels it was found by the number of the process, which is another's once that has been reaped.
        if self.has_ended() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let (found, own) = (rustix::fs::fstat(&namespace)?, rustix::fs::fstat(home)?);
        if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(self.namespace.get_or_init(|| namespace).as_fd())
    }
}
