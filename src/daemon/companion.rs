//! Programs beside joblet that the daemon starts and watches: how one is started, how it ended, and how long to wait until
//! it is started again.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

/// Wait before the first new start, and the longest one.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// A process that has lived so long was healthy.
const HEALTHY: Duration = Duration::from_secs(60);
/// Numbers of descriptors below this one are given to the process.
const ABOVE: RawFd = 10;

/// How long to wait until a process that ended is started again.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// Nothing has ended yet.
    pub(super) fn new() -> Self {
        Backoff { next: FIRST }
    }

    /// The wait after a process that has lived so long.
    pub(super) fn after(&mut self, lived: Duration) -> Duration {
        if lived >= HEALTHY {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait
    }
}

/// The program of this name beside ours.
pub(super) fn program(name: &str) -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    beside.filter(|path| path.exists()).unwrap_or_else(|| Path::new("/opt/joblet/bin").join(name))
}

/// A process that lives, or that has ended and was not reaped.
#[derive(Debug)]
pub(super) struct Companion {
    /// The process itself.
    pub(super) pidfd: OwnedFd,
    /// Its process id.
    pub(super) pid: i32,
}

impl Companion {
    /// Starts a program with these words behind its name, and these descriptors under these numbers, below 10.
    ///
    /// # Errors
    /// The system's refusal.
    pub(super) fn start(
        program: &Path,
        words: &[&OsStr],
        given: &[(BorrowedFd<'_>, RawFd)],
    ) -> io::Result<Companion> {
        let mut actions = PosixSpawnFileActions::init()?;
        // Copies above all of their numbers, so that none stands where another one is to go.
        let mut copies = Vec::new();
        for (fd, number) in given {
            let copy = rustix::io::fcntl_dupfd_cloexec(fd, ABOVE)?;
            actions.add_dup2(copy.as_raw_fd(), *number)?;
            copies.push(copy);
        }
        let mut attributes = PosixSpawnAttr::init()?;
        attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK)?;
        attributes.set_sigmask(&SigSet::empty())?;
        let text = |bytes: Vec<u8>| CString::new(bytes).map_err(io::Error::other);
        let name = program.file_name().unwrap_or_default();
        let words = std::iter::once(name).chain(words.iter().copied());
        let words = words.map(|word| text(word.to_owned().into_vec())).collect::<io::Result<Vec<_>>>()?;
        let environment = std::env::vars_os().filter(|(name, _)| name != "NOTIFY_SOCKET");
        let pair = |(name, value): (OsString, OsString)| {
            text([name.into_vec(), b"=".to_vec(), value.into_vec()].concat())
        };
        let environment = environment.map(pair).collect::<io::Result<Vec<_>>>()?;
        let pid = posix_spawn(program, &actions, &attributes, &words, &environment)?.as_raw();
        drop(copies);
        let number = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
        // Not reaped yet, so the number is its own.
        let pidfd = pidfd_open(number, PidfdFlags::empty())?;
        Ok(Companion { pidfd, pid })
    }

    /// How the process ended, in words, once it has.
    pub(super) fn reap(&self) -> Option<String> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(None) => None,
            Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "unknown".to_owned(),
            }),
            Err(why) => Some(why.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_thirty_seconds_until_a_healthy_minute() {
        let mut backoff = Backoff::new();
        let waits: Vec<u64> = (0..7).map(|_| backoff.after(Duration::ZERO).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.after(HEALTHY), FIRST);
        assert_eq!(backoff.after(Duration::ZERO), 2 * FIRST);
    }
}
