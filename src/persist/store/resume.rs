//! The positions behind which a job's series go on, and the end of a job.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::log_file::Tail;
use super::names::{Kind, end_file};

/// The end of a job, as `job.json` states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    /// The version of the format: 1.
    pub version: u32,
    /// The time at which the job ended, ns since the epoch.
    #[serde(rename = "ended")]
    pub ended_ns: i64,
    /// Rows of its output: the last sequence.
    pub rows: u64,
    /// The number of its samples.
    pub samples: u64,
}

impl JobEnd {
    /// Reads the file in a job's directory; `None`: there is none that can be read.
    pub(super) fn read(dir: &Path) -> Option<JobEnd> {
        let text = fs::read(end_file(dir)).ok()?;
        serde_json::from_slice(&text).ok().filter(|end: &JobEnd| end.version == 1)
    }
}

/// The positions behind which a job's series go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// All rows up to this sequence, of both streams, are durable. It may be less than before a crash.
    pub through: u64,
    /// The end of the job, if it is complete.
    pub end: Option<JobEnd>,
    pub(super) tails: [Tail; 3],
}

impl Resume {
    /// The last stored sequence of a series; of samples, their number.
    pub fn sequence(&self, kind: Kind) -> u64 {
        self.tails[kind.place()].sequence
    }

    /// Stored bytes of a series: of a stream's output, or of the lines of `metrics.jsonl`.
    pub fn bytes(&self, kind: Kind) -> u64 {
        self.tails[kind.place()].bytes
    }
}
