//! The evidence of a job's end, read by a worker thread when PID 1 is gone: the loop opens no file of a job.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::Level;

use super::exit_file::read_exit;
use super::provision::Node;
use crate::cgroup::JobCgroup;
use crate::diag;
use crate::job::Denials;
use crate::job::exit_file::ExitFile;
use crate::metrics::TakeLast;

/// Everything that tells how a job ended and what it used.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence {
    /// What PID 1 wrote about the end; `None` where it wrote nothing.
    pub(super) exit: Option<ExitFile>,
    /// Peak memory in bytes, where the cgroup or a sample tells.
    pub(super) peak_bytes: Option<u64>,
    /// Processor time in microseconds, where the cgroup or the exit file tells.
    pub(super) cpu_usec: Option<u64>,
    /// Whether the cgroup counted a kill for memory.
    pub(super) oom: bool,
    /// Destinations that the job was refused, where it had a network.
    pub(super) denials: Option<Denials>,
    /// The host's disk has no room left for the volumes that the job could write.
    pub(super) disk_full: bool,
}

/// Less room than that is none: a loop device writes up to a megabyte at once.
const ROOM: u64 = 1 << 20;

/// Whether the file system of a directory is full.
fn is_full(dir: &Path) -> bool {
    rustix::fs::statvfs(dir).is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) < ROOM)
}

/// The network of a job, whose ledger has the last word on what it was refused.
#[derive(Debug)]
pub(super) struct Wired {
    node: Arc<Node>,
    address: Ipv4Addr,
}

impl Wired {
    /// That of a job with this address.
    pub(super) fn new(node: &Arc<Node>, address: Ipv4Addr) -> Wired {
        Wired { node: node.clone(), address }
    }

    fn denials(&self) -> Option<Denials> {
        let denials = self.node.egress.denials(&self.node.wiring, self.address);
        if let Err(why) = &denials {
            diag::limited!(Level::Warn, "cannot read what a job was refused", error = why);
        }
        denials.ok().map(Denials::kept)
    }
}

/// A function that reads the evidence of a job, for another thread; `volumes` is the directory of the volumes that the job could write. It has the job's last sample taken, by what it gets, as
/// soon as all is counted that the sample tells of; that returns the most memory that the job's samples have shown, for a
/// host whose cgroup does not tell.
pub(super) fn reader(
    exit_file: &Arc<File>,
    cgroup: Option<&JobCgroup>,
    wired: Option<Wired>,
    volumes: Option<PathBuf>,
) -> impl FnOnce(TakeLast<'_>) -> Evidence + Send + 'static {
    let exit_file = exit_file.clone();
    let cgroup = cgroup.and_then(|cgroup| {
        let copy = cgroup.try_clone();
        if let Err(why) = &copy {
            diag::limited!(
                Level::Warn,
                "cannot read a job's cgroup at its end",
                jobId = cgroup.id(),
                error = why
            );
        }
        copy.ok()
    });
    move |sample| {
        // First: the last look at the ledger counts what the job was refused since the one before.
        let denials = wired.as_ref().and_then(Wired::denials).filter(|denials| denials.total() > 0);
        let sampled = sample();
        let evidence = read(read_exit(&exit_file), cgroup.as_ref());
        let disk_full = volumes.as_deref().is_some_and(is_full);
        Evidence { peak_bytes: evidence.peak_bytes.or(sampled), denials, disk_full, ..evidence }
    }
}

/// The evidence of a job with this exit file and this cgroup.
pub(super) fn read(exit: Option<ExitFile>, cgroup: Option<&JobCgroup>) -> Evidence {
    let counted = cgroup.and_then(|group| group.cpu_time().ok().flatten());
    Evidence {
        exit,
        peak_bytes: cgroup.and_then(|group| group.peak_memory().ok().flatten()),
        cpu_usec: counted
            .map(|time| time.as_micros() as u64)
            .or(exit.map(|exit| exit.user_usec + exit.system_usec)),
        oom: cgroup.and_then(|group| group.memory_events().ok().flatten()).is_some_and(|e| e.killed()),
        denials: None,
        disk_full: false,
    }
}
