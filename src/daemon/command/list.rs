//! ListJobs: one page of jobs, oldest first.

use super::request::{Answer, JobPage, PAGE_BYTES, PAGE_MAX, Page};
use crate::daemon::core::Core;
use crate::daemon::jobs::Job;
use crate::job::{JobView, Status};

/// Jobs that the loop looks at for one page. Those of a filter may be the last of a hundred thousand.
const LOOK_MAX: usize = 10_000;

pub(super) fn handle(core: &Core, page: &Page, answer: Answer<JobPage>) {
    let view = |job: &Job| job.view(&core.slots);
    let has_ended = |status: &Status| {
        matches!(status, Status::Completed | Status::Failed | Status::Stopped | Status::Canceled)
    };
    let listed = if page.statuses.is_empty() || page.statuses.iter().any(has_ended) {
        list(core.jobs.after(page.after), page, view)
    } else {
        list(core.jobs.live_after(page.after), page, view)
    };
    let _ = answer.send(Ok(listed));
}

/// The page of these jobs, after a look at [`LOOK_MAX`] of them at most.
fn list<'j>(
    jobs: impl Iterator<Item = (u64, &'j Job)>,
    page: &Page,
    view: impl Fn(&Job) -> JobView,
) -> JobPage {
    let limit = if page.limit == 0 { PAGE_MAX } else { page.limit.min(PAGE_MAX) };
    let wanted = |job: &Job| page.statuses.is_empty() || page.statuses.contains(&job.status());
    let mut jobs = jobs.peekable();
    let (mut views, mut bytes, mut last) = (Vec::new(), 0, None);
    for _ in 0..LOOK_MAX {
        if views.len() >= limit || bytes >= PAGE_BYTES {
            break;
        }
        let Some((serial, job)) = jobs.next() else { break };
        last = Some(serial);
        if wanted(job) {
            bytes += job.spec.text_bytes();
            views.push((serial, view(job)));
        }
    }
    JobPage { jobs: views, next: last.filter(|_| jobs.peek().is_some()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::jobs::Slots;
    use crate::daemon::jobs::table::tests::{finished, running, table};

    /// A list of running jobs went through all jobs that are kept, in one turn of the loop.
    #[test]
    fn page_with_a_filter_ends_after_so_many_looks() {
        let (mut jobs, slots) = (table(), Slots::new(1));
        for n in 0..LOOK_MAX as i64 + 5 {
            finished(&mut jobs, n);
        }
        let late = running(&mut jobs);
        let view = |job: &Job| job.view(&slots);
        let asked = |after| Page { limit: 0, after, statuses: vec![Status::Running] };
        let page = list(jobs.after(0), &asked(0), view);
        assert_eq!((page.jobs.len(), page.next), (0, Some(LOOK_MAX as u64)));
        let page = list(jobs.after(LOOK_MAX as u64), &asked(LOOK_MAX as u64), view);
        assert_eq!((page.jobs[0].1.id, page.next), (late, None));
        // Those that are not over are found at once.
        let page = list(jobs.live_after(0), &asked(0), view);
        assert_eq!((page.jobs.len(), page.next), (1, None));
        let page = list(jobs.after(0), &Page { limit: 3, ..Page::default() }, view);
        assert_eq!((page.jobs.len(), page.next), (3, Some(3)));
    }
}
