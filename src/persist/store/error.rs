//! The errors of the store.

use std::io;
use std::path::PathBuf;

use crate::diag::disk_remedy;

/// A failure to store or read history.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A directory could not be made.
    #[error("cannot make the directory {path} for history: {source}; {}", disk_remedy(source))]
    Create {
        /// The path of the directory.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// A file could not be opened, or its end could not be repaired.
    #[error("cannot open the history file {path}: {source}; {}", disk_remedy(source))]
    Open {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// A file could not be read.
    #[error("cannot read the history file {path}: {source}")]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// Bytes could not be written or made durable. The file is as it was before.
    #[error("cannot store history in {path}: {source}; {}", disk_remedy(source))]
    Write {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// Somebody else removed, replaced or changed a file. Nothing was written; the store has looked at it anew.
    #[error("the history file {path} was changed by another program; it is read anew")]
    Changed {
        /// The path of the file.
        path: PathBuf,
    },
    /// A tree of history is on another file system than when the process began. Nothing was written.
    #[error(
        "{path} is on another file system than before; mount that one again, or restart joblet to use this one"
    )]
    Moved {
        /// The path of the tree.
        path: PathBuf,
    },
    /// A file could not be renamed, for rotation, packing or deletion.
    #[error("cannot rename {path}: {source}; {}", disk_remedy(source))]
    Rename {
        /// The old path.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// A file or directory could not be removed.
    #[error("cannot remove {path}: {source}")]
    Remove {
        /// The path of the file or directory.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// A row would leave out bytes that its spool still has.
    #[error("row {sequence} of {stream} begins at byte {offset}, but only {end} bytes are stored")]
    Hole {
        /// The sequence of the row.
        sequence: u64,
        /// The stream's name.
        stream: &'static str,
        /// The offset of the row's first byte.
        offset: u64,
        /// Bytes of the stream that are stored or staged.
        end: u64,
    },
    /// A row or a sample is longer than records may be, or its bytes do not fit its row.
    #[error("record {sequence} of {stream} cannot be stored: it has {bytes} bytes")]
    Record {
        /// The sequence of the row, or the number of the sample.
        sequence: u64,
        /// The stream's name.
        stream: &'static str,
        /// The bytes that were given.
        bytes: usize,
    },
    /// Another program's files hold more text than is inflated for one reader.
    #[error("{path} is another program's and holds more than {limit} bytes of text; read it with zcat")]
    Foreign {
        /// The path of the file.
        path: PathBuf,
        /// Bytes of text, of all such files of a job.
        limit: u64,
    },
    /// The job's history was deleted; rows that come later are dropped.
    #[error("the history of this job is deleted")]
    Deleted,
}
