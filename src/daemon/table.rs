//! The job table: every job the daemon knows, in the order in which they were accepted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use crate::cgroup::JobCgroup;
use crate::job::exit_file::ExitFile;
use crate::job::state::Fact;
use crate::job::{JobId, JobRef, JobSpec, JobView, State};
use crate::metrics::series;
use crate::output::spool::rows_stored;
use crate::output::{Full, Watermark};
use crate::sandbox::identity::Lease;

use super::commands::{Answer, CommandError};
use super::now_ns;
use super::queue::Queue;
use crate::state::record::Process;

/// One job, with everything that exists because of it.
#[derive(Debug)]
pub(super) struct Job {
    /// Identity.
    pub(super) id: JobId,
    /// What it runs.
    pub(super) spec: Arc<JobSpec>,
    /// Where it is in its life.
    pub(super) state: State,
    /// Place in the order of acceptance; set by [`Table::insert`].
    pub(super) serial: u64,
    /// Accepted, ns since the epoch.
    pub(super) created_ns: i64,
    /// Began to wait for a place.
    pub(super) queued_ns: Option<i64>,
    /// Its ticket in the queue.
    pub(super) ticket: Option<u64>,
    /// Counted among those that run.
    pub(super) has_slot: bool,
    /// What it brought is being put aside.
    pub(super) staging: bool,
    /// Records that were asked for.
    pub(super) version: u64,
    /// Which of them is on disk; 0: none is.
    pub(super) durable: u64,
    /// The newest one cannot be written.
    pub(super) write_failed: bool,
    /// It could not be started because the node has too little of something.
    pub(super) shortage: bool,
    /// Its PID 1, for its record.
    pub(super) process: Option<Process>,
    /// Its host id, for its record.
    pub(super) host_id: Option<u32>,
    /// When its time is over, ns of CLOCK_MONOTONIC.
    pub(super) timeout_at_ns: Option<i64>,
    /// It ran before the host was restarted.
    pub(super) host_restarted: bool,
    /// Why nobody will know its end.
    pub(super) lost_because: Option<String>,
    /// Payload started.
    pub(super) started_ns: Option<i64>,
    /// Terminal.
    pub(super) ended_ns: Option<i64>,
    /// Limits that the host cannot keep, in words.
    pub(super) unenforced: Vec<String>,
    /// How far its output has come.
    pub(super) watermark: Arc<Watermark>,
    /// All output is in the spool. The collector may say so before the spawner has told of the start.
    pub(super) output_complete: bool,
    /// How far its samples have come.
    pub(super) samples: Arc<Watermark>,
    /// No sample of it is still to come: it does not run yet, or its last one is stored.
    pub(super) samples_complete: bool,
    /// Its PID 1, from the clone to the last byte of output.
    pub(super) child: Option<Child>,
    /// Its host id, until no process of it is left.
    pub(super) lease: Option<Lease>,
    /// Its group, until it is tidied away.
    pub(super) cgroup: Option<JobCgroup>,
    /// What PID 1 recorded.
    pub(super) record: Option<ExitFile>,
    /// Peak memory in bytes.
    pub(super) peak_bytes: Option<u64>,
    /// CPU time in microseconds.
    pub(super) cpu_usec: Option<u64>,
    /// RunJob calls that wait for the start.
    pub(super) starters: Vec<Answer<JobView>>,
    /// StopJob calls that wait for the end.
    pub(super) stoppers: Vec<Answer<JobView>>,
}

/// The daemon's side of a job's PID 1.
#[derive(Debug)]
pub(super) struct Child {
    /// Refers to it.
    pub(super) pidfd: OwnedFd,
    /// Its number on the host.
    pub(super) pid: i32,
    /// Read end of the report pipe, until it said its word.
    pub(super) report: Option<OwnedFd>,
    /// The exit record.
    pub(super) record: File,
    /// Its mount namespace.
    pub(super) mounts: OwnedFd,
    /// Its network namespace, where that is to be used again.
    pub(super) network: Option<OwnedFd>,
    /// Its tokens in the poll: pidfd, report.
    pub(super) tokens: [usize; 2],
    /// How PID 1 itself ended.
    pub(super) init_end: String,
}

