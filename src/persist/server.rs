//! The loop: connections, jobs that are due, lanes, and the end.

mod writers;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use log::Level;
use mio::net::UnixListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use super::PersistError;
use super::beyond::Beyond;
use super::client::Pulse;
use super::connection::Connection;
use super::fetch::FetchRequest;
use super::figures::{Counters, Figures};
use super::foreign::{Piece, Senders};
use super::frame::{Files, Frame, Note, Reached};
use super::janitor::{Cache, Janitor};
use super::jobs::{End, Jobs, Pace};
use super::lane::{Lane, LaneEvent, Task};
use super::link::Received;
use super::remote::RemoteStore;
use super::service::QueryServer;
use super::spool_source::SpoolSource;
use super::store::LocalStore;
use crate::config::daemon::DaemonConfig;
use crate::diag;
use crate::job::JobId;
use crate::sys::mailbox::{Inbox, Mailbox, mailbox};

const WAKE: Token = Token(0);
const SIGNALS: Token = Token(1);
const LIFELINE: Token = Token(2);
const OUTPUT: Token = Token(3);
const QUERIES: Token = Token(4);
/// The first token of a connection. Tokens are never used twice.
const CONNECTIONS: usize = 5;

/// Answers of lanes that may wait for the loop. A lane that has more waits.
const EVENTS: usize = 4096;
/// How long the process may store what it knows of when its end has come.
const END: Duration = Duration::from_secs(5);
/// Time until connections that found no place are looked at again.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// The things that the process gets at its start.
pub(super) struct Given {
    /// The socket for output.
    pub(super) output: UnixListener,
    /// The socket for queries.
    pub(super) queries: UnixListener,
    /// The pipe that ends with the daemon.
    pub(super) lifeline: OwnedFd,
    /// The descriptor that reports SIGTERM.
    pub(super) signals: SignalFd,
    /// The user who started the process: root, or whoever the daemon runs as.
    pub(super) owner: u32,
    /// Files that may be open in the process.
    pub(super) open_files: usize,
    /// The lock, for as long as the process lives.
    pub(super) lock: File,
}

/// Bounds of writers.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Bytes of a message.
    message: usize,
    /// Connections at a time.
    connections: usize,
    /// Spools. Each has four descriptors; half of all are for the files of history, connections and gRPC.
    spools: usize,
}

/// The loop and what it owns.
pub(super) struct Server {
    poll: Poll,
    given: Given,
    inbox: Inbox<LaneEvent>,
    queries: QueryServer,
    lanes: Vec<Lane>,
    /// `None`: the local files are the history.
    remote: Option<Beyond>,
    jobs: Jobs,
    /// The files of jobs as far as the loop needs them: how long they are.
    owners: HashMap<JobId, Token>,
    /// Jobs that a connection has deleted and hears of again. A job may become complete meanwhile, and keeps its owner.
    deleting: HashSet<JobId>,
    connections: HashMap<Token, Connection>,
    /// Jobs of these connections whose history was deleted: what comes of them is thrown away.
    dropped: HashMap<JobId, Reached>,
    /// Jobs whose writers send bytes.
    senders: Senders,
    /// Clients that wait for deletions. Their calls bound them.
    deleters: HashMap<JobId, Vec<oneshot::Sender<()>>>,
    /// Connections that may have more, without a new event.
    again: VecDeque<Token>,
    next: usize,
    bounds: Bounds,
    janitor: Janitor,
    /// Whether somebody waits to be accepted.
    waits: bool,
    counters: Counters,
    /// When the process ends whatever is left to do.
    end_at: Option<Instant>,
}

