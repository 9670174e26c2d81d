//! The thread that empties all jobs' output pipes into their spools.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender};
use log::Level;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::process::{Signal, pidfd_send_signal};

use super::spool::{CHUNK, Spliced, SpoolWriter};
use super::{OutputError, Progress, Stream};
use crate::diag;
use crate::job::JobId;
use crate::sys::turns::{Turn, in_turns};

/// How long a stream whose disk is full waits before it tries again. The job waits with its pipe full.
const STALL: Duration = Duration::from_secs(1);
const WAKE: Token = Token(0);

/// What the collector needs of a job that starts.
#[derive(Debug)]
pub struct JobOutput {
    /// Whose.
    pub id: JobId,
    /// Read end of stdout, non-blocking.
    pub stdout: OwnedFd,
    /// Read end of stderr, non-blocking.
    pub stderr: OwnedFd,
    /// Write end of the control pipe: told when everything is in the spool.
    pub control: Arc<OwnedFd>,
    /// The job's spool.
    pub spool: SpoolWriter,
    /// Told about each row.
    pub progress: Arc<Progress>,
    /// A pidfd of a joblet-init that may linger since its daemon's death, and then waits for a signal before it looks
    /// at the control pipe again: SIGUSR1 is sent to it when everything is in the spool. Only where its exit record
    /// was there *after* the control pipe had been opened anew: before that it forwards signals to the payload, and
    /// need not be woken, because it will find the pipe open.
    pub wake: Option<OwnedFd>,
}

enum Order {
    Add(Box<JobOutput>),
    GiveUp(JobId),
    Stop,
}

/// Handle of the collector thread.
#[derive(Debug, Clone)]
pub struct Collector {
    // Unbounded by type, bounded by admission: one Add and one GiveUp for each live job.
    orders: Turn<Sender<Order>>,
    waker: Arc<Waker>,
}

impl Collector {
    /// Starts the thread. `drained` is called once per job, when both pipes have ended and all is spooled.
    ///
    /// # Errors
    /// No epoll instance or no thread.
    pub fn start(
        drained: impl Fn(JobId) + Send + 'static,
    ) -> Result<(Collector, JoinHandle<()>), OutputError> {
        let poll = Poll::new().map_err(OutputError::Collector)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(OutputError::Collector)?);
        let (orders, inbox) = in_turns(crossbeam_channel::unbounded());
        let desk = Desk {
            poll,
            _waker: waker.clone(),
            inbox,
            pipes: HashMap::new(),
            jobs: HashMap::new(),
            ready: VecDeque::new(),
            next: 1,
        };
        let thread = std::thread::Builder::new()
            .name("output".into())
            .spawn(move || desk.run(&drained))
            .map_err(OutputError::Collector)?;
        Ok((Collector { orders, waker }, thread))
    }

    /// Hands over a job's pipes.
    pub fn add(&self, job: JobOutput) {
        self.send(Order::Add(Box::new(job)));
    }

    /// Stops waiting for a job's pipes to end; it counts as drained.
    pub fn give_up(&self, id: JobId) {
        self.send(Order::GiveUp(id));
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.send(Order::Stop);
    }

    fn send(&self, order: Order) {
        // The receiver goes only after Stop, when nobody has anything left to say.
        let _ = self.orders.take(|queue| queue.send(order));
        if let Err(why) = self.waker.wake() {
            diag::limited!(Level::Warn, "cannot wake the output collector", error = why);
        }
    }
}

struct Pipe {
    fd: OwnedFd,
    stream: Stream,
    job: JobId,
}

struct Job {
    control: Arc<OwnedFd>,
    spool: SpoolWriter,
    progress: Arc<Progress>,
    wake: Option<OwnedFd>,
    open: usize,
}

