//! `persist.storage:`, where history is kept and for how long.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::CloudWatch;
use crate::config::values::{self, section};

/// The section `persist.storage:`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Storage {
    /// The kind of storage.
    #[serde(rename = "type")]
    pub kind: StorageType,
    /// Root of the trees, absolute; empty: `dataDir`.
    pub base_dir: PathBuf,
    /// Files on this host.
    #[serde(deserialize_with = "section")]
    pub local: Local,
    /// How long history is kept.
    #[serde(deserialize_with = "section")]
    pub retention: PersistRetention,
    /// How files are compressed.
    #[serde(deserialize_with = "section")]
    pub compression: Compression,
    /// CloudWatch of AWS.
    #[serde(deserialize_with = "section")]
    pub cloudwatch: CloudWatch,
}

/// A kind of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageType {
    /// Files of this host: gzip of JSON lines.
    #[default]
    Local,
    /// CloudWatch Logs and CloudWatch metrics.
    Cloudwatch,
}

/// The section `persist.storage.local:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Local {
    /// Output of jobs.
    #[serde(deserialize_with = "section")]
    pub logs: LogFiles,
    /// Samples of jobs.
    #[serde(deserialize_with = "section")]
    pub metrics: MetricFiles,
    /// Longest time that output of a quiet job waits until it is stored, 10ms..10m.
    #[serde(with = "values::duration")]
    pub commit_delay: Duration,
    /// Time from one write of a job's output to the next, 10ms..10m.
    #[serde(with = "values::duration")]
    pub commit_interval: Duration,
}

/// The section `persist.storage.local.logs:`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogFiles {
    /// One directory a job, absolute; empty: `<base_dir>/logs`.
    pub directory: PathBuf,
    /// The format of the files.
    pub format: FileFormat,
    /// When a new file is begun.
    #[serde(deserialize_with = "section")]
    pub rotation: Rotation,
}

/// The section `persist.storage.local.metrics:`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MetricFiles {
    /// One directory a job, absolute; empty: `<base_dir>/metrics`.
    pub directory: PathBuf,
    /// The format of the files.
    pub format: FileFormat,
}

/// A format of files; there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum FileFormat {
    /// One JSON object a line, compressed by gzip.
    #[default]
    #[serde(rename = "jsonl.gz", alias = "jsonl")]
    JsonLines,
}

/// The section `persist.storage.local.logs.rotation:`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rotation {
    /// MiB of a stream's file after which the next one is begun; 0: one file a stream.
    pub max_size_mb: u32,
}

/// The section `persist.storage.retention:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PersistRetention {
    /// Days from a job's end until its logs go, 1..36500.
    pub logs_days: u32,
    /// Days from a job's end until its samples go, 1..36500.
    pub metrics_days: u32,
    /// Time from one look for old history to the next, 1s..30d.
    #[serde(with = "values::duration")]
    pub cleanup_interval: Duration,
}

/// The section `persist.storage.compression:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compression {
    /// How files are compressed.
    pub algorithm: Algorithm,
    /// Highest level of compression, 1..9. A store that lags behind uses lower ones.
    pub level: u32,
    /// Whether it does; `false`: the level is always the same.
    pub adaptive: bool,
}

/// A way to compress; there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// The format of RFC 1952.
    #[default]
    Gzip,
}

impl Default for Local {
    fn default() -> Self {
        Self {
            logs: LogFiles::default(),
            metrics: MetricFiles::default(),
            commit_delay: Duration::from_secs(2),
            commit_interval: Duration::from_millis(200),
        }
    }
}

impl Default for PersistRetention {
    fn default() -> Self {
        Self { logs_days: 30, metrics_days: 90, cleanup_interval: Duration::from_secs(24 * 3600) }
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self { algorithm: Algorithm::Gzip, level: 6, adaptive: true }
    }
}
