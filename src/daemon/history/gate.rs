//! The daemon starts only when the history process answers.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::daemon::DaemonError;
use crate::diag;
use crate::persist::{Answer, Probe};

/// How often to ask, and how long for.
const TRIES: u32 = 30;
const EVERY: Duration = Duration::from_secs(1);

/// Asks the process at this socket until it answers. A signal ends the wait early: the loop reads it.
///
/// # Errors
/// No answer to any question.
pub(in crate::daemon) fn wait_for_answer(socket: &Path, signals: impl AsFd) -> Result<(), DaemonError> {
    let probe = Probe::new(socket);
    let mut why = String::new();
    for _ in 0..TRIES {
        let began = Instant::now();
        match probe.ping(EVERY, &signals) {
            Answer::Given(_) => {
                diag::event!(Level::Info, "persist service is ready and healthy");
                return Ok(());
            }
            Answer::Interrupted => return Ok(()),
            Answer::None(refusal) => why = refusal,
        }
        let rest = Timespec::try_from(EVERY.saturating_sub(began.elapsed())).unwrap_or_default();
        if poll(&mut [PollFd::new(&signals, PollFlags::IN)], Some(&rest)).is_ok_and(|ready| ready > 0) {
            return Ok(());
        }
    }
    Err(DaemonError::NoHistory { why })
}
