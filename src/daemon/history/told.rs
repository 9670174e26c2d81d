//! The table of what the history process knows of each job, and of what it gets next. Nothing here touches a socket.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Added, Ended};
use crate::job::JobId;
use crate::output::Watermark;
use crate::persist::frame::{Files, Frame, Reached};
use crate::stream::{self, Listener};

/// Longest time from a job's growth until the process hears of it, while an answer is awaited.
pub(super) const TELL: Duration = Duration::from_millis(250);
/// Time until a job that found no room is handed over again.
const BUSY: Duration = Duration::from_secs(1);
/// Bytes of samples that are news. Each sample would wake two processes otherwise.
const SAMPLES: u64 = 96 << 10;

/// How far a job has come.
enum Source {
    /// The job runs, and both may grow.
    Growing { output: Arc<Watermark>, samples: Arc<stream::Watermark>, _listeners: [Listener; 2] },
    /// It has ended; how far it has come stands in its files.
    Ended(Option<Reached>, i64),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Growing { output, .. } => write!(f, "Growing({output:?})"),
            Source::Ended(reached, at) => write!(f, "Ended({reached:?}, {at})"),
        }
    }
}

/// A job that history does not have whole.
#[derive(Debug)]
struct Job {
    dir: PathBuf,
    created_ns: i64,
    source: Source,
    /// The files that were handed over on this connection.
    files: Option<Files>,
    told: Reached,
    told_at: Instant,
    /// No answer has come to the last message about it.
    awaits: bool,
    /// When it is to be told although none has.
    news: Option<Instant>,
    /// Rows that are durable.
    stored: u64,
    /// Rows whose release the thread has requested, where it is worth while.
    released: u64,
    /// Rows whose release the thread has requested because somebody waits for room.
    pressed: u64,
    /// The process has its end, on this connection.
    end_told: bool,
}

/// A job to hand over: its spool has to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HandOver {
    /// The id of the job.
    pub(super) id: JobId,
    /// The directory of its spool.
    pub(super) dir: PathBuf,
    /// When it was accepted, ns since the epoch.
    pub(super) created_ns: i64,
    /// How far it has come; `None`: it has ended, and all that is in its files counts.
    pub(super) reached: Option<Reached>,
}

/// All jobs that history does not have whole.
#[derive(Debug)]
pub(super) struct Told {
    jobs: HashMap<JobId, Job>,
    /// Jobs to hand over, in order of acceptance.
    waiting: VecDeque<JobId>,
    /// Jobs that were handed over.
    handed: usize,
    most: usize,
    /// When jobs are to be told although no answer has come.
    news: BTreeSet<(Instant, JobId)>,
    /// When jobs that found no room are handed over again.
    busy: VecDeque<(Instant, JobId)>,
    /// Jobs that wait for room in the spools.
    pressing: BTreeSet<JobId>,
}

impl Told {
    /// No job is known. So many are handed over at one time.
    pub(super) fn new(most: usize) -> Told {
        Told {
            jobs: HashMap::new(),
            waiting: VecDeque::new(),
            handed: 0,
            most,
            news: BTreeSet::new(),
            busy: VecDeque::new(),
            pressing: BTreeSet::new(),
        }
    }

    /// A job that runs. `notify` is called when it has come further.
    pub(super) fn add(
        &mut self,
        job: Added,
        notify: impl Fn() + Send + Sync + Clone + 'static,
        now: Instant,
    ) {
        let Added { id, dir, created_ns, output, samples } = job;
        let listeners = [output.rows().listen(Box::new(notify.clone())), samples.listen(Box::new(notify))];
        self.insert(id, dir, created_ns, Source::Growing { output, samples, _listeners: listeners }, now);
    }

    /// A job that has ended; it need not be known.
    pub(super) fn end(&mut self, job: Ended, now: Instant) {
        let Ended { id, dir, created_ns, ended_ns } = job;
        let source = Source::Ended(None, ended_ns);
        match self.jobs.get_mut(&id) {
            Some(job) => job.source = source,
            None => self.insert(id, dir, created_ns, source, now),
        }
    }

    fn insert(&mut self, id: JobId, dir: PathBuf, created_ns: i64, source: Source, now: Instant) {
        let told = Reached::default();
        let (files, news) = (None, None);
        let (awaits, end_told) = (false, false);
        let (stored, released, pressed) = (0, 0, 0);
        let job = Job {
            dir,
            created_ns,
            source,
            files,
            told,
            told_at: now,
            awaits,
            news,
            stored,
            released,
            pressed,
            end_told,
        };
        if self.jobs.insert(id, job).is_none() {
            self.waiting.push_back(id);
        }
    }

