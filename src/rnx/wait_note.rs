//! The reason why a followed job waits, as a note on stderr: a job that waits for room for its output prints nothing, and
//! no reader can tell that from a job that computes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::out::Out;
use super::render::short;
use super::server::Server;
use super::terminal::one_line;
use crate::pb::joblet::GetJobStatusReq;

/// The first look at a job that has printed nothing for so long; each further one comes after twice the time.
const FIRST: Duration = Duration::from_millis(800);
/// The longest time between two looks.
const LONGEST: Duration = Duration::from_secs(10);
/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Watches one job that is followed, until it is dropped.
pub(crate) struct WaitNote {
    chunks: Arc<AtomicU64>,
    _end: Sender<()>,
}

impl WaitNote {
    /// Starts to watch. Without a thread there are no notes.
    pub(crate) fn start(server: &'static Server, uuid: &str) -> WaitNote {
        let (end, ended) = channel::<()>();
        let chunks = Arc::new(AtomicU64::new(0));
        let (count, uuid) = (chunks.clone(), uuid.to_owned());
        let look = move || {
            let (mut seen, mut pause, mut noted) = (0, FIRST, String::new());
            while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let now = count.load(Ordering::Relaxed);
                if std::mem::replace(&mut seen, now) != now {
                    pause = FIRST;
                    continue;
                }
                let reason = reason(server, &uuid);
                pause = (pause * 2).min(LONGEST);
                if !reason.is_empty() && reason != noted {
                    let id = one_line(short(&uuid));
                    let text = one_line(&reason);
                    Out::new(false)
                        .note(&format!("rnx: job {id} waits: {text}; to end it: rnx job stop {id}"));
                }
                noted = reason;
            }
        };
        let _ = thread::Builder::new().name("wait-note".into()).spawn(look);
        WaitNote { chunks, _end: end }
    }

    /// Notes that output has come.
    pub(crate) fn chunk(&self) {
        self.chunks.fetch_add(1, Ordering::Relaxed);
    }
}

/// The reason why a running job waits; empty where it does not, or where the server does not answer.
fn reason(server: &Server, uuid: &str) -> String {
    let request = GetJobStatusReq { uuid: uuid.into(), ..Default::default() };
    let status = server.ask(ANSWER, |jobs, option| jobs.get_job_status_opt(&request, option));
    status.ok().filter(|job| job.status == "RUNNING").map(|job| job.wait_reason).unwrap_or_default()
}
