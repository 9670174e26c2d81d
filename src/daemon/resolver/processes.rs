//! The two processes: their start, and the file by which a later daemon finds them.
//!
//! `<dataDir>/run/resolver.processes` has a line with number and birth of each. It is needed only when front does not hear
//! any more: else a later daemon finds front by its socket.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::Level;
use rustix::pipe::{PipeFlags, pipe_with};

use super::sockets;
use crate::cgroup::{CgroupError, CgroupTree};
use crate::daemon::companion::{Companion, program};
use crate::diag;
use crate::resolver::MEMORY;
use crate::sys::pidfd;

/// How long a process has until it is gone after its kill.
const GONE: Duration = Duration::from_secs(5);
/// The group of both, beside those of the jobs.
pub(super) const GROUP: &str = "resolver";
/// Processes of that group: also those of an earlier resolver, until they are gone.
const MOST: u32 = 8;
/// When memory runs out, the kernel takes jobs first, then these, and the daemon last (oom_score_adj, proc(5)).
const OOM_SCORE: i32 = -500;
/// Most of what a process says that is kept.
const MOST_SAID: usize = 2048;

/// Front and pin as children of ours.
#[derive(Debug)]
pub(super) struct Processes {
    /// Both, front first.
    pub(super) both: [Companion; 2],
    /// When they were started.
    pub(super) since: Instant,
    says: OwnedFd,
}

/// Where the socket and the file are.
#[derive(Debug)]
pub(super) struct Places {
    /// The socket at which front hears daemons.
    pub(super) socket: PathBuf,
    /// The file with the numbers of the processes.
    pub(super) numbers: PathBuf,
}

impl Places {
    /// Those below `<dataDir>/run`.
    pub(super) fn new(run_dir: &Path) -> Self {
        Places { socket: run_dir.join("resolver.sock"), numbers: run_dir.join("resolver.processes") }
    }

    /// Ends what an earlier daemon has left, by the file.
    pub(super) fn end_left(&self) {
        let text = fs::read_to_string(&self.numbers).unwrap_or_default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (pid, birth) =
                (words.next().and_then(|w| w.parse().ok()), words.next().and_then(|w| w.parse().ok()));
            let found = pid.zip(birth).and_then(|(pid, birth)| pidfd::open(pid, birth).ok());
            if let Some(process) = found {
                // It is tried again with the next start, which finds the address taken.
                let _ = pidfd::end(&process, GONE);
            }
        }
        self.remove();
    }

    /// Removes the socket and the file.
    pub(super) fn remove(&self) {
        for path in [&self.socket, &self.numbers] {
            let _ = fs::remove_file(path);
        }
    }

    fn write(&self, both: &[Companion; 2]) -> io::Result<()> {
        let line = |process: &Companion| {
            format!("{} {}\n", process.pid, pidfd::start_time(process.pid).unwrap_or_default())
        };
        fs::write(&self.numbers, both.iter().map(line).collect::<String>())
    }
}

impl Processes {
    /// Starts both for a router, under this user id.
    ///
    /// # Errors
    /// The system's refusal.
    pub(super) fn start(router: BorrowedFd<'_>, places: &Places, user: u32) -> io::Result<Processes> {
        let of_router = sockets::of_router(router)?;
        let listener = sockets::listen_at(&places.socket)?;
        let (fronts, pins) = sockets::between()?;
        let (says, said) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?;
        let (program, user) = (program("joblet-resolver"), user.to_string());
        let start = |role: &str, own: &[BorrowedFd<'_>]| {
            let usual = [(null.as_fd(), 0), (null.as_fd(), 1), (said.as_fd(), 2)];
            let given: Vec<(BorrowedFd<'_>, RawFd)> =
                usual.into_iter().chain(own.iter().copied().zip(3..)).collect();
            Companion::start(&program, &[role.as_ref(), user.as_ref(), router_name(router)?.as_ref()], &given)
        };
        let pin = start("pin", &[pins.as_fd(), of_router.filter.as_fd()])?;
        let [udp, tcp, links] = of_router.of_front();
        let front = start("front", &[udp, tcp, listener.as_fd(), fronts.as_fd(), links]);
        let front = front.inspect_err(|_| pidfd::kill_and_reap(pin.pidfd.as_fd()))?;
        let both = [front, pin];
        places.write(&both)?;
        Ok(Processes { both, since: Instant::now(), says })
    }

    /// How one of them ended, once one has; the other one is ended then.
    pub(super) fn ended(&self) -> Option<String> {
        let [front, pin] = &self.both;
        let how = match (front.reap(), pin.reap()) {
            (None, None) => return None,
            (Some(how), Some(_)) | (Some(how), None) => {
                pidfd::kill_and_reap(pin.pidfd.as_fd());
                format!("front: {how}")
            }
            (None, Some(how)) => {
                pidfd::kill_and_reap(front.pidfd.as_fd());
                format!("pin: {how}")
            }
        };
        let mut buffer = [0; MOST_SAID];
        let length = rustix::io::read(&self.says, &mut buffer).unwrap_or(0);
        let said = String::from_utf8_lossy(&buffer[..length]);
        Some(if said.trim().is_empty() { how } else { format!("{how}: {}", said.trim()) })
    }

    /// Gives both a group and a place among the victims of the out-of-memory killer. Tunings: without them they stay where the
    /// daemon is.
    pub(super) fn set_apart(&self, tree: &CgroupTree) {
        let pids = self.both.each_ref().map(|process| process.pid);
        let apart = || -> Result<(), CgroupError> {
            let group = tree.program(GROUP, MEMORY, MOST)?;
            pids.into_iter().try_for_each(|pid| group.take_in(pid))
        };
        if let Err(why) = apart() {
            diag::event!(Level::Warn, "the resolver of jobs' names has no group of its own", error = why);
        }
        if let Err(why) = pids.into_iter().try_for_each(set_oom_score) {
            diag::event!(
                Level::Warn,
                "the resolver is protected from the out-of-memory killer as the daemon is",
                error = why
            );
        }
    }

    /// Ends both processes at once.
    pub(super) fn kill(&self) {
        self.both.iter().for_each(|process| pidfd::kill_and_reap(process.pidfd.as_fd()));
    }
}

/// A daemon that is protected less than that does not protect its resolver more.
fn set_oom_score(pid: i32) -> io::Result<()> {
    let own = fs::read_to_string("/proc/self/oom_score_adj")?;
    let own: i32 = own.trim().parse().map_err(io::Error::other)?;
    fs::write(format!("/proc/{pid}/oom_score_adj"), own.max(OOM_SCORE).to_string())
}

/// A mark that tells this router from another one, as long as somebody holds it.
///
/// # Errors
/// The system's refusal.
pub(super) fn router_name(router: BorrowedFd<'_>) -> io::Result<String> {
    let stat = rustix::fs::fstat(router)?;
    Ok(format!("{}:{}", stat.st_dev, stat.st_ino))
}
