//! The standard input of payloads and commands, from the client that sends it to the pipe that the program reads.
//!
//! ```text
//!   client's call --[ Attachment ]--> memory file --splice--> pipe --> the program's descriptor 0
//!                                     ^ accepted: its size    ^ moved: its position
//! ```
//!
//! A byte that was acknowledged to a client is never lost, and none comes twice, also when the daemon is killed at any
//! moment. That is so because no counter of ours exists: all state of an input is in three kernel objects ([`Store`])
//! of which joblet-init has copies, and which the next daemon takes from there.
//!
//! * Accepted is the *size* of the memory file: a write appends, and the kernel counts what it copied.
//! * Moved is its *position*, which all copies of the descriptor share: splice(2) moves bytes and the position in one call
//!   that no signal cuts in two.
//! * Its end is the *seal* against growth.
//!
//! Pages go into the pipe by reference, and nobody can tell when the last reference is gone: a program may make the pipe larger
//! (fcntl(2), F_SETPIPE_SZ), or pass pages on (splice(2)) where its filter lets it. So nothing is ever written over: the file only grows, and what was moved is
//! cut out of it.
//!
//! One thread ([`Inputs`]) owns all stores and waits for none: a full pipe leaves its own input alone until the program
//! reads. joblet-init has the write end of the pipe too, so the end of a daemon is not the end of an input.
//!
//! # Bounds
//!
//! [`WINDOW`] bytes of an input wait for its program: beyond that its client waits. An input has at most
//! [`WINDOW`] and 2 MiB of memory, all of the node [`NODE_BYTES`]: where that is used up for 20 s, a write is refused. One
//! client at a time holds an input; another one can take it over.

mod error;
mod mover;
mod store;

pub use error::InputError;
pub use mover::{Attachment, Inputs, Over};
pub use store::Store;

/// Most bytes of an input that were accepted and that its program has not been given.
pub const WINDOW: u64 = 1 << 20;
/// Most bytes of memory of the inputs of the node.
pub const NODE_BYTES: u64 = 256 << 20;
/// Most bytes of one write.
pub const CHUNK: usize = 64 << 10;