impl Job {
    /// A job that was accepted now and has nothing yet.
    pub(super) fn new(
        id: JobId,
        spec: Arc<JobSpec>,
        state: State,
        watermark: Arc<Watermark>,
        samples: Arc<Watermark>,
    ) -> Job {
        Job {
            id,
            spec,
            state,
            serial: 0,
            created_ns: now_ns(),
            queued_ns: None,
            ticket: None,
            has_slot: false,
            staging: false,
            version: 0,
            durable: 0,
            write_failed: false,
            shortage: false,
            process: None,
            host_id: None,
            timeout_at_ns: None,
            host_restarted: false,
            lost_because: None,
            started_ns: None,
            ended_ns: None,
            unenforced: Vec::new(),
            watermark,
            output_complete: false,
            samples,
            samples_complete: true,
            child: None,
            lease: None,
            cgroup: None,
            record: None,
            peak_bytes: None,
            cpu_usec: None,
            starters: Vec::new(),
            stoppers: Vec::new(),
        }
    }

    /// What its group counted, and its record where that does not tell.
    pub(super) fn measure(&mut self) {
        if let Some(group) = &self.cgroup {
            self.peak_bytes = group.peak_memory().ok().flatten();
            self.cpu_usec = group.cpu_time().ok().flatten().map(|time| time.as_micros() as u64);
        }
        self.cpu_usec = self.cpu_usec.or(self.record.map(|r| r.user_usec + r.system_usec));
    }

    /// Whether RunJob may be answered with the job as it is.
    pub(super) fn is_announceable(&self) -> bool {
        let on_its_way = matches!(self.state, State::Starting(_) | State::Created | State::Recording(_));
        self.durable > 0 && !self.staging && !on_its_way
    }

    /// Whether what is told of the job is so still: a newer record may have been asked for since.
    pub(super) fn still_holds(&self, fact: &Fact) -> bool {
        *fact != Fact::Recorded || self.durable == self.version
    }

    /// What clients see. There are no values of secrets in a spec of the table.
    pub(super) fn view(&self, queue: &Queue) -> JobView {
        let spec = &self.spec;
        let position = self.ticket.and_then(|ticket| queue.position(ticket));
        JobView {
            id: self.id,
            name: spec.name.clone(),
            command: spec.command.clone(),
            args: spec.args.clone(),
            limits: spec.limits.clone(),
            status: self.state.status(),
            created_ns: self.created_ns,
            started_ns: self.started_ns,
            // Not before the ending itself.
            ended_ns: self.ended_ns.filter(|_| self.state.is_finished()),
            ending: if let State::Finished(ending) = &self.state { Some(ending.clone()) } else { None },
            environment: spec.environment.clone(),
            secret_names: spec.secrets.iter().map(|(name, _)| name.clone()).collect(),
            network: spec.network,
            work_dir: spec.work_dir.clone(),
            uploads: spec.upload_paths.clone(),
            timeout: spec.timeout.map(|t| format!("{t:?}")).unwrap_or_default(),
            peak_memory_bytes: self.peak_bytes,
            cpu_time_usec: self.cpu_usec,
            unenforced: self.unenforced.clone(),
            scheduled_ns: spec.not_before_ns,
            queue_position: position.unwrap_or(0),
            wait_reason: self.wait_reason(position.is_some()).to_owned(),
        }
    }

    /// Output and samples of an earlier daemon's job: how much there is was not looked at before somebody asked.
    pub(super) fn publish_stored(&self, spool: &Path) {
        let unseen = |watermark: &Watermark| self.state.is_finished() && watermark.look() == (0, true);
        if unseen(&self.watermark) {
            self.watermark.publish(rows_stored(spool));
        }
        if unseen(&self.samples) {
            self.samples.publish(fs::metadata(spool.join(series::FILE)).map_or(0, |file| file.len()));
        }
    }

    fn wait_reason(&self, queued: bool) -> &'static str {
        match self.state {
            _ if self.write_failed => {
                "its record cannot be written: the disk of dataDir is full, read-only or fails"
            }
            State::Scheduled => "waits for its time",
            State::Queued if queued => "waits for a place: joblet.maxConcurrentJobs are running",
            _ => self.watermark.waits().map_or("", Full::reason),
        }
    }
}