impl Job {
    /// joblet-init keeps the pipes until it hears this: nothing is in them any more.
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

struct Desk {
    poll: Poll,
    // A closed eventfd takes its pending wake-up with it: ours must live as long as the thread, or the last
    // order, Stop, may never be heard.
    _waker: Arc<Waker>,
    inbox: Turn<Receiver<Order>>,
    // Tokens are never reused: a late event finds no entry and is dropped.
    pipes: HashMap<usize, Pipe>,
    jobs: HashMap<JobId, Job>,
    ready: VecDeque<usize>,
    next: usize,
}

enum Served {
    Again,
    Wait,
    Ended,
    Stalled,
}

impl Desk {
    fn run(mut self, drained: &dyn Fn(JobId)) {
        let mut events = Events::with_capacity(256);
        let mut stalled: Vec<usize> = Vec::new();
        loop {
            let timeout = match (self.ready.is_empty(), stalled.is_empty()) {
                (false, _) => Some(Duration::ZERO),
                (true, false) => Some(STALL),
                (true, true) => None,
            };
            if let Err(why) = self.poll.poll(&mut events, timeout)
                && why.kind() != io::ErrorKind::Interrupted
            {
                diag::limited!(Level::Error, "output collector cannot wait for pipes", error = why);
            }
            self.ready.extend(events.iter().map(|e| e.token().0).filter(|t| *t != WAKE.0));
            if self.ready.is_empty() {
                self.ready.extend(stalled.drain(..));
            }
            while let Ok(order) = self.inbox.take(Receiver::try_recv) {
                match order {
                    Order::Add(job) => self.add(*job),
                    Order::GiveUp(id) => self.give_up(id, drained),
                    Order::Stop => return,
                }
            }
            // One budget for each pipe that is ready, then a look at the others.
            for _ in 0..self.ready.len() {
                let Some(token) = self.ready.pop_front() else { break };
                match self.serve(token) {
                    Served::Again => self.ready.push_back(token),
                    Served::Wait => {}
                    Served::Ended => self.close(token, drained),
                    Served::Stalled => stalled.push(token),
                }
            }
        }
    }

    fn add(&mut self, output: JobOutput) {
        let job = output.id;
        for (fd, stream) in [(output.stdout, Stream::Stdout), (output.stderr, Stream::Stderr)] {
            let token = self.next;
            self.next += 1;
            let registered = self.poll.registry().register(
                &mut SourceFd(&fd.as_raw_fd()),
                Token(token),
                Interest::READABLE,
            );
            if let Err(why) = registered {
                diag::limited!(Level::Error, "cannot watch a job's output", jobId = job, error = why);
            }
            self.pipes.insert(token, Pipe { fd, stream, job });
            self.ready.push_back(token);
        }
        let JobOutput { control, spool, progress, wake, .. } = output;
        self.jobs.insert(job, Job { control, spool, progress, wake, open: 2 });
    }

    fn serve(&mut self, token: usize) -> Served {
        let Some(pipe) = self.pipes.get(&token) else { return Served::Wait };
        let Some(job) = self.jobs.get_mut(&pipe.job) else { return Served::Wait };
        match job.spool.splice_from(&pipe.fd, pipe.stream, CHUNK, now_ns()) {
            Ok(Spliced::Moved(_)) => {
                job.progress.publish(job.spool.rows());
                Served::Again
            }
            Ok(Spliced::Empty) => Served::Wait,
            Ok(Spliced::End) => Served::Ended,
            Err(why) => {
                diag::limited!(
                    Level::Error,
                    "cannot spool a job's output; the job waits until there is room",
                    jobId = pipe.job,
                    error = why
                );
                Served::Stalled
            }
        }
    }

    fn close(&mut self, token: usize, drained: &dyn Fn(JobId)) {
        let Some(pipe) = self.pipes.remove(&token) else { return };
        // Closing takes the descriptor out of epoll only when it is the last one, and joblet-init has one too.
        let _ = self.poll.registry().deregister(&mut SourceFd(&pipe.fd.as_raw_fd()));
        let Some(job) = self.jobs.get_mut(&pipe.job) else { return };
        job.open -= 1;
        if job.open == 0 {
            job.release(pipe.job);
            self.jobs.remove(&pipe.job);
            drained(pipe.job);
        }
    }

    fn give_up(&mut self, id: JobId, drained: &dyn Fn(JobId)) {
        let open: Vec<usize> = self.pipes.iter().filter(|(_, p)| p.job == id).map(|(t, _)| *t).collect();
        if open.is_empty() {
            // Said before; who asks again shall not wait.
            drained(id);
        }
        for token in open {
            self.close(token, drained);
        }
    }
}

fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
}
