//! Commands: what the loop does when somebody asks.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, getrlimit};

use super::commands::{
    Answer, Command, CommandError, JobPage, LogSource, PAGE_BYTES, PAGE_MAX, Page, SampleSource,
};
use super::event_loop::Loop;
use super::now_ns;
use super::pool::CreateRequest;
use super::staging;
use super::starting::{InputSource, JobSandbox, StartRequest};
use super::table::Job;
use crate::job::exit::{StopCause, start_failure};
use crate::job::state::{Fact, State};
use crate::job::{Controller, JobId, JobRef, JobSpec, JobView, NetworkMode};
use crate::output::Watermark;
use crate::upload::{JobInputs, Upload};

/// Open files that new jobs leave free. A start takes some twenty for a moment, on each spawner.
const DESCRIPTORS_KEPT: u64 = 64;

impl Loop {
    /// Carries one command out. An answer whose client is gone is dropped.
    pub(super) fn handle(&mut self, command: Command) {
        match command {
            Command::Run { spec, uploads, answer } => self.admit(*spec, uploads, answer),
            Command::Explain { spec, uploads, answer } => self.explain(spec, &uploads, answer),
            Command::Status { job, answer } => {
                let _ = answer.send(self.table.find(&job).map(|job| job.view(&self.queue)));
            }
            Command::Security { job, answer } => self.look_at(&job, answer),
            Command::List { page, answer } => {
                let _ = answer.send(Ok(self.list(&page)));
            }
            Command::Stop { job, answer } => self.stop(&job, answer),
            Command::Cancel { job, answer } => self.cancel(&job, answer),
            Command::Delete { job, answer } => self.delete(&job, answer),
            Command::DeleteAll { answer } => self.delete_all(answer),
            Command::Logs { job, answer } => {
                let spool = &self.settings.spool;
                let source = self.table.find(&job).map(|job| {
                    let dir = spool.join(job.id.to_string());
                    job.publish_stored(&dir);
                    LogSource { id: job.id, dir, watermark: job.watermark.clone() }
                });
                let _ = answer.send(source);
            }
            Command::Samples { job, answer } => {
                let spool = &self.settings.spool;
                let source = self.table.find(&job).map(|job| {
                    let dir = spool.join(job.id.to_string());
                    job.publish_stored(&dir);
                    SampleSource { id: job.id, dir, watermark: job.samples.clone() }
                });
                let _ = answer.send(source);
            }
        }
    }

    fn admit(&mut self, mut spec: JobSpec, uploads: Vec<Upload>, answer: Answer<JobView>) {
        if self.is_ending() {
            let _ = answer.send(Err(CommandError::ShuttingDown));
            return;
        }
        if let Some(id) = self.table.of_request(&spec.request_id) {
            self.answer_again(id, answer);
            return;
        }
        if let Some(why) = self.short_of_descriptors() {
            let _ = answer.send(Err(CommandError::Exhausted(why)));
            return;
        }
        let scheduled = spec.not_before_ns.is_some_and(|at| at > now_ns());
        let free = self.running < self.settings.max_jobs && self.queue.len() == 0;
        let most = self.settings.max_queued;
        if (scheduled || !free) && self.waiting() >= most {
            let text =
                format!("maximum concurrent jobs reached, and {most} wait already (joblet.maxQueuedJobs)");
            let _ = answer.send(Err(CommandError::Exhausted(text)));
            return;
        }
        let limits = self.tree.enforce(&spec.limits, self.settings.enforcement);
        let refused = limits.as_ref().err().map(ToString::to_string);
        // The limit of processes holds without its controller too: the job's uid is its own, and RLIMIT_NPROC
        // counts by uid (setrlimit(2)).
        let missing = limits.unwrap_or_default().into_iter().filter(|l| l.controller != Controller::Pids);
        let unenforced = missing.map(|limit| limit.to_string()).collect();
        let inputs = staging::unpack(&mut spec, uploads);
        let place = match refused {
            Some(why) => Err(why),
            None if scheduled || !free => Ok(None),
            None => self.place(&spec).map(Some),
        };
        let (id, watermark) = match &place {
            Ok(Some(place)) => place.whose(),
            Ok(None) | Err(_) => {
                let id = JobId::random();
                (id, Watermark::new(id, self.notifiers.output.clone()))
            }
        };
        let spec = Arc::new(spec);
        let state = match &place {
            Ok(None) if scheduled => State::Scheduled,
            Ok(None) => State::Queued,
            Ok(Some(_)) | Err(_) => State::Starting(None),
        };
        // The record comes first: every accepted request leaves a job with a reason.
        let samples = Watermark::new(id, self.notifiers.samples.clone());
        let job = Job::new(id, spec.clone(), state, watermark, samples);
        self.table.insert(Job { unenforced, starters: vec![answer], ..job });
        let ordered = match place {
            Ok(Some(place)) => self.order(place, spec, InputSource::Given(inputs)),
            Ok(None) => {
                self.hold(id, scheduled, inputs);
                Ok(())
            }
            Err(why) => Err(why),
        };
        if let Err(why) = ordered {
            self.pending.push((id, Fact::NotStarted(start_failure(why))));
        }
    }

