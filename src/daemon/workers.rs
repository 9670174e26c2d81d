//! The tidier: a thread that removes what jobs leave, so that no unlink or rmdir waits on the loop.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;
use log::Level;

use super::DaemonError;
use super::commands::{Answer, Deleted};
use crate::cgroup::{JobCgroup, Removal};
use crate::diag;
use crate::job::JobId;

/// Something to remove.
#[derive(Debug)]
pub(super) enum Chore {
    /// A job's group, from which whatever is left is killed.
    Cgroup(JobCgroup),
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
