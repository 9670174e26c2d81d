//! The thread that writes records.

use std::collections::BTreeMap;
use std::fmt;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use log::Level;

use super::workflow::{WorkflowChange, WorkflowChanges};
use super::{Database, Deletions, Record, StandingChange, StateError};
use crate::diag;
use crate::job::JobId;

/// Changes of one transaction, at most.
const BATCH: usize = 1024;
/// Time until a failed commit is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Quiet time before the log is moved into the database.
const QUIET: Duration = Duration::from_millis(250);
/// Commits after which the log is moved, as soon as it is quiet, and at the latest.
const COMMITS: (u32, u32) = (64, 512);
/// Time from a deletion until no file of the database holds the deleted records. Emptying the log writes all of its
/// space anew, so deletions within this time share one.
const ERASE: Duration = Duration::from_secs(30);

/// A task that runs on the writer's thread once a change is durable.
type WhenDurable = Box<dyn FnOnce() + Send>;

/// A task that hears whether a change of a network or a volume is durable, or why not.
type WhenDecided = Box<dyn FnOnce(Result<(), String>) + Send>;

/// A change to the database.
pub enum Change<T> {
    /// A job's newest record.
    Put {
        /// The whole record, which replaces the job's earlier one.
        record: Box<Record>,
        /// The number of this record among the job's records, counted up by the caller.
        version: u64,
        /// The caller's ticket, which comes back in the next [`Outcome`].
        ticket: T,
        /// Runs after the commit that makes the record durable (or a newer record of the same job), and before the
        /// outcome of that commit is reported. It never runs after a failed commit: it waits for the next one.
        durable: Option<WhenDurable>,
    },
    /// The end of the records of some jobs.
    Delete {
        /// Serials of the jobs whose records go.
        serials: Vec<u64>,
        /// Jobs whose history is to be deleted too, which outlives this process until [`Change::HistoryDeleted`].
        history: Vec<JobId>,
        /// Runs when the deletion is durable.
        done: WhenDurable,
    },
    /// The history of these jobs is deleted.
    HistoryDeleted(Vec<JobId>),
    /// A network or a volume is made or removed. A refused write is not tried again.
    Standing {
        /// The thing and whether it is there.
        change: StandingChange,
        /// Runs when that is durable or refused.
        decided: WhenDecided,
    },
    /// A change of a workflow, with the caller's ticket.
    Workflow(WorkflowChange, T),
}

impl<T> fmt::Debug for Change<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Put { record, version, .. } => write!(f, "Put({} {version})", record.id),
            Change::Delete { serials, .. } => write!(f, "Delete({serials:?})"),
            Change::HistoryDeleted(jobs) => write!(f, "HistoryDeleted({jobs:?})"),
            Change::Standing { change, .. } => write!(f, "Standing({change:?})"),
            Change::Workflow(change, _) => write!(f, "Workflow({change:?})"),
        }
    }
}

/// The result of one commit.
#[derive(Debug)]
pub struct Outcome<T> {
    /// Why the records are not durable, if they are not; the thread then tries again.
    pub trouble: Option<String>,
    /// Each job with the version of its record.
    pub records: Vec<(JobId, u64)>,
    /// The serial of each workflow with the version of its record.
    pub workflows: Vec<(u64, u64)>,
    /// The tickets of all puts since the last outcome, also of those that a newer record has replaced.
    pub tickets: Vec<T>,
}

/// Starts the thread, which ends when the senders are gone and every change that can be written is. `tell` receives the outcome
/// of each commit; `prepare` runs on the thread first.
///
/// # Errors
/// The thread cannot be started.
pub fn start<T: Send + 'static>(
    database: Database,
    prepare: impl FnOnce() + Send + 'static,
    tell: impl Fn(Outcome<T>) + Send + 'static,
) -> Result<(Sender<Change<T>>, JoinHandle<()>), StateError> {
    start_with(database, prepare, tell, ERASE)
}

