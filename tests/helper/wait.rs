//! Waiting for conditions, never for durations. Only here does a thread of a test sleep: between two probes.

use std::time::{Duration, Instant};

/// The longest time that a test waits for a condition: generous, because CI machines are slow and a pass never waits that long.
pub const PATIENCE: Duration = Duration::from_secs(90);

const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// Repeats `probe` until it answers, and fails the test with `what` when [`PATIENCE`] is over.
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, probe).unwrap_or_else(|| panic!("gave up after {PATIENCE:?} waiting until {what}"))
}

/// Repeats `probe` until it answers; `None` when the time is over.
pub fn within<T>(patience: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// `Some(())` when the condition holds: turns a bool into an answer for [`eventually`].
pub fn holds(condition: bool) -> Option<()> {
    condition.then_some(())
}

/// Waits for a random moment at which the test acts on the daemon, where no condition defines the moment.
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
