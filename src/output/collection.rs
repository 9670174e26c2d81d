//! The state of the thread that collects: all pipes, the spools behind them, and what to do next.
//!
//! It makes no call that takes the lock of a pipe. It returns such a call ([`Collection::next_call`]) and takes the
//! result in ([`Collection::take_back`], or [`Command::Returned`] from another thread). Meanwhile the job's spool
//! is with the call, and the job's other pipe has to wait.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::Level;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::job_output::{CollectorEvent, JobOutput, Notify, Release};
use super::limit::Used;
use super::pause::Pauses;
use super::pipe_call::{Done, PipeCall, PipeState, Work, pipe_state};
use super::spool::{CHUNK, SpliceResult, SpoolWriter};
use super::totals::Counters;
use super::{Full, SpoolLimits, Stream, Watermark};
use crate::diag;
use crate::job::{ClientId, JobId, SpoolPolicy};
use crate::sys::clock::now_ns;
use crate::sys::mailbox::Inbox;

/// The token of the waker.
pub(super) const WAKE: Token = Token(0);

/// A request to the thread that collects.
pub(super) enum Command {
    /// Watch the pipes of this job.
    Add(Box<JobOutput>),
    /// Wait no longer for this job's pipes.
    GiveUp(JobId),
    /// Report when this job's pipes were empty.
    ReportEmpty(JobId),
    /// So many bytes of this job's spool are released.
    Released(JobId, u64),
    /// A late call has returned on another thread.
    Returned(Box<Done>),
    /// Collect nothing any more.
    Stop,
}

struct Pipe {
    fd: Arc<OwnedFd>,
    stream: Stream,
    job: JobId,
    /// Whether the pipe is in the list of ready pipes.
    ready: bool,
    /// The limit that keeps its bytes out of the spool.
    waits: Option<Full>,
    /// Whether it was empty since the last [`Command::ReportEmpty`].
    was_empty: bool,
}

struct Job {
    release: Option<Arc<Release>>,
    /// The spool, unless a call on one of the pipes has it.
    spool: Option<Box<SpoolWriter>>,
    /// Bytes in the spool that are not released, as far as calls have returned.
    bytes: u64,
    /// Bytes that were released.
    released: u64,
    /// The client for which they count.
    client: ClientId,
    /// Rows that readers may read.
    rows: u64,
    watermark: Arc<Watermark>,
    open: usize,
    /// Whether output was discarded, which is logged once.
    loses: bool,
    /// Whether the call that has the spool discards what it reads.
    discards: bool,
    /// Whether to report when both pipes were empty.
    reports_empty: bool,
}

/// All pipes and spools of unfinished jobs.
pub(super) struct Collection {
    poll: Poll,
    events: Events,
    inbox: Inbox<Command>,
    limits: SpoolLimits,
    used: Used,
    totals: Arc<Counters>,
    null: Arc<File>,
    notify: Notify,
    // Tokens are never reused: a late event finds no entry and is ignored.
    pipes: HashMap<usize, Pipe>,
    jobs: HashMap<JobId, Job>,
    /// Tokens of ready pipes, each at most once.
    ready: VecDeque<usize>,
    /// Pipes of this turn that are not served yet.
    round: usize,
    /// Pipes to close. Closing takes their lock.
    closing: Vec<(JobId, Arc<OwnedFd>)>,
    pauses: Pauses,
    next: usize,
}

enum ServeResult {
    Again,
    Wait,
    Ended,
    Held(Full),
}

impl Collection {
    /// No pipes yet.
    pub(super) fn new(
        poll: Poll,
        inbox: Inbox<Command>,
        limits: SpoolLimits,
        totals: Arc<Counters>,
        null: File,
        notify: Notify,
    ) -> Self {
        Collection {
            poll,
            events: Events::with_capacity(256),
            inbox,
            limits,
            used: Used::counted_in(totals.clone()),
            totals,
            null: Arc::new(null),
            notify,
            pipes: HashMap::new(),
            jobs: HashMap::new(),
            ready: VecDeque::new(),
            round: 0,
            closing: Vec::new(),
            pauses: Pauses::default(),
            next: 1,
        }
    }

