//! Asking the driver through a process of its own, with a bound.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{GpuError, Inventory};

/// Most bytes of an answer: some hundred GPUs.
pub(super) const LONGEST: usize = 1 << 20;

/// This program itself, also where its file was replaced meanwhile (proc_pid_exe(5)).
pub const PROGRAM: &str = "/proc/self/exe";

/// The way to the driver.
#[derive(Debug, Clone, Copy)]
pub struct Inquiry<'a> {
    /// The program `joblet`, which has the subcommand `gpus`.
    pub program: &'a Path,
    /// How long to wait for its answer.
    pub bound: Duration,
}

/// The GPUs of the host, as `joblet gpus` tells them. A process that hangs in the driver is killed, and left to itself
/// where even that does not end it.
///
/// # Errors
/// There is no driver, or it does not answer in time.
pub fn ask(inquiry: Inquiry<'_>) -> Result<Inventory, GpuError> {
    let Inquiry { program, bound } = inquiry;
    let failed = |source| GpuError::Start { program: program.to_owned(), source };
    let mut asking = Command::new(program);
    asking.arg("gpus").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = asking.spawn().map_err(failed)?;
    let deadline = Instant::now() + bound;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let answer = stdout.map_or(Ok(None), |pipe| until_end(pipe, deadline));
    // A few lines, which the pipe holds while the answer is read.
    let said = stderr.map_or(Ok(None), |pipe| until_end(pipe, deadline));
    leave(child);
    match (answer.map_err(failed)?, said.map_err(failed)?) {
        (None, _) | (_, None) => Err(GpuError::Hangs(bound)),
        (Some(answer), Some(said)) => serde_json::from_slice(&answer).map_err(|_| {
            let said = String::from_utf8_lossy(&said);
            let last = said.lines().last().unwrap_or("nothing, and ended").trim();
            GpuError::Answer(last.strip_prefix("joblet: ").unwrap_or(last).to_owned())
        }),
    }
}

/// Everything that comes through a pipe; `None`: not all of it came in time.
fn until_end(mut pipe: impl Read + AsFd, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let (mut all, mut piece) = (Vec::new(), [0; 8192]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Ok(None),
            Err(rustix::io::Errno::INTR) => continue,
            ready => ready?,
        };
        let read = pipe.read(&mut piece)?;
        if read == 0 {
            return Ok(Some(all));
        }
        all.extend_from_slice(&piece[..read]);
        if all.len() > LONGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

/// Ends the process, and has it reaped by a thread: one that hangs in the driver ends when that lets go of it.
pub(super) fn leave(mut child: Child) {
    let _ = child.kill();
    let reap = move || drop(child.wait());
    // Without a thread it stays a zombie until this process ends.
    let _ = std::thread::Builder::new().name("gpu-reap".into()).spawn(reap);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("joblet");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        (dir, path)
    }

    fn asked(text: &str, bound: Duration) -> Result<Inventory, GpuError> {
        let (_dir, program) = program(text);
        ask(Inquiry { program: &program, bound })
    }

    #[test]
    fn answer_is_read_and_a_failure_has_its_sentence() {
        let long = Duration::from_secs(60);
        let found = asked(r#"echo '{"source":"proc","driver":null,"devices":[],"notes":[]}'"#, long).unwrap();
        assert!(found.devices.is_empty());
        let why = asked("echo warning >&2; echo 'joblet: no driver' >&2; exit 1", long).unwrap_err();
        assert_eq!(why.to_string(), "the process that asks the GPU driver said: no driver");
        assert!(matches!(asked("kill -SEGV $$", long), Err(GpuError::Answer(_))));
        assert!(matches!(asked("yes", long), Err(GpuError::Start { .. })), "an endless answer");
    }

    #[test]
    fn driver_that_hangs_is_given_up() {
        let bound = Duration::from_millis(200);
        let begun = Instant::now();
        assert!(matches!(asked("exec sleep 600", bound), Err(GpuError::Hangs(_))));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
