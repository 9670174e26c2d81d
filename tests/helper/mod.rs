//! Helpers that several test programs share: a daemon in one line, honest skips, waiting for conditions, long and short
//! loops, small C programs, certificates of every kind, and the search for leftovers.
//!
//! Every test program includes this room by `#[path]` and uses another part of it.
#![allow(
    dead_code,
    unused_macros,
    unused_imports,
    reason = "each test program uses another part of this room"
)]
#![allow(unreachable_pub, reason = "a test program is the root of its own crate")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on panics; skips are printed"
)]

#[macro_use]
pub mod skip;
pub mod browser;
pub mod certificates;
pub mod daemon;
pub mod gate;
pub mod image;
pub mod name_server;
pub mod network;
pub mod packages;
pub mod profile;
pub mod programs;
pub mod python;
pub mod random;
pub mod registry;
pub mod residue;
pub mod rnx;
pub mod slow_files;
pub mod soak;
pub mod tracer;
pub mod vessel;
pub mod wait;
pub mod web;
pub mod workflow;

pub use daemon::TestDaemon;
pub use wait::eventually;
