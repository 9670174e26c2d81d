//! The end of a job, in a fixed order; every step may be repeated.

use std::os::unix::fs::FileExt;
use std::time::Instant;

use log::Level;

use super::cleanup::CleanupTask;
use super::event_loop::{Loop, Timer, command_line};
use super::starting::work_name;
use crate::cgroup::JobCgroup;
use crate::diag;
use crate::job::exit::{Witnesses, verdict};
use crate::job::exit_file::{self, ExitFile};
use crate::job::state::{Fact, State};
use crate::job::{Ending, ExitReason, JobId};
use crate::output::Full;
use crate::sandbox::create::exit_file_path;
use crate::sandbox::identity::Lease;
use crate::state::intent;

impl Loop {
    /// PID 1 is gone, and with it every process of the job: collect what it left behind.
    pub(super) fn drain(&mut self, id: JobId) {
        let bound = self.settings.cleanup_timeout;
        let Some(job) = self.table.get_mut(id) else { return };
        let Some(child) = &mut job.child else { return };
        let mut block = [0; exit_file::SIZE];
        let read = child.record.read_exact_at(&mut block, 0);
        job.record = read.ok().and_then(|()| ExitFile::decode(&block));
        job.measure();
        if !job.samples_complete {
            // The group is there until the job is finished, and tells all that it used.
            self.sampler.last(id, || ());
        }
        match self.output_complete(id) {
            Some(fact) => self.pending.push((id, fact)),
            None => self.timers.set(Instant::now() + bound, Timer::Drain(id)),
        }
    }

    /// Nothing more comes of a job that has ended, neither output nor samples.
    pub(super) fn output_complete(&mut self, id: JobId) -> Option<Fact> {
        let job = self.table.get(id)?;
        if !(job.output_complete && job.samples_complete && matches!(job.state, State::Draining(_))) {
            return None;
        }
        self.ending_of(id).map(Fact::OutputComplete)
    }

    /// The output did not end although no process is left: somebody outside holds the pipe. Or its last sample is
    /// not stored, because the disk hangs.
    pub(super) fn collect_late(&mut self, id: JobId) {
        let Some(job) = self.table.get_mut(id) else { return };
        if !matches!(job.state, State::Draining(_)) {
            return;
        }
        if !std::mem::replace(&mut job.samples_complete, true) {
            diag::event!(Level::Warn, "the last sample of a finished job does not come", jobId = id);
        }
        if !job.output_complete {
            diag::event!(Level::Warn, "output of a finished job does not end, no longer waiting", jobId = id);
            self.collector.give_up(id);
        } else if let Some(fact) = self.output_complete(id) {
            self.pending.push((id, fact));
        }
    }

    /// The verdict from all witnesses.
    pub(super) fn ending_of(&mut self, id: JobId) -> Option<Ending> {
        let job = self.table.get_mut(id)?;
        let events = job.cgroup.as_ref().and_then(|group| group.memory_events().ok().flatten());
        Some(verdict(&Witnesses {
            stopped: job.state.stop_cause(),
            record: job.record,
            oom: events.is_some_and(|events| events.killed()),
            memory_mib: job.spec.limits.memory.map(|memory| memory.mib()),
            peak_bytes: job.peak_bytes,
            work_in_memory: !self.settings.work_on_disk,
            timeout: job.spec.timeout.map(|t| format!("{t:?}")).unwrap_or_default(),
            command: job.spec.command.clone(),
            work_dir: job.spec.work_dir.clone(),
            output_limit: self.settings.spool_limits.ended(job.watermark.over().unwrap_or(Full::Job)),
            host_restarted: job.host_restarted,
            init_end: match (&job.lost_because, &job.child) {
                (Some(why), _) => why.clone(),
                (None, Some(child)) => child.init_end.clone(),
                (None, None) => "its PID 1 ended while no daemon lived".to_owned(),
            },
        }))
    }

    /// The job is terminal: say so, close what reads it, give everything back.
    pub(super) fn finish(&mut self, id: JobId) {
        let Some(job) = self.table.get_mut(id) else { return };
        let State::Finished(ending) = job.state.clone() else { return };
        log_end(job, &ending);
        let view = job.view(&self.queue);
        let last = self.queues.records.is_some().then(|| Box::new(job.to_record(&self.boot)));
        for stopper in job.stoppers.drain(..) {
            let _ = stopper.send(Ok(view.clone()));
        }
        job.watermark.end();
        job.samples.end();
        let (child, lease, cgroup) = (job.child.take(), job.lease.take(), job.cgroup.take());
        self.table.has_ended(id);
        self.answer_starters(id);
        if let Some(child) = child {
            intent::void(&exit_file_path(&self.settings.run_dir, &id.to_string()));
            self.forget_source(child.tokens[0], &child.pidfd);
            if let Some(report) = &child.report {
                self.forget_source(child.tokens[1], report);
            }
            self.cleanup(CleanupTask::Close(child.mounts));
            if let Some(network) = child.network {
                self.cleanup(CleanupTask::Network(network));
            }
        }
        if let Some(lease) = lease {
            self.release(id, lease);
        }
        let name = id.to_string();
        self.cleanup(CleanupTask::File(exit_file_path(&self.settings.run_dir, &name)));
        self.cleanup(CleanupTask::File(self.settings.stage.path(&name)));
        if let Some(last) = last {
            self.cleanup(CleanupTask::Record(self.settings.spool.join(&name), last));
        }
        // It may have failed while it waited, with a ticket that nobody else would take back.
        self.leave_queues(id);
        self.release_slot(id);
        if let Some(group) = cgroup {
            self.remove_cgroup(group);
        }
        self.refill_later();
        // Last: it may be this one that goes.
        self.forget_old();
    }

    /// Gives the host id of a job back, when its files are gone: they still count for it.
    pub(super) fn release(&mut self, id: JobId, lease: Lease) {
        if self.settings.work_on_disk {
            self.remove_work(work_name(id), Some(lease));
        } else {
            self.leases.release(lease);
        }
    }

    /// Has a group removed, and whatever is in it killed.
    pub(super) fn remove_cgroup(&mut self, group: JobCgroup) {
        self.pending_cleanups += 1;
        self.cleanup(CleanupTask::Cgroup(group));
    }

    /// Finished jobs are kept for questions and for their output, up to a number. Their timers go with them.
    fn forget_old(&mut self) {
        self.forget_beyond();
        let (table, live) = (&self.table, self.table.live());
        let lives = |id: &JobId| table.get(*id).is_some_and(|job| !job.state.is_finished());
        self.timers.weed(live, |due| match due {
            Timer::Grace(id) | Timer::Timeout(id) | Timer::Drain(id) => lives(id),
            Timer::Tidy(_) | Timer::Stuck | Timer::Quiet | Timer::Expired | Timer::ShutdownOver => true,
        });
    }
}

fn log_end(job: &super::table::Job, ending: &Ending) {
    let level = if ending.reason == ExitReason::StartFailed { Level::Error } else { Level::Info };
    diag::event!(
        level,
        "job ended",
        jobId = job.id,
        status = ending.status.as_str(),
        reason = ending.reason.as_str(),
        exitCode = ending.code,
        command = command_line(&job.spec.command, &job.spec.args),
        message = ending.message
    );
}
