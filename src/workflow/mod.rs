//! Workflow files: jobs that wait for each other, described in YAML. Pure: text in, plan out, no I/O and no clock.
//!
//! ```text
//!   text --yaml--> tree with places --document--> jobs, checked --graph--> who waits for whom
//!                                                                  |
//!        status of a job --------------------------> progress: which jobs start, which never will
//! ```
//!
//! * [`yaml`] bounds size, depth and aliases before anything is built, and keeps line and column of every value, so
//!   that each refusal says where.
//! * [`document`] and [`entry`] know the keys. An unknown key is an error: a typing error in `max_memory` would
//!   otherwise be a job without a limit.
//! * [`expression`] reads conditions. A condition has three answers, because a job whose condition can never become
//!   true is canceled at once and not when everything else has ended.
//! * [`graph`] finds circles and gives an order; [`progress`] follows the statuses. Both take time linear in jobs and
//!   conditions: an event looks only at the conditions that name its job.
//! * [`reach`] has what a job asks of its network: its egress list, its rates and its published ports.
//! * [`environment`] expands `${VAR}`; a plain variable that takes up a secret becomes one.

mod array;
mod document;
mod dot;
mod entry;
mod environment;
mod error;
mod expression;
mod graph;
mod mask;
mod nearest;
mod needs;
mod node_status;
mod progress;
mod reach;
mod retry;
mod values;
mod yaml;

#[cfg(test)]
mod document_tests;
#[cfg(test)]
mod progress_tests;

pub use array::{Array, Counts, MAX_ELEMENTS, fold};
pub use document::{MAX_JOBS, Workflow, parse};
pub use dot::dot;
pub use entry::{Resources, Schedule, WorkflowJob};
pub use environment::Environment;
pub use error::{Place, WorkflowError};
pub use expression::Expression;
pub use graph::Graph;
pub use mask::masked;
pub use needs::{Needs, NeedsOf};
pub use node_status::NodeStatus;
pub use progress::{Progress, Step};
pub use reach::Reach;
pub use retry::{Retries, RetryReason};
pub use yaml::MAX_TEXT;
