//! Commands: what the loop does when somebody asks.

use std::sync::Arc;

use super::berth::Plot;
use super::commands::{
    Answer, Command, CommandError, Deleted, JobPage, LogSource, PAGE_BYTES, PAGE_MAX, Page, SampleSource,
};
use super::event_loop::Loop;
use super::now_ns;
use super::starting::{Order, Place};
use super::table::Job;
use super::workers::Chore;
use crate::config::daemon::Controller;
use crate::job::exit::{StopCause, start_failure};
use crate::job::state::{Fact, State};
use crate::job::{JobId, JobRef, JobSpec, JobView, NetworkMode};
use crate::output::Progress;
use crate::upload::Upload;

impl Loop {
    /// Carries one command out. An answer whose client is gone is dropped.
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Run { spec, uploads, answer } => self.admit(*spec, uploads, answer),
            Command::Explain { spec, uploads, answer } => self.explain(spec, &uploads, answer),
            Command::Status { job, answer } => {
                let _ = answer.send(self.table.find(&job).map(|job| job.view()));
            }
            Command::Security { job, answer } => self.look_at(&job, answer),
            Command::List { page, answer } => {
                let _ = answer.send(Ok(self.list(&page)));
            }
            Command::Stop { job, answer } => self.stop(&job, answer),
            Command::Delete { job, answer } => self.delete(&job, answer),
            Command::DeleteAll { answer } => self.delete_all(answer),
            Command::Logs { job, answer } => {
                let spool = &self.settings.spool;
                let source = self.table.find(&job).map(|job| LogSource {
                    id: job.id,
                    dir: spool.join(job.id.to_string()),
                    progress: job.progress.clone(),
                });
                let _ = answer.send(source);
            }
            Command::Samples { job, answer } => {
                let spool = &self.settings.spool;
                let source = self.table.find(&job).map(|job| SampleSource {
                    id: job.id,
                    dir: spool.join(job.id.to_string()),
                    progress: job.samples.clone(),
                });
                let _ = answer.send(source);
            }
        }
    }

    fn admit(&mut self, spec: JobSpec, uploads: Vec<Upload>, answer: Answer<JobView>) {
        if self.is_ending() {
            let _ = answer.send(Err(CommandError::ShuttingDown));
            return;
        }
        let most = self.settings.max_jobs;
        if self.table.live() >= most {
            let text = format!("maximum concurrent jobs reached ({most}); stop a job or wait for one to end");
            let _ = answer.send(Err(CommandError::Exhausted(text)));
            return;
        }
        let limits = self.tree.enforce(&spec.limits, self.settings.enforcement);
        let refused = limits.as_ref().err().map(ToString::to_string);
        // The limit of processes holds without its controller too: the job's uid is its own, and RLIMIT_NPROC
        // counts by uid (setrlimit(2)).
        let missing = limits.unwrap_or_default().into_iter().filter(|l| l.controller != Controller::Pids);
        let unenforced = missing.map(|limit| limit.to_string()).collect();
        let place = match refused {
            Some(why) => Err(why),
            None => self.place(&spec),
        };
        let (id, progress) = match &place {
            Ok(Place::Ready(berth)) => (berth.id, berth.progress.clone()),
            Ok(Place::Bare(plot)) => (plot.id, plot.progress.clone()),
            Err(_) => {
                let id = JobId::random();
                (id, Progress::new(id, self.tells.output.clone()))
            }
        };
        let spec = Arc::new(spec);
        // The record comes first: every accepted request leaves a job with a reason.
        self.table.insert(Job {
            id,
            spec: spec.clone(),
            state: State::Starting(None),
            created_ns: now_ns(),
            started_ns: None,
            ended_ns: None,
            unenforced,
            progress,
            drained: false,
            samples: Progress::new(id, self.tells.samples.clone()),
            sampled: true,
            child: None,
            lease: None,
            cgroup: None,
            record: None,
            peak_bytes: None,
            cpu_usec: None,
            starters: vec![answer],
            stoppers: Vec::new(),
        });
        let ordered = place.and_then(|place| self.order(Order { place, spec, uploads }));
        if let Err(why) = ordered {
            self.pending.push((id, Fact::SpawnFailed(start_failure(why))));
        }
    }

    /// Where a job is to be started: what is ready, or what is needed to make it.
    fn place(&mut self, spec: &JobSpec) -> Result<Place, String> {
        if spec.network == NetworkMode::None
            && let Some(berth) = self.take_berth(&spec.limits)
        {
            return Ok(Place::Ready(berth));
        }
        let all_taken = || "all host ids are in use; raise process.subidCount".to_owned();
        let lease = self.leases.take().ok_or_else(all_taken)?;
        let id = JobId::random();
        let progress = Progress::new(id, self.tells.output.clone());
        let (limits, network) = (spec.limits.clone(), self.network_for(spec.network));
        Ok(Place::Bare(Plot { id, limits, network, lease, progress }))
    }

    fn order(&mut self, order: Order) -> Result<(), String> {
        self.queues.orders.try_send(order).map_err(|back| {
            match back.into_inner().place {
                Place::Ready(berth) => self.scrap(berth),
                Place::Bare(plot) => self.leases.give_back(plot.lease),
            }
            "no spawner takes the job".to_owned()
        })?;
        self.starting += 1;
        self.watch_starts();
        Ok(())
    }

    fn list(&self, page: &Page) -> JobPage {
        let limit = if page.limit == 0 { PAGE_MAX } else { page.limit.min(PAGE_MAX) };
        let wanted = |job: &Job| page.statuses.is_empty() || page.statuses.contains(&job.state.status());
        let mut jobs = self.table.after(page.after).filter(|(_, job)| wanted(job)).peekable();
        let (mut views, mut bytes) = (Vec::new(), 0);
        while views.len() < limit
            && bytes < PAGE_BYTES
            && let Some((serial, job)) = jobs.next()
        {
            bytes += job.spec.text_bytes();
            views.push((serial, job.view()));
        }
        JobPage { jobs: views, more: jobs.peek().is_some() }
    }

    fn stop(&mut self, wanted: &JobRef, answer: Answer<JobView>) {
        let job = match self.table.find(wanted) {
            Ok(job) => job,
            Err(why) => {
                let _ = answer.send(Err(why));
                return;
            }
        };
        let (id, status) = (job.id, job.state.status().as_str());
        if job.state.is_finished() || matches!(job.state, State::Draining(_)) {
            let text = format!("job is not running: {id} (current status: {status})");
            let _ = answer.send(Err(CommandError::WrongState(text)));
        } else if job.state.stop_cause().is_some() {
            let text = format!("job is being stopped already: {id} (current status: {status})");
            let _ = answer.send(Err(CommandError::WrongState(text)));
        } else {
            job.stoppers.push(answer);
            self.apply(id, Fact::Stop(StopCause::Request));
        }
    }

    fn delete(&mut self, wanted: &JobRef, answer: Answer<JobId>) {
        let found = self.table.find(wanted).and_then(|job| {
            let text = "Cannot delete running job; stop it first".to_owned();
            if job.state.is_finished() { Ok(job.id) } else { Err(CommandError::WrongState(text)) }
        });
        match found {
            Err(why) => {
                let _ = answer.send(Err(why));
            }
            Ok(id) => {
                self.table.remove(id);
                self.chore(Chore::Spool(self.settings.spool.join(id.to_string()), id, answer));
            }
        }
    }

    fn delete_all(&mut self, answer: Answer<Deleted>) {
        let finished: Vec<JobId> =
            self.table.iter().filter(|job| job.state.is_finished()).map(|job| job.id).collect();
        for id in &finished {
            self.table.remove(*id);
        }
        let deleted = Deleted { deleted: finished.len() as u32, skipped: self.table.live() as u32 };
        let spools = finished.iter().map(|id| self.settings.spool.join(id.to_string())).collect();
        self.chore(Chore::Spools(spools, deleted, answer));
    }
}