    /// Whether a job is known.
    #[cfg(test)]
    fn has(&self, id: JobId) -> bool {
        self.jobs.contains_key(&id)
    }

    /// Forgets a job: history has it whole, or nobody wants it.
    pub(super) fn remove(&mut self, id: JobId) -> Option<PathBuf> {
        let job = self.jobs.remove(&id)?;
        self.pressing.remove(&id);
        if job.files.is_some() {
            self.handed -= 1;
        }
        if let Some(at) = job.news {
            self.news.remove(&(at, id));
        }
        Some(job.dir)
    }

    /// Whether a job has ended.
    pub(super) fn has_ended(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| matches!(job.source, Source::Ended(..)))
    }

    /// A connection is lost: everything is to be handed over again, in the same order as far as it is known.
    pub(super) fn disconnected(&mut self) {
        let known: BTreeSet<JobId> = self.waiting.iter().copied().collect();
        let busy = std::mem::take(&mut self.busy);
        let mut again: Vec<(i64, JobId)> = Vec::new();
        for (id, job) in &mut self.jobs {
            let was_handed = job.files.take().is_some();
            (job.awaits, job.end_told) = (false, false);
            job.told = Reached::default();
            job.news = None;
            if (was_handed || busy.iter().any(|(_, other)| other == id)) && !known.contains(id) {
                again.push((job.created_ns, *id));
            }
        }
        again.sort_unstable();
        for (_, id) in again.into_iter().rev() {
            self.waiting.push_front(id);
        }
        self.news.clear();
        self.handed = 0;
    }

    /// The next job to hand over, if there is room for one.
    pub(super) fn next_to_hand_over(&mut self, now: Instant) -> Option<HandOver> {
        while self.busy.front().is_some_and(|(at, _)| *at <= now) {
            self.waiting.extend(self.busy.pop_front().map(|(_, id)| id));
        }
        while self.handed < self.most {
            let id = self.waiting.pop_front()?;
            if let Some(job) = self.jobs.get(&id).filter(|job| job.files.is_none()) {
                return Some(job.hand_over(id));
            }
        }
        None
    }

    /// A job was handed over: its files, and how far it had come. Returns what is to be said next.
    pub(super) fn handed_over(
        &mut self,
        id: JobId,
        files: Files,
        reached: Reached,
        now: Instant,
    ) -> Option<Frame> {
        let job = self.jobs.get_mut(&id)?;
        if job.files.replace(files).is_none() {
            self.handed += 1;
        }
        (job.told, job.told_at, job.awaits) = (reached, now, true);
        if let Source::Ended(known, _) = &mut job.source {
            *known = Some(reached);
        }
        job.end_frame(id)
    }

    /// A job has come further, or has ended: what is to be said. The inner `Err`: its samples have a file now, so it has
    /// to be handed over again.
    pub(super) fn news(&mut self, id: JobId, now: Instant) -> Option<Result<Frame, HandOver>> {
        let job = self.jobs.get_mut(&id)?;
        if job.awaits && now < job.told_at + TELL && matches!(job.source, Source::Growing { .. }) {
            // Not acknowledged: a flood would send a notification with every row.
            let at = job.told_at + TELL;
            if job.news.replace(at).is_none() {
                self.news.insert((at, id));
            }
            return None;
        }
        job.acknowledge();
        let files = job.files?;
        if let Source::Ended(reached, _) = &job.source {
            // How far it has come is found in its files.
            return if reached.is_none() { Some(Err(job.hand_over(id))) } else { job.end_frame(id).map(Ok) };
        }
        let reached = job.reached()?;
        if !job.is_news(reached) {
            return None;
        }
        if reached.sample_bytes > 0 && !files.has(Files::SAMPLES) {
            return Some(Err(job.hand_over(id)));
        }
        (job.told, job.told_at, job.awaits) = (reached, now, true);
        Some(Ok(Frame::Rows { job: id, reached }))
    }

    /// The next job that is to be told although no answer has come.
    pub(super) fn next_news(&mut self, now: Instant) -> Option<JobId> {
        let (at, id) = *self.news.first()?;
        if at > now {
            return None;
        }
        self.news.pop_first();
        self.jobs.get_mut(&id)?.news = None;
        Some(id)
    }

    /// Rows of a job are durable. Returns its spool, the rows, and whether the job waits for room, when it is worth while
    /// to release them.
    pub(super) fn stored(&mut self, id: JobId, rows: u64) -> Option<(PathBuf, u64, bool)> {
        /// Rows that are worth while.
        const MANY: u64 = 256;
        self.notes_pressure(id);
        let waits = !self.pressing.is_empty();
        let job = self.jobs.get_mut(&id)?;
        job.awaits = false;
        // After a crash of the process it may know less than it has: what is durable stays durable.
        job.stored = job.stored.max(rows);
        let worth = if waits { job.stored > job.pressed } else { job.stored >= job.released + MANY };
        worth.then(|| job.release(waits))
    }

    /// The releases to make when a job has begun to wait for room: all that is durable, of whatever job, since the limit
    /// of all jobs may be the reason. Nothing else may come of a job that waits, so nobody else would ask for it.
    pub(super) fn pressed(&mut self, id: JobId) -> Vec<(JobId, PathBuf, u64)> {
        if !self.notes_pressure(id) {
            return Vec::new();
        }
        let durable = self.jobs.iter_mut().filter(|(_, job)| job.stored > job.pressed);
        durable
            .map(|(id, job)| {
                let (dir, rows, _) = job.release(true);
                (*id, dir, rows)
            })
            .collect()
    }

    /// Notes whether a job waits for room, and returns it.
    fn notes_pressure(&mut self, id: JobId) -> bool {
        let source = self.jobs.get(&id).map(|job| &job.source);
        let waits = matches!(source, Some(Source::Growing { output, .. }) if output.waits().is_some());
        if waits {
            self.pressing.insert(id);
        } else {
            self.pressing.remove(&id);
        }
        waits
    }

    /// A job's files could not be opened; they are tried again.
    pub(super) fn found_no_files(&mut self, id: JobId, now: Instant) {
        self.found_no_room(id, now);
        if self.jobs.contains_key(&id) && !self.busy.iter().any(|(_, other)| *other == id) {
            self.busy.push_back((now + BUSY, id));
        }
    }

    /// There was no room for a job's descriptors.
    pub(super) fn found_no_room(&mut self, id: JobId, now: Instant) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.files.take().is_some() {
            self.handed -= 1;
            (job.awaits, job.end_told) = (false, false);
            self.busy.push_back((now + BUSY, id));
        }
    }

    /// When there is something to say although nothing happens.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let news = self.news.first().map(|(at, _)| *at);
        [news, self.busy.front().map(|(at, _)| *at)].into_iter().flatten().min()
    }

    /// All jobs that were handed over and may have news.
    pub(super) fn handed(&self) -> Vec<JobId> {
        self.jobs.iter().filter(|(_, job)| job.files.is_some()).map(|(id, _)| *id).collect()
    }
}

