//! The figures of this moment, for the metrics endpoint.

use super::request::Answer;
use crate::daemon::core::Core;
use crate::daemon::jobs::Job;
use crate::exporter::{Figures, JobFigures};
use crate::job::Status;

/// Answers with numbers alone, in a time that grows by the jobs that are not over.
pub(super) fn handle(core: &Core, answer: Answer<Figures>) {
    let mut jobs = Status::ALL.map(|status| (status.as_str(), core.jobs.ended_with(status) as u64));
    let mut running = Vec::new();
    for job in core.jobs.iter_live() {
        let status = job.status();
        if let Some((_, count)) = jobs.iter_mut().find(|(word, _)| *word == status.as_str()) {
            *count += 1;
        }
        if status == Status::Running && running.len() < core.settings.per_job {
            running.push(figures(job));
        }
    }
    let (live, over) = core.workflows.counts();
    let _ = answer.send(Ok(Figures {
        jobs: jobs.to_vec(),
        slots: core.slots.limit() as u64,
        warm: (core.pool.ready() as u64, core.pool.size() as u64),
        workflows: vec![("live", live as u64), ("over", over as u64)],
        output: core.streams.collector().totals(),
        audit: None,
        budgets: budgets(core),
        resolver: core.node.resolver.figures(),
        history: None,
        running,
        gpus: Vec::new(),
    }));
}

/// The bytes in use, of each limit.
fn budgets(core: &Core) -> Vec<(&'static str, u64, u64)> {
    let spooled = core.streams.collector().totals().spooled;
    let (waits, waits_most) = core.staging.backlog().used();
    let mut all = vec![("spool", spooled, core.settings.spool_limits.all), ("queue", waits, waits_most)];
    all.extend(core.jobs.kept());
    all
}

fn figures(job: &Job) -> JobFigures {
    let started = job.times.started_ns.unwrap_or(job.times.created_ns);
    JobFigures {
        id: job.id.to_string(),
        name: job.spec.name.clone(),
        started: started as f64 / 1e9,
        rows: job.output.watermark.look().0,
    }
}
