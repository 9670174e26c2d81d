//! The thread that moves all jobs' output from the pipes into their spools.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::Level;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, pidfd_send_signal};

use super::spool::{CHUNK, SpliceResult, SpoolWriter};
use super::{Full, OutputError, SpoolLimits, Stream, Watermark};
use crate::diag;
use crate::job::JobId;
use crate::job::SpoolPolicy;
use crate::sys::clock::now_ns;
use crate::sys::mailbox::{Inbox, Mailbox, SendError, mailbox};

/// Time after which a stream whose disk is full tries again. The job waits with its pipe full.
const STALL: Duration = Duration::from_secs(1);
const WAKE: Token = Token(0);
/// Most commands that wait for the thread. Admission keeps far below: one `Add` and one `GiveUp` for each live job.
const COMMANDS: usize = 1 << 20;

/// The output of a job that starts, as the collector takes it over.
#[derive(Debug)]
pub struct JobOutput {
    /// The id of the job.
    pub id: JobId,
    /// The read end of the stdout pipe, non-blocking.
    pub stdout: OwnedFd,
    /// The read end of the stderr pipe, non-blocking.
    pub stderr: OwnedFd,
    /// The write end of joblet-init's control pipe, which gets a byte when everything is in the spool.
    pub control: Arc<OwnedFd>,
    /// The spool that the output goes into.
    pub spool: SpoolWriter,
    /// The watermark on which each row is published.
    pub watermark: Arc<Watermark>,
    /// A pidfd of a joblet-init that may linger since its daemon died. It waits for a signal before it reads the control
    /// pipe again, so the collector sends it SIGUSR1 when everything is in the spool. Set only where the exit file
    /// existed *after* the control pipe had been opened anew: before that joblet-init forwards signals to the payload,
    /// and needs no signal, because it will find the pipe open.
    pub wake: Option<OwnedFd>,
}

/// An event of one job that the collector reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectorEvent {
    /// Both pipes have ended and all their bytes are in the spool.
    OutputComplete,
    /// The job writes more than a limit allows and must be stopped for it. Reported once.
    OverLimit,
}

enum Command {
    Add(Box<JobOutput>),
    GiveUp(JobId),
    Stop,
}

/// The handle of the collector thread.
#[derive(Debug, Clone)]
pub struct Collector {
    commands: Mailbox<Command>,
}

impl Collector {
    /// Starts the thread, which reports events through `notify`; `notify` must not block.
    ///
    /// # Errors
    /// No epoll instance, no /dev/null or no thread.
    pub fn start(
        limits: SpoolLimits,
        notify: impl Fn(JobId, CollectorEvent) + Send + 'static,
    ) -> Result<(Collector, JoinHandle<()>), OutputError> {
        let poll = Poll::new().map_err(OutputError::Collector)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(OutputError::Collector)?);
        let null = OpenOptions::new().write(true).open("/dev/null").map_err(OutputError::Collector)?;
        let (commands, inbox) = mailbox(COMMANDS, waker);
        let collector_thread = CollectorThread {
            poll,
            inbox,
            limits,
            used: 0,
            null,
            notify: Box::new(notify),
            pipes: HashMap::new(),
            jobs: HashMap::new(),
            ready: VecDeque::new(),
            retry_at: None,
            next: 1,
        };
        let thread = std::thread::Builder::new()
            .name("output".into())
            .spawn(move || collector_thread.run())
            .map_err(OutputError::Collector)?;
        Ok((Collector { commands }, thread))
    }

    /// Hands a job's pipes over to the thread.
    pub fn add(&self, job: JobOutput) {
        self.send(Command::Add(Box::new(job)));
    }

    /// Stops waiting for a job's pipes to end and reports its output as complete.
    pub fn give_up(&self, id: JobId) {
        self.send(Command::GiveUp(id));
    }

    /// Ends the collector thread.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    fn send(&self, command: Command) {
        // The thread closes its inbox only after Stop, when no command matters any more.
        if let Err(SendError::Full(_)) = self.commands.try_send(command) {
            diag::limited!(
                Level::Error,
                "the output collector lags behind: a command is lost",
                limit = COMMANDS
            );
        }
    }
}

struct Pipe {
    fd: OwnedFd,
    stream: Stream,
    job: JobId,
    /// Whether the pipe is in the list of ready pipes.
    ready: bool,
    /// The limit that keeps its bytes out of the spool.
    waits: Option<Full>,
}

struct Job {
    control: Arc<OwnedFd>,
    spool: SpoolWriter,
    watermark: Arc<Watermark>,
    wake: Option<OwnedFd>,
    open: usize,
    /// Whether output was discarded, which is logged once.
    loses: bool,
}

impl Job {
    /// Lets joblet-init end: it keeps the pipes until it reads that nothing is in them any more.
    fn release(&self, id: JobId) {
        if let Err(why) = rustix::io::write(&*self.control, b"R") {
            log::debug!("release of {id}: {why}");
        }
        if let Some(init) = &self.wake
            && let Err(why) = pidfd_send_signal(init, Signal::USR1)
        {
            log::debug!("wake-up of {id}: {why}");
        }
    }
}