    /// Why no job can be accepted: the last descriptors are for those that are there, to be looked at and stopped.
    fn short_of_descriptors(&self) -> Option<String> {
        let limit = getrlimit(Resource::Nofile).current?;
        // A new descriptor has the lowest number that is free (open(2)): below it none is.
        let lowest = fcntl_dupfd_cloexec(self.schedule.timer(), 0).map_or(limit, |fd| fd.as_raw_fd() as u64);
        (lowest + DESCRIPTORS_KEPT > limit).then(|| {
            format!(
                "too many jobs and clients: {lowest} of {limit} open files are in use; try again, or raise \
                 LimitNOFILE of the unit"
            )
        })
    }

    /// A new job that has to wait.
    fn hold(&mut self, id: JobId, scheduled: bool, inputs: JobInputs) {
        self.put_aside(id, inputs);
        if scheduled {
            self.wait_for_time(id);
            self.save(id);
        } else {
            self.enqueue(id);
        }
    }

    /// The same request once more: the same job.
    fn answer_again(&mut self, id: JobId, answer: Answer<JobView>) {
        let Some(job) = self.table.get_mut(id) else { return };
        job.starters.push(answer);
        self.answer_starters(id);
    }

    /// Where a job is to be started: what is ready, or what is needed to make it.
    fn place(&mut self, spec: &JobSpec) -> Result<JobSandbox, String> {
        if spec.network == NetworkMode::None
            && let Some(sandbox) = self.take_warm(&spec.limits)
        {
            return Ok(JobSandbox::Warm(sandbox));
        }
        let all_taken = || "all host ids are in use; raise process.subidCount".to_owned();
        let lease = self.leases.take().ok_or_else(all_taken)?;
        let id = JobId::random();
        let watermark = Watermark::new(id, self.notifiers.output.clone());
        let (limits, network) = (spec.limits.clone(), self.network_for(spec.network));
        Ok(JobSandbox::Cold(CreateRequest { id, limits, network, lease, watermark }))
    }

    /// Gives a job to a spawner, which starts nothing before the job's record is written.
    pub(super) fn order(
        &mut self,
        place: JobSandbox,
        spec: Arc<JobSpec>,
        inputs: InputSource,
    ) -> Result<(), String> {
        let (id, _) = place.whose();
        if let Some(job) = self.table.get_mut(id) {
            (job.host_id, job.process) = place.traces();
            if !std::mem::replace(&mut job.has_slot, true) {
                self.running += 1;
            }
        }
        let record = self.save(id);
        self.queues.orders.try_send(StartRequest { place, spec, inputs, record }).map_err(|back| {
            match back.into_inner().place {
                JobSandbox::Warm(sandbox) => self.discard(sandbox),
                JobSandbox::Cold(request) => self.leases.release(request.lease),
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
            views.push((serial, job.view(&self.queue)));
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
        if job.state == State::Scheduled {
            let text = format!("job is not running: {id} (current status: {status}); cancel it instead");
            let _ = answer.send(Err(CommandError::WrongState(text)));
        } else if job.state.stop_cause().is_some() {
            let text = format!("job is being stopped already: {id} (current status: {status})");
            let _ = answer.send(Err(CommandError::WrongState(text)));
        } else if matches!(job.state, State::Recording(_) | State::Draining(_)) {
            let text = format!("job is ending already: {id} (current status: {status})");
            let _ = answer.send(Err(CommandError::WrongState(text)));
        } else if job.state.is_finished() {
            let text = format!("job is not running: {id} (current status: {status})");
            let _ = answer.send(Err(CommandError::WrongState(text)));
        } else {
            job.stoppers.push(answer);
            self.leave_queues(id);
            self.apply(id, Fact::Stop(StopCause::Request));
        }
    }
}
