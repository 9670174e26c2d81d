//! Runtimes as replies show them.

use crate::job::runtime::RuntimeId;

/// A version of a runtime, as replies show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeView {
    /// Its name and version.
    pub id: RuntimeId,
    /// A sentence for people.
    pub description: String,
    /// The language of its programs; may be empty.
    pub language: String,
    /// The version of the language; may be empty.
    pub language_version: String,
    /// Bytes on disk, with all its layers.
    pub bytes: u64,
    /// Those among them that other runtimes have too.
    pub shared_bytes: u64,
    /// The packages in it.
    pub packages: Vec<String>,
    /// The libraries in it.
    pub libraries: Vec<String>,
    /// Whether this host can run it.
    pub is_available: bool,
    /// The processors that it is made for; empty: all.
    pub architectures: Vec<String>,
    /// Whether its programs want a GPU.
    pub wants_gpu: bool,
    /// Its own variables.
    pub environment: Vec<(String, String)>,
    /// Its description, as it was written.
    pub yaml: String,
    /// When a job had it last, ns since the epoch.
    pub last_used_ns: Option<i64>,
    /// Jobs that have it, or wait to have it.
    pub jobs: usize,
}

/// Versions of a runtime that were removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimesRemoved {
    /// The versions that are gone.
    pub ids: Vec<RuntimeId>,
    /// Whether all versions of the name were meant.
    pub all: bool,
    /// Bytes on disk that are free now.
    pub freed_bytes: u64,
}
