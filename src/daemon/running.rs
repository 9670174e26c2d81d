//! Effects on a job that lives.

use std::fs;
use std::time::Instant;

use log::Level;
use rustix::process::{Signal, pidfd_send_signal};

use super::cleanup::CleanupTask;
use super::event_loop::{Loop, Timer, command_line};
use super::now_ns;
use super::waiting::{instant_of, monotonic_ns};
use crate::diag;
use crate::job::JobId;
use crate::metrics::Watched;

impl Loop {
    /// The payload runs: its clock starts, and who asked for it is told.
    pub(super) fn announce_running(&mut self, id: JobId) {
        let Some(job) = self.table.get_mut(id) else { return };
        let now = now_ns();
        job.started_ns = Some(now);
        let pid = job.child.as_ref().map_or(0, |child| child.pid);
        diag::event!(
            Level::Info,
            "job started successfully",
            jobId = id,
            pid = pid,
            command = command_line(&job.spec.command, &job.spec.args),
            duration = format_args!("{}us", (now - job.created_ns) / 1000)
        );
        self.run_timeout(id);
        self.answer_starters(id);
        self.cleanup(CleanupTask::File(self.settings.stage.path(&id.to_string())));
        self.spare_init(pid);
        self.watch_use(id);
        self.refill_later();
    }

    /// Starts the clock of a job's timeout, or goes on with the one that an earlier daemon started.
    pub(super) fn run_timeout(&mut self, id: JobId) {
        let Some(job) = self.table.get_mut(id) else { return };
        let Some(timeout) = job.spec.timeout else { return };
        let all = i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX);
        let at = *job.timeout_at_ns.get_or_insert_with(|| monotonic_ns().saturating_add(all));
        self.timers.set(instant_of(at), Timer::Timeout(id));
    }

    /// Has a running job sampled from now on; one of an earlier daemon too, whose samples then go on.
    pub(super) fn watch_use(&mut self, id: JobId) {
        let Some(job) = self.table.get_mut(id) else { return };
        let (Some(child), Some(group)) = (&job.child, &job.cgroup) else { return };
        let samples = job.samples.clone();
        self.sampler.watch(Watched {
            id,
            pid: child.pid,
            group: group.path().to_owned(),
            limits: job.spec.limits.clone(),
            dir: self.settings.spool.join(id.to_string()),
            publish: Box::new(move |bytes| samples.publish(bytes)),
        });
        job.samples_complete = false;
    }

    /// joblet-init must outlive the kernel's choice at the memory limit, to record it. Only now: the payload
    /// would have inherited the score. A tuning: without CAP_SYS_RESOURCE the kernel refuses, and
    /// `memory.events` still tells of the kill.
    fn spare_init(&mut self, pid: i32) {
        if let Err(why) = fs::write(format!("/proc/{pid}/oom_score_adj"), "-1000")
            && why.kind() == std::io::ErrorKind::PermissionDenied
            && !std::mem::replace(&mut self.oom_warned, true)
        {
            diag::event!(
                Level::Warn,
                "joblet-init cannot be spared by the kernel's out-of-memory killer",
                error = why,
                remedy = "give the daemon CAP_SYS_RESOURCE"
            );
        }
    }

    /// TERM to the payload (joblet-init forwards it to its process group), then the grace period.
    pub(super) fn terminate(&mut self, id: JobId) {
        let grace = self.settings.stop_grace;
        self.signal(id, Signal::TERM);
        self.timers.set(Instant::now() + grace, Timer::Grace(id));
    }

    /// Kills everything in the job, whatever it forked.
    pub(super) fn kill(&mut self, id: JobId) {
        let Some(job) = self.table.get_mut(id) else { return };
        if let Some(Err(why)) = job.cgroup.as_ref().map(|group| group.kill()) {
            diag::limited!(Level::Warn, "cannot kill a job's cgroup", jobId = id, error = why);
        }
        // With PID 1 the kernel kills its whole pid namespace, so this alone would do.
        self.signal(id, Signal::KILL);
    }

    fn signal(&mut self, id: JobId, signal: Signal) {
        let Some(child) = self.table.get_mut(id).and_then(|job| job.child.as_ref()) else { return };
        match pidfd_send_signal(&child.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(why) => diag::limited!(Level::Warn, "cannot signal a job", jobId = id, error = why),
        }
    }
}
