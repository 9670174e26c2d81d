//! ListJobs: one page of jobs, oldest first.

use super::request::{Answer, JobPage, PAGE_BYTES, PAGE_MAX, Page};
use crate::daemon::core::Core;
use crate::daemon::jobs::Job;

pub(super) fn handle(core: &Core, page: &Page, answer: Answer<JobPage>) {
    let _ = answer.send(Ok(list(core, page)));
}

fn list(core: &Core, page: &Page) -> JobPage {
    let limit = if page.limit == 0 { PAGE_MAX } else { page.limit.min(PAGE_MAX) };
    let wanted = |job: &Job| page.statuses.is_empty() || page.statuses.contains(&job.status());
    let mut jobs = core.jobs.after(page.after).filter(|(_, job)| wanted(job)).peekable();
    let (mut views, mut bytes) = (Vec::new(), 0);
    while views.len() < limit
        && bytes < PAGE_BYTES
        && let Some((serial, job)) = jobs.next()
    {
        bytes += job.spec.text_bytes();
        views.push((serial, job.view(&core.slots)));
    }
    JobPage { jobs: views, more: jobs.peek().is_some() }
}
