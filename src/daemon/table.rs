//! The job table: every job the daemon knows, in the order in which they were accepted.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::cgroup::JobCgroup;
use crate::job::exit_record::ExitRecord;
use crate::job::{JobId, JobRef, JobSpec, JobView, State, env};
use crate::output::{Full, Progress};
use crate::sandbox::identity::Lease;

use super::commands::{Answer, CommandError};

/// One job, with everything that exists because of it.
#[derive(Debug)]
pub(super) struct Job {
    /// Identity.
    pub(super) id: JobId,
    /// What it runs.
    pub(super) spec: Arc<JobSpec>,
    /// Where it is in its life.
    pub(super) state: State,
    /// Accepted, ns since the epoch.
    pub(super) created_ns: i64,
    /// Payload started.
    pub(super) started_ns: Option<i64>,
    /// Terminal.
    pub(super) ended_ns: Option<i64>,
    /// Limits that the host cannot keep, in words.
    pub(super) unenforced: Vec<String>,
    /// How far its output has come.
    pub(super) progress: Arc<Progress>,
    /// All output is in the spool. The collector may say so before the spawner has told of the start.
    pub(super) drained: bool,
    /// How far its samples have come.
    pub(super) samples: Arc<Progress>,
    /// No sample of it is still to come: it does not run yet, or its last one is stored.
    pub(super) sampled: bool,
    /// Its PID 1, from the clone to the last byte of output.
    pub(super) child: Option<Child>,
    /// Its host id, until no process of it is left.
    pub(super) lease: Option<Lease>,
    /// Its group, until it is tidied away.
    pub(super) cgroup: Option<JobCgroup>,
    /// What PID 1 recorded.
    pub(super) record: Option<ExitRecord>,
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
    /// What clients see; the only place where secrets leave the record, as names.
    pub(super) fn view(&self) -> JobView {
        let spec = &self.spec;
        let shown = |(name, value): &(String, String)| {
            let value = if env::looks_secret(name) { "***".to_owned() } else { value.clone() };
            (name.clone(), value)
        };
        JobView {
            id: self.id,
            name: spec.name.clone(),
            command: spec.command.clone(),
            args: spec.args.clone(),
            limits: spec.limits.clone(),
            status: self.state.status(),
            created_ns: self.created_ns,
            started_ns: self.started_ns,
            ended_ns: self.ended_ns,
            ending: if let State::Finished(ending) = &self.state { Some(ending.clone()) } else { None },
            environment: spec.environment.iter().map(shown).collect(),
            secret_names: spec.secrets.iter().map(|(name, _)| name.clone()).collect(),
            network: spec.network,
            work_dir: spec.work_dir.clone(),
            uploads: spec.upload_paths.clone(),
            timeout: spec.timeout.map(|t| format!("{t:?}")).unwrap_or_default(),
            peak_memory_bytes: self.peak_bytes,
            cpu_time_usec: self.cpu_usec,
            unenforced: self.unenforced.clone(),
            wait_reason: self.progress.waits().map_or("", Full::reason).to_owned(),
        }
    }
}

/// All jobs.
#[derive(Debug, Default)]
pub(super) struct Table {
    jobs: BTreeMap<u64, Job>,
    serials: HashMap<JobId, u64>,
    last: u64,
    live: usize,
}

impl Table {
    /// Takes a new, live job in.
    pub(super) fn insert(&mut self, job: Job) {
        self.last += 1;
        self.live += 1;
        self.serials.insert(job.id, self.last);
        self.jobs.insert(self.last, job);
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
        self.jobs.len() - self.live
    }

    /// Takes the terminal job out that was accepted first.
    pub(super) fn remove_oldest_finished(&mut self) -> Option<Job> {
        let id = self.iter().find(|job| job.state.is_finished())?.id;
        self.remove(id)
    }

    /// Takes a job out.
    pub(super) fn remove(&mut self, id: JobId) -> Option<Job> {
        self.jobs.remove(&self.serials.remove(&id)?)
    }

    /// A job has become terminal.
    pub(super) fn one_ended(&mut self) {
        self.live = self.live.saturating_sub(1);
    }

    /// Jobs that are not terminal.
    pub(super) fn live(&self) -> usize {
        self.live
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
                let fits = |job: &&Job| job.id.to_string().starts_with(prefix.as_str());
                let found: Vec<JobId> = self.iter().filter(fits).map(|job| job.id).take(10).collect();
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