struct CollectorThread {
    poll: Poll,
    inbox: Inbox<Command>,
    limits: SpoolLimits,
    /// Bytes in the spools of all unfinished jobs.
    used: u64,
    null: File,
    notify: Box<dyn Fn(JobId, CollectorEvent) + Send>,
    // Tokens are never reused: a late event finds no entry and is ignored.
    pipes: HashMap<usize, Pipe>,
    jobs: HashMap<JobId, Job>,
    /// Tokens of ready pipes, each at most once.
    ready: VecDeque<usize>,
    /// The time at which pipes that wait for the disk are tried again.
    retry_at: Option<Instant>,
    next: usize,
}

enum ServeResult {
    Again,
    Wait,
    Ended,
    Held(Full),
}

impl CollectorThread {
    fn run(mut self) {
        let mut events = Events::with_capacity(256);
        loop {
            let timeout = match self.retry_at {
                _ if !self.ready.is_empty() => Some(Duration::ZERO),
                Some(at) => Some(at.saturating_duration_since(Instant::now())),
                None => None,
            };
            if let Err(why) = self.poll.poll(&mut events, timeout)
                && why.kind() != io::ErrorKind::Interrupted
            {
                diag::limited!(Level::Error, "output collector cannot wait for pipes", error = why);
            }
            for event in &events {
                self.queue(event.token().0);
            }
            if self.retry_at.is_some_and(|at| at <= Instant::now()) {
                self.retry_at = None;
                self.retry(|full| full == Full::Disk);
            }
            while let Some(command) = self.inbox.take() {
                match command {
                    Command::Add(job) => self.add(*job),
                    Command::GiveUp(id) => self.give_up(id),
                    Command::Stop => return,
                }
            }
            // One budget for each ready pipe, then new events and commands.
            for _ in 0..self.ready.len() {
                let Some(token) = self.ready.pop_front() else { break };
                self.serve_turn(token);
            }
        }
    }

    /// Puts a pipe into the list of ready pipes.
    fn queue(&mut self, token: usize) {
        if let Some(pipe) = self.pipes.get_mut(&token)
            && !std::mem::replace(&mut pipe.ready, true)
        {
            self.ready.push_back(token);
        }
    }

    /// Puts the pipes that wait for such a limit into the list of ready pipes.
    fn retry(&mut self, waits_for: impl Fn(Full) -> bool) {
        let waiting = self.pipes.iter().filter(|(_, pipe)| pipe.waits.is_some_and(&waits_for));
        for token in waiting.map(|(token, _)| *token).collect::<Vec<_>>() {
            self.queue(token);
        }
    }

    fn add(&mut self, output: JobOutput) {
        let id = output.id;
        for (fd, stream) in [(output.stdout, Stream::Stdout), (output.stderr, Stream::Stderr)] {
            let token = self.next;
            self.next += 1;
            let registered = self.poll.registry().register(
                &mut SourceFd(&fd.as_raw_fd()),
                Token(token),
                Interest::READABLE,
            );
            if let Err(why) = registered {
                diag::limited!(Level::Error, "cannot watch a job's output", jobId = id, error = why);
            }
            self.pipes.insert(token, Pipe { fd, stream, job: id, ready: false, waits: None });
            self.queue(token);
        }
        let JobOutput { control, spool, watermark, wake, .. } = output;
        self.used += spool.bytes();
        self.jobs.insert(id, Job { control, spool, watermark, wake, open: 2, loses: false });
    }

    fn serve_turn(&mut self, token: usize) {
        if let Some(pipe) = self.pipes.get_mut(&token) {
            pipe.ready = false;
        }
        let served = self.serve(token);
        self.note_wait(token, if let ServeResult::Held(full) = served { Some(full) } else { None });
        match served {
            ServeResult::Again => self.queue(token),
            ServeResult::Ended => self.close(token),
            ServeResult::Held(Full::Disk) => {
                self.retry_at.get_or_insert_with(|| Instant::now() + STALL);
            }
            ServeResult::Wait | ServeResult::Held(_) => {}
        }
    }

    /// Notes which limit a pipe waits for: for the next try, for the job's status and, on a change, for the log.
    fn note_wait(&mut self, token: usize, waits: Option<Full>) {
        let Some(pipe) = self.pipes.get_mut(&token) else { return };
        let Some(job) = self.jobs.get(&pipe.job) else { return };
        if std::mem::replace(&mut pipe.waits, waits) == waits {
            return;
        }
        let before = job.watermark.waits();
        job.watermark.set_waits(pipe.stream, waits);
        match (before, job.watermark.waits()) {
            (None, Some(full)) => {
                let what = full.reason();
                diag::limited!(Level::Warn, "output of a job waits", jobId = pipe.job, waitsFor = what);
            }
            (Some(_), None) => diag::limited!(Level::Info, "output of a job goes on", jobId = pipe.job),
            _ => {}
        }
    }

