//! The job table: every job that the daemon knows, in the order in which they were accepted, and the facts about them
//! that are not stepped yet.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;

use super::kept::End;
use super::{Job, Kept, KeptLimits};
use crate::daemon::command::request::CommandError;
use crate::job::state::Fact;
use crate::job::{JobId, JobRef, Status};

/// All jobs that the daemon knows.
#[derive(Debug)]
pub(in crate::daemon) struct JobTable {
    jobs: BTreeMap<u64, Job>,
    serials: BTreeMap<JobId, u64>,
    requests: HashMap<String, JobId>,
    // Those that are not terminal.
    live: BTreeSet<u64>,
    // Those that are terminal, in the order of their ends.
    ended: BTreeSet<End>,
    // How many of them have each status.
    ended_with: [usize; Status::ALL.len()],
    // The bytes of those.
    kept: Kept,
    last: u64,
    facts: VecDeque<(JobId, Fact)>,
}

impl JobTable {
    /// No jobs yet.
    pub(in crate::daemon) fn new(limits: KeptLimits) -> Self {
        JobTable {
            jobs: BTreeMap::new(),
            serials: BTreeMap::new(),
            requests: HashMap::new(),
            live: BTreeSet::new(),
            ended: BTreeSet::new(),
            ended_with: [0; Status::ALL.len()],
            kept: Kept::new(limits),
            last: 0,
            facts: VecDeque::new(),
        }
    }

    /// Takes in a new, live job.
    pub(in crate::daemon) fn insert(&mut self, mut job: Job) {
        job.serial = self.last + 1;
        self.restore(job);
    }

    /// Takes in a job that an earlier daemon accepted, with its serial.
    pub(in crate::daemon) fn restore(&mut self, job: Job) {
        self.last = self.last.max(job.serial);
        if job.state.is_finished() {
            self.count_ended(&job);
        } else {
            self.live.insert(job.serial);
        }
        self.serials.insert(job.id, job.serial);
        if !job.spec.request_id.is_empty() {
            self.requests.insert(job.spec.request_id.clone(), job.id);
        }
        self.jobs.insert(job.serial, job);
    }

    /// The job that a request with this id made.
    pub(in crate::daemon) fn of_request(&self, request_id: &str) -> Option<JobId> {
        self.requests.get(request_id).copied()
    }

