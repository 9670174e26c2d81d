//! The lanes to a remote store: what the local files have goes there, and is acknowledged when it is accepted.
//!
//! The loop says how far a job's files have come. A thread takes the job that has waited longest, sends at most 1 MiB of
//! it, and puts it back: so jobs take turns, and one thread at a time works on a job. A call of the store may last for
//! minutes, which is why nothing else runs on these threads. A job that fails waits and is tried again for ever; its
//! spool holds what was not acknowledged. Jobs here are those that the loop knows, once each.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::Level;

use super::PersistError;
use super::frame::Reached;
use super::lane::LaneEvent;
use super::remote::{RemoteJob, RemoteRow, RemoteStore};
use super::store::{JobHistory, LocalStore};
use crate::diag;
use crate::job::JobId;
use crate::output::spool::Span;
use crate::sys::mailbox::Mailbox;

/// Threads, and so requests under way at one time.
const LANES: usize = 8;
/// Bytes, rows and samples of one turn of a job.
const BYTES: usize = 1 << 20;
const ROWS: u64 = 10_000;
const SAMPLES: u64 = 720;
/// Time until a job that failed has another turn. The store waits by itself before it gives up.
const AGAIN: Duration = Duration::from_secs(2);

/// The lanes as the loop has them.
#[derive(Debug)]
pub(super) struct Uploads {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    remote: Arc<dyn RemoteStore>,
    store: LocalStore,
    events: Mailbox<LaneEvent>,
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: HashMap<JobId, Entry>,
    due: BTreeSet<(Instant, JobId)>,
    is_closed: bool,
}

/// One job as the loop has told of it.
#[derive(Debug, Default)]
struct Entry {
    wanted: Wanted,
    /// The part that is accepted, as far as was reported.
    accepted: Reached,
    /// Rows that the spool had released when the job was opened.
    released: u64,
    /// The local files lack rows that the remote store has: somebody removed them.
    is_torn: bool,
    due: Option<Instant>,
    is_busy: bool,
    way: Option<Way>,
}

/// The work to be done for a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Wanted {
    local: Reached,
    has_ended: bool,
    delete: bool,
}

/// The open way of a job.
#[derive(Debug)]
struct Way {
    job: Box<dyn RemoteJob>,
    rows: u64,
    samples: u64,
}

enum Outcome {
    Idle,
    More,
    Failed(String),
    Over,
}

impl Uploads {
    /// Starts the threads. Events go into the mailbox.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start(
        remote: Arc<dyn RemoteStore>,
        store: &LocalStore,
        events: &Mailbox<LaneEvent>,
    ) -> Result<Uploads, PersistError> {
        let (store, events) = (store.clone(), events.clone());
        let shared =
            Arc::new(Shared { remote, store, events, state: Mutex::default(), news: Condvar::new() });
        let start = |_| {
            let shared = shared.clone();
            std::thread::Builder::new().name("upload".into()).spawn(move || shared.run())
        };
        let threads = (0..LANES).map(start).collect::<Result<Vec<_>, _>>();
        let threads =
            threads.map_err(|source| PersistError::SetUp { doing: "start a remote lane", source })?;
        Ok(Uploads { shared, threads })
    }

    /// A job whose spool has released so many rows.
    pub(super) fn add(&self, job: JobId, released: u64) {
        self.shared.lock().jobs.entry(job).or_default().released = released;
    }

    /// The local files of a job are open, and hold so much.
    pub(super) fn opened(&self, job: JobId, local: Reached) {
        let mut state = self.shared.lock();
        let entry = state.jobs.entry(job).or_default();
        entry.is_torn |= local.rows < entry.released;
        drop(state);
        self.put(job, local, false);
    }

    /// The local files hold so much of a job; `has_ended`: that is all.
    pub(super) fn put(&self, job: JobId, local: Reached, has_ended: bool) {
        self.shared.want(job, |wanted| {
            wanted.local.rows = wanted.local.rows.max(local.rows);
            wanted.local.sample_bytes = wanted.local.sample_bytes.max(local.sample_bytes);
            wanted.has_ended |= has_ended;
        });
    }

    /// Deletes a job, behind what is under way for it.
    pub(super) fn delete(&self, job: JobId) {
        self.shared.want(job, |wanted| wanted.delete = true);
    }

    /// How much of a job is accepted.
    pub(super) fn accepted(&self, job: JobId) -> Reached {
        self.shared.lock().jobs.get(&job).map(|entry| entry.accepted).unwrap_or_default()
    }

    /// Rows that are durable here and not accepted there, of all jobs.
    pub(super) fn waiting_rows(&self) -> u64 {
        let rows = |entry: &Entry| entry.wanted.local.rows.saturating_sub(entry.accepted.rows);
        self.shared.lock().jobs.values().map(rows).sum()
    }

    /// Ends the threads, and what is under way with them.
    pub(super) fn end(self) -> Vec<JoinHandle<()>> {
        self.shared.lock().is_closed = true;
        self.shared.remote.stop();
        self.shared.news.notify_all();
        self.threads
    }
}

