//! The jobs that the process knows, and which of them is due.
//!
//! A job that is not due is a few numbers here: nothing of it is read. *Due* is a job when much of it waits, when some of
//! it waits and its last commit is a while ago, when the oldest part of it has waited long enough, or when it has ended.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::frame::Reached;
use super::spool_source::SpoolLength;
use crate::job::JobId;
use crate::output::spool::ROW;

/// Bytes of output that make a job due while its last commit is a while ago.
const SOME: u64 = 256 << 10;
/// Bytes of output that make it due at once.
const MUCH: u64 = 4 << 20;
/// Bytes of samples that make it due: a member of 60 samples stores them in a quarter of the room of single ones.
pub(super) const SAMPLES: u64 = 96 << 10;
/// Time until a job that could not be stored is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// When jobs are due, from the configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Longest time that output waits.
    pub(super) delay: Duration,
    /// Least time from one commit of a job to the next.
    pub(super) interval: Duration,
    /// Bytes of output that make a job due at once, whatever else.
    pub(super) much: u64,
}

impl Pace {
    /// A pace at which a spool of this limit does not fill up.
    pub(super) fn new(delay: Duration, interval: Duration, job_limit: u64) -> Pace {
        Pace { delay, interval, much: MUCH.min(job_limit / 2) }
    }
}

/// The end of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// When it ended, ns since the epoch.
    pub(super) ended_ns: i64,
}

/// The work of a lane for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    /// The id of the job.
    pub(super) job: JobId,
    /// How far it may be read.
    pub(super) reached: Reached,
    /// Its end, when nothing comes behind that.
    pub(super) end: Option<End>,
    /// Bytes of its output that wait.
    pub(super) lag: u64,
    /// Whether to begin again behind what is stored: a commit failed.
    pub(super) again: bool,
    /// Whether the few samples that wait are to be stored too.
    pub(super) all_samples: bool,
}

#[derive(Debug)]
struct Job {
    /// How far the writer has come, as it says.
    told: Reached,
    /// How far a lane has read.
    staged: Reached,
    /// How much is durable.
    stored: Reached,
    /// How long its files are.
    length: SpoolLength,
    /// Bytes of them that need not be read any more.
    read: u64,
    /// Bytes of output that wait, as far as its files told last, with those of their rows.
    waiting: u64,
    /// When the oldest part that waits was reported.
    since: Option<Instant>,
    last_commit: Option<Instant>,
    end: Option<End>,
    /// A lane has its work, or opens its files.
    with_lane: bool,
    /// The end was given to a lane.
    ending: bool,
    /// A commit failed: when to try again.
    retry: Option<Instant>,
    due: Option<Instant>,
}

/// All jobs that are known.
#[derive(Debug)]
pub(super) struct Jobs {
    pace: Pace,
    jobs: HashMap<JobId, Job>,
    due: BTreeSet<(Instant, JobId)>,
    /// Everything is due: the process is about to end.
    hurry: bool,
}

impl Jobs {
    /// No job is known.
    pub(super) fn new(pace: Pace) -> Jobs {
        Jobs { pace, jobs: HashMap::new(), due: BTreeSet::new(), hurry: false }
    }

    /// Whether a job is known.
    pub(super) fn has(&self, job: JobId) -> bool {
        self.jobs.contains_key(&job)
    }

    /// The number of jobs.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Bytes of output that wait, of all jobs.
    pub(super) fn waiting(&self) -> u64 {
        self.jobs.values().map(|job| job.waiting).sum()
    }

    /// How much of a job is durable.
    pub(super) fn stored(&self, job: JobId) -> Reached {
        self.jobs.get(&job).map(|job| job.stored).unwrap_or_default()
    }

    /// How far a job has come, as its writer said.
    pub(super) fn reached(&self, job: JobId) -> Option<Reached> {
        self.jobs.get(&job).map(|job| job.told)
    }

    /// A new job, whose files a lane opens.
    pub(super) fn add(&mut self, job: JobId, told: Reached, length: SpoolLength, now: Instant) {
        let fresh = Job {
            length,
            read: 0,
            told,
            staged: Reached::default(),
            stored: Reached::default(),
            waiting: 0,
            since: Some(now),
            last_commit: None,
            end: None,
            with_lane: true,
            ending: false,
            retry: None,
            due: None,
        };
        self.jobs.insert(job, fresh);
    }

    /// A lane has opened a job's files, which hold so much; so many bytes of its spool need not be read any more.
    pub(super) fn opened(&mut self, job: JobId, stored: Reached, read: u64) {
        self.change(job, |job| {
            (job.staged, job.stored, job.read) = (stored, stored, read);
            // A try that opens the files of a job that has ended does not store its end.
            (job.with_lane, job.ending) = (false, false);
            job.look();
        });
    }

    /// A job's spool comes through other descriptors from now on.
    pub(super) fn replaced(&mut self, job: JobId, length: SpoolLength) {
        self.change(job, |job| job.length = length);
    }

