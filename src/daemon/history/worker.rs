//! The thread that owns the child, the connection and the table of what `persist` knows.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;
use mio::net::UnixStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use super::child::{Child, Lines};
use super::deletions::Deletions;
use super::fetches::Fetches;
use super::release::{Kept, Releases};
use super::sockets::Sockets;
use super::spool_files;
use super::told::{HandOver, TELL, Told};
use super::{Command, HistoryEvent};
use crate::config::daemon::DaemonConfig;
use crate::daemon::DaemonError;
use crate::daemon::companion::{Backoff, program};
use crate::diag;
use crate::job::JobId;
use crate::persist::frame::{Frame, Note, Reached};
use crate::persist::link::Link;
use crate::sys::mailbox::{Inbox, Mailbox};

pub(super) const WAKE: Token = Token(0);
const CHILD: Token = Token(1);
const OUTPUT: Token = Token(2);
const LINK: Token = Token(3);

/// Longest message of the process.
const LONGEST: usize = 64 << 10;
/// How long the process has for its end.
const END: Duration = Duration::from_secs(8);
/// The same for a process that was never connected to us.
const END_UNGREETED: Duration = Duration::from_millis(300);

/// The thread's state.
pub(super) struct Worker {
    poll: Poll,
    inbox: Inbox<Command>,
    /// For listeners of jobs.
    own: Mailbox<Command>,
    releases: Arc<Releases>,
    report: Box<dyn Fn(HistoryEvent) + Send>,
    process: Process,
    wire: Wire,
    told: Told,
    deletions: Deletions,
    fetches: Fetches,
    /// The end has come: when the process is killed.
    stop_at: Option<Instant>,
}

/// The child, and when to start the next one.
struct Process {
    sockets: Sockets,
    program: PathBuf,
    config: PathBuf,
    child: Option<Child>,
    lines: Lines,
    backoff: Backoff,
    start_at: Option<Instant>,
}

/// The parts that the thread is made of.
pub(super) struct Parts {
    /// Its poll, with a waker under [`WAKE`].
    pub(super) poll: Poll,
    /// Commands that come.
    pub(super) inbox: Inbox<Command>,
    /// The other end of `inbox`, for listeners of jobs.
    pub(super) own: Mailbox<Command>,
    /// The sockets of the process.
    pub(super) sockets: Sockets,
    /// Takes what is durable out of the spools.
    pub(super) releases: Arc<Releases>,
    /// Jobs whose history an earlier daemon was to delete.
    pub(super) wishes: Vec<JobId>,
    /// Takes the thread's events.
    pub(super) report: Box<dyn Fn(HistoryEvent) + Send>,
}

/// The connection, and when to make the next one.
struct Wire {
    socket: PathBuf,
    link: Option<Link>,
    /// The process has said HELLO.
    greeted: bool,
    connect_at: Option<Instant>,
    again: Duration,
    failures: u32,
    most: u32,
}

