//! Which jobs there are, and which of them may run now.
//!
//! Each file is one owner with private fields: the table of all jobs, the slots and the queue for them, the schedule of
//! jobs that wait for a time, the bytes of jobs that wait and of jobs that are over, and those of them that go. A job itself is in `job.rs`.

mod backlog;
mod durability;
pub(super) mod job;
mod kept;
mod schedule;
mod slots;
mod standing;
mod sweep;
pub(super) mod table;
mod waiters;

pub(super) use backlog::{Backlog, BacklogLimits, Share};
pub(super) use job::{Job, Run, Trace};
pub(super) use kept::{Kept, KeptLimits};
pub(super) use schedule::Schedule;
pub(super) use slots::{Lane, Slot, Slots};
pub(super) use sweep::{Slice, Sweep};
pub(super) use table::JobTable;
