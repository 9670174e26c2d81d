//! The store of history in CloudWatch, which is a part of the program `persist` and not of the library: its unit tests, and
//! the store against a real moto server. Belongs to tier e2e, but needs no root.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on panics; skips are printed"
)]

#[path = "helper/mod.rs"]
#[macro_use]
mod helper;

// The paths `crate::…` of the store lead into the library.
use joblet::{config, diag, job, output, persist};

#[path = "../src/persist/store/cloudwatch/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "a test program is the root of its own crate and uses a part"
)]
mod cloudwatch;
#[path = "cloudwatch/moto.rs"]
mod moto;
#[path = "cloudwatch/node.rs"]
mod node;
