//! Progress on a terminal, of an upload or of a wait: one line on stderr that is drawn over itself and removed at the
//! end.
//! Into pipes and files, and with `--quiet` or `--json`, nothing is written.
//!
//! Reading is measured, and so is sending a stream of messages. A request is one message, and gRPC does not report how
//! much of a message the network has taken: during that call the line shows its size and the time since its start.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::out::Out;
use super::render::fit::cut;
use super::screen;
use super::upload::Uploads;

/// How often the line is drawn.
const BEAT: Duration = Duration::from_millis(100);
/// Cells of the bar.
const CELLS: u64 = 24;

/// The line, where stderr is a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    seen: bool,
    drawn: Option<Instant>,
}

impl Progress {
    /// For these uploads; draws nothing when there are none.
    pub(crate) fn of(uploads: &Uploads, out: Out, quiet: bool) -> Self {
        Progress { seen: uploads.files() > 0 && !quiet && is_possible(out), drawn: None }
    }

    /// For something that is sent in any case.
    pub(crate) fn of_bytes(out: Out) -> Self {
        Progress { seen: is_possible(out), drawn: None }
    }

    /// Draws the line again: `done` of `all` bytes were read.
    pub(crate) fn reading(&mut self, done: u64, all: u64) {
        if !self.seen || (done < all && self.drawn.is_some_and(|at| at.elapsed() < BEAT)) {
            return;
        }
        self.drawn = Some(Instant::now());
        draw(&bar("Reading", done, all));
    }

    /// Draws the line again: `done` of `all` bytes were sent.
    pub(crate) fn streaming(&mut self, done: u64, all: u64) {
        if !self.seen || (done < all && self.drawn.is_some_and(|at| at.elapsed() < BEAT)) {
            return;
        }
        self.drawn = Some(Instant::now());
        draw(&bar("Sending", done, all));
    }

    /// Everything was read, or something could not be: takes the line away.
    pub(crate) fn read(&mut self) {
        if self.drawn.take().is_some() {
            draw("");
        }
    }

    /// Shows that so many bytes are being sent, until the returned value is dropped.
    pub(crate) fn sending(&self, bytes: u64) -> Option<Live> {
        let start = Instant::now();
        self.seen.then(|| Live::draw(move || sending(bytes, start.elapsed())))
    }
}

/// Whether a line may be drawn: stderr is a terminal that can, and its reader is a person.
pub(crate) fn is_possible(out: Out) -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
    !dumb && !out.json && io::stderr().is_terminal()
}

/// A line that a thread of its own draws anew until this is dropped, which takes the line away.
#[derive(Debug)]
pub(crate) struct Live {
    stop: Option<Sender<()>>,
    drawer: Option<JoinHandle<()>>,
}

impl Live {
    /// Draws what `line` says now, and from time to time again.
    pub(crate) fn draw(line: impl Fn() -> String + Send + 'static) -> Live {
        let (stop, stopped) = mpsc::channel();
        draw(&line());
        let drawer = thread::Builder::new().name("progress".into()).spawn(move || {
            while stopped.recv_timeout(BEAT) == Err(mpsc::RecvTimeoutError::Timeout) {
                draw(&line());
            }
        });
        // Without a thread the line stands still.
        Live { stop: Some(stop), drawer: drawer.ok() }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(drawer) = self.drawer.take() {
            // It draws and waits, and has nothing that could fail.
            let _ = drawer.join();
        }
        draw("");
    }
}

/// `Reading  [############............]  50 %  6.1 of 12.3 MB`
fn bar(what: &str, done: u64, all: u64) -> String {
    let percent = (done.min(all) * 100).checked_div(all).unwrap_or(100);
    let full = (done * CELLS).checked_div(all).unwrap_or(CELLS).min(CELLS) as usize;
    let bar = "#".repeat(full) + &".".repeat(CELLS as usize - full);
    format!("{what}  [{bar}]  {percent} %  {} of {} MB", megabytes(done), megabytes(all))
}

/// `Sending  12.3 MB, 4 s so far`
fn sending(bytes: u64, taken: Duration) -> String {
    format!("Sending  {} MB, {} s so far", megabytes(bytes), taken.as_secs())
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

/// Draws over the old line. A terminal that has gone is no failure.
fn draw(line: &str) {
    // A line that wraps could not be drawn over; the last column is left free, because some terminals wrap there.
    let line = cut(line, screen::columns(&io::stderr()).saturating_sub(1));
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows_with_what_was_read() {
        assert_eq!(bar("Reading", 0, 4_000_000), "Reading  [........................]  0 %  0.0 of 4.0 MB");
        assert_eq!(
            bar("Sending", 2_000_000, 4_000_000),
            "Sending  [############............]  50 %  2.0 of 4.0 MB"
        );
        let all = "Reading  [########################]  100 %  4.0 of 4.0 MB";
        assert_eq!(bar("Reading", 4_000_000, 4_000_000), all);
        assert_eq!(bar("Reading", 0, 0), "Reading  [########################]  100 %  0.0 of 0.0 MB");
        let grown = bar("Reading", 9, 8);
        assert_eq!(grown, "Reading  [########################]  100 %  0.0 of 0.0 MB", "files that grew");
    }

    #[test]
    fn sending_line_shows_the_size_and_the_elapsed_time() {
        assert_eq!(sending(128 << 20, Duration::from_millis(4_900)), "Sending  134.2 MB, 4 s so far");
    }

    #[test]
    fn nothing_is_drawn_without_uploads() {
        let out = Out { json: false, colour: false };
        let mut progress = Progress::of(&Uploads::default(), out, false);
        progress.reading(1, 2);
        assert!(progress.drawn.is_none() && progress.sending(1).is_none());
    }
}
