//! The writer of a lane: commits in the order of the worker's steps, and deletions.

use std::collections::HashMap;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use log::Level;

use super::event::{Item, LaneEvent, Step};
use crate::diag;
use crate::job::JobId;
use crate::persist::frame::Reached;
use crate::persist::janitor::StoreTask;
use crate::persist::store::{JobFiles, LocalStore, StoreError, commit_all};
use crate::sys::mailbox::Mailbox;
use crate::sys::thread::be_nice;

/// The files of one job that is open.
struct Files {
    files: Box<JobFiles>,
    /// Rows of the spool that they hold.
    rows: u64,
    /// A commit failed: what was read behind it does not count.
    failed: bool,
}

/// The writer of one lane.
pub(super) struct Writer {
    store: LocalStore,
    events: Mailbox<LaneEvent>,
    jobs: HashMap<JobId, Files>,
    store_tasks: Sender<StoreTask>,
}

/// How long a deletion that failed waits before it is tried again.
const DELETE_AGAIN: Duration = Duration::from_secs(1);

impl Writer {
    /// A writer into this store. Its events go into the mailbox, what is to be packed or removed into the channel.
    pub(super) fn new(
        store: LocalStore,
        events: Mailbox<LaneEvent>,
        store_tasks: Sender<StoreTask>,
    ) -> Writer {
        Writer { store, events, jobs: HashMap::new(), store_tasks }
    }

    /// Carries out the steps of the worker until that has ended.
    pub(super) fn run(mut self, queue: &Receiver<Step>) {
        be_nice();
        // Deletions that failed: a full or broken disk may come round.
        let mut undone: Vec<JobId> = Vec::new();
        loop {
            let step = if undone.is_empty() {
                queue.recv().map_err(|_| crossbeam_channel::RecvTimeoutError::Disconnected)
            } else {
                queue.recv_timeout(DELETE_AGAIN)
            };
            match step {
                Ok(Step::Open(job, files, rows)) => {
                    self.jobs.insert(job, Files { files, rows, failed: false });
                }
                Ok(Step::Group(items)) => self.commit(items),
                Ok(Step::Close(job)) => drop(self.jobs.remove(&job)),
                Ok(Step::Again(job, answer)) => {
                    if let Some(open) = self.jobs.get_mut(&job) {
                        open.failed = false;
                        let _ = answer.send((open.files.resume(), open.rows));
                    }
                }
                Ok(Step::Reached(answer)) => drop(answer),
                Ok(Step::Delete(job)) => {
                    self.jobs.remove(&job);
                    undone.push(job);
                }
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => break,
            }
            undone.retain(|job| !self.delete(*job));
        }
    }

    fn delete(&self, job: JobId) -> bool {
        match self.store.delete(job) {
            Ok(()) => {
                let _ = self.events.send(LaneEvent::Deleted(job));
                let _ = self.store_tasks.send(StoreTask::Trash);
                true
            }
            Err(why) => {
                diag::limited!(Level::Error, "cannot delete history; trying again", jobId = job, error = why);
                false
            }
        }
    }

    fn commit(&mut self, items: Vec<Item>) {
        let taken = items.iter().map(|item| item.pieces).sum();
        let mut wanted = HashMap::new();
        for item in items {
            wanted.insert(item.job, item);
        }
        let (mut notes, mut group) = (Vec::new(), Vec::new());
        for (job, open) in &mut self.jobs {
            // Parts that were read before a failed commit are read again.
            let Some(Item { batch, reached, is_recut, end, .. }) = wanted.remove(job) else { continue };
            if !open.failed {
                notes.push((*job, reached, is_recut, end));
                group.push((open.files.as_mut(), batch));
            }
        }
        let (mut whole, mut failed, mut held) = (Vec::new(), Vec::new(), Vec::new());
        let mut results = Vec::with_capacity(group.len());
        commit_all(&mut group, |n, result| results.push((n, result)));
        for (n, result) in results {
            let Some((job, reached, is_recut, end)) = notes.get(n).copied() else { continue };
            let files = &mut group[n].0;
            if result.is_ok() {
                held.push((job, reached.rows));
            }
            let ended = result.and_then(|committed| {
                if let Some((end, samples)) = end {
                    files.end(end.ended_ns, reached.rows, samples)?;
                }
                Ok(committed)
            });
            let event = match ended {
                Ok(committed) => {
                    whole.extend(end.map(|_| job));
                    let rows = if is_recut { 0 } else { reached.rows };
                    let stored = Reached { rows, ..reached };
                    LaneEvent::Stored { job, stored, complete: end.is_some(), committed }
                }
                Err(StoreError::Deleted) => LaneEvent::Dropped(job),
                Err(why) => {
                    failed.push(job);
                    LaneEvent::Failed { job, why: why.to_string() }
                }
            };
            let _ = self.events.send(event);
        }
        if taken > 0 {
            let _ = self.events.send(LaneEvent::Taken(taken));
        }
        for (job, rows) in held {
            if let Some(open) = self.jobs.get_mut(&job) {
                open.rows = rows;
            }
        }
        for job in failed {
            if let Some(open) = self.jobs.get_mut(&job) {
                open.failed = true;
            }
        }
        for job in whole {
            // Nobody writes them any more: they may be packed.
            if let Some(open) = self.jobs.remove(&job) {
                let _ = self.store_tasks.send(StoreTask::Pack(open.files));
            }
        }
    }
}
