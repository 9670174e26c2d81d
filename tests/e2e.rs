//! Tier 3, e2e: the real `joblet`, the real `rnx` and the real Python client, over mutual TLS. Every test has a node of its
//! own and checks at its end that the node has left nothing.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on panics; figures are printed"
)]

#[path = "helper/mod.rs"]
#[macro_use]
mod helper;

mod e2e {
    mod abuse;
    mod access;
    mod appetite;
    mod budgets;
    mod certificates;
    mod client;
    mod completion;
    mod config;
    mod confinement;
    mod doctor;
    mod durability;
    mod environment;
    mod explain;
    mod faults;
    mod grace;
    mod held_pipes;
    mod idle;
    mod large_uploads;
    mod levels;
    mod lifecycle;
    mod limits;
    mod logs;
    mod metrics;
    mod node;
    mod odd_input;
    mod ordinary;
    mod output;
    mod pools;
    mod promises;
    mod python_sdk;
    mod races;
    mod recovery;
    mod run;
    mod security;
    mod session;
    mod shocks;
    mod spool_limits;
    mod survival;
    mod terminal;
    mod uploads;
    mod waiting;
    mod walls;
}
