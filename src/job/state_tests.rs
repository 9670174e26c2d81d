//! The table of states and facts, and random lives.

use proptest::prelude::*;

use super::super::exit::{Witnesses, start_failure, verdict};
use super::*;

fn ending() -> Ending {
    start_failure("x".into())
}

fn states() -> Vec<State> {
    use StopCause::*;
    vec![
        State::Scheduled,
        State::Queued,
        State::Starting(None),
        State::Starting(Some(Request)),
        State::Created,
        State::Running,
        State::StopRequested(Request),
        State::Stopping(Request),
        State::Draining(None),
        State::Draining(Some(Timeout)),
        State::Recording(ending()),
        State::Finished(ending()),
    ]
}

fn facts() -> Vec<Fact> {
    vec![
        Fact::Due,
        Fact::SlotGranted,
        Fact::Cancel,
        Fact::Spawned,
        Fact::NotStarted(ending()),
        Fact::Executed,
        Fact::Stop(StopCause::Request),
        Fact::Stop(StopCause::Timeout),
        Fact::Stop(StopCause::Shutdown),
        Fact::GraceOver,
        Fact::InitGone,
        Fact::OutputComplete(ending()),
        Fact::Recorded,
        Fact::Unrecorded,
    ]
}

fn name(state: &State) -> String {
    match state {
        State::Recording(ending) => format!("Recording({})", ending.reason.as_str()),
        State::Finished(ending) => format!("Finished({})", ending.reason.as_str()),
        other => format!("{other:?}"),
    }
}

/// Every state meets every fact. The table is kept, so that a change of it is seen in a review.
#[test]
fn the_table_of_states_and_facts_is_the_one_that_was_reviewed() {
    let mut table = String::new();
    for state in states() {
        for fact in facts() {
            let fact_name = match &fact {
                Fact::NotStarted(_) => "NotStarted".to_owned(),
                Fact::OutputComplete(_) => "OutputComplete".to_owned(),
                other => format!("{other:?}"),
            };
            let (next, effects) = step(state.clone(), fact);
            let what = if next == state { "-".to_owned() } else { name(&next) };
            table += &format!("{:<26}{fact_name:<20}{what:<26}{effects:?}\n", name(&state));
        }
    }
    let path = "tests/golden/state-table.txt";
    if std::env::var_os("JOBLET_GOLDEN").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(kept == table, "the table has changed; JOBLET_GOLDEN=1 writes it anew:\n{table}");
}

#[test]
fn a_finished_job_never_changes_again() {
    for fact in facts() {
        let end = State::Finished(start_failure("first".into()));
        assert_eq!(step(end.clone(), fact), (end, &[] as &[Effect]));
    }
}

#[test]
fn a_stop_during_the_spawn_is_recorded_and_carried_out_after_it() {
    let (state, _) = step(State::Starting(None), Fact::Stop(StopCause::Request));
    let (state, effects) = step(state, Fact::Spawned);
    assert_eq!((&state, effects), (&State::StopRequested(StopCause::Request), &[Effect::Save][..]));
    assert_eq!(step(state, Fact::Recorded).1, &[Effect::Terminate]);
}

/// A job and its world: the next actions that the kernel, the disk and the clients could take.
#[derive(Debug)]
struct World {
    state: State,
    // The record that a restarted daemon would find in the database.
    stored: State,
    unsaved: bool,
    process: bool,
    payload_gone: bool,
    finishes: usize,
    shown: Vec<Status>,
}

impl World {
    fn new(state: State) -> World {
        World {
            stored: state.clone(),
            state,
            unsaved: false,
            process: false,
            payload_gone: false,
            finishes: 0,
            shown: Vec::new(),
        }
    }

    fn apply(&mut self, fact: Fact) {
        let (state, effects) = step(self.state.clone(), fact);
        self.state = state;
        for effect in effects {
            match effect {
                Effect::Save => self.unsaved = true,
                Effect::Finish => {
                    self.finishes += 1;
                    assert_eq!(self.stored, State::Recording(self.ending()), "seen before it was recorded");
                }
                Effect::Terminate => {
                    assert!(
                        matches!(self.stored, State::StopRequested(_)),
                        "TERM before the stop was recorded"
                    );
                }
                _ => {}
            }
        }
        self.shown.push(self.state.status());
    }