impl State {
    fn make_due(&mut self, job: JobId, at: Instant) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        if !entry.is_busy && entry.due.is_none() {
            entry.due = Some(at);
            self.due.insert((at, job));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn want(&self, job: JobId, change: impl FnOnce(&mut Wanted)) {
        let mut state = self.lock();
        change(&mut state.jobs.entry(job).or_default().wanted);
        state.make_due(job, Instant::now());
        self.news.notify_one();
    }

    fn run(&self) {
        crate::sys::thread::be_nice();
        while let Some((job, wanted, mut way)) = self.next() {
            let outcome = if wanted.delete { self.delete(job) } else { self.upload(job, wanted, &mut way) };
            self.finish(job, wanted, way, outcome);
        }
    }

    /// The job that has waited longest; `None`: the end.
    fn next(&self) -> Option<(JobId, Wanted, Option<Way>)> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            let now = Instant::now();
            let first = state.due.first().copied();
            state = match first {
                Some((at, job)) if at <= now => {
                    state.due.remove(&(at, job));
                    let Some(entry) = state.jobs.get_mut(&job) else { continue };
                    (entry.due, entry.is_busy) = (None, true);
                    return Some((job, entry.wanted, entry.way.take()));
                }
                Some((at, _)) => {
                    self.news.wait_timeout(state, at - now).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.news.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn finish(&self, job: JobId, done: Wanted, way: Option<Way>, outcome: Outcome) {
        let mut state = self.lock();
        let Some(entry) = state.jobs.get_mut(&job) else { return };
        (entry.is_busy, entry.way) = (false, way);
        let has_news = entry.wanted != done;
        let now = Instant::now();
        match outcome {
            Outcome::Over if !has_news => drop(state.jobs.remove(&job)),
            Outcome::Failed(why) => {
                // The end is no failure.
                if !state.is_closed {
                    let text = "the remote store of history does not take a job; trying again";
                    diag::limited!(Level::Error, text, jobId = job, error = why);
                    // A full mailbox has more to tell.
                    let _ = self.events.try_send(LaneEvent::RemoteFailed);
                }
                state.make_due(job, now + AGAIN);
            }
            Outcome::More => state.make_due(job, now),
            Outcome::Idle | Outcome::Over if has_news => state.make_due(job, now),
            Outcome::Idle | Outcome::Over => {}
        }
        // Another thread may wait for a later moment.
        self.news.notify_one();
    }

    fn delete(&self, job: JobId) -> Outcome {
        match self.remote.delete(job) {
            Ok(()) => {
                let _ = self.events.send(LaneEvent::RemoteDeleted(job));
                Outcome::Over
            }
            Err(why) => Outcome::Failed(why),
        }
    }

    fn upload(&self, job: JobId, wanted: Wanted, way: &mut Option<Way>) -> Outcome {
        if self.store.is_deleted(job) {
            // Nobody wants the rest, and the lane says so. Its part in the remote store goes with the deletion.
            return Outcome::Over;
        }
        let sent = self.open(job, way).and_then(|way| self.send(job, wanted, way));
        match sent {
            Ok((reached, is_whole, is_more)) => {
                let is_over = wanted.has_ended && is_whole;
                if is_over {
                    self.keep_copy(job);
                }
                self.report(job, reached, is_over);
                match (is_over, is_more) {
                    (true, _) => Outcome::Over,
                    (false, true) => Outcome::More,
                    (false, false) => Outcome::Idle,
                }
            }
            Err(why) => Outcome::Failed(why),
        }
    }

    /// The local files are a copy from now on. Those with a hole go, so that readers get one of the remote store.
    fn keep_copy(&self, job: JobId) {
        let is_torn = self.lock().jobs.get(&job).is_some_and(|entry| entry.is_torn);
        let done = if is_torn { self.store.evict(job) } else { self.store.mark_copy(job) };
        if let Err(why) = done {
            let text = "cannot keep or remove the local copy of history";
            diag::limited!(Level::Warn, text, jobId = job, error = why);
        }
    }

    fn open<'a>(&self, job: JobId, way: &'a mut Option<Way>) -> Result<&'a mut Way, String> {
        if way.is_none() {
            let job = self.remote.job(job)?;
            let (rows, samples) = job.accepted();
            *way = Some(Way { job, rows, samples });
        }
        way.as_mut().ok_or_else(String::new)
    }

    /// Sends one turn of a job: what is accepted, whether that is all of it, and whether more can be sent at once.
    fn send(&self, job: JobId, wanted: Wanted, way: &mut Way) -> Result<(Reached, bool, bool), String> {
        let unread = |why: super::store::StoreError| why.to_string();
        let before = (way.rows, way.samples);
        let (mut has_rows, mut has_samples) = (way.rows >= wanted.local.rows, true);
        if let Some(mut history) = self.store.history(job).map_err(unread)? {
            if !has_rows {
                let (rows, through) = read_rows(&mut history, way.rows, wanted.local.rows).map_err(unread)?;
                if !rows.is_empty() {
                    way.job.put(&rows)?;
                }
                way.rows = through;
                has_rows = through >= wanted.local.rows;
            }
            let stored = history.samples().map_err(unread)?;
            if way.samples < stored {
                let lines = read_samples(&mut history, way.samples, stored).map_err(unread)?;
                let is_last = wanted.has_ended && way.samples + lines.len() as u64 >= stored;
                way.job.put_samples(way.samples + 1, &lines, is_last)?;
                way.samples = way.job.accepted().1;
                has_samples = way.samples >= stored;
            }
        } else if !has_rows {
            // Removed by hand before it was sent. The spool has it still, and the next start stores it anew.
            return Err("its local files are gone".to_owned());
        }
        let sample_bytes = if has_samples { wanted.local.sample_bytes } else { 0 };
        let is_more = before != (way.rows, way.samples) && !(has_rows && has_samples);
        Ok((Reached { rows: way.rows, sample_bytes }, has_rows && has_samples, is_more))
    }

    fn report(&self, job: JobId, reached: Reached, complete: bool) {
        if let Some(entry) = self.lock().jobs.get_mut(&job) {
            entry.accepted = reached;
        }
        // The loop is gone only at the end.
        let _ = self.events.send(LaneEvent::Accepted { job, reached, complete });
    }
}

/// Rows behind `from`, at most one turn, and the sequence up to which all that are there were read.
fn read_rows(
    history: &mut JobHistory,
    from: u64,
    to: u64,
) -> Result<(Vec<RemoteRow>, u64), super::store::StoreError> {
    let (mut rows, mut bytes, mut through) = (Vec::new(), 0, from);
    while through < to && bytes < BYTES && through - from < ROWS {
        through += 1;
        let Some(row) = history.row(through)? else { continue };
        let content = match row.span {
            Span::Bytes { offset, length } => history.bytes(row.stream, offset, length as usize)?,
            Span::Lost(_) => Vec::new(),
        };
        bytes += content.len();
        rows.push((row, content));
    }
    Ok((rows, through))
}

/// Lines of samples behind `from`, at most one turn; empty ones in the place of those that are missing.
fn read_samples(
    history: &mut JobHistory,
    from: u64,
    to: u64,
) -> Result<Vec<Vec<u8>>, super::store::StoreError> {
    let to = to.min(from + SAMPLES);
    let mut lines = Vec::new();
    while from + (lines.len() as u64) < to {
        let wanted = from + lines.len() as u64 + 1;
        let (number, line) = history.sample(wanted)?.unwrap_or((to, Vec::new()));
        lines.resize((number.min(to) - from - 1) as usize, Vec::new());
        lines.push(line);
    }
    Ok(lines)
}
