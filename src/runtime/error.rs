//! Why a runtime cannot be found, read, installed or removed.

use std::io;
use std::path::PathBuf;

use crate::diag::disk_remedy;
use crate::job::runtime::{RuntimeId, RuntimeSpec};

/// A runtime that cannot be used, installed or removed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Nothing has this name or version.
    #[error("runtime \"{spec}\" is not installed; {}", there_are(candidates))]
    Unknown {
        /// The runtime in the request.
        spec: RuntimeSpec,
        /// Those that are installed and most like it.
        candidates: Vec<RuntimeId>,
    },
    /// Several versions are the highest one.
    #[error(
        "runtime \"{spec}\" is ambiguous: {} are equally high; name one of them",
        candidates.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    )]
    Ambiguous {
        /// The runtime in the request.
        spec: RuntimeSpec,
        /// The versions that differ by their builds alone.
        candidates: Vec<RuntimeId>,
    },
    /// This very version is there.
    #[error("runtime \"{0}\" is installed already; nothing of it was changed")]
    Exists(RuntimeId),
    /// Jobs have it.
    #[error(
        "runtime \"{id}\" is in use by {jobs} jobs; it can go when they have ended (rnx job list shows them)"
    )]
    InUse {
        /// The version that they have.
        id: RuntimeId,
        /// Jobs that have it or wait to have it.
        jobs: usize,
    },
    /// There are as many as there may be.
    #[error(
        "there are {0} versions of runtimes already, the most that a node has; remove one: rnx runtime remove NAME@VERSION"
    )]
    Full(usize),
    /// Its `runtime.yml` cannot be used.
    #[error("{}: {why}", path.display())]
    Description {
        /// The path of the file, or a word for it.
        path: PathBuf,
        /// The rule that is broken.
        why: String,
    },
    /// Its name or version is another than its place.
    #[error("runtime.yml is that of \"{found}\", not of \"{wanted}\"")]
    Misplaced {
        /// The name and version in the file.
        found: Box<RuntimeId>,
        /// The name and version of the place.
        wanted: Box<RuntimeId>,
    },
    /// It is made for other processors.
    #[error("runtime \"{id}\" is for {wanted}, and this host is {}", std::env::consts::ARCH)]
    Architecture {
        /// The runtime that is meant.
        id: RuntimeId,
        /// The architectures that it names.
        wanted: String,
    },
    /// A text that is no digest of a layer.
    #[error("\"{0}\" is no digest of a layer; it must be sha256: and 64 hexadecimal digits")]
    Digest(String),
    /// A layer that is not there.
    #[error("layer {0} is not there; import the image again")]
    NoLayer(String),
    /// A step on the disk.
    #[error("cannot {doing} {}: {source}; {}", path.display(), disk_remedy(source))]
    Disk {
        /// The step that failed.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

fn there_are(candidates: &[RuntimeId]) -> String {
    match candidates {
        [] => "no runtime is: rnx runtime import NAME IMAGE installs one".to_owned(),
        some => {
            let names: Vec<String> = some.iter().map(ToString::to_string).collect();
            format!("there are: {}", names.join(", "))
        }
    }
}

/// Names the step that ran when `result` failed.
pub(super) fn disk<T>(
    result: Result<T, impl Into<io::Error>>,
    doing: &'static str,
    path: &std::path::Path,
) -> Result<T, RuntimeError> {
    result.map_err(|e| RuntimeError::Disk { doing, path: path.to_owned(), source: e.into() })
}
