//! The local store of history: each job's output and samples as JSON lines in gzip files.
//!
//! ```text
//! <logs>/<uuid>/      stdout.log.gz  stderr.log.gz  stdout.idx  stderr.idx  job.json     (directory 0700, files 0600)
//!                     stdout.log.1.gz  stdout.1.idx ...       rotated away; 1 is the oldest
//! <metrics>/<uuid>/   metrics.jsonl.gz  metrics.idx
//! <logs>/.trash/  <metrics>/.trash/                           deleted, until somebody has time to unlink it
//! <state>/deleted/<uuid>                                      tombstones
//! ```
//!
//! **One record is one row of the spool** ([`record`]), so its sequence is unique in its job, or one sample. Records
//! stand in gzip members of 256 KiB ([`member`]), each of which says in its header which sequences, times, bytes and
//! lines it holds. Every gzip tool reads them. An index beside each file repeats the headers ([`sidecar`]); it is never
//! the truth and is made anew where it does not fit.
//!
//! # Writing
//!
//! A [`JobStore`] is opened behind the last whole member of each file, and repairs what a crash has torn. Rows are
//! *staged* ([`stage`]): what is stored already is skipped by offset and by sequence, so a caller that reads its spool
//! again after a crash doubles nothing. A *commit* makes members durable in a fixed order ([`job_files`]). When it
//! fails, the files are as they were, the stage is empty, and the caller begins behind [`JobStore::resume`] again: the
//! spool is the buffer, this room keeps none.
//!
//! ```text
//! let mut job = store.job(id)?;                              // repairs; creates nothing
//! let from = job.resume().through;                           // begin behind max(through, released by the spool)
//! job.stage.released(released);                             // rows that its spool has no longer
//! job.stage(&row, &bytes, &mut packer, level)?;              // each row of both streams in order
//! job.stage_sample(number, line, &mut packer, level)?;
//! job.commit(through, &mut packer, level)?;                  // durable, or nothing changed
//! job.end(ended_ns, rows, samples)?;                         // then the job is complete
//! job.files.pack(&mut packer)?;                              // many small members become few large ones
//! ```
//!
//! A thread may format while another one commits: [`JobStore::split`] gives the [`JobStage`] of the one and the
//! [`JobFiles`] of the other; a [`Batch`] passes between them, and [`commit_all`] stores those of several jobs at once.
//! One thread at a time writes a job.
//!
//! # Reading
//!
//! [`JobHistory`] reads what is durable, without a lock, while it grows, is rotated, packed or deleted: it keeps its
//! files open. It is an [`output::History`](crate::output::history::History) and a
//! [`metrics::SampleHistory`](crate::metrics::history::SampleHistory).
//!
//! # Bounds
//!
//! A stage holds less than half a megabyte of JSON for each series, and the compressed members of the commit to come,
//! whose size the caller decides. A reader holds one member of each stream, at most 1 MiB of JSON while it is read, and up
//! to three members that one thread of the store reads ahead ([`ahead`]); all readers together have 24 of those.
//! Files are open during a commit only. A file holds [`StoreLimits::log_bytes`], then the next one begins.
//!
//! This room knows neither sockets nor configuration files, and no threads but that one; times and paths are arguments.

mod ahead;
mod cache;
mod check;
mod disk;
mod error;
mod foreign;
mod gzip;
mod home;
mod job_files;
mod layout;
mod loaded;
mod log_file;
pub mod member;
mod names;
mod packing;
mod reader;
mod record;
mod resume;
mod retention;
mod sample;
mod segment;
mod series_reader;
mod sidecar;
mod stage;
mod trash;

use std::sync::Arc;
use std::time::SystemTime;

use crate::job::JobId;
use crate::metrics::history::{OpenSamples, SampleHistory};
use crate::output::history::{History, OpenHistory};
use crate::output::spool::Row;
use home::Homes;

use ahead::Ahead;

pub use check::{Problem, Report, check};
pub use error::StoreError;
pub use job_files::{Committed, JobFiles, StoreLimits, commit_all};
pub use layout::Layout;
use layout::job_dirs;
pub use log_file::Repaired;
pub use member::Packer;
pub use names::Kind;
pub use packing::Packed;
pub use reader::JobHistory;
pub use resume::{JobEnd, Resume};
pub use retention::{Expired, Expiry, Keep};
pub use stage::{Batch, JobStage};

/// The history of all jobs on this host.
#[derive(Debug, Clone)]
pub struct LocalStore {
    layout: Layout,
    limits: StoreLimits,
    homes: Homes,
    /// The thread of all readers.
    ahead: Arc<Ahead>,
}

impl LocalStore {
    /// A store in these directories, which it makes when it needs them.
    pub fn new(layout: Layout, limits: StoreLimits) -> LocalStore {
        let homes = Homes::of(&layout);
        LocalStore { layout, limits, homes, ahead: Arc::default() }
    }

