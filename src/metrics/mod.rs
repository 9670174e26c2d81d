//! Samples of a job: what it uses of the host, measured at its start, at an interval, and at its end.
//!
//! A thread of its own ([`sampler`]) takes them, so that neither the loop nor a job waits: what a job used is
//! read from the files of its cgroup (cgroups(7), the kernel's `cgroup-v2.rst`) and from /proc (proc(5)), whose
//! parsers are pure on text ([`group`], [`proc`], [`pressure`]). [`source`] reads the files, [`rates`] holds two
//! samples against each other, [`series`] keeps them, [`fold`] makes averages and the like of them.
//!
//! What has no source is *absent*, never zero: a host without the memory controller has no limit to tell, an
//! old kernel no peak. Without that controller memory is summed over the processes in /proc, which counts no
//! page cache, and twice what two of them share. The network is that of the job's own namespace, read through
//! a descriptor that was opened while its PID 1 lived, so that the last sample has it too.
//!
//! # The file, version 1
//!
//! `<dataDir>/spool/<uuid>/metrics.jsonl` (0600): a JSON object a line, a line a [`Sample`], oldest first, each
//! complete in itself, with the keys of [`sample`]; keys are only ever added. Lines are appended in one write,
//! so the file of a killed daemon ends with half a line at worst: it is cut off when sampling goes on, and
//! never read. The file is made with the job's first sample, not with its berth, and goes with its spool.
//!
//! It is bounded by its own growth: each [`series::STEP`] that it has grown doubles the job's interval. At 5 s a
//! step lasts three hours or more, so a day takes four steps at most and a year twelve; nothing is rewritten, so
//! the place of a reader in the file never moves.
//!
//! # Bounds
//!
//! Orders: two for each live job. Processes of a job that are looked at one by one: [`source::PROCESSES`];
//! devices and interfaces that are listed: [`group::LISTED`]; a line: [`series::LINE`]. Beyond the first, what only
//! processes can tell is absent; beyond the second, totals count all and the list has the first ones.

pub mod fold;
pub mod group;
pub mod pressure;
pub mod proc;
pub mod rates;
pub mod sample;
pub mod sample_stream;
pub mod sampler;
pub mod series;
pub mod source;

use std::io;
use std::path::PathBuf;

use crate::diag::disk_remedy;

pub use fold::{Fold, How};
pub use sample::Sample;
pub use sample_stream::{SampleQuery, SampleStream};
pub use sampler::{Sampler, Watched};
pub use series::SeriesReader;

/// What went wrong with samples.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The sampler thread could not be started.
    #[error("cannot start the sampler: {0}")]
    Start(io::Error),
    /// A job's group could not be opened.
    #[error("cannot open the cgroup {path}: {source}")]
    Group {
        /// The group.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file of a job's samples could not be opened.
    #[error("cannot open {path} for samples: {source}; {}", disk_remedy(source))]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A sample could not be stored.
    #[error("cannot store a sample in {path}: {source}; {}", disk_remedy(source))]
    Append {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Samples could not be read.
    #[error("cannot read samples from {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// What was read is no sample, or one of a later version.
    #[error("cannot read samples from {path}: {why}; a file of version 1 was expected")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}