    /// The next call on a pipe, which the thread waits for; `None` when collecting is to stop.
    pub(super) fn next_call(&mut self) -> Option<PipeCall> {
        loop {
            if let Some((job, fd)) = self.closing.pop() {
                return Some(PipeCall::Close { job, fd });
            }
            // One budget for each ready pipe, then new events and commands.
            while let Some(round) = self.round.checked_sub(1) {
                self.round = round;
                let Some(token) = self.ready.pop_front() else { break };
                if let Some(call) = self.serve(token) {
                    return Some(call);
                }
            }
            if self.closing.is_empty() {
                if !self.turn() {
                    return None;
                }
                self.round = self.ready.len();
            }
        }
    }

    /// Waits for events and commands, and takes them in. Returns whether collecting goes on.
    fn turn(&mut self) -> bool {
        let timeout = match self.pauses.next() {
            _ if !self.ready.is_empty() => Some(Duration::ZERO),
            Some(at) => Some(at.saturating_duration_since(Instant::now())),
            None => None,
        };
        if let Err(why) = self.poll.poll(&mut self.events, timeout)
            && why.kind() != io::ErrorKind::Interrupted
        {
            diag::limited!(Level::Error, "output collector cannot wait for pipes", error = why);
        }
        for event in &self.events {
            queue(&mut self.pipes, &mut self.ready, event.token().0);
        }
        let over = self.pauses.end(Instant::now());
        if over.disk {
            self.retry(|full| full == Full::Disk);
        }
        for id in over.jobs {
            self.queue_where(|pipe| pipe.job == id);
        }
        while let Some(command) = self.inbox.take() {
            match command {
                Command::Add(job) => self.add(*job),
                Command::GiveUp(id) => self.give_up(id),
                Command::ReportEmpty(id) => self.report_empty(id),
                Command::Released(id, bytes) => self.release(id, bytes),
                Command::Returned(done) => self.take_late(*done),
                Command::Stop => return false,
            }
        }
        true
    }

    /// Puts a pipe into the list of ready pipes.
    fn queue(&mut self, token: usize) {
        queue(&mut self.pipes, &mut self.ready, token);
    }

    /// Puts these pipes into the list of ready pipes.
    fn queue_where(&mut self, which: impl Fn(&Pipe) -> bool) {
        let wanted = self.pipes.iter().filter(|(_, pipe)| which(pipe));
        for token in wanted.map(|(token, _)| *token).collect::<Vec<_>>() {
            self.queue(token);
        }
    }