impl Server {
    /// A loop that serves these sockets.
    ///
    /// # Errors
    /// The kernel's refusal, or no thread.
    pub(super) fn new(
        config: &DaemonConfig,
        given: Given,
        store: &LocalStore,
        remote: Option<Arc<dyn RemoteStore>>,
    ) -> Result<Server, PersistError> {
        let set_up = |doing| move |source| PersistError::SetUp { doing, source };
        let open_files = given.open_files;
        let poll = Poll::new().map_err(set_up("open an epoll instance"))?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(set_up("make a waker"))?);
        let (events, inbox): (Mailbox<LaneEvent>, _) = mailbox(EVENTS, waker);
        let persist = &config.persist;
        let local = &persist.storage.local;
        let (janitor, store_tasks) = {
            let bytes = u64::from(persist.storage.cloudwatch.cache_size_mb) << 20;
            let cache = remote.clone().map(|remote| Cache { remote, bytes });
            Janitor::start(store, &persist.storage.retention, cache)?
        };
        let compression = &persist.storage.compression;
        let lanes = (0..lane_count()).map(|_| Lane::start(store, compression, &events, &store_tasks));
        let lanes = lanes.collect::<Result<Vec<_>, _>>()?;
        let start = |remote| Beyond::start(remote, store, &janitor, store_tasks, &events);
        let remote = remote.map(start).transpose()?;
        let fetcher = remote.as_ref().map(|remote| remote.fetcher.clone());
        let queries = QueryServer::start(store, fetcher, events, persist.server.max_connections as usize)?;
        let mut server = Server {
            poll,
            given,
            inbox,
            queries,
            lanes,
            remote,
            jobs: Jobs::new(Pace::new(
                local.commit_delay,
                local.commit_interval,
                config.joblet.job_spool_limit.min(config.joblet.spool_limit / 4),
            )),
            owners: HashMap::new(),
            deleting: HashSet::new(),
            connections: HashMap::new(),
            dropped: HashMap::new(),
            senders: Senders::default(),
            deleters: HashMap::new(),
            again: VecDeque::new(),
            next: CONNECTIONS,
            bounds: Bounds {
                message: persist.ipc.max_message_size as usize,
                connections: persist.ipc.max_connections as usize,
                spools: open_files / 8,
            },
            janitor,
            waits: false,
            counters: Counters::default(),
            end_at: None,
        };
        server.watch().map_err(set_up("watch the sockets"))?;
        Ok(server)
    }

    fn watch(&mut self) -> io::Result<()> {
        let registry = self.poll.registry();
        let readable = Interest::READABLE;
        registry.register(&mut SourceFd(&self.given.signals.as_raw_fd()), SIGNALS, readable)?;
        registry.register(&mut SourceFd(&self.given.lifeline.as_raw_fd()), LIFELINE, readable)?;
        registry.register(&mut self.given.output, OUTPUT, readable)?;
        registry.register(&mut self.given.queries, QUERIES, readable)
    }

    /// Serves until a signal comes or the daemon is gone, then stores what it knows of, and ends.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(256);
        while !self.is_over() {
            let timeout = self.timeout();
            if let Err(why) = self.poll.poll(&mut events, timeout)
                && why.kind() != io::ErrorKind::Interrupted
            {
                diag::limited!(Level::Error, "the loop cannot wait", error = why);
            }
            self.turn(&events);
        }
        self.close();
    }

    fn is_over(&self) -> bool {
        self.end_at.is_some_and(|at| at <= Instant::now() || self.jobs.is_idle() && self.senders.is_idle())
    }

    fn timeout(&self) -> Option<Duration> {
        let now = Instant::now();
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let late = self.connections.values().filter_map(Connection::deadline).min();
        let accept = self.waits.then(|| now + ACCEPT_AGAIN);
        let queries = self.queries.waits().then(|| now + ACCEPT_AGAIN);
        let report = self.counters.report_at();
        let first =
            [self.jobs.next_due(), late, accept, queries, report, self.end_at].into_iter().flatten().min();
        first.map(|at| at.saturating_duration_since(now))
    }

    fn turn(&mut self, events: &Events) {
        let now = Instant::now();
        let (mut accept, mut queries) = (self.waits, self.queries.waits());
        for event in events {
            match event.token() {
                WAKE => {}
                SIGNALS => self.read_signals(),
                LIFELINE => self.begin_end("the daemon is gone"),
                OUTPUT => accept = true,
                QUERIES => queries = true,
                token => self.again.push_back(token),
            }
        }
        for token in std::mem::take(&mut self.again) {
            self.serve(token, now);
        }
        if accept {
            self.accept();
        }
        if queries {
            self.queries.accept(&self.given.queries, self.given.owner);
        }
        while let Some(event) = self.inbox.take() {
            self.take(event, now);
        }
        self.close_late(now);
        while let Some(work) = self.jobs.take_due(now) {
            self.lane(work.job).send(Task::Work(work));
        }
        let Server { counters, jobs, remote, .. } = self;
        let totals = counters.totals();
        counters.report(now, || figures(totals, jobs, remote.as_ref()));
    }

    fn read_signals(&mut self) {
        while let Ok(Some(info)) = self.given.signals.read_signal() {
            if info.ssi_signo == Signal::SIGTERM as u32 {
                self.begin_end("the daemon asks for it");
            }
        }
    }

    fn begin_end(&mut self, why: &str) {
        if self.end_at.is_some() {
            return;
        }
        diag::event!(Level::Info, "storing what is left, then ending", reason = why, jobs = self.jobs.len());
        // Messages that were sent before this are in the sockets.
        let now = Instant::now();
        for token in self.connections.keys().copied().collect::<Vec<_>>() {
            self.serve(token, now);
        }
        self.end_at = Some(Instant::now() + END);
        self.jobs.hurry();
    }

    fn handle(&mut self, token: Token, Received { frame, descriptors }: Received, now: Instant) {
        match frame {
            Frame::Hello { .. } => self.send(token, &hello()),
            Frame::EndOfJob { job, ended_ns, .. } if self.senders.has(job) => {
                self.send_piece(Piece::end(job, End { ended_ns }));
            }
            Frame::Spool { job, reached, released, files, .. } => {
                let is_root = self.connections.get(&token).is_some_and(Connection::is_root);
                if !is_root {
                    let why = PersistError::Frame("descriptors of somebody who is not root".into());
                    return self.close_connection(token, &why);
                }
                self.owners.insert(job, token);
                if self.senders.forget(job) {
                    self.lane(job).send(Task::Close(job));
                }
                self.spool(job, reached, released, files, descriptors, now);
            }
            Frame::Rows { job, reached } if self.dropped.contains_key(&job) => {
                self.told_of_dropped(job, reached, false);
            }
            Frame::EndOfJob { job, reached, .. } if self.dropped.contains_key(&job) => {
                self.told_of_dropped(job, reached, true);
            }
            Frame::Rows { job, reached } => self.jobs.told(job, reached, now),
            Frame::EndOfJob { job, reached, ended_ns } => {
                self.jobs.told(job, reached, now);
                self.jobs.ended(job, End { ended_ns });
            }
            Frame::DeleteJob { job } => {
                self.owners.insert(job, token);
                self.deleting.insert(job);
                self.senders.forget(job);
                self.jobs.remove(job);
                self.lane(job).send(Task::Delete(job));
            }
            Frame::Fetch { job, created_ns, ended_ns } => {
                self.fetch(token, FetchRequest { job, created_ns, ended_ns })
            }
            frame @ (Frame::Log { .. } | Frame::Metric { .. }) => self.take_piece(token, frame),
            Frame::Ack { .. } | Frame::Fetched { .. } | Frame::Other => self.counters.unknown(),
        }
    }

    fn spool(
        &mut self,
        job: JobId,
        reached: Reached,
        released: u64,
        files: Files,
        descriptors: Vec<OwnedFd>,
        now: Instant,
    ) {
        let is_full = self.jobs.len() >= self.bounds.spools && !self.jobs.has(job);
        if descriptors.len() < files.count() || is_full {
            diag::limited!(
                Level::Warn,
                "no room for the descriptors of a job, which waits",
                jobId = job,
                remedy = "raise the limit of open files (LimitNOFILE=)"
            );
            // It may be quiet for long meanwhile, which is no reason to delete what is stored of it.
            self.janitor.knows(job);
            let reached = self.kept(job);
            return self.acknowledge(job, reached, Note::Busy);
        }
        let source = match SpoolSource::new(files, descriptors) {
            Ok(source) => Box::new(source),
            Err(why) => {
                diag::limited!(Level::Warn, "a spool cannot be used", jobId = job, error = why);
                return self.acknowledge(job, Reached::default(), Note::Busy);
            }
        };
        let length = source.length();
        if self.jobs.has(job) {
            self.jobs.replaced(job, length);
            self.lane(job).send(Task::Open { job, source, released });
            self.jobs.told(job, reached, now);
            self.acknowledge(job, self.kept(job), Note::Progress);
        } else {
            if let Some(remote) = &self.remote {
                remote.uploads.add(job, released);
            }
            self.jobs.add(job, reached, length, now);
            self.janitor.knows(job);
            self.lane(job).send(Task::Open { job, source, released });
        }
    }

    /// Takes in what a lane has done.
    fn take(&mut self, event: LaneEvent, now: Instant) {
        match event {
            LaneEvent::Opened { job, stored, whole, read, complete: false } => {
                self.jobs.opened(job, stored, read);
                match &self.remote {
                    Some(remote) => remote.uploads.opened(job, whole),
                    None => self.acknowledge(job, stored, Note::Progress),
                }
            }
            LaneEvent::Opened { job, stored, complete: true, .. } => self.stored(job, stored, stored, true),
            LaneEvent::Dropped(job) => self.drop_job(job),
            LaneEvent::Taken(size) => self.again.extend(self.senders.taken(size)),
            LaneEvent::Staged { job, reached, read } => self.jobs.staged(job, reached, read, now),
            LaneEvent::Stored { job, stored, complete, committed } => {
                self.counters.stored(&committed, now);
                let stored = self.jobs.committed(job, stored);
                let whole = Reached { rows: committed.through, ..stored };
                self.stored(job, stored, whole, complete);
            }
            LaneEvent::Accepted { job, reached, complete } => {
                if complete {
                    self.complete(job, reached);
                    self.remote.iter().for_each(Beyond::completed);
                } else {
                    self.acknowledge(job, reached, Note::Progress)
                }
            }
            LaneEvent::Fetched { job, failure } => {
                let readers = self.remote.as_mut().map(|remote| remote.readers(job));
                for token in readers.into_iter().flatten() {
                    self.send(token, &Frame::Fetched { job, failure: failure.clone() });
                }
            }
            LaneEvent::Failed { job, why } => {
                diag::limited!(
                    Level::Error,
                    "cannot store a job's history; trying again",
                    jobId = job,
                    error = why
                );
                self.counters.failed(now);
                if self.senders.forget(job) {
                    return self.sender_failed(job);
                }
                self.jobs.failed(job, now);
            }
            LaneEvent::Wanted { job, done } => {
                self.deleters.entry(job).or_default().push(done);
                if let Some(reached) = self.jobs.reached(job) {
                    self.dropped.insert(job, reached);
                }
                self.jobs.remove(job);
                self.lane(job).send(Task::Delete(job));
            }
            LaneEvent::Deleted(job) => match &self.remote {
                Some(remote) => remote.uploads.delete(job),
                None => self.deleted(job),
            },
            LaneEvent::RemoteDeleted(job) => self.deleted(job),
            LaneEvent::RemoteFailed => self.counters.remote_failed(now),
            LaneEvent::Asked(answer) => {
                let figures = figures(self.counters.totals(), &self.jobs, self.remote.as_ref());
                // Whoever asked may be gone.
                let _ = answer.send(Pulse::new(self.counters.is_healthy(), &figures));
            }
        }
    }

    /// Nothing is left of a job.
    fn deleted(&mut self, job: JobId) {
        self.jobs.remove(job);
        for done in self.deleters.remove(&job).into_iter().flatten() {
            let _ = done.send(());
        }
        self.janitor.forget(job);
        self.deleting.remove(&job);
        self.acknowledge(job, Reached::default(), Note::Deleted);
        match self.dropped.get(&job) {
            // It may run: its writer is to let go of what it has.
            Some(reached) => self.acknowledge(job, *reached, Note::Complete),
            None => drop(self.owners.remove(&job)),
        }
    }

    /// The local files have so much of a job, in rows of its spool and in their own; `complete`: that is all of it.
    fn stored(&mut self, job: JobId, stored: Reached, whole: Reached, complete: bool) {
        match &self.remote {
            Some(remote) => remote.uploads.put(job, whole, complete),
            None if complete => self.complete(job, stored),
            None => self.acknowledge(job, stored, Note::Progress),
        }
    }

    /// How much of a job may go from its spool.
    fn kept(&self, job: JobId) -> Reached {
        let remote = self.remote.as_ref();
        remote.map_or_else(|| self.jobs.stored(job), |remote| remote.uploads.accepted(job))
    }

    fn fetch(&mut self, token: Token, request: FetchRequest) {
        // Without a store beyond this host all is here.
        let asked = self.remote.as_mut().map(|remote| remote.fetch(token, request));
        if !matches!(asked, Some(Ok(()))) {
            let failure = asked.and_then(Result::err);
            self.send(token, &Frame::Fetched { job: request.job, failure });
        }
    }

    /// Throws away what comes of a job whose history was deleted, as if all of it were durable.
    fn drop_job(&mut self, job: JobId) {
        let reached = self.jobs.reached(job).unwrap_or_default();
        self.senders.forget(job);
        self.jobs.remove(job);
        self.janitor.forget(job);
        self.lane(job).send(Task::Close(job));
        self.dropped.insert(job, reached);
        self.acknowledge(job, reached, Note::Complete);
    }

    /// A job whose history was deleted has come further.
    fn told_of_dropped(&mut self, job: JobId, reached: Reached, ended: bool) {
        if self.deleters.contains_key(&job) {
            // Answered when it is deleted for good.
            self.dropped.insert(job, reached);
            return;
        }
        self.acknowledge(job, reached, Note::Complete);
        if ended {
            self.dropped.remove(&job);
            self.owners.remove(&job);
        }
    }

    fn complete(&mut self, job: JobId, stored: Reached) {
        self.senders.forget(job);
        self.jobs.remove(job);
        self.janitor.forget(job);
        self.lane(job).send(Task::Close(job));
        self.acknowledge(job, stored, Note::Complete);
        if !self.deleting.contains(&job) {
            self.owners.remove(&job);
        }
    }

    fn acknowledge(&mut self, job: JobId, reached: Reached, note: Note) {
        if let Some(token) = self.owners.get(&job).copied() {
            self.send(token, &Frame::Ack { job, reached, note });
        }
    }

    fn send(&mut self, token: Token, frame: &Frame) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if let Err(why) = connection.link().send(frame, Vec::new()) {
            self.close_connection(token, &why);
        }
    }

    /// The lane of a job, always the same.
    fn lane(&self, job: JobId) -> &Lane {
        let mut hasher = DefaultHasher::new();
        job.hash(&mut hasher);
        &self.lanes[(hasher.finish() % self.lanes.len() as u64) as usize]
    }

    /// Lets the lanes do what they have, and sends the last acknowledgements.
    fn close(self) {
        let Server { lanes, remote, mut connections, queries, given, inbox, .. } = self;
        queries.end();
        for connection in connections.values_mut() {
            let _ = connection.link().flush();
        }
        // Lanes that still have something must not wait for us.
        drop(inbox);
        let uploads = remote.map(|remote| remote.uploads.end());
        for thread in lanes.into_iter().flat_map(Lane::end).chain(uploads.into_iter().flatten()) {
            // Not joined where it hangs on a disk: the lock goes with the process.
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
        drop(given.lock);
    }
}

/// The totals with what waits at this moment.
fn figures(totals: Figures, jobs: &Jobs, remote: Option<&Beyond>) -> Figures {
    let remote = remote.map(Beyond::figures);
    Figures {
        waiting_bytes: jobs.waiting(),
        remote_waiting_rows: remote.map_or(0, |(rows, _)| rows),
        remote: remote.map(|(_, figures)| figures),
        ..totals
    }
}

fn hello() -> Frame {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Frame::Hello { boot_id: boot_id.trim().to_owned(), instance: std::process::id().to_string() }
}

/// As many lanes as leave processors for jobs.
fn lane_count() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 4))
}
