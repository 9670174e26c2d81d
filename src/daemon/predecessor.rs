//! An earlier daemon that was killed and cannot end, because a thread of it waits for the lock of a job's output pipe.
//!
//! Until that thread is gone it keeps the lock of the run directory, and its ports. The job outlives the daemon, so nobody
//! would end it. The new daemon finds the pipe by what the thread waits for (proc_pid_syscall(5)), and the job by its
//! joblet-init, which has that pipe too, and kills it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::Level;

use super::lifecycle::first_process::is_first;
use crate::diag;
use crate::sys::pidfd;

/// How long a killed job has to go.
const KILL_WAIT: Duration = Duration::from_secs(2);

/// Kills the jobs whose pipes keep the process from its end that has locked this directory. Returns the host numbers of their
/// PID 1s. Nothing is done while that process is not dying.
pub(super) fn end_holders(directory: &File) -> Vec<i32> {
    let mut killed = Vec::new();
    for daemon in holders(directory).into_iter().filter(|pid| is_dying(*pid)) {
        for pipe in awaited_pipes(daemon) {
            killed.extend(end_job_of(&pipe));
        }
    }
    killed
}

/// The processes that have locked a file by flock(2): proc_locks(5).
fn holders(file: &File) -> Vec<i32> {
    let Ok(inode) = file.metadata().map(|meta| meta.ino()) else { return Vec::new() };
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let holder = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (kind, pid, place) = (words.next()?, words.nth(2)?, words.next()?);
        (kind == "FLOCK" && place.rsplit(':').next()? == inode.to_string()).then(|| pid.parse().ok())?
    };
    locks.lines().filter_map(holder).collect()
}

/// Whether the first thread of a process is gone, and others are not: it was killed.
fn is_dying(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// The pipes in whose calls threads of a process are, as links of /proc name them: `pipe:[1234]`.
fn awaited_pipes(pid: i32) -> Vec<PathBuf> {
    let awaited = |thread: PathBuf| {
        let call = fs::read_to_string(thread.join("syscall")).ok()?;
        // The number of the call, then its arguments: the first one is the descriptor.
        let fd = call.split_whitespace().nth(1)?.strip_prefix("0x")?;
        let fd = i32::from_str_radix(fd, 16).ok()?;
        Some(fs::read_link(thread.join("fd").join(fd.to_string())).ok()?).filter(|link| is_pipe(link))
    };
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.filter_map(|thread| awaited(thread.path())).collect()
}

fn is_pipe(link: &Path) -> bool {
    link.to_str().is_some_and(|link| link.starts_with("pipe:"))
}

/// Kills the joblet-init that has this pipe, and with it its job.
fn end_job_of(pipe: &Path) -> Option<i32> {
    let has_it = |pid: i32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|link| link == pipe)
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let init = pids.filter(|pid| is_first(*pid)).find(|pid| has_it(*pid))?;
    let process = pidfd::open(init, pidfd::start_time(init)?).ok()?;
    // Only now the number cannot pass on any more.
    if !has_it(init) {
        return None;
    }
    let ended = pidfd::end(&process, KILL_WAIT);
    diag::event!(
        Level::Warn,
        "killed a job that kept the earlier daemon from its end by the lock of its output pipe",
        pid = init
    );
    if let Err(why) = ended {
        diag::event!(Level::Error, "it does not end", pid = init, error = why);
    }
    Some(init)
}
