//! What a job is: pure words, no I/O, no clock, no kernel.
//!
//! A request becomes a [`JobSpec`] once, at the API's door; every range and syntax rule lives in the
//! constructors of this room, so nobody behind the door checks again. A job's life is the pure function
//! [`state::step`]: the loop collects facts, asks `step`, and carries out the effects. How a job ended is an
//! [`exit::Ending`], decided in one place from the witnesses the loop gathered.

pub mod env;
pub mod exit;
pub mod exit_file;
pub mod id;
pub mod layer;
pub mod limits;
pub mod policy;
pub mod spec;
pub mod state;
pub mod units;
pub mod view;

pub use env::Secret;
pub use exit::{Ending, ExitReason};
pub use id::{JobId, JobRef};
pub use layer::{Layer, Verdict};
pub use limits::Limits;
pub use policy::{Controller, Enforcement, SpoolPolicy};
pub use spec::{JobSpec, NetworkMode};
pub use state::{Effect, Fact, State, Status};
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
