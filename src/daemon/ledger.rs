//! Records of jobs: when they are asked for, what is in them, and what happens when they are on disk.

use log::Level;

use super::cleanup::CleanupTask;
use super::commands::{CommandError, Deleted};
use super::event_loop::Loop;
use super::now_ns;
use super::table::Job;
use crate::diag;
use crate::job::exit::ExitReason;
use crate::job::state::{Fact, State};
use crate::job::{JobId, JobRef};
use crate::state::{Change, Outcome, Record, Stage, not_recorded};

impl Job {
    /// The job as it is stored.
    pub(super) fn to_record(&self, boot: &str) -> Record {
        Record {
            id: self.id,
            serial: self.serial,
            spec: self.spec.clone(),
            stage: match &self.state {
                State::Scheduled => Stage::Scheduled,
                State::Queued => Stage::Queued,
                State::Recording(ending) | State::Finished(ending) => Stage::Ended(ending.clone()),
                other => Stage::Active(other.stop_cause()),
            },
            created_ns: self.created_ns,
            queued_ns: self.queued_ns,
            started_ns: self.started_ns,
            ended_ns: self.ended_ns,
            unenforced: self.unenforced.clone(),
            lease: self.host_id,
            process: self.process.clone(),
            boot: boot.to_owned(),
            timeout_at_ns: self.timeout_at_ns,
            peak_bytes: self.peak_bytes,
            cpu_usec: self.cpu_usec,
        }
    }

    /// What who asked for the job is told when it could not be started.
    fn refused(&self, why: String) -> CommandError {
        if self.shortage { CommandError::Exhausted(why) } else { CommandError::SetUp(why) }
    }

    /// Its times, once it is known how it ended.
    fn set_times(&mut self) {
        let State::Recording(ending) = &self.state else { return };
        self.started_ns = self
            .record
            .map(|record| record.started_ns)
            .filter(|_| ending.reason != ExitReason::StartFailed)
            .or(self.started_ns);
        self.ended_ns = Some(self.record.map_or_else(now_ns, |record| record.ended_ns));
    }
}

impl Loop {
    /// Has a job's record written as it is now. What is written, unless jobs are remembered in memory only.
    pub(super) fn save(&mut self, id: JobId) -> Option<Box<Record>> {
        let job = self.table.get_mut(id)?;
        job.set_times();
        job.version += 1;
        let Some(records) = &self.queues.records else {
            job.durable = job.version;
            self.pending.push((id, Fact::Recorded));
            // No outcome will come to do it.
            self.answer_starters(id);
            return None;
        };
        let record = Box::new(job.to_record(&self.boot));
        let put = Change::Put { record: record.clone(), version: job.version, ticket: (), durable: None };
        if records.send(put).is_err() {
            diag::limited!(Level::Error, "the state thread is gone");
        }
        self.pending_writes += 1;
        Some(record)
    }

    /// What became of records.
    pub(super) fn collect_outcome(&mut self, outcome: Outcome<()>, facts: &mut Vec<(JobId, Fact)>) {
        let Outcome { trouble, records, tickets } = outcome;
        let durable = trouble.is_none();
        self.pending_writes -= tickets.len();
        for (id, version) in records {
            let Some(job) = self.table.get_mut(id) else { continue };
            job.write_failed = !durable && (job.version == version || job.write_failed);
            match (durable, job.durable > 0) {
                (true, _) => {
                    job.durable = version;
                    facts.push((id, Fact::Recorded));
                    self.answer_starters(id);
                }
                (false, true) => facts.push((id, Fact::Unrecorded)),
                (false, false) => self.refuse_unrecorded(id, trouble.as_deref().unwrap_or_default()),
            }
        }
    }

    /// Nobody was told of this job yet. One that waits is not remembered, and its client told so; one that could not be
    /// started is told as that, and one that is over already; one that runs is told of when its record is written.
    fn refuse_unrecorded(&mut self, id: JobId, trouble: &str) {
        let Some(job) = self.table.get_mut(id) else { return };
        let why = match &job.state {
            State::Recording(ending) if ending.reason == ExitReason::StartFailed => ending.message.clone(),
            State::Recording(_) => format!("job {id} is over, and that cannot be recorded yet: {trouble}"),
            state if state.waits() => not_recorded(trouble),
            _ => return,
        };
        let refused = job.refused(why);
        for starter in job.starters.drain(..) {
            let _ = starter.send(Err(refused.clone()));
        }
        if job.state.waits() {
            // Who found it in the list may follow it.
            job.watermark.end();
            job.samples.end();
            self.leave_queues(id);
            // It may have been given a place in this very turn.
            self.release_slot(id);
            self.forget(&[id], None);
        }
    }

