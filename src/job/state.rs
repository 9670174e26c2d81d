//! The life of a job as a pure function.
//!
//! ```text
//! Starting --Spawned--> Launched --Executed--> Running --InitGone--> Draining --Drained--> Finished
//!    |  \__SpawnFailed__________________________________________________________________/^
//!    |                     \________stop, timeout________/ -> Stopping --InitGone--^
//! ```
//! A stop that arrives while the spawner works is remembered and carried out when there is a process to stop.
//! `Finished` is final: every later fact leaves it as it is.

use super::exit::{Ending, StopCause};

/// Status words of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Accepted; walls are being built.
    Initializing,
    /// The payload runs.
    Running,
    /// Exit code 0.
    Completed,
    /// Another exit code, a signal, or it could not be started.
    Failed,
    /// Ended by request or timeout.
    Stopped,
}

impl Status {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Initializing => "INITIALIZING",
            Status::Running => "RUNNING",
            Status::Completed => "COMPLETED",
            Status::Failed => "FAILED",
            Status::Stopped => "STOPPED",
        }
    }
}

/// Where a job is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// With the spawner; a stop asked for meanwhile waits here.
    Starting(Option<StopCause>),
    /// PID 1 exists; whether the payload can be executed is not known yet.
    Launched,
    /// The payload runs.
    Running,
    /// TERM was sent; the grace period runs, or is over.
    Stopping(StopCause),
    /// PID 1 is gone; the last bytes of output are being fetched.
    Draining(Option<StopCause>),
    /// Terminal.
    Finished(Ending),
}

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The spawner made its PID 1.
    Spawned,
    /// The spawner could not, with the sentence why.
    SpawnFailed(Ending),
    /// The report pipe closed: execve(2) was done with, well or badly (the record tells).
    Executed,
    /// Somebody wants it to end.
    Stop(StopCause),
    /// The grace period after TERM is over.
    GraceOver,
    /// PID 1 is gone.
    InitGone,
    /// Output is complete; the verdict from all witnesses.
    Drained(Ending),
}

/// What the loop has to do because of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Note the start time, start the timeout's clock, answer RunJob.
    AnnounceRunning,
    /// TERM to the payload and a timer for the grace period.
    Terminate,
    /// Kill everything in the job.
    Kill,
    /// Collect the exit record and fetch the rest of the output, in bounded time.
    Drain,
    /// Store the ending, answer who waits, close log streams, give everything back.
    Finish,
}

/// One step of a job's life: the next state and what to do. Facts that no longer apply change nothing.
pub fn step(state: State, fact: Fact) -> (State, &'static [Effect]) {
    use Effect::*;
    match (state, fact) {
        (State::Finished(ending), _) => (State::Finished(ending), &[]),
        (State::Starting(_), Fact::SpawnFailed(ending)) => (State::Finished(ending), &[Finish]),
        (State::Starting(None), Fact::Spawned) => (State::Launched, &[]),
        (State::Starting(Some(cause)), Fact::Spawned) => (State::Stopping(cause), &[Terminate]),
        (State::Starting(None), Fact::Stop(cause)) => (State::Starting(Some(cause)), &[]),
        (State::Launched, Fact::Executed) => (State::Running, &[AnnounceRunning]),
        (State::Launched | State::Running, Fact::Stop(cause)) => (State::Stopping(cause), &[Terminate]),
        (State::Stopping(cause), Fact::GraceOver) => (State::Stopping(cause), &[Kill]),
        (State::Launched | State::Running, Fact::InitGone) => (State::Draining(None), &[Drain]),
        (State::Stopping(cause), Fact::InitGone) => (State::Draining(Some(cause)), &[Drain]),
        (State::Draining(_), Fact::Drained(ending)) => (State::Finished(ending), &[Finish]),
        (state, _) => (state, &[]),
    }
}

impl State {
    /// The word that clients see.
    pub fn status(&self) -> Status {
        match self {
            State::Starting(_) | State::Launched => Status::Initializing,
            State::Running | State::Stopping(_) | State::Draining(_) => Status::Running,
            State::Finished(ending) => ending.status,
        }
    }

    /// Whether the job has ended for good.
    pub fn is_finished(&self) -> bool {
        matches!(self, State::Finished(_))
    }

    /// Why somebody stopped it, if somebody did.
    pub fn stop_cause(&self) -> Option<StopCause> {
        match self {
            State::Starting(cause) | State::Draining(cause) => *cause,
            State::Stopping(cause) => Some(*cause),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::exit::start_failure;
    use super::*;

    fn facts() -> Vec<Fact> {
        let ending = start_failure("x".into());
        vec![
            Fact::Spawned,
            Fact::SpawnFailed(ending.clone()),
            Fact::Executed,
            Fact::Stop(StopCause::Request),
            Fact::GraceOver,
            Fact::InitGone,
            Fact::Drained(ending),
        ]
    }

    fn run(facts: &[Fact]) -> State {
        facts.iter().fold(State::Starting(None), |state, fact| step(state, fact.clone()).0)
    }

    #[test]
    fn a_finished_job_never_changes_again() {
        for fact in facts() {
            let end = State::Finished(start_failure("first".into()));
            assert_eq!(step(end.clone(), fact), (end, &[] as &[Effect]));
        }
    }

    #[test]
    fn every_order_of_facts_finishes_at_most_once() {
        let all = facts();
        let n = all.len();
        for code in 0..n.pow(5) {
            let order: Vec<Fact> = (0..5)
                .scan(code, |c, _| {
                    let i = *c % n;
                    *c /= n;
                    Some(all[i].clone())
                })
                .collect();
            let mut state = State::Starting(None);
            let mut finishes = 0;
            for fact in order {
                let (next, effects) = step(state, fact);
                finishes += effects.iter().filter(|e| **e == Effect::Finish).count();
                state = next;
            }
            assert!(finishes <= 1);
            assert_eq!(finishes == 1, state.is_finished());
        }
    }

    #[test]
    fn a_stop_during_the_spawn_is_carried_out_after_it() {
        let state = run(&[Fact::Stop(StopCause::Request), Fact::Spawned]);
        assert_eq!(state, State::Stopping(StopCause::Request));
        let (_, effects) = step(State::Starting(Some(StopCause::Request)), Fact::Spawned);
        assert_eq!(effects, &[Effect::Terminate]);
    }

    #[test]
    fn exit_and_report_may_arrive_in_either_order() {
        let ending = start_failure("x".into());
        let late = run(&[Fact::Spawned, Fact::InitGone, Fact::Executed, Fact::Drained(ending.clone())]);
        assert_eq!(late, State::Finished(ending));
    }
}
