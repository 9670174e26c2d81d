//! The steps of a copy.

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory, whose entries follow before its end.
    Directory,
    /// A symbolic link.
    Link,
}

/// An entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path, with `/` in between; relative to where it is copied.
    pub path: Vec<u8>,
    /// Its kind and what belongs to it.
    pub kind: Kind,
    /// Bytes of a file.
    pub size: u64,
    /// The nine permission bits.
    pub mode: u32,
    /// When its content was changed last, ns since the epoch.
    pub mtime_ns: i64,
    /// The target of a link.
    pub link: Vec<u8>,
}

/// A step of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// An entry begins.
    Begin(Entry),
    /// An entry is not copied, and why.
    Skipped(Vec<u8>, String),
    /// The content goes on at this byte, a multiple of a block.
    Resume(u64),
    /// A block of content.
    Data(Vec<u8>),
    /// So many blocks of zeros.
    Zeros(u64),
    /// The entry is complete, with the digest of a file's content; a file without is given up.
    End(Option<[u8; 32]>),
}

/// The part of a file that a receiver has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Have {
    /// Bytes, a multiple of a block.
    pub(super) bytes: u64,
    /// The digest of these bytes.
    pub(super) digest: [u8; 32],
}