    /// Notifiers who waits for RunJob's answer, if there is one to give.
    pub(super) fn answer_starters(&mut self, id: JobId) {
        let Some(job) = self.table.get_mut(id) else { return };
        if job.starters.is_empty() || !job.is_announceable() {
            return;
        }
        let starters = std::mem::take(&mut job.starters);
        let view = job.view(&self.queue);
        let failed = match &view.ending {
            Some(ending) if ending.reason == ExitReason::StartFailed && ending.code == -1 => {
                Some(job.refused(ending.message.clone()))
            }
            _ => None,
        };
        for starter in starters {
            let _ = starter.send(failed.clone().map_or_else(|| Ok(view.clone()), Err));
        }
    }

    /// Deletes a terminal job; answered when its record and its files are gone.
    pub(super) fn delete(&mut self, wanted: &JobRef, answer: super::commands::Answer<JobId>) {
        let found = self.table.find(wanted).and_then(|job| {
            let hint = if job.state.waits() { "cancel or stop it first" } else { "stop it first" };
            let refused = || CommandError::WrongState(format!("Cannot delete running job; {hint}"));
            if job.state.is_finished() { Ok(job.id) } else { Err(refused()) }
        });
        match found {
            Err(why) => {
                let _ = answer.send(Err(why));
            }
            Ok(id) => {
                let spool = self.settings.spool.join(id.to_string());
                self.forget(&[id], Some(CleanupTask::Spool(spool, id, answer)));
            }
        }
    }

    /// Deletes all terminal jobs.
    pub(super) fn delete_all(&mut self, answer: super::commands::Answer<Deleted>) {
        let finished = self.table.iter().filter(|job| job.state.is_finished());
        let finished: Vec<JobId> = finished.map(|job| job.id).collect();
        let spools = finished.iter().map(|id| self.settings.spool.join(id.to_string())).collect();
        let deleted = Deleted { deleted: finished.len() as u32, skipped: self.table.live() as u32 };
        self.forget(&finished, Some(CleanupTask::Spools(spools, deleted, answer)));
    }

    /// Takes jobs out of the table and their records off the disk; `then` is done when those are gone. Without it their
    /// spools are removed.
    pub(super) fn forget(&mut self, ids: &[JobId], then: Option<CleanupTask>) {
        let serials = ids.iter().filter_map(|id| Some(self.table.remove(*id)?.serial)).collect();
        let spools = || ids.iter().map(|id| self.settings.spool.join(id.to_string()));
        let staged = ids.iter().map(|id| self.settings.stage.path(&id.to_string()));
        let cleanups: Vec<CleanupTask> = match then {
            Some(cleanup) => vec![cleanup],
            None => spools().map(CleanupTask::Directory).chain(staged.map(CleanupTask::File)).collect(),
        };
        let queue = self.queues.cleanups.clone();
        let done = move || {
            for cleanup in cleanups {
                // The tidier is gone only when the daemon is.
                let _ = queue.send(cleanup);
            }
        };
        match &self.queues.records {
            None => done(),
            Some(records) => {
                if records.send(Change::Delete { serials, done: Box::new(done) }).is_err() {
                    diag::limited!(Level::Error, "the state thread is gone");
                }
            }
        }
    }

    /// Forgets finished jobs beyond the number that is kept: those that ended first go.
    pub(super) fn forget_beyond(&mut self) {
        while self.table.finished() > self.settings.retention_max
            && let Some(id) = self.table.oldest_finished()
        {
            self.forget(&[id], None);
        }
    }

    /// Forgets finished jobs that ended too long ago.
    pub(super) fn forget_expired(&mut self) {
        let before = now_ns().saturating_sub(self.settings.retention_ns);
        let expired = |job: &&Job| job.state.is_finished() && job.ended_ns.is_some_and(|at| at < before);
        let ids: Vec<JobId> = self.table.iter().filter(expired).map(|job| job.id).collect();
        if !ids.is_empty() {
            diag::event!(Level::Info, "forgetting old jobs", number = ids.len());
            self.forget(&ids, None);
        }
    }
}