    /// The writer says how far a job has come.
    pub(super) fn told(&mut self, job: JobId, reached: Reached, now: Instant) {
        self.change(job, |job| {
            job.told.rows = job.told.rows.max(reached.rows);
            job.told.sample_bytes = job.told.sample_bytes.max(reached.sample_bytes);
            job.look();
            if job.told.rows > job.staged.rows {
                job.since.get_or_insert(now);
            }
        });
    }

    /// The writer says that a job has ended.
    pub(super) fn ended(&mut self, job: JobId, end: End) {
        self.change(job, |job| job.end = Some(end));
    }

    /// A lane has read a job's output so far; a commit of it is on its way.
    pub(super) fn staged(&mut self, job: JobId, staged: Reached, read: u64, now: Instant) {
        self.change(job, |job| {
            (job.staged, job.read) = (staged, read);
            job.look();
            job.with_lane = false;
            job.last_commit = Some(now);
            job.since = (job.told.rows > staged.rows).then_some(now);
        });
    }

    /// So much of a job is durable.
    pub(super) fn committed(&mut self, job: JobId, stored: Reached) -> Reached {
        let Some(job) = self.jobs.get_mut(&job) else { return stored };
        job.stored.rows = job.stored.rows.max(stored.rows);
        job.stored.sample_bytes = job.stored.sample_bytes.max(stored.sample_bytes);
        job.stored
    }

    /// A job could not be stored, or not be read.
    pub(super) fn failed(&mut self, job: JobId, now: Instant) {
        self.change(job, |job| {
            job.staged = job.stored;
            job.with_lane = false;
            job.ending = false;
            job.retry = Some(now + AGAIN);
        });
    }

    /// A job is complete, or deleted.
    pub(super) fn remove(&mut self, job: JobId) {
        if let Some(Job { due: Some(at), .. }) = self.jobs.remove(&job) {
            self.due.remove(&(at, job));
        }
    }

    /// Makes everything due that waits.
    pub(super) fn hurry(&mut self) {
        self.hurry = true;
        for id in self.jobs.keys().copied().collect::<Vec<_>>() {
            self.change(id, |_| {});
        }
    }

    /// Whether nothing is with a lane or waits for one. A job that cannot be stored now does not count.
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.values().all(|job| !job.with_lane && (job.retry.is_some() || job.is_stored()))
    }

    /// When the next job is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The work of the next job that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Work> {
        let (at, id) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.due.remove(&(at, id));
        let hurry = self.hurry;
        let job = self.jobs.get_mut(&id)?;
        job.due = None;
        job.with_lane = true;
        job.ending = job.end.is_some();
        let again = job.retry.take().is_some();
        let all_samples = hurry || job.end.is_some();
        Some(Work { job: id, reached: job.told, end: job.end, lag: job.waiting, again, all_samples })
    }

    /// Changes a job, and finds out anew when it is due.
    fn change(&mut self, id: JobId, change: impl FnOnce(&mut Job)) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        change(job);
        let due = job.due_at(self.pace, self.hurry);
        if due != job.due {
            if let Some(at) = job.due {
                self.due.remove(&(at, id));
            }
            if let Some(at) = due {
                self.due.insert((at, id));
            }
            job.due = due;
        }
    }
}

impl Job {
    /// Whether all that a lane was given is durable, and nothing is due.
    fn is_stored(&self) -> bool {
        let stored =
            self.stored.rows >= self.staged.rows && self.stored.sample_bytes >= self.staged.sample_bytes;
        self.due.is_none() && !self.ending && stored
    }

    fn look(&mut self) {
        // Rows count for the limits of a spool too: that of a job that writes byte by byte consists of them.
        let rows = self.told.rows.saturating_sub(self.staged.rows).saturating_mul(ROW as u64);
        self.waiting = self.length.bytes().saturating_sub(self.read).saturating_add(rows);
    }

