//! Removing what jobs leave: the owner on the loop, and the two threads that do it, so that no unlink or rmdir waits on
//! the loop. Directories of jobs on disk have a thread of their own: a hostile one takes seconds, for which neither
//! groups nor answers wait.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use log::Level;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::DaemonError;
use super::evidence::Evidence;
use super::provision::Remover;
use super::token::{Counter, Token};
use crate::cgroup::{JobCgroup, Removal};
use crate::diag;
use crate::job::JobId;
use crate::metrics::series;
use crate::output::{Stream, ring};
use crate::sandbox::identity::Lease;
use crate::sandbox::work::WorkDisk;
use crate::state::{Record, sidecar};
use crate::sys::thread::join_network;

/// Runs when the last of some directories is removed.
pub(super) type WhenRemoved = Box<dyn FnOnce() + Send>;

/// Something to remove, or to put away.
pub(super) enum CleanupTask {
    /// A job's cgroup, from which whatever is left is killed.
    Cgroup(BusyCgroup),
    /// The cgroup of a job that is to end now.
    Kill(JobCgroup),
    /// A killed child of ours, to be reaped.
    Reap(OwnedFd),
    /// A mount namespace to close: with its last reference the kernel takes its mounts apart, and waits.
    Close(OwnedFd),
    /// A network namespace that a job had: the loop may keep it if nothing is left in it.
    Network(OwnedFd),
    /// The last record of a job, for the spool at this path.
    Record(PathBuf, Box<Record>),
    /// A file to remove.
    File(PathBuf),
    /// Directories to remove with all that is in them, one after the other, with other tasks in between; then what is
    /// done behind the last one.
    Directories(VecDeque<PathBuf>, Option<WhenRemoved>),
    /// Spools of jobs that are over, each with its directories of history, to be measured one after the other, with other
    /// tasks in between.
    Measure(VecDeque<(JobId, Vec<PathBuf>)>),
    /// The evidence of a job, to be read.
    Evidence(JobId, Box<dyn FnOnce() -> Evidence + Send>),
    /// The beginning of what the job with this spool has written, to be read, and then whom to hand it to.
    Beginning(PathBuf, Box<dyn FnOnce(String) + Send>),
}

impl fmt::Debug for CleanupTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CleanupTask::Cgroup(cgroup) => write!(f, "Cgroup({:?})", cgroup.group),
            CleanupTask::Kill(group) => write!(f, "Kill({group:?})"),
            CleanupTask::Reap(_) => write!(f, "Reap"),
            CleanupTask::Close(_) => write!(f, "Close"),
            CleanupTask::Network(_) => write!(f, "Network"),
            CleanupTask::Record(path, _) => write!(f, "Record({})", path.display()),
            CleanupTask::File(path) => write!(f, "File({})", path.display()),
            CleanupTask::Directories(paths, _) => write!(f, "Directories({})", paths.len()),
            CleanupTask::Measure(jobs) => write!(f, "Measure({})", jobs.len()),
            CleanupTask::Evidence(id, _) => write!(f, "Evidence({id})"),
            CleanupTask::Beginning(spool, _) => write!(f, "Beginning({})", spool.display()),
        }
    }
}

/// A cgroup that is to be removed, and is counted until it is.
#[derive(Debug)]
pub(super) struct BusyCgroup {
    group: JobCgroup,
    pending: PendingCleanup,
    since: Instant,
    is_late: bool,
}

/// How long a busy cgroup is left alone before the next try, and how long after [`BusyCgroup::next_try`] has warned.
pub(super) const BUSY_AGAIN: Duration = Duration::from_millis(10);
const LATE_AGAIN: Duration = Duration::from_secs(1);

impl BusyCgroup {
    /// When to try again to remove it. Beyond `bound` (`joblet.cleanupTimeout`) it is logged once and tried less often:
    /// a process in it hangs in the kernel.
    pub(super) fn next_try(&mut self, now: Instant, bound: Duration) -> Instant {
        if !self.is_late && now.saturating_duration_since(self.since) > bound {
            self.is_late = true;
            let id = self.group.id();
            diag::event!(Level::Warn, "a job's cgroup still has processes, removing it later", jobId = id);
        }
        now + if self.is_late { LATE_AGAIN } else { BUSY_AGAIN }
    }
}

