//! The reason why a followed job waits, as a note on stderr: a job that waits for room for its output prints nothing, and
//! no reader can tell that from a job that computes. So rnx asks for the job's status while there is no output, often
//! enough that the note comes within two seconds. A status call costs the daemon less than half a millisecond, so each
//! follower of a silent job costs it less than a thirtieth of a percent of a processor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::out::Out;
use super::render::short;
use super::server::Server;
use super::terminal::one_line;
use crate::pb::joblet::GetJobStatusReq;

/// The first look at a job comes when it has printed nothing for so long.
const QUIET: Duration = Duration::from_millis(800);
/// The time between two looks at a job that prints nothing.
const EVERY: Duration = Duration::from_millis(1500);
/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Watches one job that is followed, until it is dropped.
pub(crate) struct WaitNote {
    began: Instant,
    /// The time of the last output in milliseconds since `began`.
    output: Arc<AtomicU64>,
    _end: Sender<()>,
}

impl WaitNote {
    /// Starts to watch. Without a thread there are no notes.
    pub(crate) fn start(server: &'static Server, uuid: &str) -> WaitNote {
        let (end, ended) = channel::<()>();
        let (began, output) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let (last, uuid) = (output.clone(), uuid.to_owned());
        let look = move || {
            let (mut looked, mut noted) = (Duration::ZERO, String::new());
            loop {
                let output = Duration::from_millis(last.load(Ordering::Relaxed));
                let now = began.elapsed();
                let pause = next_look(output, looked).saturating_sub(now);
                if !pause.is_zero() {
                    match ended.recv_timeout(pause) {
                        Err(RecvTimeoutError::Timeout) => continue,
                        _ => return,
                    }
                }
                let reason = reason(server, &uuid);
                if !reason.is_empty() && reason != noted {
                    let id = one_line(short(&uuid));
                    let text = one_line(&reason);
                    Out::new(false)
                        .note(&format!("rnx: job {id} waits: {text}; to end it: rnx job stop {id}"));
                }
                (looked, noted) = (now, reason);
            }
        };
        let _ = thread::Builder::new().name("wait-note".into()).spawn(look);
        WaitNote { began, output, _end: end }
    }

    /// Notes that output has come.
    pub(crate) fn chunk(&self) {
        self.output.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

/// The time of the next look at a job, by the times of its last output and of the last look.
fn next_look(output: Duration, looked: Duration) -> Duration {
    if output >= looked { output + QUIET } else { looked + EVERY }
}

/// The reason why a running job waits; empty where it does not, or where the server does not answer.
fn reason(server: &Server, uuid: &str) -> String {
    let request = GetJobStatusReq { uuid: uuid.into(), ..Default::default() };
    let status = server.ask(ANSWER, |jobs, option| jobs.get_job_status_opt(&request, option));
    status.ok().filter(|job| job.status == "RUNNING").map(|job| job.wait_reason).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_that_falls_silent_is_looked_at_within_two_seconds() {
        for silent in 0..20u64 {
            // Output comes once more at any time after a look at a job that was silent before.
            let looked = EVERY * silent as u32 + QUIET;
            for later in (0..1500).step_by(10).map(Duration::from_millis) {
                let output = looked + later;
                let asleep_until = next_look(Duration::ZERO, looked);
                let look = asleep_until.max(next_look(output, looked));
                let after = look - output;
                assert!(after >= QUIET && after <= EVERY, "{after:?} after output, {later:?} after a look");
            }
        }
    }
}
