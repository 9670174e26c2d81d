//! The output of a job: from its pipes into files, and from the files to any number of readers.
//!
//! The [`collector`]'s thread watches the read ends of all jobs' output pipes. It moves their bytes by splice(2) into the
//! job's *spool*: one raw file for each stream, and an index that says which bytes came when. The daemon never holds
//! output in its memory, so a killed daemon loses none: the bytes are in a file, or still in the pipe, whose read end
//! joblet-init keeps too. Each reader ([`log_stream`]) has a [`cursor`] into the index and reads all of it or the part
//! that it wants at its own pace. Only its own flood slows a job down (its pipe stays full), never a reader.
//!
//! The spool is the history of a job's output, or a buffer before another store that is ([`history`]). Rows that are
//! durable there are released ([`release`](mod@release)): their bytes leave the disk, and no longer count for the limits.
//! Readers take released rows from the store and the others from the spool, and join both by sequences and offsets
//! ([`joined`]).
//!
//! A call on a pipe may take as long as its job likes: then another thread goes on with all other pipes, and the job is
//! ended after two seconds ([`handoff`]).
//!
//! The output of unfinished jobs has limits ([`limit`]). A job that reaches one waits with its pipe full, or loses what
//! it writes (counted, in its place), or is stopped. A full disk makes jobs wait too.
//!
//! The loop is not on this path: it learns only when a job's output is complete. This saves the hop of each readable
//! pipe from the loop to a worker, and keeps file writes off the loop.
//!
//! # Spool format, version 1
//!
//! `<dataDir>/spool/<uuid>/` (0700) holds `stdout`, `stderr` and `index` (0600). The index starts with the 32
//! bytes of [`spool::HEADER`], whose last 8 are the number of released rows (u64; [`header`] tells what else they
//! change) and whose 22nd is 1 in a ring; each row is 32 bytes, little endian: sequence (u64, from 1 across both
//! streams), offset in the stream's file (u64), time of reading (i64, ns since the epoch), length (u32),
//! stream (u8: 1 stdout, 2 stderr), kind (u8), two zero bytes. The kind is 0 for bytes and 1 for a gap. In the row of
//! a gap the second number counts the bytes that were discarded here, and the length is 0: readers that predate gaps
//! see a row without bytes. Bytes behind the last row are a chunk whose daemon died between splice and row; the next
//! daemon writes that row ([`SpoolWriter::reopen`]).

mod collection;
pub mod collector;
pub mod cursor;
mod cutter;
mod handoff;
pub mod header;
pub mod history;
mod job_output;
mod joined;
pub mod limit;
pub mod lines;
pub mod log_stream;
mod pause;
mod pipe_call;
pub mod query;
mod reader;
pub mod release;
mod reopen;
pub mod ring;
mod row;
pub mod spool;
mod tail;
mod totals;
mod watermark;

use std::io;
use std::path::PathBuf;

use crate::diag::disk_remedy;

pub use collector::Collector;
pub use cursor::LogCursor;
pub use header::Header;
pub use history::{History, OpenHistory};
pub use job_output::{CollectorEvent, JobOutput, Release};
pub use joined::{Chunk, JobHistory, OutputReader};
pub use limit::{Full, SpoolLimits};
pub use log_stream::{LogItem, LogStream};
pub use query::LogQuery;
pub use release::release;
pub use row::{INDEX, Row, Span};
pub use spool::SpoolWriter;
pub use totals::Totals;
pub use watermark::Watermark;

/// One of the two output streams of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, descriptor 1.
    Stdout,
    /// Standard error, descriptor 2.
    Stderr,
}

impl Stream {
    /// The number in the index and on the wire: 1 or 2.
    pub fn number(self) -> u8 {
        match self {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        }
    }

    /// The position in a pair of both streams.
    fn place(self) -> usize {
        usize::from(self.number() - 1)
    }

    /// The name of the stream's file in the spool.
    pub fn file_name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// A failure to store or read a job's output.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The spool could not be created.
    #[error("cannot make the spool {path}: {source}; {}", disk_remedy(source))]
    Create {
        /// The path of the file or directory.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// The spool could not be read.
    #[error("cannot read the spool {path}: {source}")]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// The history of a job could not be read.
    #[error("cannot read the history {path}: {source}")]
    History {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// Rows of a spool could not be released.
    #[error("cannot release what is stored of the spool {path}: {source}")]
    Release {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// The spool of an earlier daemon could not be taken over.
    #[error("cannot go on with the spool {path}: {source}")]
    Reopen {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// The index is of another version, or no index.
    #[error("cannot read the spool {path}: it is not a spool index of version 1")]
    Format {
        /// The path of the file.
        path: PathBuf,
    },
    /// The collector thread could not be started.
    #[error("cannot start the output collector: {0}")]
    Collector(io::Error),
}