impl Worker {
    /// Starts the process.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(super) fn new(config: &DaemonConfig, path: &Path, parts: Parts) -> Result<Worker, DaemonError> {
        let Parts { poll, inbox, own, sockets, releases, wishes, report } = parts;
        let wire = Wire {
            socket: config.ipc.socket.clone(),
            link: None,
            greeted: false,
            connect_at: Some(Instant::now()),
            again: config.ipc.reconnect_delay,
            failures: 0,
            most: config.ipc.max_reconnects,
        };
        let mut worker = Worker {
            poll,
            inbox,
            own,
            releases,
            report,
            process: Process {
                sockets,
                program: program("persist"),
                config: path.to_owned(),
                child: None,
                lines: Lines::default(),
                backoff: Backoff::new(),
                start_at: None,
            },
            wire,
            told: Told::new(config.ipc.buffer_size as usize),
            deletions: Deletions::of(wishes),
            fetches: Fetches::new(config.persist.storage.local.logs.directory.clone()),
            stop_at: None,
        };
        let program = worker.process.program.display().to_string();
        worker.start_child().map_err(|source| DaemonError::StartHistory { program, source })?;
        diag::event!(Level::Info, "persist service started successfully", pid = worker.pid());
        Ok(worker)
    }

    fn pid(&self) -> i32 {
        self.process.child.as_ref().map_or(0, |child| child.process.pid)
    }

    /// Works until the process has ended behind [`Command::Stop`].
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(64);
        while self.stop_at.is_none() || self.process.child.is_some() {
            if let Err(why) = self.poll.poll(&mut events, self.timeout())
                && why.kind() != io::ErrorKind::Interrupted
            {
                diag::limited!(Level::Error, "the history thread cannot wait", error = why);
            }
            let wire = events.iter().any(|event| event.token() == LINK);
            self.turn(wire);
        }
        self.deletions.disconnected();
        self.fetches.disconnected();
        self.releases.close();
    }

    fn timeout(&self) -> Option<Duration> {
        let times = [
            self.process.start_at,
            self.wire.connect_at,
            self.told.wake_at(),
            self.deletions.wake_at(),
            self.stop_at,
        ];
        let first = times.into_iter().flatten().min();
        first.map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn turn(&mut self, wire: bool) {
        self.watch_child();
        while let Some(command) = self.inbox.take() {
            self.take(command);
        }
        let now = Instant::now();
        if self.process.start_at.is_some_and(|at| at <= now) {
            self.start_again(now);
        }
        if self.wire.connect_at.is_some_and(|at| at <= now) {
            self.connect(now);
        }
        if wire {
            self.receive(now);
        }
        self.deletions.give_up(now);
        self.tell(now);
    }

    fn take(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Added(job) => {
                let (own, id) = (self.own.clone(), job.id);
                let notify = move || {
                    // Lost only when there are more jobs than the mailbox holds commands.
                    let _ = own.try_send(Command::Grown(id));
                };
                self.told.add(*job, notify, now);
            }
            Command::Ended(job) => {
                let id = job.id;
                self.told.end(*job, now);
                self.tell_of(id, now);
            }
            Command::Delete(jobs, done) => {
                jobs.iter().for_each(|id| drop(self.told.remove(*id)));
                self.deletions.add(jobs, done, self.wire.greeted, now);
            }
            Command::Fetch(wanted, done) => {
                if let Some(frame) = self.fetches.add(wanted, done, self.wire.greeted) {
                    self.send(&frame, now);
                }
            }
            Command::Grown(id) => self.tell_of(id, now),
            Command::Stop => self.begin_stop(now),
        }
    }

    fn begin_stop(&mut self, now: Instant) {
        for id in self.told.handed() {
            // Also what would wait for an answer.
            self.tell_of(id, now + TELL);
        }
        // A process that has not said HELLO was given nothing that it would have to store.
        self.stop_at = Some(now + if self.wire.greeted { END } else { END_UNGREETED });
        self.process.start_at = None;
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        let Some(child) = &self.process.child else { return };
        match pidfd_send_signal(&child.process.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(why) => diag::limited!(Level::Warn, "cannot signal the history process", error = why),
        }
    }

    fn start_child(&mut self) -> io::Result<()> {
        let child = Child::start(&self.process.program, &self.process.config, &self.process.sockets)?;
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&child.process.pidfd.as_raw_fd()), CHILD, Interest::READABLE)?;
        registry.register(&mut SourceFd(&child.output.as_raw_fd()), OUTPUT, Interest::READABLE)?;
        self.process.child = Some(child);
        Ok(())
    }

    fn start_again(&mut self, now: Instant) {
        self.process.start_at = None;
        match self.start_child() {
            Ok(()) => diag::event!(Level::Info, "persist service started again", pid = self.pid()),
            Err(why) => {
                let wait = self.process.backoff.after(Duration::ZERO);
                diag::event!(Level::Error, "cannot start the history process", error = why);
                self.process.start_at = Some(now + wait);
            }
        }
    }

    /// Reads what the process says, and whether it has ended. We alone wait for it.
    fn watch_child(&mut self) {
        let Some(child) = &self.process.child else { return };
        self.process.lines.read(child.output.as_fd());
        let now = Instant::now();
        if self.stop_at.is_some_and(|at| at <= now) {
            diag::event!(Level::Warn, "the history process does not end, killing it");
            self.signal(Signal::KILL);
            self.stop_at = Some(now + END);
        }
        let Some(child) = &self.process.child else { return };
        let Some(how) = child.process.reap() else { return };
        self.process.lines.read(child.output.as_fd());
        self.process.lines.end();
        let lived = child.since.elapsed();
        self.process.child = None;
        if self.stop_at.is_none() {
            let wait = self.process.backoff.after(lived);
            self.process.start_at = Some(now + wait);
            diag::event!(
                Level::Error,
                "the history process ended; jobs go on, their output waits in the spools",
                how = how,
                nextStart = format!("{wait:?}")
            );
        }
    }

    fn connect(&mut self, now: Instant) {
        self.wire.connect_at = None;
        if self.stop_at.is_some() {
            return;
        }
        let connected = UnixStream::connect(&self.wire.socket).and_then(|mut socket| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, LINK, interest).map(|()| socket)
        });
        match connected {
            Ok(socket) => {
                self.wire.link = Some(Link::new(socket, LONGEST));
                let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
                let instance = std::process::id().to_string();
                self.send(&Frame::Hello { boot_id: boot_id.trim().to_owned(), instance }, now);
            }
            Err(why) => {
                diag::limited!(Level::Warn, "cannot connect to the history process", error = why);
                self.wire.failed(now);
            }
        }
    }

    fn disconnect(&mut self, why: &dyn std::fmt::Display, now: Instant) {
        let Some(mut link) = self.wire.link.take() else { return };
        let _ = self.poll.registry().deregister(link.socket());
        let was_up = std::mem::replace(&mut self.wire.greeted, false);
        self.told.disconnected();
        self.deletions.disconnected();
        self.fetches.disconnected();
        if self.stop_at.is_some() {
            return;
        }
        diag::limited!(Level::Warn, "the connection to the history process is lost", reason = why);
        if was_up {
            // The socket is ours: it takes the next connection at once, whoever serves it later.
            self.wire.connect_at = Some(now);
            self.wire.failures = 0;
        } else {
            self.wire.failed(now);
        }
    }

    fn send(&mut self, frame: &Frame, now: Instant) {
        let Some(link) = &mut self.wire.link else { return };
        if let Err(why) = link.send(frame, Vec::new()) {
            self.disconnect(&why, now);
        }
    }

    fn receive(&mut self, now: Instant) {
        loop {
            let Some(link) = &mut self.wire.link else { return };
            let received = link.flush().and_then(|()| link.receive());
            let mut frames = Vec::new();
            let read = received.and_then(|more| {
                while let Some(received) = link.next_message()? {
                    frames.push(received.frame);
                }
                Ok(more)
            });
            for frame in frames {
                self.handle(frame, now);
            }
            match read {
                Ok(true) => {}
                Ok(false) => return,
                Err(why) => return self.disconnect(&why, now),
            }
        }
    }

    fn handle(&mut self, frame: Frame, now: Instant) {
        match frame {
            Frame::Hello { .. } => {
                self.wire.greeted = true;
                self.wire.failures = 0;
                diag::event!(Level::Debug, "the history process is connected");
            }
            Frame::Ack { job, reached, note } => self.acknowledged(job, reached, note, now),
            Frame::Fetched { job, failure } => self.fetches.fetched(job, failure.as_deref()),
            _ => {}
        }
    }

    fn acknowledged(&mut self, job: JobId, reached: Reached, note: Note, now: Instant) {
        match note {
            Note::Deleted => {
                if self.deletions.deleted(job) {
                    (self.report)(HistoryEvent::Forgotten(vec![job]));
                }
            }
            Note::Busy => self.told.found_no_room(job, now),
            Note::Complete if self.told.has_ended(job) => {
                if let Some(dir) = self.told.remove(job) {
                    self.releases.put(job, dir, Kept::All);
                }
            }
            Note::Complete | Note::Progress => {
                if let Some((dir, rows, waits)) = self.told.stored(job, reached.rows) {
                    self.releases.put(job, dir, Kept::Rows(rows, waits));
                }
                self.tell_of(job, now);
            }
        }
    }

    /// Tells everything that is to be told now.
    fn tell(&mut self, now: Instant) {
        if !self.wire.greeted {
            return;
        }
        while let Some(job) = self.deletions.next_to_send() {
            self.send(&Frame::DeleteJob { job }, now);
        }
        while let Some(id) = self.told.next_news(now) {
            self.tell_of(id, now);
        }
        while self.wire.greeted
            && let Some(job) = self.told.next_to_hand_over(now)
        {
            self.hand_over(job, now);
        }
    }

    fn tell_of(&mut self, id: JobId, now: Instant) {
        self.tell_rows(id, now);
        // Behind the look at the job's news: from there on a job that begins to wait notifies us again.
        for (job, dir, rows) in self.told.pressed(id) {
            self.releases.put(job, dir, Kept::Rows(rows, true));
        }
    }

    fn tell_rows(&mut self, id: JobId, now: Instant) {
        if !self.wire.greeted {
            return;
        }
        match self.told.news(id, now) {
            Some(Ok(frame)) => self.send(&frame, now),
            Some(Err(job)) => self.hand_over(job, now),
            None => {}
        }
    }

    fn hand_over(&mut self, job: HandOver, now: Instant) {
        let HandOver { id, dir, created_ns, reached } = job;
        let opened = match spool_files::open(&dir) {
            Ok(Some(opened)) => opened,
            // History has it whole since an earlier time, or it was deleted, or it is live only.
            Ok(None) => return drop(self.told.remove(id)),
            Err(why) => {
                diag::limited!(Level::Warn, "cannot open a spool for history", jobId = id, error = why);
                return self.told.found_no_files(id, now);
            }
        };
        let reached = reached.unwrap_or(opened.reached);
        let spool =
            Frame::Spool { job: id, reached, released: opened.released, created_ns, files: opened.files };
        let Some(link) = &mut self.wire.link else { return };
        if let Err(why) = link.send(&spool, opened.descriptors) {
            return self.disconnect(&why, now);
        }
        if let Some(frame) = self.told.handed_over(id, opened.files, reached, now) {
            self.send(&frame, now);
        }
    }
}

impl Wire {
    fn failed(&mut self, now: Instant) {
        self.failures += 1;
        if self.failures == self.most {
            diag::event!(
                Level::Error,
                "the history process cannot be reached; spools fill up to their limits",
                tries = self.failures
            );
        }
        self.connect_at = Some(now + self.again);
    }
}
