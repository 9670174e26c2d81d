//! Measurements of the driver, again and again: a process of its own holds the library, and answers a line for a line.
//!
//! ```text
//! gpus (thread) --a line--> joblet gpus --watch --NVML--> driver
//!               <--JSON-----
//! ```
//!
//! It costs no new initialisation for each reading. A driver that hangs costs that process, which is killed and left to itself; the
//! next reading starts another one.

use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::GpuError;
use super::ask::{LONGEST, leave};
use crate::sys::nvml_figures::{GpuReading, NvmlWatch};

/// The flag of `joblet gpus` for this.
pub const WATCH: &str = "watch";

/// Answers each line of `asked` with a reading, until there are no more. Only a process of its own calls this.
///
/// # Errors
/// Nobody reads the answers.
pub fn answer(asked: impl BufRead, mut to: impl Write) -> io::Result<()> {
    let mut watch = NvmlWatch::open();
    for line in asked.lines() {
        line?;
        let read = watch.as_mut().map_err(|why| why.clone()).and_then(NvmlWatch::read);
        serde_json::to_writer(&mut to, &read)?;
        to.write_all(b"\n")?;
        to.flush()?;
    }
    Ok(())
}

/// The process that holds the library.
#[derive(Debug)]
pub struct Watch {
    child: Option<Child>,
    to: ChildStdin,
    from: ChildStdout,
}

impl Watch {
    /// Starts it.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(program: &Path) -> Result<Watch, GpuError> {
        let failed = |source| GpuError::Start { program: program.to_owned(), source };
        let mut asking = Command::new(program);
        asking.args(["gpus", "--watch"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = asking.spawn().map_err(failed)?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(to), Some(from)) => Ok(Watch { child: Some(child), to, from }),
            _ => Err(failed(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// One reading of all GPUs. After an error the process is of no use any more.
    ///
    /// # Errors
    /// It does not answer in time, has died, or the driver refuses.
    pub fn read(&mut self, bound: Duration) -> Result<Vec<GpuReading>, GpuError> {
        let ended = |_| GpuError::Answer("nothing, and ended".to_owned());
        self.to.write_all(b"\n").map_err(ended)?;
        let line = line(&mut self.from, Instant::now() + bound).map_err(ended)?;
        let line = line.ok_or(GpuError::Hangs(bound))?;
        let answer: Result<Vec<GpuReading>, String> =
            serde_json::from_slice(&line).map_err(|why| GpuError::Answer(why.to_string()))?;
        answer.map_err(GpuError::Answer)
    }
}

impl Watch {
    /// Ends a process that does not answer. A driver may keep it for ever.
    pub fn abandon(mut self) -> Leaving {
        let mut child = self.child.take();
        // One that has ended already is no failure.
        let _ = child.as_mut().map(Child::kill);
        Leaving(child)
    }
}

/// A process that was killed and may still hang in the driver. As long as it does, another one would too.
#[derive(Debug)]
pub struct Leaving(Option<Child>);

impl Leaving {
    /// Whether it has ended. It does not wait.
    pub fn is_gone(&mut self) -> bool {
        self.0.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(leave);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.child.take().into_iter().for_each(leave);
    }
}

/// The next line of a pipe, with its end; `None`: not all of it came in time.
fn line(pipe: &mut (impl Read + AsFd), deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let (mut all, mut piece) = (Vec::new(), [0; 8192]);
    while all.last() != Some(&b'\n') {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Ok(None),
            Err(rustix::io::Errno::INTR) => continue,
            ready => ready?,
        };
        let read = pipe.read(&mut piece)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        all.extend_from_slice(&piece[..read]);
        if all.len() > LONGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn watch(text: &str) -> (tempfile::TempDir, Watch) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("joblet");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let watch = Watch::start(&path).unwrap();
        (dir, watch)
    }

    #[test]
    fn each_question_has_one_answer_of_one_process() {
        let long = Duration::from_secs(60);
        let (_dir, mut asked) =
            watch(r#"while read l; do n=$((n+1)); echo "{\"Ok\":[{\"index\":$n}]}"; done"#);
        for index in 1..4 {
            assert_eq!(asked.read(long).unwrap()[0], GpuReading { index, ..GpuReading::default() });
        }
        let (_dir, mut refused) = watch(r#"read l; echo '{"Err":"no driver"}'"#);
        assert!(refused.read(long).unwrap_err().to_string().contains("no driver"));
        assert!(matches!(refused.read(long), Err(GpuError::Answer(_))));
        let (_dir, mut odd) = watch("read l; echo '{'");
        assert!(matches!(odd.read(long), Err(GpuError::Answer(_))));
    }

    #[test]
    fn process_that_hangs_is_given_up() {
        let (_dir, mut watch) = watch("read l; printf '{'; exec sleep 600");
        let begun = Instant::now();
        assert!(matches!(watch.read(Duration::from_millis(200)), Err(GpuError::Hangs(_))));
        let mut leaving = watch.abandon();
        while !leaving.is_gone() {
            std::thread::yield_now();
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    /// Without a driver.
    #[test]
    fn answers_go_on_where_there_is_no_driver() {
        let mut said = Vec::new();
        answer(&b"\n\n"[..], &mut said).unwrap();
        assert_eq!(said.iter().filter(|byte| **byte == b'\n').count(), 2);
    }
}
