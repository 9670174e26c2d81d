//! Images of containers: bytes of an archive in, layers on disk out. No engine, no registry, no network.
//!
//! # From an archive to layers
//!
//! The archive lies on disk as it was sent, plain or compressed. [`archive`] lists its files, [`find`](mod@find) reads its
//! documents (an OCI layout with its index, or what `docker save` writes) and chooses the image for this host,
//! and [`opened`] unpacks its layers, those that the caller has not yet:
//!
//! ```text
//! archive file -> list of files -> index -> manifest -> configuration
//!                                              |-> layer: verify -> decompress -> tar entries -> tree
//! ```
//!
//! A layer is named by the digest of its plain bytes (its diff id) and unpacked by itself, into a lower directory for
//! overlayfs. A removed file is there what overlayfs expects, a character device 0:0; a directory that hides the
//! one below has `trusted.overlay.opaque`. Where the directories are, and who has them, is the caller's.
//!
//! # What an archive cannot do
//!
//! Everything in it is a stranger's. [`tree`] opens every path beneath the layer's own directory, following no link of any
//! kind (openat2(2)), writes into no file that is there, and makes no device. [`meter`] bounds the bytes,
//! the entries and the headers, whatever the archive says of their sizes. A file has no setuid bit, no extended attribute
//! and no owner beyond 65535.

mod archive;
mod compression;
mod digest;
mod document;
mod error;
mod find;
mod meter;
mod notes;
mod opened;
mod tree;
mod unpack;

pub use digest::Digest;
pub use error::ImageError;
pub use meter::Limits;
pub use opened::{OpenImage, extract};
pub use unpack::has_room;

/// The image that is wanted of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The architecture of this host, as images write it: `amd64`, `arm64`.
    pub architecture: String,
    /// A variant of the architecture, such as `v8`; any where none is given.
    pub variant: Option<String>,
    /// A name of the image, or its end; needed where an archive has several images.
    pub reference: Option<String>,
}

/// The settings in an image for running it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The architecture, as images write it.
    pub architecture: String,
    /// The label `org.opencontainers.image.version`.
    pub version: Option<String>,
    /// The label `org.opencontainers.image.description`.
    pub description: Option<String>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The arguments, or the program where there is no entrypoint.
    pub cmd: Vec<String>,
    /// Variables, in the image's order.
    pub env: Vec<(String, String)>,
    /// The directory in which the program starts.
    pub working_dir: Option<String>,
    /// The user, as the image writes it: a name or number, with a group behind a colon or without.
    pub user: Option<String>,
}

/// The longest name in an error, in characters.
const PRINTED: usize = 160;

/// A name of an archive for errors and notes.
fn printable(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(&name[..name.len().min(4 * PRINTED)]);
    let short: String = name.chars().take(PRINTED).collect();
    let more = if short.len() < name.len() || name.len() == 4 * PRINTED { "..." } else { "" };
    format!("{}{more}", short.escape_debug())
}
