//! The description of a job and its life: pure data and functions, no I/O, no clock, no kernel.
//!
//! The API makes a [`JobSpec`] of a request once; every range and syntax rule stands in the constructors of this room,
//! so no later code checks again. A job's life is the pure function [`state::step`]: the loop collects facts, calls
//! `step`, and carries out the effects. The end of a job is an [`exit::Ending`], decided in one place from the
//! witnesses that the loop has gathered.

pub mod client;
pub mod env;
pub mod exit;
pub mod exit_file;
pub mod id;
pub mod layer;
pub mod limits;
pub mod own_disk;
pub mod policy;
pub mod spec;
pub mod state;
mod status;
pub mod units;
pub mod view;

pub use client::ClientId;
pub use env::Secret;
pub use exit::{Ending, ExitReason};
pub use id::{JobId, JobRef};
pub use layer::{Layer, Verdict};
pub use limits::Limits;
pub use policy::{Controller, Enforcement, SpoolPolicy};
pub use spec::{JobSpec, NetworkMode};
pub use state::{Effect, Fact, State};
pub use status::Status;
pub use view::JobView;

/// A value of a job request that breaks a rule. The text names the field, the rule and the range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidField(pub String);

impl InvalidField {
    /// Says what is wrong with one field, in a whole sentence.
    pub fn new(text: impl Into<String>) -> Self {
        InvalidField(text.into())
    }
}
