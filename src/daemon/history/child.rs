//! The history process as a child: the descriptors that it gets, and what it says.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use log::Level;
use rustix::pipe::{PipeFlags, pipe_with};

use super::sockets::Sockets;
use crate::daemon::companion::Companion;
use crate::diag;
use crate::persist::{LIFELINE, OUTPUT_SOCKET, QUERY_SOCKET};

/// Longest line of the process's log that is kept in one piece.
const LINE: usize = 8 << 10;

/// A history process that lives, or that has ended and was not reaped.
#[derive(Debug)]
pub(super) struct Child {
    /// The process itself.
    pub(super) process: Companion,
    /// The read end of its standard output and error.
    pub(super) output: OwnedFd,
    /// Ends with us, or when it is dropped.
    _lifeline: OwnedFd,
    /// When it was started.
    pub(super) since: Instant,
}

impl Child {
    /// Starts the program with this configuration.
    ///
    /// # Errors
    /// The system's refusal.
    pub(super) fn start(program: &Path, config: &Path, sockets: &Sockets) -> io::Result<Child> {
        let (ends, lifeline) = pipe_with(PipeFlags::CLOEXEC)?;
        let (output, says) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Its end blocks: a process whose log nobody reads for a moment waits.
        rustix::io::ioctl_fionbio(&says, false)?;
        let null = rustix::fs::open(
            "/dev/null",
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        let given = [
            (null.as_fd(), 0),
            (says.as_fd(), 1),
            (says.as_fd(), 2),
            (sockets.output.as_fd(), OUTPUT_SOCKET),
            (sockets.queries.as_fd(), QUERY_SOCKET),
            (ends.as_fd(), LIFELINE),
        ];
        let process = Companion::start(program, &["--config".as_ref(), config.as_os_str()], &given)?;
        Ok(Child { process, output, _lifeline: lifeline, since: Instant::now() })
    }
}

/// Lines of the process's log as they come, for ours.
#[derive(Debug, Default)]
pub(super) struct Lines {
    open: Vec<u8>,
}

impl Lines {
    /// Reads what has come, and logs each whole line.
    pub(super) fn read(&mut self, output: BorrowedFd<'_>) {
        let mut buffer = [0; 4096];
        while let Ok(read) = rustix::io::read(output, &mut buffer) {
            if read == 0 {
                self.end();
                return;
            }
            self.push(&buffer[..read], &mut say);
        }
    }

    /// Logs what the process has said without an end of line.
    pub(super) fn end(&mut self) {
        let rest = std::mem::take(&mut self.open);
        if !rest.is_empty() {
            say(&rest);
        }
    }

    fn push(&mut self, bytes: &[u8], say: &mut dyn FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.open.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.open.len() >= LINE {
                let line = std::mem::take(&mut self.open);
                say(line.strip_suffix(b"\n").unwrap_or(&line));
            }
        }
    }
}

fn say(line: &[u8]) {
    let text = String::from_utf8_lossy(line);
    let (level, message) = parts(&text);
    diag::emit("persist", level, &format_args!("[persist] {message}"), &[]);
}

/// The level and the rest of a line `[time] [LEVEL] rest`; a line of another form is a warning.
fn parts(line: &str) -> (Level, &str) {
    let rest = line.strip_prefix('[').and_then(|rest| rest.split_once("] ["));
    let Some((level, message)) = rest.and_then(|(_, rest)| rest.split_once("] ")) else {
        return (Level::Warn, line);
    };
    match level.trim().parse() {
        Ok(level) => (level, message),
        Err(_) => (Level::Warn, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_as_they_come_and_keep_their_level() {
        let (mut lines, mut said) = (Lines::default(), Vec::new());
        for piece in ["[t] [WARN] a | k=", "1\n[t] [INFO] b\nrest", " of it\n"] {
            lines.push(piece.as_bytes(), &mut |line| said.push(String::from_utf8_lossy(line).into_owned()));
        }
        let parts: Vec<(Level, &str)> = said.iter().map(|line| parts(line)).collect();
        assert_eq!(parts, [(Level::Warn, "a | k=1"), (Level::Info, "b"), (Level::Warn, "rest of it")]);
        lines.push(&vec![b'x'; 3 * LINE], &mut |line| assert!(line.len() >= LINE));
        assert!(lines.open.len() < LINE);
    }
}
