//! Answers of the server as text, tables and JSON. Pure: messages in, strings out, so that golden files
//! (`tests/golden/rnx/`) can hold every shape. The labels and lines of the API reference come first and are
//! fixed; what we add stands below them. Every text of a job or of a user goes through
//! [`one_line`](super::terminal::one_line): a name cannot add lines to a list, nor command a terminal.

pub(crate) mod audit;
pub(crate) mod build;
pub(crate) mod chart;
pub(crate) mod clock;
pub(crate) mod denials;
pub(crate) mod exec;
pub(crate) mod fit;
pub(crate) mod gpu;
pub(crate) mod import;
pub(crate) mod json;
pub(crate) mod metrics;
pub(crate) mod monitor;
pub(crate) mod monitor_json;
pub(crate) mod network;
pub(crate) mod overview;
pub(crate) mod runtime;
pub(crate) mod security;
pub(crate) mod span;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod top;
pub(crate) mod volume;
mod words;
pub(crate) mod workflow;
pub(crate) mod workflow_changes;
pub(crate) mod workflow_json;
pub(crate) mod workflow_tree;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod workflow_golden_tests;

pub(crate) use words::{command_line, is_terminal_status, short};
