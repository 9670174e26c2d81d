//! Records of jobs: the version sent to the disk, the version that is there, and how many writes are under way. The thread that
//! writes them is `state::writer`.

use std::cell::RefCell;

use crossbeam_channel::Sender;
use log::Level;

use super::jobs::Job;
use super::standing_store::{PendingWrite, StandingStore};
use super::token::Counter;
use crate::diag;
use crate::job::{JobId, State};
use crate::state::{Change, Record, WorkflowChange, intent};
use crate::sys::clock::now_ns;

/// The loop's side of the records.
#[derive(Debug)]
pub(super) struct Ledger {
    // `None`: records are kept in memory only.
    changes: Option<Sender<Change<PendingWrite>>>,
    pending: Counter,
    boot: String,
    /// Changes that are to be sent together, while somebody collects them.
    collected: RefCell<Option<Vec<Change<PendingWrite>>>>,
}

/// What [`Ledger::put`] did with a record.
#[derive(Debug)]
pub(super) enum Put {
    /// It is on its way to the disk; an outcome will come.
    OnItsWay(Box<Record>),
    /// Jobs are remembered in memory only: it is as durable as it gets.
    InMemory,
}

impl Ledger {
    /// Sends records to the thread that reads `changes`. Each live job has a few of them under way, and admission bounds
    /// the jobs.
    pub(super) fn new(changes: Option<Sender<Change<PendingWrite>>>) -> Self {
        Ledger { changes, pending: Counter::default(), boot: boot_id(), collected: RefCell::new(None) }
    }

    /// Whether jobs are remembered on disk.
    pub(super) fn is_on_disk(&self) -> bool {
        self.changes.is_some()
    }

    /// Tells this boot of the host from all others.
    pub(super) fn boot(&self) -> &str {
        &self.boot
    }

    /// Records whose outcome has not come yet.
    pub(super) fn pending(&self) -> usize {
        self.pending.count()
    }

    /// Has a job's record written as it is now.
    pub(super) fn put(&mut self, job: &mut Job) -> Put {
        if matches!(job.state, State::Recording(_)) {
            job.times.ended_ns.get_or_insert_with(now_ns);
        }
        let version = job.durability.next_version();
        let Some(changes) = &self.changes else {
            job.durability.is_in_memory();
            return Put::InMemory;
        };
        let record = Box::new(job.to_record(&self.boot));
        // The intent in the exit file would bring back a job that is deleted after its end: it goes when the end is
        // durable, which is before anybody can delete the job.
        let ended = matches!(job.state, State::Recording(_));
        let void = job.held.exit_file.as_ref().filter(|_| ended).map(|file| file.as_path().to_owned());
        let change = Change::Put {
            record: record.clone(),
            version,
            ticket: PendingWrite::new(self.pending.token()),
            durable: void.map(|path| Box::new(move || intent::void(&path)) as _),
        };
        self.send(changes, change);
        Put::OnItsWay(record)
    }

    /// Has the records of jobs removed by their serials; `done` is called when that is durable. That the history of some
    /// jobs is to be deleted is remembered then too.
    pub(super) fn delete(
        &self,
        serials: Vec<u64>,
        history: Vec<JobId>,
        done: impl FnOnce() + Send + 'static,
    ) {
        match &self.changes {
            None => done(),
            Some(changes) => self.send(changes, Change::Delete { serials, history, done: Box::new(done) }),
        }
    }

    /// The history of these jobs is deleted: nobody needs to remember it.
    pub(super) fn history_deleted(&self, jobs: Vec<JobId>) {
        if let Some(changes) = &self.changes {
            self.send(changes, Change::HistoryDeleted(jobs));
        }
    }

    /// Has a change of a workflow written; `false`: workflows are remembered in memory only, and no outcome will come.
    pub(super) fn put_workflow(&self, change: WorkflowChange) -> bool {
        let Some(changes) = &self.changes else { return false };
        self.send(changes, Change::Workflow(change, PendingWrite::new(self.pending.token())));
        true
    }

    /// The way in which another thread has networks or volumes recorded.
    pub(super) fn standing(&self) -> StandingStore {
        StandingStore::new(self.changes.clone())
    }

    /// Holds changes back until [`Ledger::send_collected`]: many in one turn of the loop, which one commit is to take. The
    /// thread would begin with the first one.
    pub(super) fn collect(&self) {
        self.collected.borrow_mut().get_or_insert_default();
    }

    /// Sends the changes that were held back, in their order.
    pub(super) fn send_collected(&self) {
        let collected = self.collected.borrow_mut().take().unwrap_or_default();
        if let Some(changes) = &self.changes {
            collected.into_iter().for_each(|change| self.send(changes, change));
        }
    }

    fn send(&self, changes: &Sender<Change<PendingWrite>>, change: Change<PendingWrite>) {
        if let Some(collected) = &mut *self.collected.borrow_mut() {
            collected.push(change);
            return;
        }
        if changes.send(change).is_err() {
            diag::limited!(Level::Error, "the state thread is gone");
        }
    }
}

/// Tells this boot from all others (proc_sys_kernel(5), random/boot_id).
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