/// The same with another time from a deletion until its traces are gone.
fn start_with<T: Send + 'static>(
    database: Database,
    prepare: impl FnOnce() + Send + 'static,
    tell: impl Fn(Outcome<T>) + Send + 'static,
    erase: Duration,
) -> Result<(Sender<Change<T>>, JoinHandle<()>), StateError> {
    // No bound of its own: each live job has a few changes under way, and admission bounds the jobs.
    let (changes, inbox) = crossbeam_channel::unbounded();
    let writer = Writer {
        erase,
        erase_at: database.has_traces().then(|| Instant::now() + erase),
        database,
        waiting: BTreeMap::new(),
        gone: Vec::new(),
        deletions: Deletions::default(),
        standing: Vec::new(),
        workflows: WorkflowChanges::default(),
        done: Vec::new(),
        commits: 0,
        tickets: Vec::new(),
    };
    let work = move || {
        prepare();
        writer.run(&inbox, &tell);
    };
    let thread = std::thread::Builder::new().name("state".into()).spawn(work).map_err(StateError::Thread)?;
    Ok((changes, thread))
}

/// A record that is not durable yet.
struct Pending {
    record: Box<Record>,
    version: u64,
    // The tasks of this record and of those that it replaced.
    durable: Vec<WhenDurable>,
}

/// The state of the writer's thread.
struct Writer<T> {
    database: Database,
    // Time from a deletion until its traces are gone.
    erase: Duration,
    // When deleted records must be gone from the log too.
    erase_at: Option<Instant>,
    // The newest record of each job, by serial.
    waiting: BTreeMap<u64, Pending>,
    gone: Vec<u64>,
    deletions: Deletions,
    // Changes of networks and volumes in their order; an undoing has nobody to hear of it, and is tried again.
    standing: Vec<(StandingChange, Option<WhenDecided>)>,
    workflows: WorkflowChanges,
    done: Vec<WhenDurable>,
    commits: u32,
    // One for each put since the last outcome.
    tickets: Vec<T>,
}