    /// Puts the pipes that wait for such a limit into the list of ready pipes.
    fn retry(&mut self, waits_for: impl Fn(Full) -> bool) {
        self.queue_where(|pipe| pipe.waits.is_some_and(&waits_for));
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
            let fd = Arc::new(fd);
            self.pipes
                .insert(token, Pipe { fd, stream, job: id, ready: false, waits: None, was_empty: false });
            self.queue(token);
        }
        let JobOutput { release, spool, watermark, .. } = output;
        let (released, rows) = (spool.released_bytes(), spool.rows());
        let bytes = spool.bytes().saturating_sub(released);
        let client = watermark.client();
        self.used.change(client, 0, bytes);
        let spool = Some(Box::new(spool));
        let job = Job {
            release,
            spool,
            bytes,
            released,
            client,
            rows,
            watermark,
            open: 2,
            loses: false,
            discards: false,
            reports_empty: false,
        };
        self.jobs.insert(id, job);
    }

    /// Looks at a ready pipe, and returns the call that it needs.
    fn serve(&mut self, token: usize) -> Option<PipeCall> {
        let pipe = self.pipes.get_mut(&token)?;
        pipe.ready = false;
        let job = self.jobs.get_mut(&pipe.job)?;
        // Else a late call has it, and queues all pipes of the job when it returns.
        let gives_way = job.spool.as_ref()?.gives_way();
        if self.pauses.has_rest(pipe.job)
            && matches!(pipe_state(&pipe.fd), PipeState::Empty | PipeState::Bytes)
        {
            return None;
        }
        let work = match self.limits.room(job.bytes, self.used.of(job.client), self.used.all()) {
            Ok(room) => Ok(Work::Keep { room, ring: self.limits.ring }),
            // It drops its oldest rows instead.
            Err(_) if gives_way => Ok(Work::Keep { room: CHUNK, ring: 2 * CHUNK as u64 }),
            Err(full) => match (pipe_state(&pipe.fd), self.limits.policy) {
                (PipeState::Empty, _) => Err(ServeResult::Wait),
                (PipeState::Ended, _) => Err(ServeResult::Ended),
                (_, SpoolPolicy::Drop) => {
                    log_loss(pipe.job, job, full);
                    Ok(Work::Discard(self.null.clone()))
                }
                (PipeState::LastBytes, _) => Ok(Work::Keep { room: CHUNK, ring: self.limits.ring }),
                (PipeState::Bytes, policy) => {
                    if policy == SpoolPolicy::Kill {
                        request_end(pipe.job, job, full, &self.notify);
                    }
                    Err(ServeResult::Held(full))
                }
            },
        };
        match work {
            Ok(work) => {
                let spool = job.spool.take()?;
                job.discards = matches!(work, Work::Discard(_));
                let (job, stream, fd) = (pipe.job, pipe.stream, pipe.fd.clone());
                Some(PipeCall::Serve { token, job, stream, fd, spool, work })
            }
            Err(served) => {
                self.settle(token, served);
                None
            }
        }
    }

    /// Takes the result of a call in.
    pub(super) fn take_back(&mut self, done: Done) {
        let Done::Moved { token, job: id, fd, spool, moved } = done else { return };
        let Some(job) = self.jobs.get_mut(&id) else {
            // It was given up meanwhile. Its pipe may be held again.
            self.closing.push((id, fd));
            return;
        };
        job.released = job.released.max(spool.released_bytes());
        let (bytes, rows) = (spool.bytes().saturating_sub(job.released), spool.rows());
        // Its bytes move to the client as soon as the sandbox has one.
        self.used.change(job.client, job.bytes, 0);
        job.client = job.watermark.client();
        job.bytes = bytes;
        self.used.change(job.client, 0, bytes);
        job.spool = Some(spool);
        if std::mem::replace(&mut job.rows, rows) != rows {
            job.watermark.publish(rows);
        }
        let served = match moved {
            Ok(SpliceResult::Moved(bytes)) => {
                let total = if job.discards { &self.totals.dropped } else { &self.totals.stored };
                total.fetch_add(bytes as u64, Ordering::Relaxed);
                ServeResult::Again
            }
            Ok(SpliceResult::Empty) => ServeResult::Wait,
            Ok(SpliceResult::End) => ServeResult::Ended,
            Err(why) => {
                if self.pipes.get(&token).is_some_and(|pipe| pipe.waits.is_none()) {
                    diag::limited!(Level::Error, "cannot spool a job's output", jobId = id, error = why);
                }
                ServeResult::Held(Full::Disk)
            }
        };
        self.settle(token, served);
    }

    /// Takes the result of a late call in. Both pipes may have become ready without the spool.
    fn take_late(&mut self, done: Done) {
        let (Done::Moved { job: id, .. } | Done::Closed { job: id }) = done;
        self.take_back(done);
        if self.jobs.contains_key(&id) {
            self.pauses.rest(Instant::now(), id);
        }
        self.queue_where(|pipe| pipe.job == id);
    }

    /// Does what follows from a look at a pipe, or from a call.
    fn settle(&mut self, token: usize, served: ServeResult) {
        self.note_wait(token, if let ServeResult::Held(full) = served { Some(full) } else { None });
        match served {
            ServeResult::Again => self.queue(token),
            ServeResult::Ended => self.close(token),
            ServeResult::Held(Full::Disk) => {
                self.pauses.stall(Instant::now());
            }
            ServeResult::Wait => {
                if let Some(pipe) = self.pipes.get_mut(&token) {
                    pipe.was_empty = true;
                    let id = pipe.job;
                    self.report_if_empty(id);
                }
            }
            ServeResult::Held(_) => {}
        }
    }

    /// Notes which limit a pipe waits for: for the next try, for the job's status and, on a change, for the log.
    fn note_wait(&mut self, token: usize, waits: Option<Full>) {
        let Some(pipe) = self.pipes.get_mut(&token) else { return };
        let Some(job) = self.jobs.get(&pipe.job) else { return };
        let waited = std::mem::replace(&mut pipe.waits, waits);
        if waited == waits {
            return;
        }
        match (waited, waits) {
            (None, Some(_)) => self.totals.held.fetch_add(1, Ordering::Relaxed),
            (Some(_), None) => self.totals.held.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
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

    /// Counts released bytes no longer, and lets those go on that waited for their room.
    fn release(&mut self, id: JobId, bytes: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        // A late call may have the spool: its result counts what is released.
        let more = bytes.saturating_sub(job.released).min(job.bytes);
        job.released = job.released.max(bytes);
        self.used.change(job.client, job.bytes, job.bytes - more);
        job.bytes -= more;
        self.queue_where(|pipe| match pipe.waits {
            Some(Full::Job) => pipe.job == id,
            Some(Full::All) => true,
            Some(Full::Disk) | None => false,
        });
    }

    fn close(&mut self, token: usize) {
        let Some(pipe) = self.pipes.remove(&token) else { return };
        if pipe.waits.is_some() {
            self.totals.held.fetch_sub(1, Ordering::Relaxed);
        }
        // Closing takes the descriptor out of epoll only when it is the last one, and joblet-init has one too.
        let _ = self.poll.registry().deregister(&mut SourceFd(&pipe.fd.as_raw_fd()));
        self.closing.push((pipe.job, pipe.fd));
        let Some(job) = self.jobs.get_mut(&pipe.job) else { return };
        job.watermark.set_waits(pipe.stream, None);
        job.open -= 1;
        if job.open > 0 {
            return self.report_if_empty(pipe.job);
        }
        // Without the spool where the job is given up in the middle of a late call.
        if let Some(spool) = &mut job.spool {
            let closed = spool.close_gaps(now_ns());
            job.watermark.publish(spool.rows());
            if let Err(why) = closed {
                diag::limited!(Level::Warn, "cannot count lost output", jobId = pipe.job, error = why);
            }
        }
        if let Some(release) = job.release.as_ref().filter(|_| !job.watermark.holds()) {
            release.give(pipe.job);
        }
        self.used.change(job.client, job.bytes, 0);
        self.jobs.remove(&pipe.job);
        self.pauses.forget(pipe.job);
        (self.notify)(pipe.job, CollectorEvent::OutputComplete);
        // The room of this job is free for the others.
        self.retry(|full| full == Full::All);
    }

    /// Looks at both pipes of a job again, and reports when both were empty.
    fn report_empty(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return (self.notify)(id, CollectorEvent::OutputComplete);
        };
        job.reports_empty = true;
        self.pipes.values_mut().filter(|pipe| pipe.job == id).for_each(|pipe| pipe.was_empty = false);
        self.queue_where(|pipe| pipe.job == id);
    }

    fn report_if_empty(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.reports_empty) else { return };
        if self.pipes.values().filter(|pipe| pipe.job == id).all(|pipe| pipe.was_empty) {
            job.reports_empty = false;
            (self.notify)(id, CollectorEvent::OutputEmpty);
        }
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

fn queue(pipes: &mut HashMap<usize, Pipe>, ready: &mut VecDeque<usize>, token: usize) {
    if let Some(pipe) = pipes.get_mut(&token)
        && !std::mem::replace(&mut pipe.ready, true)
    {
        ready.push_back(token);
    }
}

fn log_loss(id: JobId, job: &mut Job, full: Full) {
    if !std::mem::replace(&mut job.loses, true) {
        let what = full.reason();
        diag::limited!(Level::Warn, "output of a job is thrown away", jobId = id, lacks = what);
    }
}

/// Reports once that a job must be stopped for a limit.
fn request_end(id: JobId, job: &Job, full: Full, notify: &Notify) {
    if job.watermark.over().is_none() {
        job.watermark.set_over(full);
        notify(id, CollectorEvent::OverLimit);
    }
}
