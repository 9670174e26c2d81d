//! Workflows: graphs of jobs, each job an ordinary one.
//!
//! ```text
//!   RunWorkflow -> accepted -> file sealed (if it has secrets) -> record on disk -> answered; first jobs
//!        a job runs, ends ----> Flow (pure) ----> what is next ----> an ordinary job, in the same turn of the loop
//!                                   \----> one row for the attempt that ended
//! ```
//!
//! **No job twice, and none never.** A job of a workflow has its place ([`Part`](crate::job::Part)) in its record, and no
//! payload runs before that record is written. A job's end is on disk before the loop hears of it. So a daemon that
//! starts finds all that was submitted and all that has ended, takes it in in the order of its times, and goes on from there
//! ([`Flow::resume`]). The row of an attempt is sent to the disk before anybody can delete the job's record, in the
//! same or an earlier transaction: a node whose jobs are deleted stays over.
//!
//! **Fair.** Jobs of workflows wait for slots in the queue of all jobs, first come, first served. Only [`AHEAD`] of them
//! are in there or start at one time; the others wait in their graphs, which take turns. So a graph of ten thousand does not keep
//! others from the queue.
//!
//! **Bounds.** Workflows that run, of all clients and of one (`workflow.maxRunning`, `workflow.clientMaxRunning`); the
//! jobs and bytes of each (`workflow.maxJobs`, `workflow.maxBytes`); workflows that are over by age, number and bytes
//! of their records, as jobs are (`state.retention`).
//!
//! [`flow`] is one graph that runs, [`node`] a job of its file, [`child`] the request of the job that is submitted,
//! [`view`] what replies show. The steps that connect this owner with others are in `lifecycle/workflows.rs`.

mod awaited;
pub(super) mod child;
mod draft;
mod entry;
pub(super) mod flow;
mod node;
mod table;
pub(super) mod view;

pub use draft::Draft;
pub(super) use draft::roster;
pub(super) use entry::{Body, Entry, Over};
pub(super) use flow::{Ended, Flow, Known, Place};
pub(super) use node::Node;
pub(super) use table::{WorkflowLimits, Workflows};

/// Jobs of workflows that may wait for a slot or be started at one time.
pub(super) const AHEAD: usize = 128;
