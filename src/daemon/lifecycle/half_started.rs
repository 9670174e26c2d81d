//! Undoing a start that was under way when the daemon ended: what it had made is adopted and released as that of any job,
//! but at once. The next start makes the same things anew, under the same names, and the loop does not turn yet.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};

use crate::cgroup::{JobCgroup, Removal};
use crate::daemon::cleanup::BUSY_AGAIN;
use crate::daemon::core::Core;
use crate::daemon::jobs::{Job, Trace};
use crate::daemon::provision::{Remover, Resources};
use crate::sandbox::identity::Lease;
use crate::sandbox::work::WorkDisk;
use crate::sys::pidfd;

/// Removes what a start had made that did not come to its payload, as the job has adopted it. The job keeps its runtime.
///
/// # Errors
/// Processes do not end, or something cannot be removed: then the job has what is left, and gives it back at its end.
pub(super) fn undo_start(core: &mut Core, job: &mut Job) -> io::Result<()> {
    let bound = core.settings.cleanup_timeout;
    if let Some(group) = &job.held.cgroup {
        end_processes(group, bound)?;
    }
    let runtime = job.held.runtime.take();
    let mut at_once =
        AtOnce { disk: core.node.disk.as_deref(), bound, free: Vec::new(), busy: None, refused: Ok(()) };
    std::mem::take(&mut job.held).release(&mut core.supply, &mut at_once);
    let AtOnce { free, busy, refused, .. } = at_once;
    free.into_iter().for_each(|lease| core.supply.take_back(lease));
    job.held = Resources { runtime, cgroup: busy, ..Resources::default() };
    job.trace = Trace::default();
    // joblet-init itself may have written there. The next start begins the output anew.
    refused.and_then(|()| gone(fs::remove_dir_all(core.node.spool.join(job.id.to_string()))))
}

/// Ends everything in a group, and waits for it so long at most: things of a job are given back when no process has them.
fn end_processes(group: &JobCgroup, bound: Duration) -> io::Result<()> {
    let processes = group.processes().map_err(io::Error::other)?;
    let inits = processes.iter().filter_map(|pid| pidfd::open(*pid, pidfd::start_time(*pid)?).ok());
    let inits: Vec<OwnedFd> = inits.collect();
    group.kill().map_err(io::Error::other)?;
    inits.iter().try_for_each(|init| pidfd::end(init, bound))
}

/// Removes what it gets before it returns.
#[derive(Debug)]
struct AtOnce<'a> {
    disk: Option<&'a WorkDisk>,
    bound: Duration,
    // Leases whose files are gone.
    free: Vec<Lease>,
    // The group that could not be removed.
    busy: Option<JobCgroup>,
    // The first refusal.
    refused: io::Result<()>,
}

impl AtOnce<'_> {
    fn note(&mut self, done: io::Result<()>) {
        if self.refused.is_ok() {
            self.refused = done;
        }
    }
}

impl Remover for AtOnce<'_> {
    fn close(&mut self, namespace: OwnedFd) {
        drop(namespace);
    }

    fn look_into_network(&mut self, namespace: OwnedFd) {
        drop(namespace);
    }

    fn remove_work(&mut self, directory: CString, lease: Option<Lease>) {
        let project = lease.as_ref().map(|lease| lease.id);
        let done = self.disk.map_or(Ok(()), |disk| gone(disk.remove(&directory, project)));
        if done.is_ok() {
            self.free.extend(lease);
        }
        self.note(done);
    }

    fn remove_file(&mut self, path: PathBuf) {
        self.note(gone(fs::remove_file(path)));
    }

    fn remove_cgroup(&mut self, group: JobCgroup) {
        let done = until_removed(self.bound, || group.remove().map_err(io::Error::other));
        if done.is_err() {
            self.busy = Some(group);
        }
        self.note(done);
    }
}

/// The same, where a thing that is gone already counts as removed.
fn gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

/// Tries to remove a group until its processes have left it, so long at most.
fn until_removed(bound: Duration, mut remove: impl FnMut() -> io::Result<Removal>) -> io::Result<()> {
    let end = Instant::now() + bound;
    while remove()? == Removal::Busy {
        if Instant::now() >= end {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // No file tells when the kernel lets go of a process that is gone.
        poll(&mut [], Some(&Timespec::try_from(BUSY_AGAIN).map_err(io::Error::other)?))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A start met the group of the one before, whose processes had not left it yet.
    #[test]
    fn busy_group_is_removed_before_the_job_starts_again() {
        let mut tries = [Removal::Busy, Removal::Busy, Removal::Done].into_iter();
        let long = Duration::from_secs(3600);
        until_removed(long, || Ok(tries.next().unwrap())).unwrap();
        assert!(tries.next().is_none());
        let late = until_removed(Duration::ZERO, || Ok(Removal::Busy)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        let failed = until_removed(long, || Err(io::ErrorKind::PermissionDenied.into())).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn first_refusal_is_told_and_the_rest_is_removed_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let disk = WorkDisk::open(dir.path()).unwrap();
        fs::create_dir_all(dir.path().join("work/job/below")).unwrap();
        let (file, full) = (dir.path().join("file"), dir.path().join("full"));
        fs::write(&file, "").unwrap();
        fs::create_dir_all(full.join("below")).unwrap();
        let (free, busy, bound) = (Vec::new(), None, Duration::ZERO);
        let mut at_once = AtOnce { disk: Some(&disk), bound, free, busy, refused: Ok(()) };
        at_once.remove_file(dir.path().join("none"));
        assert!(at_once.refused.is_ok(), "what is gone is removed");
        at_once.remove_file(full.clone());
        at_once.remove_file(file.clone());
        at_once.remove_work(CString::new("job").unwrap(), None);
        let why = at_once.refused.unwrap_err();
        assert_eq!(why.kind(), fs::remove_file(&full).unwrap_err().kind());
        assert!(!file.exists() && !dir.path().join("work/job").exists());
    }
}
