//! The life of a job as a pure function.
//!
//! ```text
//! Scheduled --Due--> Queued --SlotGranted--> Starting --Spawned--> Created --Executed--> Running
//!     |Cancel          |Stop                    |NotStarted           \__Stop___________ /  |
//!     |                |                        |                      v                    |
//!     |                |                        | StopRequested --Recorded--> Stopping      |InitGone
//!     |                |                        |           \____InitGone____/              v
//!     \----------------\------------------------\-> Recording <--OutputComplete-- Draining <-/
//!                                                       |Recorded
//!                                                       v
//!                                                    Finished
//! ```
//! Everything that must survive the daemon is written before it has an effect: a stop before TERM is sent, an ending
//! before anybody can see it. [`Effect::Save`] has the job's record written, and [`Fact::Recorded`] says that the newest
//! one is on disk. A stop that arrives while the spawner works is remembered and carried out when there is a process
//! to stop. `Finished` is final: every later fact leaves it as it is.

use super::Status;
use super::exit::{Ending, StopCause, canceled, stopped_while_waiting};

/// The stage of a job's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Waits for its time.
    Scheduled,
    /// Waits for a slot.
    Queued,
    /// With the spawner; a stop asked for meanwhile waits here.
    Starting(Option<StopCause>),
    /// PID 1 exists; whether the payload can be executed is not known yet.
    Created,
    /// The payload runs.
    Running,
    /// Somebody wants it to end, and that is being recorded.
    StopRequested(StopCause),
    /// TERM was sent; the grace period runs, or is over.
    Stopping(StopCause),
    /// No process is left but PID 1, if that; the last bytes of output and files are being fetched.
    Draining(Option<StopCause>),
    /// Its end is known, and being recorded.
    Recording(Ending),
    /// The end is recorded; nothing changes any more.
    Finished(Ending),
}

/// An event in a job's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// Its time has come.
    Due,
    /// There is a slot for it.
    SlotGranted,
    /// Somebody wants it not to start.
    Cancel,
    /// The spawner made its PID 1.
    Spawned,
    /// It could not be started, with the sentence why.
    NotStarted(Ending),
    /// The report pipe closed: execve(2) is over, with success or not (the exit file tells).
    Executed,
    /// Somebody wants it to end.
    Stop(StopCause),
    /// The grace period after TERM is over.
    GraceOver,
    /// PID 1 is gone, or the only process that is left.
    InitGone,
    /// Output is complete; the verdict from all witnesses.
    OutputComplete(Ending),
    /// Its newest record is on disk.
    Recorded,
    /// Its record cannot be written; that is tried again.
    Unrecorded,
}

impl Fact {
    /// The fact in one word, for traces.
    pub fn word(&self) -> &'static str {
        match self {
            Fact::Due => "due",
            Fact::SlotGranted => "slot_granted",
            Fact::Cancel => "cancel",
            Fact::Spawned => "spawned",
            Fact::NotStarted(_) => "not_started",
            Fact::Executed => "executed",
            Fact::Stop(_) => "stop",
            Fact::GraceOver => "grace_over",
            Fact::InitGone => "init_gone",
            Fact::OutputComplete(_) => "output_complete",
            Fact::Recorded => "recorded",
            Fact::Unrecorded => "unrecorded",
        }
    }
}

/// A task of the loop that follows from a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Put it behind the jobs that wait for a slot.
    Enqueue,
    /// Give it to a spawner.
    Start,
    /// Note the start time, start the timeout's clock, answer RunJob.
    AnnounceRunning,
    /// Have its record written as it is now.
    Save,
    /// TERM to the payload and a timer for the grace period.
    Terminate,
    /// Kill everything in the job.
    Kill,
    /// Read the exit file and fetch the rest of the output, in bounded time.
    CollectOutput,
    /// Answer the waiting callers, close log streams, release the job's resources.
    Finish,
}

/// One step of a job's life: the next state and the effects. Facts that no longer apply change nothing.
pub fn step(state: State, fact: Fact) -> (State, &'static [Effect]) {
    use Effect::*;
    use StopCause::Shutdown;
    match (state, fact) {
        (State::Finished(ending), _) => (State::Finished(ending), &[]),
        (State::Scheduled, Fact::Due) => (State::Queued, &[Enqueue]),
        (State::Scheduled, Fact::Cancel) => (State::Recording(canceled()), &[Save]),
        (State::Queued, Fact::SlotGranted) => (State::Starting(None), &[Start]),
        (State::Queued, Fact::Stop(cause)) | (State::Scheduled, Fact::Stop(cause @ Shutdown)) => {
            (State::Recording(stopped_while_waiting(cause)), &[Save])
        }
        (State::Scheduled | State::Queued | State::Starting(_), Fact::NotStarted(ending)) => {
            (State::Recording(ending), &[Save])
        }
        (State::Starting(None), Fact::Spawned) => (State::Created, &[]),
        (State::Starting(Some(cause)), Fact::Spawned) => (State::StopRequested(cause), &[Save]),
        (State::Starting(None), Fact::Stop(cause)) => (State::Starting(Some(cause)), &[]),
        (State::Created, Fact::Executed) => (State::Running, &[AnnounceRunning, Save]),
        (State::Created | State::Running, Fact::Stop(cause)) => (State::StopRequested(cause), &[Save]),
        (State::StopRequested(cause), Fact::Recorded | Fact::Unrecorded) => {
            (State::Stopping(cause), &[Terminate])
        }
        (State::Stopping(cause), Fact::GraceOver) => (State::Stopping(cause), &[Kill]),
        (State::Created | State::Running, Fact::InitGone) => (State::Draining(None), &[CollectOutput]),
        (State::StopRequested(cause) | State::Stopping(cause), Fact::InitGone) => {
            (State::Draining(Some(cause)), &[CollectOutput])
        }
        (State::Draining(_), Fact::OutputComplete(ending)) => (State::Recording(ending), &[Save]),
        (State::Recording(ending), Fact::Recorded) => (State::Finished(ending), &[Finish]),
        (state, _) => (state, &[]),
    }
}

impl State {
    /// The word that clients see. An ending is not shown before it is recorded.
    pub fn status(&self) -> Status {
        match self {
            State::Scheduled => Status::Scheduled,
            State::Queued | State::Starting(_) | State::Created => Status::Initializing,
            State::Running | State::StopRequested(_) | State::Stopping(_) | State::Draining(_) => {
                Status::Running
            }
            State::Recording(ending) => ending.status_before(),
            State::Finished(ending) => ending.status,
        }
    }

    /// The stage in one word, for traces.
    pub fn word(&self) -> &'static str {
        match self {
            State::Scheduled => "scheduled",
            State::Queued => "queued",
            State::Starting(_) => "starting",
            State::Created => "created",
            State::Running => "running",
            State::StopRequested(_) => "stop_requested",
            State::Stopping(_) => "stopping",
            State::Draining(_) => "draining",
            State::Recording(_) => "recording",
            State::Finished(_) => "finished",
        }
    }

    /// Whether the job has ended for good.
    pub fn is_finished(&self) -> bool {
        matches!(self, State::Finished(_))
    }

    /// Whether it waits for its time or for a place.
    pub fn waits(&self) -> bool {
        matches!(self, State::Scheduled | State::Queued)
    }

    /// The cause of a stop, if there was one.
    pub fn stop_cause(&self) -> Option<StopCause> {
        match self {
            State::Starting(cause) | State::Draining(cause) => *cause,
            State::StopRequested(cause) | State::Stopping(cause) => Some(*cause),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
