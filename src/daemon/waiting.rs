//! Jobs that do not start at once: they wait for their time, then for a place.

use std::time::Instant;

use log::Level;

use super::cleanup::CleanupTask;
use super::commands::{Answer, CommandError};
use super::event_loop::Loop;
use super::now_ns;
use super::pool::CreateRequest;
use super::staging::{self, Staging};
use super::starting::{InputSource, JobSandbox};
use crate::diag;
use crate::job::exit::start_failure;
use crate::job::state::{Fact, State};
use crate::job::{JobId, JobRef, JobView};
use crate::upload::JobInputs;

impl Loop {
    /// Jobs that wait.
    pub(super) fn waiting(&self) -> usize {
        self.schedule.len() + self.queue.len()
    }

    /// Puts aside what a waiting job brought, if its record does not hold it all.
    pub(super) fn put_aside(&mut self, id: JobId, inputs: JobInputs) {
        let Some(job) = self.table.get_mut(id) else { return };
        if !staging::is_needed(&job.spec) {
            return;
        }
        job.staging = true;
        self.pending_writes += 1;
        if self.queues.staging.send(Staging { id, inputs }).is_err() {
            diag::limited!(Level::Error, "the stager thread is gone");
        }
    }

    /// What a waiting job brought is put aside, or cannot be.
    pub(super) fn collect_staged(
        &mut self,
        id: JobId,
        done: Result<(), String>,
        facts: &mut Vec<(JobId, Fact)>,
    ) {
        self.pending_writes -= 1;
        let Some(job) = self.table.get_mut(id) else {
            // It was not to be remembered.
            self.cleanup(CleanupTask::File(self.settings.stage.path(&id.to_string())));
            return;
        };
        job.staging = false;
        let waits = job.state.waits();
        match done {
            Err(why) if waits => {
                self.leave_queues(id);
                facts.push((id, Fact::NotStarted(start_failure(why))));
            }
            _ => self.answer_starters(id),
        }
        if !waits {
            // It was stopped or canceled meanwhile.
            self.cleanup(CleanupTask::File(self.settings.stage.path(&id.to_string())));
        }
        self.grant_slots(facts);
    }

    /// Adds a job to the schedule.
    pub(super) fn wait_for_time(&mut self, id: JobId) {
        let Some(job) = self.table.get(id) else { return };
        let at = job.spec.not_before_ns.unwrap_or(0);
        if let Err(why) = self.schedule.add(at, job.serial, id) {
            diag::limited!(Level::Error, "cannot set the timer of scheduled jobs", error = why);
        }
    }

    /// The timer of scheduled jobs has fired, or the clock was set.
    pub(super) fn collect_scheduled(&mut self, facts: &mut Vec<(JobId, Fact)>) {
        match self.schedule.due(now_ns()) {
            Ok(due) => facts.extend(due.into_iter().map(|id| (id, Fact::Due))),
            Err(why) => diag::limited!(Level::Error, "cannot read the timer of scheduled jobs", error = why),
        }
    }

    /// Effect: behind all that wait for a place.
    pub(super) fn enqueue(&mut self, id: JobId) {
        let ticket = self.queue.push(id);
        if let Some(job) = self.table.get_mut(id) {
            job.queued_ns = Some(now_ns());
            job.ticket = Some(ticket);
        }
        let mut facts = Vec::new();
        self.grant_slots(&mut facts);
        if !facts.iter().any(|(next, _)| *next == id) {
            // Its place in the order must outlive us; who starts at once is recorded then.
            self.save(id);
        }
        self.pending.append(&mut facts);
    }

    /// Gives free places to those that wait longest. One whose belongings are on their way holds up the others: it was
    /// first.
    pub(super) fn grant_slots(&mut self, facts: &mut Vec<(JobId, Fact)>) {
        while self.running < self.settings.max_jobs
            && !self.is_ending()
            && let Some(id) = self.queue.first()
            && let Some(job) = self.table.get_mut(id)
            && !job.staging
        {
            if let Some(ticket) = job.ticket.take() {
                self.queue.remove(ticket);
            }
            job.has_slot = true;
            self.running += 1;
            facts.push((id, Fact::SlotGranted));
        }
    }

    /// Effect: to a spawner. Its id is known to its client, so no berth will do.
    pub(super) fn start(&mut self, id: JobId) {
        let Some(job) = self.table.get(id) else { return };
        let (spec, watermark) = (job.spec.clone(), job.watermark.clone());
        let started = match self.leases.take() {
            None => Err("all host ids are in use; raise process.subidCount".to_owned()),
            Some(lease) => {
                let (limits, network) = (spec.limits.clone(), self.network_for(spec.network));
                let inputs = if staging::is_needed(&spec) {
                    InputSource::Staged
                } else {
                    InputSource::Given(staging::of_record(&spec))
                };
                self.order(
                    JobSandbox::Cold(CreateRequest { id, limits, network, lease, watermark }),
                    spec,
                    inputs,
                )
            }
        };
        if let Err(why) = started {
            self.pending.push((id, Fact::NotStarted(start_failure(why))));
        }
    }

    /// CancelJob: a scheduled job will not start.
    pub(super) fn cancel(&mut self, wanted: &JobRef, answer: Answer<JobView>) {
        match self.table.find(wanted) {
            Err(why) => {
                let _ = answer.send(Err(why));
            }
            Ok(job) if job.state == State::Scheduled => {
                job.stoppers.push(answer);
                let id = job.id;
                self.leave_queues(id);
                self.apply(id, Fact::Cancel);
            }
            Ok(job) => {
                let status = job.state.status().as_str();
                let text = format!("Job is not scheduled: {} (current status: {status})", job.id);
                let _ = answer.send(Err(CommandError::WrongState(text)));
            }
        }
    }

    /// Takes a job out of the schedule and of the queue.
    pub(super) fn leave_queues(&mut self, id: JobId) {
        let Some(job) = self.table.get_mut(id) else { return };
        if let Some(ticket) = job.ticket.take() {
            self.queue.remove(ticket);
        }
        if job.state == State::Scheduled {
            self.schedule.remove(job.spec.not_before_ns.unwrap_or(0), job.serial, id);
        }
    }

    /// A job that had a place is over.
    pub(super) fn release_slot(&mut self, id: JobId) {
        let Some(job) = self.table.get_mut(id) else { return };
        if std::mem::take(&mut job.has_slot) {
            self.running -= 1;
        }
        let mut facts = Vec::new();
        self.grant_slots(&mut facts);
        self.pending.append(&mut facts);
    }
}

/// CLOCK_MONOTONIC, ns: the clock of [`Instant`], which a later process of the same boot can read on.
pub(super) fn monotonic_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// The moment at which that clock shows `at_ns`; now if it is past.
pub(super) fn instant_of(at_ns: i64) -> Instant {
    let left = at_ns.saturating_sub(monotonic_ns()).max(0);
    Instant::now() + std::time::Duration::from_nanos(left.unsigned_abs())
}
