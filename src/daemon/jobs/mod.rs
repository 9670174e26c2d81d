//! Which jobs there are, and which of them may run now.
//!
//! Each file is one owner with private fields: the table of all jobs, the slots and the queue for them, the schedule of
//! jobs that wait for a time. A job itself is in `job.rs`.

pub(super) mod job;
mod schedule;
mod slots;
pub(super) mod table;

pub(super) use job::{Job, Run};
pub(super) use schedule::Schedule;
pub(super) use slots::{Slot, Slots};
pub(super) use table::JobTable;
