//! The /work of a running job, whose files are copied.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

use crate::job::JobId;
use crate::output::Watermark;
use crate::stream;
use crate::sys::thread::keep_quotas;

/// The /work of a running job. It is gone with the job, whoever copies.
#[derive(Debug)]
pub struct OpenWork {
    /// The id of the job.
    pub(super) id: JobId,
    /// A pidfd of PID 1 of the job.
    pub(super) init: OwnedFd,
    /// Its number on the host.
    pub(super) pid: i32,
    /// The owner of the files in /work on the host.
    pub(super) owner: u32,
    /// The job's output, which ends with it.
    pub(super) output: Arc<Watermark>,
}

impl OpenWork {
    /// Opens its root, on a thread that ends: it loses the right to write beyond a quota. /work is a mount of the job's
    /// own, which the job cannot replace.
    ///
    /// # Errors
    /// The job has ended, or its /work cannot be opened; in words.
    pub fn open(&self) -> Result<OwnedFd, String> {
        keep_quotas().map_err(|why| format!("cannot hold the thread to quotas: {why}"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{}/root/work", self.pid), flags, Mode::empty());
        // Looked at after the path was opened: until here the number is that of the job's PID 1.
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut [PollFd::new(&self.init, PollFlags::IN)], Some(&now)) {
            Ok(0) => root.map_err(|why| format!("cannot open the /work of the job: {why}")),
            _ => Err("the job has ended".to_owned()),
        }
    }

    /// The owner of its files on the host.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// The job, and its output, which ends with it.
    pub fn job(&self) -> (JobId, &Arc<stream::Watermark>) {
        (self.id, self.output.rows())
    }
}
