//! Why files cannot be copied.

use std::io;

/// A copy that ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The other side is gone; the call's own status says why.
    #[error("the other side of the copy is gone")]
    Gone,
    /// A step on a file.
    #[error("cannot {doing} \"{}\": {source}{}", shown(path), remedy(source))]
    File {
        /// The step that failed.
        doing: &'static str,
        /// The path, beneath the root.
        path: Vec<u8>,
        /// The system's answer.
        source: io::Error,
    },
    /// A path that leads out, or names nothing.
    #[error("\"{}\" is no path of a file to copy: {why}", shown(path))]
    Path {
        /// The path as it came.
        path: Vec<u8>,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// Another copy writes this file.
    #[error("\"{}\" is being copied there by another copy; wait for that one", shown(.0))]
    Twice(Vec<u8>),
    /// The content that came is not the content that was sent.
    #[error("\"{}\" arrived with another content than it was sent with; copy it again", shown(.0))]
    Digest(Vec<u8>),
    /// The names of the open directories take too much memory.
    #[error("\"{}\" has too many entries: the names of a tree's open directories have at most 64 MiB", shown(.0))]
    Names(Vec<u8>),
    /// The other side breaks the rules.
    #[error("the other side of the copy sends {0}")]
    Peer(&'static str),
}

impl FilesError {
    /// The refusal of a step on a path.
    pub(super) fn file<E: Into<io::Error>>(doing: &'static str, path: &[u8]) -> impl FnOnce(E) -> FilesError {
        move |source| FilesError::File { doing, path: path.to_vec(), source: source.into() }
    }

    /// The kind of the system's answer, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            FilesError::File { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// Names the step and the path of a failure.
pub(super) trait At<T> {
    /// The result, or the refusal of `what`: a step, and the path it was on.
    fn at(self, what: (&'static str, &[u8])) -> Result<T, FilesError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, (doing, path): (&'static str, &[u8])) -> Result<T, FilesError> {
        self.map_err(FilesError::file(doing, path))
    }
}

/// A path for people: one line, whatever its bytes.
fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

fn remedy(why: &io::Error) -> &'static str {
    match why.raw_os_error() {
        Some(libc::ELOOP) => "; a symbolic link leads there, which is never followed",
        Some(libc::EXDEV) => "; another file system is mounted there",
        Some(libc::ENOSPC | libc::EDQUOT) => {
            "; make room, or give the volume another size (rnx volume resize)"
        }
        Some(libc::ENOENT) => "; make its directory first, or end the destination with / to have it made",
        _ => "",
    }
}
