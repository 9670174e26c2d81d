//! The calls that take the lock of a pipe, and may wait for it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::ioctl_fionread;

use super::Stream;
use super::handoff::{Progress, Waits};
use super::spool::{CHUNK, SpliceResult, SpoolWriter};
use crate::job::JobId;
use crate::sys::clock::now_ns;
use crate::sys::thread::{Activity, activity};

/// A call on a pipe, with everything that it needs.
pub(super) enum PipeCall {
    /// Move or discard what is in the pipe.
    Serve {
        /// The pipe's token.
        token: usize,
        /// The job of the pipe.
        job: JobId,
        /// Which of the two.
        stream: Stream,
        /// The read end.
        fd: Arc<OwnedFd>,
        /// The job's spool.
        spool: Box<SpoolWriter>,
        /// Where the bytes go.
        work: Work,
    },
    /// Close the read end.
    Close {
        /// The job of the pipe.
        job: JobId,
        /// The read end.
        fd: Arc<OwnedFd>,
    },
}

/// Where the bytes of a pipe go.
pub(super) enum Work {
    /// Into the spool.
    Keep {
        /// The most bytes that fit.
        room: usize,
        /// Bytes that the spool keeps then, if it is a ring.
        ring: u64,
    },
    /// Into this null device, counted.
    Discard(Arc<File>),
}

/// The result of a call on a pipe.
pub(super) enum Done {
    /// Bytes were moved or discarded, or there were none.
    Moved {
        /// The pipe's token.
        token: usize,
        /// The job of the pipe.
        job: JobId,
        /// The read end.
        fd: Arc<OwnedFd>,
        /// The job's spool.
        spool: Box<SpoolWriter>,
        /// The result of the move.
        moved: io::Result<SpliceResult>,
    },
    /// The read end is closed.
    Closed {
        /// The job of the pipe.
        job: JobId,
    },
}

impl PipeCall {
    /// The job of the pipe.
    pub(super) fn job(&self) -> JobId {
        match self {
            PipeCall::Serve { job, .. } | PipeCall::Close { job, .. } => *job,
        }
    }

    /// Makes the call. Also returns whether it has stored bytes.
    pub(super) fn make(self, progress: &Progress) -> (Done, bool) {
        match self {
            PipeCall::Close { job, fd } => {
                drop(fd);
                (Done::Closed { job }, false)
            }
            PipeCall::Serve { token, job, stream, fd, mut spool, work } => {
                // Waits for the lock as splice does, and for nothing else: what is late behind it may be the disk. It
                // fails where splice fails, which tells why.
                let _ = ioctl_fionread(&*fd);
                progress.set_has_lock(true);
                let moved = match work {
                    Work::Keep { room, ring } => {
                        let moved = spool.splice_from(&*fd, stream, room, now_ns());
                        moved.and_then(|moved| spool.trim(ring).map(|()| moved))
                    }
                    Work::Discard(null) => spool.discard_from(&*fd, &null, stream, CHUNK, now_ns()),
                };
                let stored = matches!(moved, Ok(SpliceResult::Moved(_)));
                (Done::Moved { token, job, fd, spool, moved }, stored)
            }
        }
    }
}

/// The functions of the kernel in which the calls above sleep for the lock of a pipe (fs/pipe.c, fs/splice.c of Linux 5.15
/// to 6.18). Where they write, they sleep in functions of the file system and of memory management.
const FOR_LOCK: &[&str] =
    &["pipe_ioctl", "pipe_lock", "pipe_release", "iter_file_splice_write", "splice_from_pipe"];

/// The thing that a thread in such a call waits for.
pub(super) fn waits(thread: i32) -> Waits {
    match activity(thread) {
        Ok(Activity::SleepsIn(function)) if FOR_LOCK.contains(&function.as_str()) => Waits::ForLock,
        // Another kernel may sleep for the lock in another function.
        Ok(Activity::SleepsIn(_) | Activity::Sleeps) => Waits::Somewhere,
        // A thread that is gone waits for nothing.
        Ok(Activity::Runs) | Err(_) => Waits::ForOthers,
    }
}

/// The content of a pipe and the state of its writers.
pub(super) enum PipeState {
    /// No bytes, and a writer.
    Empty,
    /// Bytes, and a writer.
    Bytes,
    /// Bytes, and no writer is left.
    LastBytes,
    /// Neither bytes nor a writer.
    Ended,
}

/// Looks at a pipe without its lock.
pub(super) fn pipe_state(pipe: &OwnedFd) -> PipeState {
    let mut fds = [PollFd::new(pipe, PollFlags::IN)];
    // A pipe that cannot be polled is read, and the read fails with the reason.
    let seen = poll(&mut fds, Some(&rustix::time::Timespec::default()));
    let flags = seen.map_or(PollFlags::IN, |_| fds[0].revents());
    match (flags.contains(PollFlags::IN), flags.contains(PollFlags::HUP)) {
        (false, false) => PipeState::Empty,
        (true, false) => PipeState::Bytes,
        (true, true) => PipeState::LastBytes,
        (false, true) => PipeState::Ended,
    }
}