    /// A job by its id, to change.
    pub(in crate::daemon) fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.jobs.get_mut(self.serials.get(&id)?)
    }

    /// A job by its id, to look at.
    pub(in crate::daemon) fn get(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(self.serials.get(&id)?)
    }

    /// The number of terminal jobs.
    pub(in crate::daemon) fn finished(&self) -> usize {
        self.ended.len()
    }

    /// The number of terminal jobs with this status.
    pub(in crate::daemon) fn ended_with(&self, status: Status) -> usize {
        self.ended_with[status as usize]
    }

    /// The terminal job that ended first.
    pub(in crate::daemon) fn oldest_finished(&self) -> Option<JobId> {
        let (_, serial) = self.ended.first()?;
        self.jobs.get(serial).map(|job| job.id)
    }

    /// The last one, in the order of ends, of the jobs that are terminal.
    pub(in crate::daemon) fn last_end(&self) -> Option<End> {
        self.ended.last().copied()
    }

    /// Terminal jobs behind a place in the order of ends.
    pub(in crate::daemon) fn ended_after(&self, after: Option<End>) -> impl Iterator<Item = (End, &Job)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.ended.range((from, Bound::Unbounded)).filter_map(|end| Some((*end, self.jobs.get(&end.1)?)))
    }

    /// Terminal jobs that ended before a time, ns since the epoch; those that ended first come first.
    pub(in crate::daemon) fn ended_before(&self, before_ns: i64) -> impl Iterator<Item = JobId> {
        let ends = self.ended.range((Some(i64::MIN), 0)..(Some(before_ns), 0));
        ends.filter_map(|(_, serial)| self.jobs.get(serial).map(|job| job.id))
    }

    /// Takes a job out.
    pub(in crate::daemon) fn remove(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&self.serials.remove(&id)?)?;
        self.requests.remove(&job.spec.request_id);
        let end = (job.times.ended_ns, job.serial);
        self.live.remove(&job.serial);
        if self.ended.remove(&end) {
            self.ended_with[job.status() as usize] -= 1;
        }
        self.kept.remove(job.spec.client, end);
        Some(job)
    }

    /// Counts a job among the terminal ones.
    pub(in crate::daemon) fn has_ended(&mut self, id: JobId) {
        // Out for the moment: it is looked at while what is beside it changes.
        let Some(serial) = self.serials.get(&id).copied() else { return };
        if let Some(job) = self.jobs.remove(&serial) {
            self.live.remove(&serial);
            self.count_ended(&job);
            self.jobs.insert(serial, job);
        }
    }

    /// Counts a job among the terminal ones, with the bytes of its record.
    fn count_ended(&mut self, job: &Job) {
        let end = (job.times.ended_ns, job.serial);
        if self.ended.insert(end) {
            self.ended_with[job.status() as usize] += 1;
        }
        self.kept.add_record(job.spec.client, end, job.id, record_bytes(job));
    }

    /// The output of a terminal job was measured: so many bytes are kept of it.
    pub(in crate::daemon) fn measured(&mut self, id: JobId, bytes: u64) {
        let job = self.serials.get(&id).and_then(|serial| self.jobs.get(serial));
        if let Some(job) = job.filter(|job| job.state.is_finished()) {
            self.kept.add_output(job.spec.client, (job.times.ended_ns, job.serial), id, bytes);
        }
    }

    /// The terminal job that must go next for the bytes of all of them, and the key of the limit.
    pub(in crate::daemon) fn surplus(&self) -> Option<(JobId, &'static str)> {
        self.kept.surplus()
    }

    /// The terminal jobs that are kept, with a word and the limit of each.
    pub(in crate::daemon) fn kept(&self) -> [(&'static str, u64, u64); 2] {
        self.kept.used()
    }

    /// The number of jobs that are not terminal.
    pub(in crate::daemon) fn live(&self) -> usize {
        self.live.len()
    }

    /// The jobs that are not terminal, oldest first.
    pub(in crate::daemon) fn iter_live(&self) -> impl Iterator<Item = &Job> {
        self.live.iter().filter_map(|serial| self.jobs.get(serial))
    }

    /// All jobs, oldest first. There may be a hundred thousand: for the start of the daemon alone.
    pub(in crate::daemon) fn iter(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    /// Jobs with a serial above `after`, oldest first.
    pub(in crate::daemon) fn after(&self, after: u64) -> impl Iterator<Item = (u64, &Job)> {
        self.jobs.range(after.saturating_add(1)..).map(|(serial, job)| (*serial, job))
    }

    /// Those of them that are not terminal.
    pub(in crate::daemon) fn live_after(&self, after: u64) -> impl Iterator<Item = (u64, &Job)> {
        let serials = self.live.range(after.saturating_add(1)..);
        serials.filter_map(|serial| Some((*serial, self.jobs.get(serial)?)))
    }

    /// The job that a request names.
    ///
    /// # Errors
    /// No job or several jobs match.
    pub(in crate::daemon) fn find(&mut self, wanted: &JobRef) -> Result<&mut Job, CommandError> {
        let missing = || CommandError::NotFound(wanted.to_string());
        let id = match wanted {
            JobRef::Exact(id) => *id,
            JobRef::Unknown(_) => return Err(missing()),
            JobRef::Prefix(prefix) => {
                // Ids with the same beginning stand together, so that a hundred thousand others are not looked at.
                let from = JobId::lowest_with(prefix).ok_or_else(missing)?;
                let ids = self.serials.range(from..).map(|(id, _)| *id);
                let fits = |id: &JobId| id.to_string().starts_with(prefix.as_str());
                let found: Vec<JobId> = ids.take_while(fits).take(10).collect();
                match found.as_slice() {
                    [] => return Err(missing()),
                    [one] => *one,
                    _ => {
                        let candidates = found.iter().map(JobId::to_string).collect();
                        return Err(CommandError::Ambiguous { prefix: prefix.clone(), candidates });
                    }
                }
            }
        };
        self.get_mut(id).ok_or_else(missing)
    }

    /// Notes what has happened to a job; the loop steps it.
    pub(in crate::daemon) fn note(&mut self, id: JobId, fact: Fact) {
        self.facts.push_back((id, fact));
    }

    /// The facts that are not stepped yet, oldest first; none are left.
    pub(in crate::daemon) fn take_facts(&mut self) -> VecDeque<(JobId, Fact)> {
        std::mem::take(&mut self.facts)
    }

    /// Whether a fact is not stepped yet.
    pub(in crate::daemon) fn has_facts(&self) -> bool {
        !self.facts.is_empty()
    }

    /// Drops the facts that are not stepped yet and that `keep` refuses.
    pub(in crate::daemon) fn retain_facts(&mut self, keep: impl Fn(&Fact) -> bool) {
        self.facts.retain(|(_, fact)| keep(fact));
    }
}

/// Bytes of a job's record, in memory and in the database. Its texts make it large, and the rest has a kilobyte.
fn record_bytes(job: &Job) -> u64 {
    let denials = job.reach.denials.as_ref().map_or(0, |denials| denials.text_bytes());
    job.spec.text_bytes() as u64 + denials as u64 + 1024
}

#[cfg(test)]
pub(in crate::daemon) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::job::state::State;
    use crate::job::{Ending, ExitReason, JobSpec};
    use crate::output::Watermark;

    pub(in crate::daemon) fn table() -> JobTable {
        JobTable::new(KeptLimits { output: u64::MAX, records: u64::MAX })
    }

    pub(in crate::daemon) fn running(jobs: &mut JobTable) -> JobId {
        let (id, spec) = (JobId::random(), Arc::new(JobSpec::bare()));
        jobs.insert(Job::new(id, spec, State::Running, Watermark::new(), crate::stream::Watermark::new()));
        id
    }

    /// A job that has ended at this time.
    pub(in crate::daemon) fn finished(jobs: &mut JobTable, at_ns: i64) -> JobId {
        let id = running(jobs);
        let (status, reason) = (Status::Completed, ExitReason::Exited);
        let ending = Ending { status, reason, code: 0, signal: 0, message: String::new() };
        if let Some(job) = jobs.get_mut(id) {
            (job.state, job.times.ended_ns) = (State::Finished(ending), Some(at_ns));
        }
        jobs.has_ended(id);
        id
    }

    #[test]
    fn live_jobs_are_found_without_a_look_at_those_that_ended() {
        let mut jobs = table();
        let ended: Vec<JobId> = (0..50).map(|n| finished(&mut jobs, 50 - n)).collect();
        let live = [running(&mut jobs), running(&mut jobs)];
        assert_eq!(jobs.iter_live().map(|job| job.id).collect::<Vec<_>>(), live);
        assert_eq!((jobs.live(), jobs.finished()), (2, 50));
        // The one that came last ended first.
        assert_eq!(jobs.ended_before(3).collect::<Vec<_>>(), [ended[49], ended[48]]);
        assert_eq!(
            jobs.ended_after(Some((Some(48), 3))).map(|(_, job)| job.id).collect::<Vec<_>>(),
            [ended[1], ended[0]]
        );
        assert_eq!(jobs.live_after(51).count(), 1);
        assert_eq!((jobs.ended_with(Status::Completed), jobs.ended_with(Status::Running)), (50, 0));
        jobs.remove(live[0]);
        jobs.remove(ended[0]);
        assert_eq!(jobs.ended_with(Status::Completed), 49);
        assert_eq!((jobs.live(), jobs.finished(), jobs.iter_live().count()), (1, 49, 1));
    }
}