/// Counts one removal until the loop has heard of its end.
#[derive(Debug)]
pub(super) struct PendingCleanup(#[expect(dead_code, reason = "counts as long as it lives")] Token);

/// An answer of one of the threads.
#[derive(Debug)]
pub(super) enum CleanupEvent {
    /// A cgroup is gone, or cannot be removed.
    CgroupDone(PendingCleanup),
    /// A cgroup has processes in it that are not gone yet: to be tried again.
    CgroupBusy(BusyCgroup),
    /// Nothing is left in a network namespace.
    NetworkClean(OwnedFd),
    /// The evidence of a job, read.
    Evidence(JobId, Box<Evidence>),
    /// So many bytes of a job's output and samples are kept.
    Measured(JobId, u64),
    /// A directory in place of /work is gone and the host id of its job free; `None`: it could not be removed, or belonged
    /// to no job.
    WorkDone(Option<Lease>, PendingCleanup),
}

/// A directory in `<dataDir>/work` that is no longer needed.
#[derive(Debug)]
pub(super) struct WorkRemoval {
    name: CString,
    // The id that its files count for; `None`: none of ours.
    lease: Option<Lease>,
    pending: PendingCleanup,
}

/// The loop's side: hands tasks to the threads and counts those whose end a shutdown waits for.
#[derive(Debug)]
pub(super) struct Cleanup {
    tasks: Sender<CleanupTask>,
    removals: Sender<WorkRemoval>,
    pending: Counter,
}

impl Cleanup {
    /// Hands tasks to the threads that read these queues. Their queues hold no more than: tasks by the number of kept jobs and open calls,
    /// removals of /work by the host ids that they hold.
    pub(super) fn new(tasks: Sender<CleanupTask>, removals: Sender<WorkRemoval>) -> Self {
        Cleanup { tasks, removals, pending: Counter::default() }
    }

    /// Removals that are under way.
    pub(super) fn pending(&self) -> usize {
        self.pending.count()
    }

    /// Another way to the cleanup thread, for the thread that writes records.
    pub(super) fn queue(&self) -> Sender<CleanupTask> {
        self.tasks.clone()
    }

    /// Has a cgroup removed, and whatever is in it killed.
    pub(super) fn remove_cgroup(&self, group: JobCgroup) {
        let pending = PendingCleanup(self.pending.token());
        let cgroup = BusyCgroup { group, pending, since: Instant::now(), is_late: false };
        self.send(CleanupTask::Cgroup(cgroup));
    }

    /// Has everything in a cgroup killed, without its processor limit in the way.
    pub(super) fn kill_cgroup(&self, group: JobCgroup) {
        self.send(CleanupTask::Kill(group));
    }

    /// Tries again to remove a cgroup that was busy.
    pub(super) fn try_again(&self, cgroup: BusyCgroup) {
        self.send(CleanupTask::Cgroup(cgroup));
    }

    /// Has a directory in place of /work removed; the lease comes back when that is done.
    pub(super) fn remove_work(&self, name: CString, lease: Option<Lease>) {
        let pending = PendingCleanup(self.pending.token());
        if self.removals.send(WorkRemoval { name, lease, pending }).is_err() {
            diag::limited!(Level::Error, "the removal thread is gone");
        }
    }

    /// Ends a child of ours that nobody needs.
    pub(super) fn kill_and_reap(&self, pidfd: OwnedFd) {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        self.send(CleanupTask::Reap(pidfd));
    }

    /// Has a mount namespace closed.
    pub(super) fn close(&self, namespace: OwnedFd) {
        self.send(CleanupTask::Close(namespace));
    }

    /// Has a network namespace looked into; a clean one comes back.
    pub(super) fn look_into_network(&self, namespace: OwnedFd) {
        self.send(CleanupTask::Network(namespace));
    }

    /// Has a job's last record written beside its output.
    pub(super) fn write_sidecar(&self, spool: PathBuf, record: Box<Record>) {
        self.send(CleanupTask::Record(spool, record));
    }

    /// Has a file removed.
    pub(super) fn remove_file(&self, path: PathBuf) {
        self.send(CleanupTask::File(path));
    }

    /// Has a directory removed with all that is in it.
    pub(super) fn remove_directory(&self, path: PathBuf) {
        self.send(CleanupTask::Directories([path].into(), None));
    }

    /// Has the spools of jobs that are over measured, and those removed that are live only.
    pub(super) fn measure(&self, spools: VecDeque<(JobId, Vec<PathBuf>)>) {
        self.send(CleanupTask::Measure(spools));
    }

    /// Has the evidence of a job read, where the sampler does not come to it.
    pub(super) fn read_evidence(&self, id: JobId, read: impl FnOnce() -> Evidence + Send + 'static) {
        self.send(CleanupTask::Evidence(id, Box::new(read)));
    }

    /// Has the beginning of each stream read from the spool of a job that has ended.
    pub(super) fn read_beginning(&self, spool: PathBuf, then: impl FnOnce(String) + Send + 'static) {
        self.send(CleanupTask::Beginning(spool, Box::new(then)));
    }

    fn send(&self, task: CleanupTask) {
        if self.tasks.send(task).is_err() {
            diag::limited!(Level::Error, "the cleanup thread is gone");
        }
    }
}

impl Remover for Cleanup {
    fn close(&mut self, namespace: OwnedFd) {
        Cleanup::close(self, namespace);
    }

    fn look_into_network(&mut self, namespace: OwnedFd) {
        Cleanup::look_into_network(self, namespace);
    }

    fn remove_work(&mut self, directory: CString, lease: Option<Lease>) {
        Cleanup::remove_work(self, directory, lease);
    }

    fn remove_file(&mut self, path: PathBuf) {
        Cleanup::remove_file(self, path);
    }

    fn remove_cgroup(&mut self, group: JobCgroup) {
        Cleanup::remove_cgroup(self, group);
    }
}

/// Starts the cleanup thread, which ends when the queue's senders are gone.
///
/// # Errors
/// No thread.
pub(super) fn start(
    tasks: Receiver<CleanupTask>,
    answer: impl Fn(CleanupEvent) + Send + 'static,
) -> Result<JoinHandle<()>, DaemonError> {
    let work = move || {
        let (mut removals, mut measures) = (Removals::default(), VecDeque::new());
        // A removal of many directories lets every task that has come go first, and another removal take turns with it.
        while let Some(task) = removals.next_task(&tasks, !measures.is_empty()) {
            match task {
                Some(CleanupTask::Directories(paths, done)) => removals.add(paths, done),
                Some(CleanupTask::Measure(spools)) => measures.extend(spools),
                None if removals.waiting.is_empty() => {
                    if let Some((id, dirs)) = measures.pop_front() {
                        answer(CleanupEvent::Measured(id, kept(&dirs)));
                    }
                }
                Some(task) => carry_out(task, &answer),
                None => removals.step(|path| log_refusal(fs::remove_dir_all(path), path)),
            }
        }
    };
    let thread = std::thread::Builder::new().name("cleanup".into());
    thread.spawn(work).map_err(|source| DaemonError::Thread { name: "cleanup", source })
}

/// Starts the thread that removes directories of jobs. A lease whose files could not be removed stays out of use until
/// the daemon starts again. Nobody joins the thread: the loop waits for removals as long as a shutdown may take, and
/// what is left then is the next daemon's.
///
/// # Errors
/// No thread.
pub(super) fn start_removal(
    disk: Arc<WorkDisk>,
    removals: Receiver<WorkRemoval>,
    answer: impl Fn(CleanupEvent) + Send + 'static,
) -> Result<(), DaemonError> {
    let work = move || {
        for WorkRemoval { name, lease, pending } in removals {
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
            answer(CleanupEvent::WorkDone(done.ok().and(lease), pending));
        }
    };
    let thread = std::thread::Builder::new().name("removal".into());
    thread.spawn(work).map(drop).map_err(|source| DaemonError::Thread { name: "removal", source })
}

/// Removals of directories that are under way, each with what is done behind its last one.
#[derive(Default)]
struct Removals {
    waiting: VecDeque<(VecDeque<PathBuf>, Option<WhenRemoved>)>,
}

impl Removals {
    fn add(&mut self, paths: VecDeque<PathBuf>, done: Option<WhenRemoved>) {
        self.waiting.push_back((paths, done));
    }

    /// The next task; `Some(None)`: none has come, and there is something to remove or to measure. `None`: nothing comes any
    /// more, and nothing is left to do.
    fn next_task(&self, tasks: &Receiver<CleanupTask>, measures: bool) -> Option<Option<CleanupTask>> {
        if self.waiting.is_empty() && !measures {
            return tasks.recv().ok().map(Some);
        }
        Some(tasks.try_recv().ok())
    }

    /// Removes one directory of the removal that waits longest, which then waits behind the others.
    fn step(&mut self, remove: impl FnOnce(&Path)) {
        let Some((mut paths, done)) = self.waiting.pop_front() else { return };
        if let Some(path) = paths.pop_front() {
            remove(&path);
        }
        if paths.is_empty() {
            done.into_iter().for_each(|done| done());
        } else {
            self.waiting.push_back((paths, done));
        }
    }
}

fn carry_out(task: CleanupTask, answer: &impl Fn(CleanupEvent)) {
    match task {
        CleanupTask::Cgroup(cgroup) => answer(remove_cgroup(cgroup)),
        CleanupTask::Kill(group) => {
            if let Err(why) = group.kill() {
                diag::limited!(Level::Warn, "cannot kill a job's cgroup", jobId = group.id(), error = why);
            }
        }
        CleanupTask::Reap(pidfd) => {
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        }
        CleanupTask::Close(namespace) => drop(namespace),
        CleanupTask::Network(namespace) => match is_clean(&namespace) {
            Ok(true) => answer(CleanupEvent::NetworkClean(namespace)),
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
        CleanupTask::File(path) => log_refusal(fs::remove_file(&path), &path),
        // The thread does them step by step.
        CleanupTask::Directories(..) | CleanupTask::Measure(_) => {}
        CleanupTask::Evidence(id, read) => answer(CleanupEvent::Evidence(id, Box::new(read()))),
        CleanupTask::Beginning(spool, then) => then(beginning(&spool)),
    }
}

/// Most bytes of each stream that are a job's beginning.
const BEGINNING: u64 = 4096;

/// The beginning of what a job has written; empty where it never ran.
fn beginning(spool: &Path) -> String {
    let read = |stream: Stream| {
        let mut text = Vec::new();
        let _ = File::open(spool.join(stream.file_name()))
            .and_then(|file| file.take(BEGINNING).read_to_end(&mut text));
        text
    };
    String::from_utf8_lossy(&[read(Stream::Stdout), read(Stream::Stderr)].concat()).into_owned()
}

/// Bytes that are kept of a job that is over, in its spool, in the rooms of its commands, and in the directories of history
/// after these. Bytes
/// that history has copied while the spool still has them count once: a job that is just being moved must not cost the
/// client an older one.
fn kept(dirs: &[PathBuf]) -> u64 {
    let [spool, execs, history @ ..] = dirs else { return 0 };
    let rooms = fs::read_dir(execs).into_iter().flatten().flatten();
    let of_execs: u64 = rooms.map(|room| size(&room.path())).sum();
    keep(spool).max(history.iter().map(|dir| size(dir)).sum()) + of_execs
}

/// Bytes in a directory of a job that is over. Output that was live only is removed, and its samples with it.
fn keep(spool: &Path) -> u64 {
    match ring::remove_ring(spool) {
        Ok(true) => log_refusal(fs::remove_file(spool.join(series::FILE)), spool),
        Ok(false) => {}
        Err(why) => diag::limited!(Level::Warn, "cannot remove live output", error = why),
    }
    size(spool)
}

/// Bytes of the files in a directory of a job; it has no directories in it. A file with holes has less than its length.
fn size(spool: &Path) -> u64 {
    let files = fs::read_dir(spool).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len().min(file.blocks() * 512)).sum()
}

fn remove_cgroup(cgroup: BusyCgroup) -> CleanupEvent {
    let group = &cgroup.group;
    match group.kill().and_then(|()| group.remove()) {
        Ok(Removal::Busy) => return CleanupEvent::CgroupBusy(cgroup),
        Ok(Removal::Done) => {}
        Err(why) => {
            diag::limited!(Level::Warn, "cannot remove a job's cgroup", jobId = group.id(), error = why);
        }
    }
    CleanupEvent::CgroupDone(cgroup.pending)
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

/// Logs why something could not be removed; what is gone already is no trouble.
pub(super) fn log_refusal(result: io::Result<()>, path: &Path) {
    if let Err(why) = result
        && why.kind() != io::ErrorKind::NotFound
    {
        diag::limited!(Level::Warn, "cannot remove", path = path.display(), error = why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever deleted one job waited for all jobs of somebody else, and so did the ends of running jobs.
    #[test]
    fn removal_of_many_lets_others_go_between() {
        let (send, tasks) = crossbeam_channel::unbounded();
        let (done, order) = crossbeam_channel::unbounded();
        let mut removals = Removals::default();
        let told = |word: &'static str| {
            let done = done.clone();
            Some(Box::new(move || done.send(word.to_owned()).unwrap()) as WhenRemoved)
        };
        removals.add((0..100).map(|n| format!("a{n}").into()).collect(), told("many"));
        removals.add([PathBuf::from("b")].into(), told("one"));
        let (removed, task) = (done.clone(), done.clone());
        let step = |removals: &mut Removals| match removals.next_task(&tasks, false) {
            Some(None) => removals.step(|path| removed.send(path.display().to_string()).unwrap()),
            Some(Some(_)) => task.send("task".to_owned()).unwrap(),
            None => panic!("it is not over"),
        };
        step(&mut removals);
        send.send(CleanupTask::File("f".into())).unwrap();
        (0..4).for_each(|_| step(&mut removals));
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["a0", "task", "b", "one", "a1", "a2"]);
        drop(send);
        while !removals.waiting.is_empty() {
            removals.step(|_| {});
        }
        assert!(removals.next_task(&tasks, false).is_none());
        assert_eq!(order.try_iter().last().as_deref(), Some("many"));
    }

    /// A job that was being moved into history counted twice, and an older one went for it.
    #[test]
    fn output_that_history_copies_counts_once() {
        let place = tempfile::tempdir().unwrap();
        let dirs: Vec<_> =
            ["spool", "execs/room", "logs", "metrics"].iter().map(|name| place.path().join(name)).collect();
        let bytes = |dir: usize, number: usize| {
            fs::create_dir_all(&dirs[dir]).unwrap();
            fs::write(dirs[dir].join("file"), vec![1; number]).unwrap();
            kept(&[&dirs[..1], &[place.path().join("execs")], &dirs[2..]].concat())
        };
        assert_eq!(bytes(0, 9000), 9000, "not copied yet");
        assert_eq!(bytes(2, 5000), 9000, "half of it copied");
        assert_eq!(bytes(3, 100), 9000);
        assert_eq!(bytes(0, 10), 5100, "moved");
        assert_eq!(bytes(1, 7), 5107, "beside what a command in it has written");
    }

    #[test]
    fn network_with_a_socket_is_not_clean() {
        let text = |used, tw| {
            format!("sockets: used {used}\nTCP: inuse 0 orphan 0 tw {tw} alloc 9 mem 0\nUDP: inuse 0 mem 0\n")
        };
        assert!(no_sockets(&text(0, 0)));
        assert!(!no_sockets(&text(1, 0)) && !no_sockets(&text(0, 1)) && !no_sockets(""));
    }
}
