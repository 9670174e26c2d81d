//! PID 1 of a job of an earlier daemon: whether it lives, and whether it has begun with the payload.
//!
//! A joblet-init whose daemon is killed decides for itself. With its exec request it marks the exit file and starts the
//! payload; without one it ends, and leaves the mark that the daemon wrote when it made the file. So a job whose start
//! was under way either runs, or is started again by the next daemon, as if it had waited: never both.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cgroup::JobCgroup;
use crate::daemon::core::Core;
use crate::daemon::staging;
use crate::diag;
use crate::job::exit_file::{self, Progress};
use crate::sandbox::create::exit_file_path;
use crate::state::record::Process;
use crate::state::{Record, Stage, intent};
use crate::sys::pidfd;

/// The time between two looks at a PID 1 that has not decided.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };

/// A PID 1 that lives.
#[derive(Debug)]
pub(super) struct Found {
    /// A pidfd of it.
    pub(super) pidfd: OwnedFd,
    /// Its number on the host.
    pub(super) pid: i32,
}

impl Found {
    /// Whether it ends within this time.
    fn ends(&self, within: &Timespec) -> bool {
        poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(within)) != Ok(0)
    }
}

/// A job's PID 1, if it lives: by its number and birth, or, where those were not recorded yet, as the one process of the
/// job's group that is number 1 in there.
pub(super) fn find_init(recorded: Option<&Process>, group: Option<&JobCgroup>) -> Option<Found> {
    let of = |pid, start_time| Some(Found { pidfd: pidfd::open(pid, start_time).ok()?, pid });
    let found = recorded.and_then(|process| of(process.pid, process.start_time));
    let found = found.or_else(|| {
        let pid = group?.processes().ok()?.into_iter().find(|pid| is_first(*pid))?;
        let found = of(pid, pidfd::start_time(pid)?)?;
        // Only now the number cannot pass on any more.
        group?.processes().ok()?.contains(&pid).then_some(found)
    })?;
    (!found.ends(&Timespec { tv_sec: 0, tv_nsec: 0 })).then_some(found)
}

/// Whether a process is number 1 of its pid namespace (proc_pid_status(5), NSpid).
pub(in crate::daemon) fn is_first(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| numbers.split_whitespace().count() > 1 && numbers.ends_with("\t1"))
}

/// Whether a job was given to a spawner and its payload never began, and its inputs are there: it waits again. Those of
/// a job that did not wait, with files or secrets, were in the memory of the daemon.
pub(super) fn never_began(core: &Core, record: &Record) -> bool {
    let is_new = record.stage == Stage::Active(None) && record.started_ns.is_none();
    if !is_new || record.boot != core.ledger.boot() {
        return false;
    }
    let has_inputs =
        record.queued_ns.is_some() || record.spec.part.is_some() || !staging::is_needed(&record.spec);
    match File::open(exit_file_path(&core.node.run_dir, &record.id.to_string())) {
        // No payload runs before its intent is written.
        Ok(file) => (intent::read(&file).is_none() || !has_begun(core, record, &file)) && has_inputs,
        Err(why) => why.kind() == io::ErrorKind::NotFound && has_inputs,
    }
}

/// Whether the payload of a job with an intent has begun, or may have. Its joblet-init is waited for until it has
/// decided.
fn has_begun(core: &Core, record: &Record, file: &File) -> bool {
    let group = core.node.tree.reopen(record.id).ok().flatten();
    let init = find_init(record.process.as_ref(), group.as_ref());
    let end = Instant::now() + core.settings.cleanup_timeout;
    decided(file, init.as_ref(), end, |init| {
        diag::event!(Level::Error, "a joblet-init hangs before its payload, ending it", jobId = record.id);
        pidfd::end(&init.pidfd, core.settings.cleanup_timeout)
    })
}

fn decided(
    file: &File,
    init: Option<&Found>,
    end: Instant,
    kill: impl FnOnce(&Found) -> io::Result<()>,
) -> bool {
    loop {
        // Before the look at the file: what is there when it has ended, stays.
        let has_ended = init.is_none_or(|init| init.ends(&LOOK_AGAIN));
        if progress(file) != Progress::Waiting {
            return true;
        }
        match init {
            Some(init) if !has_ended => {
                if Instant::now() >= end {
                    // One that cannot be killed may go on at any time.
                    return kill(init).is_err() || progress(file) != Progress::Waiting;
                }
            }
            _ => return false,
        }
    }
}

/// The progress of a payload; unknown where its exit file cannot be read.
pub(super) fn progress(file: &File) -> Progress {
    let mut block = [0; exit_file::SIZE];
    file.read_exact_at(&mut block, 0).map_or(Progress::Unknown, |()| exit_file::progress(&block))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init_abi::exit_file::{BEGUN, ExitFile};
    use std::process::{Child, Command};
    use std::time::Duration;

    fn sleeper() -> (Child, Found) {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id().cast_signed();
        let found = Found { pidfd: pidfd::open(pid, pidfd::start_time(pid).unwrap()).unwrap(), pid };
        (child, found)
    }

    fn file(block: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(block, 0).unwrap();
        file
    }

    #[test]
    fn exit_file_tells_how_far_its_payload_came() {
        for (block, wanted) in [
            (exit_file::waiting(), Progress::Waiting),
            (ExitFile::default().encode(), Progress::Ended),
            ([0; exit_file::SIZE], Progress::Unknown),
        ] {
            assert_eq!(progress(&file(&block)), wanted);
        }
        let begun = file(&exit_file::waiting());
        begun.write_all_at(&BEGUN, 0).unwrap();
        assert_eq!(progress(&begun), Progress::Begun);
        assert_eq!(progress(&file(b"JBWAIT01")), Progress::Unknown, "half a block");
    }

    #[test]
    fn init_that_ends_without_its_mark_has_not_begun() {
        let late = Instant::now() + Duration::from_secs(3600);
        let never = |_: &Found| -> io::Result<()> { unreachable!("it has decided") };
        assert!(!decided(&file(&exit_file::waiting()), None, late, never));
        assert!(decided(&file(&[0; exit_file::SIZE]), None, late, never), "an earlier version's");
        let (mut child, found) = sleeper();
        let marked = file(&exit_file::waiting());
        marked.write_all_at(&BEGUN, 0).unwrap();
        assert!(decided(&marked, Some(&found), late, never));
        std::thread::scope(|scope| {
            let waits = file(&exit_file::waiting());
            let found = &found;
            let look = scope.spawn(move || decided(&waits, Some(found), late, never));
            child.kill().unwrap();
            assert!(!look.join().unwrap());
        });
        child.wait().unwrap();
    }

    #[test]
    fn init_that_hangs_is_killed_before_its_job_starts_again() {
        let (mut child, found) = sleeper();
        let waits = file(&exit_file::waiting());
        let now = Instant::now();
        assert!(!decided(&waits, Some(&found), now, |init| pidfd::end(&init.pidfd, Duration::from_secs(60))));
        child.wait().unwrap();
        assert!(decided(&waits, Some(&sleeper_that_stays()), now, |_| Err(io::ErrorKind::TimedOut.into())));
    }

    /// This process, which nobody kills.
    fn sleeper_that_stays() -> Found {
        let pid = std::process::id().cast_signed();
        Found { pidfd: pidfd::open(pid, pidfd::start_time(pid).unwrap()).unwrap(), pid }
    }
}