impl Job {
    /// Notes that all that is durable is to be released.
    fn release(&mut self, waits: bool) -> (PathBuf, u64, bool) {
        self.released = self.stored;
        if waits {
            self.pressed = self.stored;
        }
        (self.dir.clone(), self.stored, waits)
    }

    fn acknowledge(&self) {
        if let Source::Growing { _listeners, .. } = &self.source {
            _listeners.iter().for_each(Listener::acknowledge);
        }
    }

    fn reached(&self) -> Option<Reached> {
        match &self.source {
            Source::Growing { output, samples, .. } => {
                Some(Reached { rows: output.look().0, sample_bytes: samples.look().0 })
            }
            Source::Ended(reached, _) => *reached,
        }
    }

    /// Whether it is worth a message.
    fn is_news(&self, reached: Reached) -> bool {
        reached.rows > self.told.rows || reached.sample_bytes >= self.told.sample_bytes + SAMPLES
    }

    fn hand_over(&self, id: JobId) -> HandOver {
        let reached = match &self.source {
            Source::Growing { .. } => self.reached(),
            Source::Ended(..) => None,
        };
        HandOver { id, dir: self.dir.clone(), created_ns: self.created_ns, reached }
    }

    fn end_frame(&mut self, id: JobId) -> Option<Frame> {
        let Source::Ended(Some(reached), ended_ns) = self.source else { return None };
        if std::mem::replace(&mut self.end_told, true) {
            return None;
        }
        self.awaits = true;
        Some(Frame::EndOfJob { job: id, reached, ended_ns })
    }
}

#[cfg(test)]
#[path = "told_tests.rs"]
mod tests;