    fn ending(&self) -> Ending {
        match &self.state {
            State::Finished(ending) | State::Recording(ending) => ending.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// One event that can happen now.
    fn happen(&mut self, what: u8) {
        match what {
            0 => self.apply(Fact::Due),
            1 if self.state == State::Queued => self.apply(Fact::SlotGranted),
            2 => self.apply(Fact::Cancel),
            3 => self.apply(Fact::Stop(StopCause::Request)),
            4 if self.process => self.apply(Fact::Stop(StopCause::Timeout)),
            5 if matches!(self.state, State::Starting(_)) => {
                self.process = true;
                self.apply(Fact::Spawned);
            }
            6 if matches!(self.state, State::Starting(_)) => self.apply(Fact::NotStarted(ending())),
            7 if self.process && !self.payload_gone => self.apply(Fact::Executed),
            8 if self.process => {
                self.payload_gone = true;
                self.apply(Fact::InitGone);
            }
            9 if self.payload_gone => {
                let stopped = self.state.stop_cause();
                self.apply(Fact::OutputComplete(verdict(&Witnesses { stopped, ..Witnesses::default() })));
            }
            10 if self.unsaved => {
                self.unsaved = false;
                self.stored = self.state.clone();
                self.apply(Fact::Recorded);
            }
            11 if matches!(self.state, State::Stopping(_)) => self.apply(Fact::GraceOver),
            12 => self.restart(),
            _ => {}
        }
    }

    /// The daemon dies; a new one reads the stored record and looks for living processes.
    fn restart(&mut self) {
        self.unsaved = false;
        self.state = match self.stored.clone() {
            State::Recording(ending) | State::Finished(ending) => State::Finished(ending),
            waiting @ (State::Scheduled | State::Queued) if !self.process => waiting,
            stored => match (self.process, stored.stop_cause()) {
                (true, Some(cause)) => State::StopRequested(cause),
                (true, None) => State::Running,
                (false, cause) => State::Draining(cause),
            },
        };
        if matches!(self.state, State::StopRequested(_)) {
            self.stored = self.state.clone();
            self.apply(Fact::Recorded);
        }
        if matches!(self.state, State::Draining(_)) {
            self.payload_gone = true;
        }
        self.shown.push(self.state.status());
    }
}

proptest! {
    /// Stop, cancel, exit, timeout and restarts of the daemon in any order: a job finishes at most once in the life of
    /// a daemon, nothing is seen before it is recorded, and a terminal job stays as it is.
    #[test]
    fn random_lives_are_legal(scheduled: bool, events in proptest::collection::vec(0u8..13, 1..60)) {
        let mut world = World::new(if scheduled { State::Scheduled } else { State::Queued });
        let mut terminal: Option<Ending> = None;
        for event in events {
            let before = world.finishes;
            world.happen(event);
            prop_assert!(world.finishes <= before + 1);
            if let Some(first) = &terminal {
                prop_assert_eq!(&State::Finished(first.clone()), &world.state);
            }
            if let State::Finished(ending) = &world.state {
                terminal = Some(ending.clone());
            }
        }
        let order = |status: &Status| match status {
            Status::Scheduled => 0,
            Status::Initializing => 1,
            Status::Running => 2,
            _ => 3,
        };
        // Only a restart before the record of "running" may show less than was seen.
        let last = world.shown.iter().map(order).max().unwrap_or(0);
        prop_assert!(terminal.is_none() || last == 3);
    }

    /// After any life so far, the next actions of the world can bring the job to its end.
    #[test]
    fn every_life_can_end(events in proptest::collection::vec(0u8..13, 1..40)) {
        let mut world = World::new(State::Scheduled);
        for event in events {
            world.happen(event);
        }
        for _ in 0..3 {
            for event in [10, 0, 1, 5, 10, 7, 3, 10, 11, 8, 9, 10] {
                world.happen(event);
            }
        }
        prop_assert!(world.state.is_finished(), "{:?}", world);
    }
}