    /// Opens a job's files for writing, and repairs their ends. Creates nothing before the first commit.
    ///
    /// # Errors
    /// The job is deleted, or a file cannot be opened or repaired.
    pub fn job(&self, id: JobId) -> Result<JobStore, StoreError> {
        if self.is_deleted(id) {
            return Err(StoreError::Deleted);
        }
        let (logs, metrics) = job_dirs(&self.layout, id);
        let tombstone = trash::tombstone(&self.layout.deleted(), id);
        self.homes.check(Kind::Stdout, &logs)?;
        let files = JobFiles::open(&logs, &metrics, tombstone, self.limits, self.homes)?;
        let stage = JobStage::new(id, &files.resume());
        Ok(JobStore { stage, files })
    }

    /// Opens a job's history for reading; `None`: it has none.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub fn history(&self, id: JobId) -> Result<Option<JobHistory>, StoreError> {
        JobHistory::open(&self.layout, id, &self.ahead, self.limits.foreign_text)
    }

    /// Opens histories of output for readers of the spool. A deleted job has none.
    pub fn open_history(&self) -> OpenHistory {
        let store = self.clone();
        Arc::new(move |id| {
            let opened = store.history(id).map_err(reader::unread)?;
            Ok(opened.map(|history| Box::new(history) as Box<dyn History>))
        })
    }

    /// Opens histories of samples for readers of the spool.
    pub fn open_samples(&self) -> OpenSamples {
        let store = self.clone();
        Arc::new(move |id| {
            let opened = store.history(id).map_err(reader::unread_sample)?;
            Ok(opened.map(|history| Box::new(history) as Box<dyn SampleHistory>))
        })
    }

    /// Deletes a job's history, for good: rows that come later are refused. The files go out of sight at once, and from
    /// the disk with [`LocalStore::empty_trash`]. A job without history is no error.
    ///
    /// # Errors
    /// The tombstone cannot be written, or a directory cannot be moved. Try again: every step may be done twice.
    pub fn delete(&self, id: JobId) -> Result<(), StoreError> {
        trash::bury(&self.layout.deleted(), id)?;
        trash::discard(&self.layout.logs, id)?;
        trash::discard(&self.layout.metrics, id)
    }

    /// Whether a job's history was deleted.
    pub fn is_deleted(&self, id: JobId) -> bool {
        trash::tombstone(&self.layout.deleted(), id).exists()
    }

    /// Begins a walk over all directories that moves those of old jobs into the trash.
    pub fn expiry(&self, keep: Keep) -> Expiry {
        Expiry::new(&self.layout.logs, &self.layout.metrics, keep)
    }

    /// Removes all deleted directories from the disk.
    ///
    /// # Errors
    /// A directory cannot be removed; the others are gone.
    pub fn empty_trash(&self) -> Result<(), StoreError> {
        trash::empty([&self.layout.logs, &self.layout.metrics])
    }

    /// Removes tombstones of more than 30 days whose jobs the daemon does not know any more, and returns their number.
    pub fn expire_tombstones(&self, now: SystemTime, known: &dyn Fn(JobId) -> bool) -> u64 {
        trash::expire_tombstones(&self.layout.deleted(), now, known)
    }
}

/// The store of one job: a stage and the files behind it.
#[derive(Debug)]
pub struct JobStore {
    /// Rows and samples on their way into members.
    pub stage: JobStage,
    /// The files of the job.
    pub files: JobFiles,
}

impl JobStore {
    /// The positions behind which the series go on.
    pub fn resume(&self) -> Resume {
        self.files.resume()
    }

    /// Formats a row, see [`JobStage::stage`].
    ///
    /// # Errors
    /// The row would leave a hole, or its bytes do not fit it.
    pub fn stage(
        &mut self,
        row: &Row,
        bytes: &[u8],
        packer: &mut Packer,
        level: u32,
    ) -> Result<(), StoreError> {
        self.stage.stage(row, bytes, packer, level)
    }

    /// Formats the line of a sample, see [`JobStage::stage_sample`].
    ///
    /// # Errors
    /// The line is no sample, or too long.
    pub fn stage_sample(
        &mut self,
        number: u64,
        line: &[u8],
        packer: &mut Packer,
        level: u32,
    ) -> Result<(), StoreError> {
        self.stage.stage_sample(number, line, packer, level)
    }

    /// Makes all that is staged durable. Then all rows up to `through` of both streams are stored.
    ///
    /// # Errors
    /// Nothing was stored and the stage is empty: begin again behind [`JobStore::resume`].
    pub fn commit(&mut self, through: u64, packer: &mut Packer, level: u32) -> Result<Committed, StoreError> {
        let batch = self.stage.take(through, packer, level);
        let done = self.files.commit(batch);
        if done.is_err() {
            self.stage.reset(&self.files.resume());
        }
        done
    }

    /// States that the job has ended and that all of it is stored, see [`JobFiles::end`].
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn end(&mut self, ended_ns: i64, rows: u64, samples: u64) -> Result<(), StoreError> {
        self.files.end(ended_ns, rows, samples)
    }

    /// The two halves, for two threads.
    pub fn split(self) -> (JobStage, JobFiles) {
        (self.stage, self.files)
    }
}

#[cfg(test)]
mod tests;
