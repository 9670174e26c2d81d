//! Removals of many finished jobs, a slice in each turn of the loop: those of DeleteAllJobs, and those that are too old.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::kept::End;
use super::{Job, JobTable};
use crate::daemon::command::request::{Answer, Deleted};
use crate::job::JobId;

/// The jobs that are still to be removed.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Sweep {
    deletion: Option<Deletion>,
    /// Callers that came meanwhile: they share the next deletion, because jobs have ended since this one began. As many as
    /// calls are open.
    next: Vec<Answer<Deleted>>,
    before_ns: Option<i64>,
}

/// One DeleteAllJobs under way.
#[derive(Debug)]
struct Deletion {
    callers: Arc<Callers>,
    /// The last job that was looked at, in the order of ends.
    after: Option<End>,
    /// The last job that had ended when it began.
    last: Option<End>,
    in_use: usize,
}

/// Callers of DeleteAllJobs, whom the last removal answers.
#[derive(Debug)]
pub(in crate::daemon) struct Callers {
    answers: Vec<Answer<Deleted>>,
    deleted: AtomicUsize,
    skipped: AtomicUsize,
    history_stays: AtomicBool,
}

/// Jobs to be removed now.
#[derive(Debug)]
pub(in crate::daemon) struct Slice {
    /// The jobs that go.
    pub(in crate::daemon) ids: Vec<JobId>,
    /// How many were looked at.
    pub(in crate::daemon) looked_at: usize,
    /// The callers to answer when nothing is left of them.
    pub(in crate::daemon) callers: Arc<Callers>,
}

impl Sweep {
    /// Has all finished jobs deleted.
    pub(in crate::daemon) fn delete_all(&mut self, answer: Answer<Deleted>) {
        self.next.push(answer);
    }

    /// Has jobs and workflows forgotten that ended before.
    pub(in crate::daemon) fn expire(&mut self, before_ns: i64) {
        self.before_ns = Some(before_ns);
    }

    /// A job that ended before is too old; `None`: nothing is left of that.
    pub(in crate::daemon) fn before_ns(&self) -> Option<i64> {
        self.before_ns
    }

    /// Nothing is left of what is too old.
    pub(in crate::daemon) fn has_expired(&mut self) {
        self.before_ns = None;
    }

    /// Whether something is to be removed.
    pub(in crate::daemon) fn is_busy(&self) -> bool {
        self.deletion.is_some() || !self.next.is_empty() || self.before_ns.is_some()
    }

    /// The next jobs that go, after a look at `most` at most. Those in use stay. `None`: nobody wants any deleted.
    pub(in crate::daemon) fn slice(
        &mut self,
        jobs: &JobTable,
        in_use: impl Fn(&Job) -> bool,
        most: usize,
    ) -> Option<Slice> {
        if self.deletion.is_none() && !self.next.is_empty() {
            let callers = Callers {
                answers: std::mem::take(&mut self.next),
                deleted: AtomicUsize::new(0),
                skipped: AtomicUsize::new(0),
                history_stays: AtomicBool::new(false),
            };
            let (callers, last) = (Arc::new(callers), jobs.last_end());
            self.deletion = Some(Deletion { callers, after: None, last, in_use: 0 });
        }
        let deletion = self.deletion.as_mut()?;
        let (mut ids, mut looked_at) = (Vec::new(), 0);
        let mut rest = jobs.ended_after(deletion.after).take_while(|(end, _)| Some(*end) <= deletion.last);
        for (end, job) in rest.by_ref().take(most) {
            (deletion.after, looked_at) = (Some(end), looked_at + 1);
            if in_use(job) {
                deletion.in_use += 1;
            } else {
                ids.push(job.id);
            }
        }
        let callers = deletion.callers.clone();
        callers.deleted.fetch_add(ids.len(), Ordering::Relaxed);
        if rest.next().is_none() {
            callers.skipped.store(jobs.live() + deletion.in_use, Ordering::Relaxed);
            self.deletion = None;
        }
        Some(Slice { ids, looked_at, callers })
    }
}

impl Callers {
    /// Nothing is left of a slice; `history_gone`: of its history neither. The last one to say so answers.
    pub(in crate::daemon) fn removed(self: Arc<Self>, history_gone: bool) {
        self.history_stays.fetch_or(!history_gone, Ordering::Relaxed);
        let Some(all) = Arc::into_inner(self) else { return };
        let count = |number: AtomicUsize| u32::try_from(number.into_inner()).unwrap_or(u32::MAX);
        let deleted = Deleted {
            deleted: count(all.deleted),
            skipped: count(all.skipped),
            history_gone: !all.history_stays.into_inner(),
        };
        for answer in all.answers {
            let _ = answer.send(Ok(deleted));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_channel::oneshot::channel;

    use super::super::table::tests::{finished, running, table};
    use super::*;

    /// DeleteAllJobs removed a hundred thousand jobs in one turn of the loop.
    #[test]
    fn delete_all_goes_slice_by_slice_and_answers_at_the_end() {
        let mut jobs = table();
        let ids: Vec<JobId> = (0..10).map(|n| finished(&mut jobs, n)).collect();
        running(&mut jobs);
        let mut sweep = Sweep::default();
        assert!(sweep.slice(&jobs, |_| false, 4).is_none() && !sweep.is_busy());
        let (answer, mut first) = channel();
        sweep.delete_all(answer);
        let mut slices = vec![sweep.slice(&jobs, |job| job.id == ids[1], 4).unwrap()];
        assert_eq!((slices[0].ids.len(), slices[0].looked_at), (3, 4));
        // Another call comes, and a job ends, while the first deletion is under way.
        let (answer, mut second) = channel();
        sweep.delete_all(answer);
        let late = finished(&mut jobs, 99);
        let gone =
            |jobs: &mut JobTable, slice: &Slice| slice.ids.iter().for_each(|id| drop(jobs.remove(*id)));
        gone(&mut jobs, &slices[0]);
        while slices.iter().map(|slice| slice.ids.len()).sum::<usize>() < 9 {
            let slice = sweep.slice(&jobs, |job| job.id == ids[1], 4).unwrap();
            assert!(slice.looked_at <= 4);
            gone(&mut jobs, &slice);
            slices.push(slice);
        }
        assert!(slices.iter().all(|slice| !slice.ids.contains(&late)), "it had not ended then");
        let last = slices.pop().unwrap();
        slices.into_iter().for_each(|slice| slice.callers.removed(true));
        assert!(first.try_recv().unwrap().is_none(), "its last removal is under way");
        last.callers.removed(false);
        let told = first.try_recv().unwrap().unwrap().unwrap();
        assert_eq!(told, Deleted { deleted: 9, skipped: 2, history_gone: false });
        let slice = sweep.slice(&jobs, |_| false, 4).unwrap();
        assert_eq!((slice.ids.as_slice(), sweep.is_busy()), (&[ids[1], late][..], false));
        slice.callers.removed(true);
        let told = second.try_recv().unwrap().unwrap().unwrap();
        assert_eq!(told, Deleted { deleted: 2, skipped: 1, history_gone: true });
    }
}
