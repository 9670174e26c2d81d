//! Calls of `rnx` as a user makes them, with a bound on their time and all of their output.

use super::wait;
use std::io::Read;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The bound on one call of `rnx`, which gives an unreachable daemon a minute to come back.
const BOUND: Duration = Duration::from_secs(240);

/// The output and the exit code of one call of a program.
#[derive(Debug)]
pub struct Output {
    /// The exit code; 128+n for a death by signal n, as in a shell.
    pub code: i32,
    /// Everything on standard output, byte for byte.
    pub stdout: Vec<u8>,
    /// Everything on standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Fails the test unless the call ended with `code`; returns the text.
    #[track_caller]
    pub fn exits(&self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self.text()
    }

    /// Fails the test unless the call succeeded; returns the text.
    #[track_caller]
    pub fn ok(&self) -> String {
        self.exits(0)
    }

    /// The id on the line `ID: <uuid>`, or the only word that was printed (`-q`).
    #[track_caller]
    pub fn id(&self) -> String {
        let text = self.text();
        let labelled = text.lines().find_map(|l| l.strip_prefix("ID:").map(str::trim));
        let id = labelled.unwrap_or_else(|| text.trim());
        assert_eq!(id.len(), 36, "no job id in: {text}\nstderr: {}", self.stderr);
        id.to_owned()
    }

    /// The value on the line `LABEL: value`.
    #[track_caller]
    pub fn field(&self, label: &str) -> String {
        let text = self.text();
        let prefix = format!("{label}:");
        let line = text.lines().find_map(|l| l.strip_prefix(&prefix));
        line.unwrap_or_else(|| panic!("no line {prefix} in: {text}\nstderr: {}", self.stderr))
            .trim()
            .to_owned()
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|e| panic!("not JSON ({e}): {}\nstderr: {}", self.text(), self.stderr))
    }
}

/// A program that runs in the background while the test does something else.
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    printed: Arc<AtomicUsize>,
    complained: Arc<AtomicUsize>,
}

impl Running {
    /// Starts the command; its output is gathered from now on.
    pub fn start(command: &mut Command) -> Running {
        command.stdin(Stdio::null());
        Running::spawn(command)
    }

    /// The same with a standard input, which ends when it is dropped.
    pub fn fed(command: &mut Command) -> (Running, ChildStdin) {
        command.stdin(Stdio::piped());
        let mut running = Running::spawn(command);
        let stdin = running.child.stdin.take().expect("it was asked for");
        (running, stdin)
    }

    fn spawn(command: &mut Command) -> Running {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let (printed, complained) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let stdout = child.stdout.take().map(|from| gather(from, printed.clone()));
        let stderr = child.stderr.take().map(|from| gather(from, complained.clone()));
        Running { child, stdout, stderr, printed, complained }
    }

    /// The number of bytes that the program has printed so far.
    pub fn printed(&self) -> usize {
        self.printed.load(Ordering::SeqCst)
    }

    /// The number of bytes that the program has written to its stderr so far.
    pub fn complained(&self) -> usize {
        self.complained.load(Ordering::SeqCst)
    }

    /// The process id of the program.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Whether the program has ended.
    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("waiting for our own child").is_some()
    }

    /// Kills the program with SIGKILL, as a crash or an impatient user would.
    pub fn kill(&mut self) {
        self.child.kill().expect("killing our own child");
    }

    /// Waits for the end of the program; fails the test with the output so far when it does not come in time.
    #[track_caller]
    pub fn finish(self) -> Output {
        self.finish_within(BOUND)
    }

    /// The same with another bound on the time.
    #[track_caller]
    pub fn finish_within(self, bound: Duration) -> Output {
        self.end_within(bound).unwrap_or_else(|so_far| {
            panic!("still running after {bound:?}: {}\nstderr: {}", so_far.text(), so_far.stderr)
        })
    }

    /// Waits for the end of the program; kills it when that does not come in time and returns the output so far as the error.
    pub fn end_within(mut self, bound: Duration) -> Result<Output, Output> {
        let status = wait::within(bound, || self.child.try_wait().expect("waiting for our own child"));
        if status.is_none() {
            self.kill();
        }
        let end = self.child.wait().expect("waiting for our own child");
        let stdout = self.stdout.take().expect("taken once").join().expect("the reader does not panic");
        let stderr = self.stderr.take().expect("taken once").join().expect("the reader does not panic");
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let output = Output { code: shell_code(end), stdout, stderr };
        if status.is_some() { Ok(output) } else { Err(output) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn gather(mut from: impl Read + Send + 'static, printed: Arc<AtomicUsize>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let (mut all, mut block) = (Vec::new(), [0; 64 * 1024]);
        // A pipe that breaks in the middle ends the output; the bytes before it count.
        while let Ok(n @ 1..) = from.read(&mut block) {
            all.extend_from_slice(&block[..n]);
            printed.store(all.len(), Ordering::SeqCst);
        }
        all
    })
}

/// The exit code by which a shell reports this end.
pub fn shell_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
