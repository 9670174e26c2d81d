//! Files on their way between two places: a volume and a client's host.
//!
//! ```text
//!   sender                                              receiver
//!   walks a tree beneath a descriptor                   writes beneath a descriptor
//!     begin (path, kind, size, mode, mtime)  -------->
//!                                            <--------    have (bytes, digest)      of a file above 1 MiB
//!     resume (offset), data, zeros, end (digest) ---->    .joblet-parts/..., then renamed into place
//!                                            <--------    done (entries so far)
//!     complete                               -------->
//!                                            <--------    complete                  all is on the disk
//! ```
//!
//! The daemon and the client both play both parts, so the rules stand here once. The wire between them is a [`Link`]: two
//! bounded queues of messages, one each way. Both sides run on threads that may wait; a side that does not take its
//! messages stops the other one.
//!
//! # Nothing is followed
//!
//! Each path is opened from the root's descriptor by `openat2` with `RESOLVE_BENEATH`, `NO_SYMLINKS`, `NO_MAGICLINKS` and `NO_XDEV`
//! ([`beneath`]), while jobs may swap directories for links. Links are copied as links. Only regular files are ever opened: what
//! an entry is shows a descriptor that opens nothing (`O_PATH`), and the file is opened through that.
//!
//! # Cut short
//!
//! A file is written into a part, whose name stands for its path, size and time, and appears by a rename when its digest is
//! right. A copy that is cut short leaves the part: the next one asks the receiver what it has, compares the digest with
//! that of its own bytes, and goes on there, or begins again. Within one copy the sender goes on behind the last entry that
//! was answered with `done`. Entries come in one order, sorted by the bytes of each name, so that this is one place. Parts
//! of a day ago are removed by the next copy to the same place.
//!
//! # Bounds
//!
//! Names of the directories that are being walked: [`NAMES`] bytes. A path: [`LONGEST_PATH`] bytes, which bounds the depth too. A
//! message: some [`BATCH`] bytes. The content in memory: a few messages for each side.

mod beneath;
mod digest;
mod error;
mod link;
mod piece;
mod receive;
mod send;
mod transfers;
mod walk;
mod wire;

pub use beneath::{open_directory, split_path};
pub use error::FilesError;
pub use link::Link;
pub use piece::{Entry, Kind};
pub use receive::{Receiver, receive};
pub use send::{Point, Source, send};
pub use transfers::{TRANSFERS, Transfer, Transfers};
pub use walk::is_special;

/// Bytes of a block of a file: data comes in blocks, and blocks of zeros are counted.
pub const BLOCK: usize = 64 << 10;
/// Bytes of content, and number of pieces, after which a message is sent.
const BATCH: (usize, usize) = (BLOCK, 256);
/// A file of more bytes is worth asking how much of it is there.
const RESUMABLE: u64 = 1 << 20;
/// Most bytes of the names that a walk holds.
const NAMES: usize = 64 << 20;
/// Most bytes of a path beneath the root, as the kernel takes it.
const LONGEST_PATH: usize = libc::PATH_MAX as usize - 1;
/// The directory of the parts, in the root of a receiver. It is not copied.
const PARTS: &str = ".joblet-parts";

/// Hears how a copy goes on, on the thread that copies.
pub trait Watch {
    /// An entry is not copied, and why.
    fn skipped(&mut self, path: &[u8], why: &str);
    /// The receiver has this entry, and all before it.
    fn done(&mut self, point: &Point);
    /// So many more bytes are copied, holes included.
    fn copied(&mut self, bytes: u64);
}

/// A watch that looks away.
#[derive(Debug)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn skipped(&mut self, _: &[u8], _: &str) {}
    fn done(&mut self, _: &Point) {}
    fn copied(&mut self, _: u64) {}
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