impl<T> Writer<T> {
    fn run(mut self, inbox: &Receiver<Change<T>>, tell: &dyn Fn(Outcome<T>)) {
        loop {
            let pending = self.is_pending();
            if !pending && self.erase_at.is_some_and(|at| at <= Instant::now()) {
                self.erase();
            }
            let wait = match (pending, self.commits >= COMMITS.0) {
                (true, _) => Some(Instant::now() + AGAIN),
                (false, true) => Some(Instant::now() + QUIET),
                (false, false) => None,
            };
            let first = match (wait, self.erase_at) {
                (None, None) => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                (Some(at), None) | (None, Some(at)) => inbox.recv_deadline(at),
                (Some(at), Some(erase_at)) => inbox.recv_deadline(at.min(erase_at)),
            };
            match first {
                Ok(change) => self.take(change),
                Err(RecvTimeoutError::Timeout) if pending => {}
                Err(RecvTimeoutError::Timeout) if self.erase_at.is_some_and(|at| at <= Instant::now()) => {
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.checkpoint();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            for change in inbox.try_iter().take(BATCH) {
                self.take(change);
            }
            self.write(tell);
            if self.commits >= COMMITS.1 {
                self.checkpoint();
            }
        }
        if self.is_pending() {
            self.write(tell);
        }
        // With the connection SQLite closes the log, and removes it.
        if self.commits > 0 || self.erase_at.is_some() {
            self.checkpoint();
        }
    }

    fn is_pending(&self) -> bool {
        let lists = self.waiting.is_empty() && self.gone.is_empty() && self.standing.is_empty();
        !lists || self.deletions != Deletions::default() || !self.workflows.is_empty()
    }

    fn take(&mut self, change: Change<T>) {
        match change {
            Change::Put { record, version, ticket, durable } => {
                self.tickets.push(ticket);
                let serial = record.serial;
                let replaced = self.waiting.remove(&serial).map(|pending| pending.durable);
                let durable = replaced.into_iter().flatten().chain(durable).collect();
                self.waiting.insert(serial, Pending { record, version, durable });
            }
            Change::HistoryDeleted(jobs) => {
                self.deletions.wanted.retain(|job| !jobs.contains(job));
                self.deletions.done.extend(jobs);
            }
            Change::Standing { change, decided } => self.standing.push((change, Some(decided))),
            Change::Workflow(change, ticket) => {
                self.tickets.push(ticket);
                self.workflows.take(change);
            }
            Change::Delete { serials, history, done } => {
                self.deletions.wanted.extend(history);
                for serial in &serials {
                    self.waiting.remove(serial);
                }
                self.gone.extend(serials);
                self.done.push(done);
            }
        }
    }

    fn write(&mut self, tell: &dyn Fn(Outcome<T>)) {
        let puts = self.waiting.iter().map(|(serial, put)| (*serial, put.record.as_ref())).collect();
        let standing: Vec<&StandingChange> = self.standing.iter().map(|(change, _)| change).collect();
        let written =
            self.database.write_with(&puts, &self.gone, &self.deletions, &standing, &self.workflows);
        let durable = written.and_then(|()| {
            self.commits += 1;
            self.database.sync()
        });
        self.decide(durable.as_ref().err().map(ToString::to_string));
        let records = self.waiting.values().map(|put| (put.record.id, put.version)).collect();
        let workflows = self.workflows.versions();
        if let Err(why) = &durable {
            diag::limited!(Level::Error, "cannot record jobs; trying again", error = why);
        } else {
            if !self.gone.is_empty() || self.workflows.removes() {
                let at = Instant::now() + self.erase;
                self.erase_at.get_or_insert(at);
            }
            self.gone.clear();
            self.deletions = Deletions::default();
            self.workflows = WorkflowChanges::default();
            let puts = std::mem::take(&mut self.waiting);
            let durable = puts.into_values().flat_map(|put| put.durable);
            durable.chain(self.done.drain(..)).for_each(|run| run());
        }
        let trouble = durable.err().map(|why| why.to_string());
        tell(Outcome { trouble, records, workflows, tickets: std::mem::take(&mut self.tickets) });
    }

    /// Tells whether changes of networks and volumes are durable. One that is not is undone: the database may have it, and its disk not.
    fn decide(&mut self, trouble: Option<String>) {
        for (change, decided) in std::mem::take(&mut self.standing) {
            match (&trouble, decided) {
                (None, decided) => drop(decided.map(|tell| tell(Ok(())))),
                (Some(why), Some(tell)) => {
                    tell(Err(why.clone()));
                    self.standing.push((change.undone(), None));
                }
                (Some(_), None) => self.standing.push((change, None)),
            }
        }
    }

    /// Empties the log. A failure is tried again later, with the next deletions.
    fn erase(&mut self) {
        (self.commits, self.erase_at) = (0, None);
        if let Err(why) = self.database.erase() {
            self.erase_at = Some(Instant::now() + self.erase.max(AGAIN));
            diag::limited!(
                Level::Warn,
                "deleted records are still in the log of the job database",
                error = why
            );
        }
    }

    fn checkpoint(&mut self) {
        self.commits = 0;
        if let Err(why) = self.database.checkpoint() {
            diag::limited!(Level::Warn, "cannot checkpoint the job database", error = why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Stage;
    use crate::state::database::tests::record;
    use std::sync::mpsc;

    /// The thread had nothing more to write, and the log kept the deleted record.
    #[test]
    fn quiet_thread_erases_what_was_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let (database, _) = Database::open(dir.path()).unwrap();
        let (told, outcomes) = mpsc::channel();
        let tell = move |outcome: Outcome<u8>| told.send(outcome.trouble).unwrap();
        let (changes, thread) = start_with(database, || {}, tell, Duration::from_millis(1)).unwrap();
        let record = Box::new(record(7, Stage::Queued));
        let id = record.id.to_string();
        let in_log = || {
            let log = std::fs::read(dir.path().join("state.db-wal")).unwrap();
            log.windows(id.len()).any(|window| window == id.as_bytes())
        };
        changes.send(Change::Put { record, version: 1, ticket: 1, durable: None }).unwrap();
        assert_eq!(outcomes.recv().unwrap(), None);
        assert!(in_log());
        let (deleted, gone) = mpsc::channel();
        changes
            .send(Change::Delete {
                serials: vec![7],
                history: vec![],
                done: Box::new(move || deleted.send(()).unwrap()),
            })
            .unwrap();
        gone.recv().unwrap();
        let start = Instant::now();
        while in_log() {
            assert!(start.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
        drop(changes);
        thread.join().unwrap();
    }

    #[test]
    fn replaced_puts_keep_their_tickets_and_tasks() {
        let dir = tempfile::tempdir().unwrap();
        let (database, _) = Database::open(dir.path()).unwrap();
        let (events, seen) = mpsc::channel();
        // The writer begins when all changes are in its queue, so that one commit takes them.
        let (begin, wait) = mpsc::channel::<()>();
        let outcomes = events.clone();
        let tell = move |outcome: Outcome<u8>| {
            let versions: Vec<u64> = outcome.records.iter().map(|(_, version)| *version).collect();
            outcomes.send(format!("{:?} {versions:?} {:?}", outcome.trouble, outcome.tickets)).unwrap();
        };
        let (changes, thread) = start(database, move || _ = wait.recv(), tell).unwrap();
        for (serial, version, ticket) in [(1, 1, 10), (2, 7, 20), (1, 2, 11), (3, 1, 30)] {
            let events = events.clone();
            let durable: WhenDurable = Box::new(move || events.send(format!("durable {ticket}")).unwrap());
            let record = Box::new(record(serial, Stage::Queued));
            changes.send(Change::Put { record, version, ticket, durable: Some(durable) }).unwrap();
        }
        // The record of this job never becomes durable.
        let gone = events.clone();
        let done = Box::new(move || gone.send("deleted".to_owned()).unwrap());
        changes.send(Change::Delete { serials: vec![3], history: vec![], done }).unwrap();
        drop((begin, changes, events));
        thread.join().unwrap();
        let seen: Vec<String> = seen.iter().collect();
        assert_eq!(
            seen,
            ["durable 10", "durable 11", "durable 20", "deleted", "None [2, 7] [10, 20, 11, 30]"]
        );
        assert_eq!(Database::open(dir.path()).unwrap().1.len(), 2);
    }

    #[test]
    fn network_that_cannot_be_written_is_refused_and_undone() {
        let dir = tempfile::tempdir().unwrap();
        let (database, _) = Database::open(dir.path()).unwrap();
        let mut writer = Writer::<u8> {
            database,
            erase: ERASE,
            erase_at: None,
            waiting: BTreeMap::new(),
            gone: Vec::new(),
            deletions: Deletions::default(),
            workflows: WorkflowChanges::default(),
            standing: Vec::new(),
            done: Vec::new(),
            commits: 0,
            tickets: Vec::new(),
        };
        let network = crate::state::StoredNetwork {
            name: "lab".parse().unwrap(),
            cidr: "10.50.0.0/16".into(),
            internal: false,
            created_ns: 1,
        };
        let (tell, heard) = mpsc::channel();
        let decided: WhenDecided = Box::new(move |decided| tell.send(decided).unwrap());
        let change = StandingChange::from(crate::state::NetworkChange { network, is_there: true });
        writer.take(Change::Standing { change: change.clone(), decided });
        writer.decide(Some("no space".into()));
        assert_eq!(heard.recv().unwrap(), Err("no space".into()));
        assert!(writer.is_pending() && writer.standing[0].0 == change.undone());
        writer.decide(Some("no space".into()));
        assert!(writer.is_pending(), "the undoing is tried again");
        writer.decide(None);
        assert!(!writer.is_pending());
    }
}
