//! The tidier and the remover: threads that remove what jobs leave, so that no unlink or rmdir waits on the
//! loop. Directories of jobs on disk have a thread of their own: a hostile one takes seconds, for which neither
//! groups nor answers wait.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;
use log::Level;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::DaemonError;
use super::commands::{Answer, Deleted};
use crate::cgroup::{JobCgroup, Removal};
use crate::diag;
use crate::job::JobId;
use crate::sandbox::identity::Lease;
use crate::sandbox::work::WorkDisk;

/// Something to remove.
#[derive(Debug)]
pub(super) enum Chore {
    /// A job's group, from which whatever is left is killed.
    Cgroup(JobCgroup),
    /// A killed child of ours, to be reaped.
    Process(OwnedFd),
    /// A mount namespace to let go of: with its last reference the kernel takes its mounts apart, and waits.
    Close(OwnedFd),
    /// A file of `<dataDir>/run`.
    File(PathBuf),
    /// The spool of a job that is no longer remembered.
    Directory(PathBuf),
    /// A deleted job's spool; then its id is answered.
    Spool(PathBuf, JobId, Answer<JobId>),
    /// Many spools; then the count is answered.
    Spools(Vec<PathBuf>, Deleted, Answer<Deleted>),
}

/// Starts the thread. `tidied` is told about each group: `None` when it is gone, or the group for a later try.
///
/// # Errors
/// No thread.
pub(super) fn start_tidier(
    chores: Receiver<Chore>,
    tidied: impl Fn(Option<JobCgroup>) + Send + 'static,
) -> Result<JoinHandle<()>, DaemonError> {
    let work = move || {
        for chore in chores {
            tidy(chore, &tidied);
        }
    };
    let thread = std::thread::Builder::new().name("tidier".into());
    thread.spawn(work).map_err(|source| DaemonError::Thread { name: "tidier", source })
}

/// A `/work` on disk that is no longer needed.
#[derive(Debug)]
pub(super) struct WorkRemoval {
    /// Its name in `<dataDir>/work`.
    pub(super) name: CString,
    /// The id that its files count for; `None`: none of ours.
    pub(super) lease: Option<Lease>,
}

/// Starts the thread that removes directories of jobs. `removed` is given the lease when all is gone; a lease
/// whose files could not be removed stays out of use until the daemon starts again. Nobody joins it: the loop
/// waits for removals as long as a shutdown may take, and what is left then is the next daemon's.
///
/// # Errors
/// No thread.
pub(super) fn start_remover(
    disk: Arc<WorkDisk>,
    removals: Receiver<WorkRemoval>,
    removed: impl Fn(Option<Lease>) + Send + 'static,
) -> Result<(), DaemonError> {
    let work = move || {
        for WorkRemoval { name, lease } in removals {
            let done = disk.remove(&name, lease.as_ref().map(|lease| lease.id));
            if let Err(why) = &done {
                let path = disk.path().join(OsStr::from_bytes(name.to_bytes()));
                diag::limited!(
                    Level::Warn,
                    "cannot remove a job's work directory",
                    path = path.display(),
                    error = why
                );
            }
            removed(done.ok().and(lease));
        }
    };
    let thread = std::thread::Builder::new().name("remover".into());
    thread.spawn(work).map(drop).map_err(|source| DaemonError::Thread { name: "remover", source })
}

fn tidy(chore: Chore, tidied: &impl Fn(Option<JobCgroup>)) {
    match chore {
        Chore::Cgroup(group) => {
            let removal = group.kill().and_then(|()| group.remove());
            match removal {
                Ok(Removal::Busy) => tidied(Some(group)),
                Ok(Removal::Done) => tidied(None),
                Err(why) => {
                    diag::limited!(
                        Level::Warn,
                        "cannot remove a job's cgroup",
                        jobId = group.id(),
                        error = why
                    );
                    tidied(None);
                }
            }
        }
        Chore::Process(pidfd) => {
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        }
        Chore::Close(namespace) => drop(namespace),
        Chore::File(path) => say(fs::remove_file(&path), &path),
        Chore::Directory(path) => say(fs::remove_dir_all(&path), &path),
        Chore::Spool(path, id, answer) => {
            say(fs::remove_dir_all(&path), &path);
            let _ = answer.send(Ok(id));
        }
        Chore::Spools(paths, deleted, answer) => {
            for path in &paths {
                say(fs::remove_dir_all(path), path);
            }
            let _ = answer.send(Ok(deleted));
        }
    }
}

fn say(result: io::Result<()>, path: &std::path::Path) {
    if let Err(why) = result
        && why.kind() != io::ErrorKind::NotFound
    {
        diag::limited!(Level::Warn, "cannot remove", path = path.display(), error = why);
    }
}
