//! Samples of a job: its use of the host, measured at its start, at an interval, and at its end.
//!
//! The [`sampler`] thread takes them, so that neither the loop nor a job waits. It reads the files of the job's cgroup
//! (cgroups(7), the kernel's `cgroup-v2.rst`) and /proc (proc(5)), whose parsers are pure functions of text ([`group`],
//! [`proc`], [`pressure`]). [`source`] reads the files, [`rates`] compares two samples, [`series`] stores them,
//! [`fold`] makes averages and the like of them, and [`sample_stream`] reads them for one client.
//!
//! A number without a source is *absent*, never zero: a host without the memory controller reports no limit, an old
//! kernel no peak. Without that controller memory is the sum over the processes in /proc, which counts no page cache,
//! and counts twice what two processes share. The network is that of the job's own namespace, read through a descriptor
//! that was opened while its PID 1 lived, so that the last sample has it too.
//!
//! GPUs are measured elsewhere, by who knows their driver; a sample has what was measured of them last ([`GetGpus`]).
//!
//! # The file, version 1
//!
//! `<dataDir>/spool/<uuid>/metrics.jsonl` (0600): a JSON object a line, a line a [`Sample`], oldest first, each
//! complete in itself, with the keys of [`sample`]; keys are only ever added. Each line is appended in one write, so the
//! file of a killed daemon ends with half a line at worst: it is never read, and cut off when sampling continues. The
//! file is created with the job's first sample, not with its warm sandbox, and deleted with its spool.
//!
//! Its own growth bounds it: each [`series::STEP`] of growth doubles the job's interval. At 5 s a step lasts three hours
//! or more, so a day takes four steps at most and a year twelve. Nothing is rewritten, so the position of a reader in
//! the file stays valid.
//!
//! # Bounds
//!
//! Commands to the thread: two for each live job. Processes of a job that are read one by one: [`source::PROCESSES`];
//! beyond that, numbers that only processes have are absent. Devices in a list: [`group::LISTED`]; beyond
//! that, totals still count all of them. Bytes of a line: [`series::LINE`].

pub mod fold;
pub mod group;
pub mod history;
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
pub use history::{JobSamples, OpenSamples, SampleHistory};
pub use sample::Sample;
pub use sample_stream::{SampleQuery, SampleStream};
pub use sampler::{GetGpus, Sampler, TakeLast, Watched};
pub use series::SeriesReader;

/// A failure to take, store or read samples.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The sampler thread could not be started.
    #[error("cannot start the sampler: {0}")]
    Start(io::Error),
    /// A job's group could not be opened.
    #[error("cannot open the cgroup {path}: {source}")]
    Group {
        /// The directory of the cgroup.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// The file of a job's samples could not be opened.
    #[error("cannot open {path} for samples: {source}; {}", disk_remedy(source))]
    Open {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// A sample could not be stored.
    #[error("cannot store a sample in {path}: {source}; {}", disk_remedy(source))]
    Append {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// Samples could not be read.
    #[error("cannot read samples from {path}: {source}")]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// The file holds something that is no sample, or a sample of a later version.
    #[error("cannot read samples from {path}: {why}; a file of version 1 was expected")]
    Format {
        /// The path of the file.
        path: PathBuf,
        /// The reason why it is no sample.
        why: String,
    },
}
