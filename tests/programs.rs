//! Tier 5, programs: real programs of Debian, each run in a job and as an ordinary user of the host, with the same exit code
//! and the same output. One table (`programs/table.rs`) has every program with its package, its memory and its script; the
//! first part of it also runs in the tier e2e.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on panics; figures are printed"
)]

#[path = "helper/mod.rs"]
#[macro_use]
mod helper;

mod programs {
    mod compare;
    mod install;
    mod internet;
    mod network;
    mod page;
    mod table;
}
