//! The tidier and the remover: threads that remove what jobs leave, so that no unlink or rmdir waits on the
//! loop. Directories of jobs on disk have a thread of their own: a hostile one takes seconds, for which neither
//! groups nor answers wait.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
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
use super::event_loop::WorkerEvent;
use super::security::Look;
use crate::cgroup::{JobCgroup, Removal};
use crate::diag;
use crate::job::JobId;
use crate::sandbox::identity::Lease;
use crate::sandbox::work::WorkDisk;
use crate::state::{Record, sidecar};
use crate::sys::thread::join_network;

/// Something to remove, or to put away.
#[derive(Debug)]
pub(super) enum CleanupTask {
    /// A job's group, from which whatever is left is killed.
    Cgroup(JobCgroup),
    /// A killed child of ours, to be reaped.
    Process(OwnedFd),
    /// A mount namespace to let go of: with its last reference the kernel takes its mounts apart, and waits.
    Close(OwnedFd),
    /// A network namespace that a job had: the loop may keep it if nothing is left in it.
    Network(OwnedFd),
    /// The last record of a job, for the spool at this path.
    Record(PathBuf, Box<Record>),
    /// A file of `<dataDir>/run`.
    File(PathBuf),
    /// The spool of a job that is no longer remembered.
    Directory(PathBuf),
    /// A deleted job's spool; then its id is answered.
    Spool(PathBuf, JobId, Answer<JobId>),
    /// Many spools; then the count is answered.
    Spools(Vec<PathBuf>, Deleted, Answer<Deleted>),
    /// A running job's layers to be read back; then they are answered.
    Look(Box<Look>),
}

/// Starts the thread. `tell` hears about each group ([`WorkerEvent::CgroupRemoved`]: `None` when it is gone, or the group for a later
/// try) and each network that is clean.
///
/// # Errors
/// No thread.
pub(super) fn start(
    cleanups: Receiver<CleanupTask>,
    tell: impl Fn(WorkerEvent) + Send + 'static,
) -> Result<JoinHandle<()>, DaemonError> {
    let work = move || {
        for cleanup in cleanups {
            carry_out(cleanup, &tell);
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

fn carry_out(cleanup: CleanupTask, tell: &impl Fn(WorkerEvent)) {
    let tidied = |group| tell(WorkerEvent::CgroupRemoved(group));
    match cleanup {
        CleanupTask::Cgroup(group) => {
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
        CleanupTask::Process(pidfd) => {
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        }
        CleanupTask::Close(namespace) => drop(namespace),
        CleanupTask::Network(namespace) => match is_clean(&namespace) {
            Ok(true) => tell(WorkerEvent::NetworkClean(namespace)),
            Ok(false) => {}
            Err(why) => diag::limited!(Level::Warn, "cannot look into a network namespace", error = why),
        },
        CleanupTask::Record(spool, record) => {
            if let Err(why) = sidecar::write(&spool, &record) {
                diag::limited!(
                    Level::Warn,
                    "cannot keep a job's record beside its output",
                    path = spool.display(),
                    error = why
                );
            }
        }
        CleanupTask::File(path) => say(fs::remove_file(&path), &path),
        CleanupTask::Directory(path) => say(fs::remove_dir_all(&path), &path),
        CleanupTask::Spool(path, id, answer) => {
            say(fs::remove_dir_all(&path), &path);
            let _ = answer.send(Ok(id));
        }
        CleanupTask::Spools(paths, deleted, answer) => {
            for path in &paths {
                say(fs::remove_dir_all(path), path);
            }
            let _ = answer.send(Ok(deleted));
        }
        CleanupTask::Look(look) => look.run(),
    }
}

/// Whether a network namespace holds no socket, not even one that waits for its last packets.
fn is_clean(namespace: &OwnedFd) -> io::Result<bool> {
    let host = File::open("/proc/thread-self/ns/net")?;
    join_network(namespace.as_fd())?;
    let sockets = fs::read_to_string("/proc/thread-self/net/sockstat");
    join_network(host.as_fd())?;
    Ok(no_sockets(&sockets?))
}

/// Reads `/proc/net/sockstat` (proc(5)): sockets in use, those without a process included, and in TIME_WAIT.
fn no_sockets(sockstat: &str) -> bool {
    let number = |line: &str, name: &str| {
        let mut words = sockstat.lines().find_map(|l| l.strip_prefix(line))?.split_whitespace();
        words.by_ref().find(|word| *word == name)?;
        words.next()?.parse::<u64>().ok()
    };
    number("sockets:", "used") == Some(0) && number("TCP:", "tw") == Some(0)
}

fn say(result: io::Result<()>, path: &std::path::Path) {
    if let Err(why) = result
        && why.kind() != io::ErrorKind::NotFound
    {
        diag::limited!(Level::Warn, "cannot remove", path = path.display(), error = why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_with_a_socket_is_not_clean() {
        let text = |used, tw| {
            format!("sockets: used {used}\nTCP: inuse 0 orphan 0 tw {tw} alloc 9 mem 0\nUDP: inuse 0 mem 0\n")
        };
        assert!(no_sockets(&text(0, 0)));
        assert!(!no_sockets(&text(1, 0)) && !no_sockets(&text(0, 1)) && !no_sockets(""));
    }
}
