//! `GetJobStatus` with `security`: what stands around a running job. The loop says which job it is and what was
//! promised; a worker thread reads.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::cleanup::CleanupTask;
use super::commands::{Answer, CommandError};
use super::event_loop::Loop;
use super::starting::Spawner;
use crate::cgroup::CgroupError;
use crate::job::{JobRef, JobView, Layer, Limits, NetworkMode, State};
use crate::sandbox::security::{Promise, read_back};

/// A job that is to be looked at.
#[derive(Debug)]
pub(super) struct Look {
    view: JobView,
    // Of its PID 1: while that lives, the numbers that we read are the job's.
    pidfd: OwnedFd,
    promise: Promise,
    limits: Limits,
    // Its group and disks are those that the limits were written with.
    spawner: Arc<Spawner>,
    answer: Answer<(JobView, Vec<Layer>)>,
}

impl Loop {
    /// Hands a running job to the worker that looks at it.
    pub(super) fn look_at(&mut self, wanted: &JobRef, answer: Answer<(JobView, Vec<Layer>)>) {
        let job = match self.table.find(wanted) {
            Ok(job) => job,
            Err(why) => {
                let _ = answer.send(Err(why));
                return;
            }
        };
        let view = job.view(&self.queue);
        let running = matches!(job.state, State::Running | State::StopRequested(_) | State::Stopping(_));
        let (Some(child), Some(lease), true) = (&job.child, &job.lease, running) else {
            let _ = answer.send(Err(not_running(&view)));
            return;
        };
        let pidfd = match child.pidfd.try_clone() {
            Ok(pidfd) => pidfd,
            Err(why) => {
                let text = format!("cannot look at job {}: {why}", job.id);
                let _ = answer.send(Err(CommandError::Exhausted(text)));
                return;
            }
        };
        let promise = Promise {
            host_id: lease.id,
            own_network: job.spec.network == NetworkMode::None,
            pids: job.spec.limits.pids,
        };
        let limits = job.spec.limits.clone();
        let spawner = self.spawner.clone();
        self.cleanup(CleanupTask::Look(Box::new(Look { view, pidfd, promise, limits, spawner, answer })));
    }
}

impl Look {
    /// Reads everything and answers.
    pub(super) fn run(self) {
        let read = self.read();
        let Look { view, pidfd, answer, .. } = self;
        let result = match read {
            // What was read of a job that has ended meanwhile may be another process's.
            _ if has_ended(&pidfd) => Err(not_running(&view)),
            Err(why) if is_gone(&why) => Err(not_running(&view)),
            Err(why) => Err(CommandError::SetUp(format!("cannot read job {} back: {why}", view.id))),
            Ok(layers) => Ok((view, layers)),
        };
        let _ = answer.send(result);
    }

    fn read(&self) -> io::Result<Vec<Layer>> {
        let Spawner { tree, disks, .. } = &*self.spawner;
        let group = tree.read_back(self.view.id, &self.limits, disks).map_err(|why| match why {
            CgroupError::Read { source, .. } => source,
            why => io::Error::other(why),
        })?;
        let mut layers = read_back(Path::new("/proc"), &group.processes, &self.promise)?;
        layers.extend(group.layers);
        Ok(layers)
    }
}

fn not_running(view: &JobView) -> CommandError {
    let text = format!("job is not running: {} (current status: {})", view.id, view.status.as_str());
    CommandError::WrongState(text)
}

/// What files of a process or group answer when it has gone.
fn is_gone(why: &io::Error) -> bool {
    let errno = why.raw_os_error().map(Errno::from_raw_os_error);
    why.kind() == io::ErrorKind::NotFound || matches!(errno, Some(Errno::SRCH | Errno::NODEV))
}

/// A pidfd is readable when its process has ended (pidfd_open(2)).
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}
