//! The thread that writes records.

use std::collections::BTreeMap;
use std::fmt;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use log::Level;

use super::{Database, Record, StateError};
use crate::diag;
use crate::job::JobId;

/// Changes of one transaction, at most.
const BATCH: usize = 1024;
/// How long until what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Quiet time before the log is moved into the database.
const QUIET: Duration = Duration::from_millis(250);
/// Commits after which the log is moved, as soon as it is quiet, and at the latest.
const COMMITS: (u32, u32) = (64, 512);

/// Something to write.
pub enum Change {
    /// A job's newest record. `version` counts the job's records.
    Put {
        /// It.
        record: Box<Record>,
        /// Which one of the job's.
        version: u64,
    },
    /// Jobs that are forgotten, by serial.
    Delete {
        /// Which.
        serials: Vec<u64>,
        /// Called when that is durable.
        done: Box<dyn FnOnce() + Send>,
    },
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Put { record, version, .. } => write!(f, "Put({} {version})", record.id),
            Change::Delete { serials, .. } => write!(f, "Delete({serials:?})"),
        }
    }
}

/// What became of the records of a batch.
#[derive(Debug)]
pub struct Outcome {
    /// Why they are not durable, if they are not; they are tried again then.
    pub trouble: Option<String>,
    /// Each job with the version of its record.
    pub records: Vec<(JobId, u64)>,
    /// Records that were asked for since the last outcome: all of them, also those that a newer one replaced.
    pub answered: usize,
}

/// Starts the thread, which ends when the senders are gone and all is written that can be. `tell` hears of each batch;
/// `prepare` runs on the thread first.
///
/// # Errors
/// No thread.
pub fn start(
    database: Database,
    prepare: impl FnOnce() + Send + 'static,
    tell: impl Fn(Outcome) + Send + 'static,
) -> Result<(Sender<Change>, JoinHandle<()>), StateError> {
    // No bound of its own: each live job has a few changes under way, and admission bounds the jobs.
    let (changes, inbox) = crossbeam_channel::unbounded();
    let writer = Writer {
        database,
        waiting: BTreeMap::new(),
        gone: Vec::new(),
        done: Vec::new(),
        commits: 0,
        asked: 0,
    };
    let work = move || {
        prepare();
        writer.run(&inbox, &tell);
    };
    let thread = std::thread::Builder::new().name("state".into()).spawn(work).map_err(StateError::Thread)?;
    Ok((changes, thread))
}

/// The thread's own things.
pub struct Writer {
    database: Database,
    // What is not durable yet, newest records only.
    waiting: BTreeMap<u64, (Box<Record>, u64)>,
    gone: Vec<u64>,
    done: Vec<Box<dyn FnOnce() + Send>>,
    commits: u32,
    asked: usize,
}

impl Writer {
    fn run(mut self, inbox: &Receiver<Change>, tell: &dyn Fn(Outcome)) {
        loop {
            let pending = !self.waiting.is_empty() || !self.gone.is_empty();
            let first = match (pending, self.commits >= COMMITS.0) {
                (true, _) => inbox.recv_deadline(Instant::now() + AGAIN),
                (false, true) => inbox.recv_timeout(QUIET),
                (false, false) => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match first {
                Ok(change) => self.take(change),
                Err(RecvTimeoutError::Timeout) if pending => {}
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
        if !self.waiting.is_empty() {
            self.write(tell);
        }
        if self.commits > 0 {
            self.checkpoint();
        }
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Put { record, version } => {
                self.asked += 1;
                self.waiting.insert(record.serial, (record, version));
            }
            Change::Delete { serials, done } => {
                for serial in &serials {
                    self.waiting.remove(serial);
                }
                self.gone.extend(serials);
                self.done.push(done);
            }
        }
    }

    fn write(&mut self, tell: &dyn Fn(Outcome)) {
        let puts = self.waiting.iter().map(|(serial, (record, _))| (*serial, record.as_ref())).collect();
        let written = self.database.write(&puts, &self.gone);
        let durable = written.and_then(|()| {
            self.commits += 1;
            self.database.sync()
        });
        let records = self.waiting.values().map(|(record, version)| (record.id, *version)).collect();
        if let Err(why) = &durable {
            diag::limited!(Level::Error, "cannot record jobs; trying again", error = why);
        } else {
            self.waiting.clear();
            self.gone.clear();
            for done in self.done.drain(..) {
                done();
            }
        }
        let trouble = durable.err().map(|why| why.to_string());
        tell(Outcome { trouble, records, answered: std::mem::take(&mut self.asked) });
    }

    fn checkpoint(&mut self) {
        self.commits = 0;
        if let Err(why) = self.database.checkpoint() {
            diag::limited!(Level::Warn, "cannot tidy up the job database", error = why);
        }
    }
}
