//! The bytes of a job: from its pipes into files, and from the files to any number of readers.
//!
//! A thread of its own ([`collector`]) watches the read ends of all jobs' output pipes and moves what comes by
//! splice(2) into the job's *spool*: one raw file per stream and an index of what came when. Bytes are never
//! held in the daemon's memory, so a killed daemon loses none: they are in a file or still in the pipe, whose
//! read end joblet-init keeps too. Readers ([`reader`]) have a cursor into the index and go at their own
//! pace, through all of it or the part they want ([`cursor`]); history and live output are the same files, so there
//! is no seam between them. A job is slowed by its own flood only (its pipe stays full), never by a reader.
//!
//! What unfinished jobs keep here has limits ([`limit`]): one that reaches them waits with its pipe full, or loses
//! what it writes (counted, in its place), or is ended. A full disk makes jobs wait too.
//!
//! The loop is not on this path: it learns when a job's output is complete. That is one hop less per chunk
//! than handing each readable pipe from the loop to a worker, and keeps file writes off the loop.
//!
//! # Spool format, version 1
//!
//! `<dataDir>/spool/<uuid>/` (0700) holds `stdout`, `stderr` and `index` (0600). The index starts with the 32
//! bytes of [`spool::HEADER`]; each row is 32 bytes, little endian: sequence (u64, from 1 across both
//! streams), offset in the stream's file (u64), time of reading (i64, ns since the epoch), length (u32),
//! stream (u8: 1 stdout, 2 stderr), kind (u8), two zero bytes. The kind is 0 for bytes, and 1 for a gap: so many bytes
//! as the second number says were thrown away here, and the length is 0. Who does not know gaps reads no bytes there.
//! Bytes behind the last row are a chunk whose daemon died
//! between splice and row; the next daemon writes that row ([`SpoolWriter::reopen`]).

pub mod collector;
pub mod cursor;
mod cutter;
pub mod limit;
pub mod lines;
pub mod log_stream;
pub mod query;
pub mod reader;
mod reopen;
pub mod spool;
mod tail;
pub mod watermark;

use std::io;
use std::path::PathBuf;

use crate::diag::disk_remedy;

pub use collector::{Collector, CollectorEvent, JobOutput};
pub use cursor::LogCursor;
pub use limit::{Full, SpoolLimits};
pub use log_stream::LogStream;
pub use query::LogQuery;
pub use reader::{Chunk, SpoolReader};
pub use spool::SpoolWriter;

pub use watermark::Watermark;

/// One of a job's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Stream {
    /// Number in the index and on the wire: 1 or 2.
    pub fn number(self) -> u8 {
        match self {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        }
    }

    /// Place in a pair of both.
    fn place(self) -> usize {
        usize::from(self.number() - 1)
    }

    /// File name in the spool.
    pub fn file_name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// What went wrong with a job's output.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The spool could not be made.
    #[error("cannot make the spool {path}: {source}; {}", disk_remedy(source))]
    Create {
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The spool could not be read.
    #[error("cannot read the spool {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The spool of an earlier daemon could not be taken over.
    #[error("cannot go on with the spool {path}: {source}")]
    Reopen {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The index is of another version, or no index.
    #[error("cannot read the spool {path}: it is not a spool index of version 1")]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// The collector thread could not be started.
    #[error("cannot start the output collector: {0}")]
    Collector(io::Error),
}
