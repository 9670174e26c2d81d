//! The thread that writes log lines, and the bounded queue to it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{DiagError, Output};

/// Lines that may wait. With the bounds of a line this is a few MiB at the very worst.
const QUEUE: usize = 1024;
/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

type Target = Box<dyn Write + Send>;

enum Item {
    Line(Vec<u8>),
    Flush(Sender<()>),
    /// Lines go here from now on.
    Target(Target),
}

static STARTED: OnceLock<(Sender<Item>, Output)> = OnceLock::new();

/// env_logger's side: takes one formatted line per write, and never waits.
pub(super) struct Lines {
    queue: Sender<Item>,
    lost: Arc<AtomicU64>,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !line.is_empty() && self.queue.try_send(Item::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens the output and starts the thread.
pub(super) fn start(output: &Output) -> Result<Lines, DiagError> {
    let target = open_output(output)?;
    let (queue, lines) = bounded(QUEUE);
    let lost = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&lost);
    if STARTED.set((queue.clone(), output.clone())).is_err() {
        return Err(DiagError::Install);
    }
    thread::Builder::new()
        .name("log".into())
        .spawn(move || write_all(target, &lines, &counter))
        .map_err(DiagError::Spawn)?;
    Ok(Lines { queue, lost })
}

/// Opens a log file anew, for who has moved it away. Other outputs stay as they are.
///
/// # Errors
/// The file cannot be opened; lines go on where they went.
pub fn reopen() -> Result<(), DiagError> {
    let Some((queue, output @ Output::File(_))) = STARTED.get() else { return Ok(()) };
    let target = open_output(output)?;
    // A queue that stays full belongs to a disk that writes nothing: the next reload tries again.
    let _ = queue.send_timeout(Item::Target(target), LAST_LINES);
    Ok(())
}

fn open_output(output: &Output) -> Result<Target, DiagError> {
    Ok(match output {
        Output::Stdout => Box::new(io::stdout()),
        Output::Stderr => Box::new(io::stderr()),
        Output::File(path) => {
            Box::new(open(path).map_err(|source| DiagError::Open { path: path.clone(), source })?)
        }
    })
}

fn open(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// Whether the log runs.
pub(super) fn started() -> bool {
    STARTED.get().is_some()
}

/// Waits until the lines so far are written, for a second at most.
pub fn flush() {
    let Some((queue, _)) = STARTED.get() else { return };
    let (done, wait) = bounded(1);
    if queue.send_timeout(Item::Flush(done), LAST_LINES).is_ok() {
        let _ = wait.recv_timeout(LAST_LINES); // the process ends either way
    }
}

fn write_all(mut target: Target, lines: &Receiver<Item>, lost: &AtomicU64) {
    for item in lines {
        // A log that cannot be written cannot report it, and a closed output must not end the daemon.
        match item {
            Item::Line(line) => {
                let _ = target.write_all(&line);
                let _ = target.flush();
            }
            Item::Flush(done) => {
                let _ = done.try_send(());
            }
            Item::Target(next) => target = next,
        }
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let _ =
                writeln!(target, "[WARN] {missing} log lines are lost: the log is read or stored too slowly");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stuck_output_never_blocks_a_log_call_and_losses_are_logged() {
        let (queue, lines) = bounded(2);
        let lost = Arc::new(AtomicU64::new(0));
        let mut end = Lines { queue, lost: Arc::clone(&lost) };
        for i in 0..5 {
            assert_eq!(end.write(format!("line {i}\n").as_bytes()).unwrap(), 7);
        }
        drop(end);
        let path = tempfile::NamedTempFile::new().unwrap();
        write_all(Box::new(path.reopen().unwrap()), &lines, &lost);
        let text = std::fs::read_to_string(path.path()).unwrap();
        assert!(text.contains("line 0\n") && text.contains("line 1\n") && !text.contains("line 2"), "{text}");
        assert!(text.contains("3 log lines are lost"), "{text}");
    }

    #[test]
    fn a_log_file_is_appended_to_and_not_readable_by_all() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("joblet.log");
        for line in ["one\n", "two\n"] {
            open(&path).unwrap().write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o027, 0);
    }
}