    fn serve(&mut self, token: usize) -> ServeResult {
        let Some(pipe) = self.pipes.get(&token) else { return ServeResult::Wait };
        let Some(job) = self.jobs.get_mut(&pipe.job) else { return ServeResult::Wait };
        let (before, rows) = (job.spool.bytes(), job.spool.rows());
        let moved = match self.limits.room(before, self.used) {
            Ok(room) => job.spool.splice_from(&pipe.fd, pipe.stream, room, now_ns()),
            Err(full) => match (pipe_state(&pipe.fd), self.limits.policy) {
                (PipeState::Empty, _) => Ok(SpliceResult::Empty),
                (PipeState::Ended, _) => Ok(SpliceResult::End),
                (_, SpoolPolicy::Drop) => {
                    log_loss(pipe.job, job, full);
                    job.spool.discard_from(&pipe.fd, &self.null, pipe.stream, CHUNK, now_ns())
                }
                (PipeState::LastBytes, _) => job.spool.splice_from(&pipe.fd, pipe.stream, CHUNK, now_ns()),
                (PipeState::Bytes, policy) => {
                    if policy == SpoolPolicy::Kill {
                        request_end(pipe.job, job, full, &self.notify);
                    }
                    return ServeResult::Held(full);
                }
            },
        };
        self.used = self.used - before + job.spool.bytes();
        if job.spool.rows() != rows {
            job.watermark.publish(job.spool.rows());
        }
        match moved {
            Ok(SpliceResult::Moved(_)) => ServeResult::Again,
            Ok(SpliceResult::Empty) => ServeResult::Wait,
            Ok(SpliceResult::End) => ServeResult::Ended,
            Err(why) => {
                if pipe.waits.is_none() {
                    diag::limited!(
                        Level::Error,
                        "cannot spool a job's output",
                        jobId = pipe.job,
                        error = why
                    );
                }
                ServeResult::Held(Full::Disk)
            }
        }
    }

    fn close(&mut self, token: usize) {
        let Some(pipe) = self.pipes.remove(&token) else { return };
        // Closing takes the descriptor out of epoll only when it is the last one, and joblet-init has one too.
        let _ = self.poll.registry().deregister(&mut SourceFd(&pipe.fd.as_raw_fd()));
        let Some(job) = self.jobs.get_mut(&pipe.job) else { return };
        job.watermark.set_waits(pipe.stream, None);
        job.open -= 1;
        if job.open > 0 {
            return;
        }
        if let Err(why) = job.spool.close_gaps(now_ns()) {
            diag::limited!(Level::Warn, "cannot count lost output", jobId = pipe.job, error = why);
        }
        job.watermark.publish(job.spool.rows());
        job.release(pipe.job);
        self.used -= job.spool.bytes();
        self.jobs.remove(&pipe.job);
        (self.notify)(pipe.job, CollectorEvent::OutputComplete);
        // The room of this job is free for the others.
        self.retry(|full| full == Full::All);
    }

    fn give_up(&mut self, id: JobId) {
        let open: Vec<usize> = self.pipes.iter().filter(|(_, p)| p.job == id).map(|(t, _)| *t).collect();
        if open.is_empty() {
            // Reported before; a second caller must not wait for it.
            (self.notify)(id, CollectorEvent::OutputComplete);
        }
        for token in open {
            self.close(token);
        }
    }
}

/// The content of a pipe and the state of its writers.
enum PipeState {
    Empty,
    Bytes,
    /// Bytes, and no writer is left.
    LastBytes,
    Ended,
}

fn pipe_state(pipe: &OwnedFd) -> PipeState {
    let mut fds = [PollFd::new(pipe, PollFlags::IN)];
    // A pipe that cannot be polled is read, and the read fails with the reason.
    let seen = poll(&mut fds, Some(&rustix::time::Timespec::default()));
    let flags = seen.map_or(PollFlags::IN, |_| fds[0].revents());
    match (flags.contains(PollFlags::IN), flags.contains(PollFlags::HUP)) {
        (false, false) => PipeState::Empty,
        (true, false) => PipeState::Bytes,
        (true, true) => PipeState::LastBytes,
        (false, true) => PipeState::Ended,
    }
}

fn log_loss(id: JobId, job: &mut Job, full: Full) {
    if !std::mem::replace(&mut job.loses, true) {
        let what = full.reason();
        diag::limited!(Level::Warn, "output of a job is thrown away", jobId = id, lacks = what);
    }
}

/// Reports once that a job must be stopped for a limit.
fn request_end(id: JobId, job: &Job, full: Full, notify: &dyn Fn(JobId, CollectorEvent)) {
    if job.watermark.over().is_none() {
        job.watermark.set_over(full);
        notify(id, CollectorEvent::OverLimit);
    }
}