    fn due_at(&self, pace: Pace, hurry: bool) -> Option<Instant> {
        if self.with_lane {
            return None;
        }
        if self.retry.is_some() {
            return self.retry;
        }
        let rows = self.told.rows > self.staged.rows;
        let samples = self.told.sample_bytes.saturating_sub(self.staged.sample_bytes);
        // A job that is due at once is due since its growth was reported, so that the oldest comes first.
        let since = self.since.or(self.last_commit)?;
        if self.end.is_some() && !self.ending || hurry && (rows || samples > 0) {
            return Some(since);
        }
        let rested = self.last_commit.map_or(since, |at| at + pace.interval);
        let by_rows = rows.then(|| match self.waiting {
            waiting if waiting >= pace.much => since,
            waiting if waiting >= SOME.min(pace.much) => rested,
            _ => since + pace.delay,
        });
        let by_samples = (samples >= SAMPLES).then_some(rested);
        [by_rows, by_samples].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace =
        Pace { delay: Duration::from_secs(2), interval: Duration::from_millis(200), much: MUCH };

    /// A spool of so many bytes.
    fn length(bytes: u64) -> SpoolLength {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        SpoolLength::of(file)
    }

    fn rows(rows: u64) -> Reached {
        Reached { rows, sample_bytes: 0 }
    }

    fn opened(now: Instant) -> (Jobs, JobId) {
        let (mut jobs, id) = (Jobs::new(PACE), JobId::random());
        jobs.add(id, rows(0), SpoolLength::default(), now);
        jobs.opened(id, rows(0), 0);
        (jobs, id)
    }

    #[test]
    fn quiet_job_is_due_after_the_delay_and_a_flood_at_once() {
        let now = Instant::now();
        let (mut jobs, id) = opened(now);
        assert_eq!(jobs.next_due(), None);
        jobs.replaced(id, length(100));
        jobs.told(id, rows(1), now);
        assert_eq!(jobs.next_due(), Some(now + PACE.delay));
        jobs.replaced(id, length(MUCH));
        jobs.told(id, rows(2), now + PACE.interval);
        assert_eq!(jobs.next_due(), Some(now));
        let work = jobs.take_due(now).unwrap();
        assert_eq!((work.reached, work.lag, work.end), (rows(2), MUCH + 2 * ROW as u64, None));
        assert_eq!(jobs.next_due(), None, "a lane has it");
    }

    #[test]
    fn rows_of_a_job_that_writes_byte_by_byte_count_as_what_waits() {
        let now = Instant::now();
        let (mut jobs, id) = opened(now);
        let many = MUCH / ROW as u64;
        jobs.replaced(id, length(many));
        jobs.told(id, rows(many), now);
        assert_eq!(jobs.next_due(), Some(now));
    }

    #[test]
    fn job_rests_between_commits_unless_much_waits() {
        let now = Instant::now();
        let (mut jobs, id) = opened(now);
        jobs.replaced(id, length(SOME));
        jobs.told(id, rows(1), now);
        jobs.take_due(now).unwrap();
        jobs.staged(id, rows(1), SOME, now);
        jobs.replaced(id, length(2 * SOME));
        jobs.told(id, rows(2), now);
        assert_eq!(jobs.next_due(), Some(now + PACE.interval));
        jobs.replaced(id, length(SOME + MUCH));
        jobs.told(id, rows(3), now);
        assert_eq!(jobs.next_due(), Some(now));
    }

    #[test]
    fn few_samples_wait_for_others_or_for_the_end() {
        let now = Instant::now();
        let (mut jobs, id) = opened(now);
        let samples = |sample_bytes| Reached { rows: 0, sample_bytes };
        jobs.told(id, samples(1000), now);
        assert_eq!(jobs.next_due(), None);
        jobs.told(id, samples(SAMPLES), now);
        assert!(jobs.take_due(now).is_some_and(|work| !work.all_samples));
        jobs.staged(id, samples(SAMPLES), 0, now);
        jobs.told(id, samples(SAMPLES + 1), now);
        assert_eq!(jobs.next_due(), None);
        jobs.ended(id, End { ended_ns: 7 });
        let work = jobs.take_due(now).unwrap();
        assert!(work.all_samples && work.end == Some(End { ended_ns: 7 }));
        jobs.staged(id, samples(SAMPLES + 1), 0, now);
        assert_eq!(jobs.next_due(), None, "the end is given to a lane once");
    }

    #[test]
    fn failed_job_is_tried_again_from_what_is_stored() {
        let now = Instant::now();
        let (mut jobs, id) = opened(now);
        jobs.replaced(id, length(MUCH));
        jobs.told(id, rows(5), now);
        jobs.take_due(now).unwrap();
        jobs.staged(id, rows(5), 0, now);
        jobs.failed(id, now);
        assert_eq!(jobs.take_due(now), None);
        assert!(jobs.take_due(now + AGAIN).is_some_and(|work| work.again));
    }

    #[test]
    fn job_without_output_whose_files_open_late_is_given_its_end() {
        let now = Instant::now();
        let (mut jobs, id) = (Jobs::new(PACE), JobId::random());
        jobs.add(id, rows(0), SpoolLength::default(), now);
        jobs.failed(id, now);
        let end = End { ended_ns: 7 };
        jobs.ended(id, end);
        // The lane opens the files now, and does no more.
        assert!(jobs.take_due(now + AGAIN).is_some_and(|work| work.again));
        jobs.opened(id, rows(0), 0);
        assert!(jobs.take_due(now + AGAIN).is_some_and(|work| work.end == Some(end)));
    }

    #[test]
    fn everything_is_due_in_a_hurry_and_awaited_until_it_is_durable() {
        let now = Instant::now();
        let (mut jobs, id) = opened(now);
        let told = Reached { rows: 0, sample_bytes: 1 };
        jobs.told(id, told, now);
        assert!(jobs.is_idle());
        jobs.hurry();
        assert!(!jobs.is_idle());
        assert!(jobs.take_due(now).is_some_and(|work| work.all_samples));
        jobs.staged(id, told, 0, now);
        assert!(!jobs.is_idle(), "its commit is under way");
        jobs.committed(id, told);
        assert!(jobs.is_idle());
    }
}
