//! Waiting for conditions, never for durations. The only place of the tests where a thread sleeps: between two looks.

use std::time::{Duration, Instant};

/// How long a condition may take before the test gives up: generous, because CI machines are slow and a pass never waits.
pub const PATIENCE: Duration = Duration::from_secs(90);

const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// Looks again and again until `probe` answers, and fails the test with `what` when [`PATIENCE`] is over.
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, probe).unwrap_or_else(|| panic!("gave up after {PATIENCE:?} waiting until {what}"))
}

/// Looks again and again until `probe` answers; `None` when the time is over.
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

/// Lets time pass where no condition tells the moment: until a random one at which something is done to the daemon.
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