/// All jobs.
#[derive(Debug, Default)]
pub(super) struct Table {
    jobs: BTreeMap<u64, Job>,
    serials: BTreeMap<JobId, u64>,
    requests: HashMap<String, JobId>,
    // Those that are terminal, in the order of their ends.
    ended: BTreeSet<(Option<i64>, u64)>,
    last: u64,
}

impl Table {
    /// Takes a new, live job in.
    pub(super) fn insert(&mut self, mut job: Job) {
        job.serial = self.last + 1;
        self.restore(job);
    }

    /// Takes a job in that an earlier daemon accepted, with its serial.
    pub(super) fn restore(&mut self, job: Job) {
        self.last = self.last.max(job.serial);
        if job.state.is_finished() {
            self.ended.insert((job.ended_ns, job.serial));
        }
        self.serials.insert(job.id, job.serial);
        if !job.spec.request_id.is_empty() {
            self.requests.insert(job.spec.request_id.clone(), job.id);
        }
        self.jobs.insert(job.serial, job);
    }

    /// The job that a request with this id made.
    pub(super) fn of_request(&self, request_id: &str) -> Option<JobId> {
        self.requests.get(request_id).copied()
    }

    /// A job by its id.
    pub(super) fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.jobs.get_mut(self.serials.get(&id)?)
    }

    /// A job by its id, to look at.
    pub(super) fn get(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(self.serials.get(&id)?)
    }

    /// Jobs that are terminal.
    pub(super) fn finished(&self) -> usize {
        self.ended.len()
    }

    /// The terminal job that ended first.
    pub(super) fn oldest_finished(&self) -> Option<JobId> {
        let (_, serial) = self.ended.first()?;
        self.jobs.get(serial).map(|job| job.id)
    }

    /// Takes a job out.
    pub(super) fn remove(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&self.serials.remove(&id)?)?;
        self.requests.remove(&job.spec.request_id);
        self.ended.remove(&(job.ended_ns, job.serial));
        Some(job)
    }

    /// A job has become terminal.
    pub(super) fn has_ended(&mut self, id: JobId) {
        let Some(job) = self.get(id) else { return };
        self.ended.insert((job.ended_ns, job.serial));
    }

    /// Jobs that are not terminal.
    pub(super) fn live(&self) -> usize {
        self.jobs.len() - self.ended.len()
    }

    /// All jobs, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    /// Jobs with a serial above `after`, oldest first.
    pub(super) fn after(&self, after: u64) -> impl Iterator<Item = (u64, &Job)> {
        self.jobs.range(after.saturating_add(1)..).map(|(serial, job)| (*serial, job))
    }

    /// The job that a request names.
    ///
    /// # Errors
    /// Nothing or several match.
    pub(super) fn find(&mut self, wanted: &JobRef) -> Result<&mut Job, CommandError> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        let id = JobId::random();
        let watermark = || Watermark::new(id, Arc::new(|_| {}));
        Job::new(id, Arc::new(JobSpec::bare()), State::Running, watermark(), watermark())
    }

    #[test]
    fn an_end_that_is_being_recorded_is_not_shown_not_even_its_time() {
        let mut job = job();
        job.ended_ns = Some(7);
        job.state = State::Recording(crate::job::exit::canceled());
        assert_eq!(job.view(&Queue::default()).ended_ns, None);
        job.state = State::Finished(crate::job::exit::canceled());
        assert_eq!(job.view(&Queue::default()).ended_ns, Some(7));
    }

    /// The job ended in the turn in which the loop heard that its start is on disk: it was shown as terminal before its
    /// ending was there too.
    #[test]
    fn durable_old_version_does_not_count_for_the_newer_version() {
        let mut job = job();
        (job.version, job.durable) = (2, 2);
        assert!(job.still_holds(&Fact::Recorded));
        job.version = 3;
        assert!(!job.still_holds(&Fact::Recorded) && job.still_holds(&Fact::Unrecorded));
        job.durable = 3;
        assert!(job.still_holds(&Fact::Recorded));
    }
}
