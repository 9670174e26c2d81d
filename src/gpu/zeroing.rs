//! Overwriting the memory of a GPU between two jobs, in a process of its own (`joblet gpus --zero`).

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};

use super::ask::leave;
use super::{GpuError, Source};
use crate::job::GpuScrub;

/// The flag of `joblet gpus` for this; its value is the UUID.
pub const ZERO: &str = "zero";
/// The flag of `joblet gpus` by which it only says whether it could.
pub const CAN_ZERO: &str = "can-zero";

/// How long the library may take to be loaded, and from one look at that to the next.
const PROBE_BOUND: Duration = Duration::from_secs(20);
const PROBE_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// A process that overwrites. It is killed when this is dropped.
#[derive(Debug)]
pub struct Zeroing {
    child: Option<Child>,
    deadline: Instant,
    bound: Duration,
}

impl Zeroing {
    /// Begins with the GPU of this UUID.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(program: &Path, uuid: &str, bound: Duration) -> Result<Zeroing, GpuError> {
        Self::spawn(program, &["gpus", "--zero", uuid], bound)
    }

    /// Asks whether it could: CUDA's library is there.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn probe(program: &Path, bound: Duration) -> Result<Zeroing, GpuError> {
        Self::spawn(program, &["gpus", "--can-zero"], bound)
    }

    fn spawn(program: &Path, args: &[&str], bound: Duration) -> Result<Zeroing, GpuError> {
        let failed = |source| GpuError::Start { program: program.to_owned(), source };
        let mut asking = Command::new(program);
        asking.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = asking.spawn().map_err(failed)?;
        Ok(Zeroing { child: Some(child), deadline: Instant::now() + bound, bound })
    }

    /// How it ended; `None`: it goes on. It does not wait.
    pub fn look(&mut self) -> Option<Result<(), GpuError>> {
        let child = self.child.as_mut()?;
        match child.try_wait() {
            Ok(Some(status)) if status.success() => Some(Ok(())),
            Ok(Some(_)) => Some(Err(GpuError::Answer(last_words(child)))),
            Ok(None) if Instant::now() < self.deadline => None,
            Ok(None) => {
                // It may hang in the driver for ever; that is seen by the next look.
                let _ = child.kill();
                Some(Err(GpuError::Hangs(self.bound)))
            }
            Err(why) => Some(Err(GpuError::Answer(why.to_string()))),
        }
    }
}

/// The last line that a process has said before its end.
fn last_words(child: &mut Child) -> String {
    let mut said = Vec::new();
    // A pipe holds so much; whoever has inherited it must not make us wait for more.
    let read: io::Result<usize> = child.stderr.take().map_or(Ok(0), |pipe| {
        let mut piece = [0; 4096];
        let mut pipe = pipe;
        pipe.read(&mut piece).inspect(|read| said.extend_from_slice(&piece[..*read]))
    });
    let text = String::from_utf8_lossy(&said);
    let last = text.lines().last().filter(|_| read.is_ok()).unwrap_or("nothing, and ended").trim();
    last.strip_prefix("joblet: ").unwrap_or(last).to_owned()
}

/// Whether memory can be scrubbed so on this host.
///
/// # Errors
/// Why not, in words that name the key's value.
pub fn can_scrub(program: &Path, scrub: GpuScrub, source: Source) -> Result<(), String> {
    let refused = |why: String| format!("gpu.scrub: {} is not possible: {why}", scrub.as_str());
    if scrub != GpuScrub::None && source != Source::Nvml {
        let why = "without NVML (libnvidia-ml.so.1) it is not known which memory is in use";
        return Err(refused(why.to_owned()));
    }
    if scrub != GpuScrub::Zero {
        return Ok(());
    }
    let mut asked = Zeroing::probe(program, PROBE_BOUND).map_err(|why| refused(why.to_string()))?;
    loop {
        if let Some(told) = asked.look() {
            return told.map_err(|why| refused(why.to_string()));
        }
        // No file tells of its end.
        let _ = poll(&mut [], Some(&PROBE_AGAIN));
    }
}

impl Drop for Zeroing {
    fn drop(&mut self) {
        self.child.take().into_iter().for_each(leave);
    }
}
