//! A picture over the whole terminal that is drawn anew as updates come, until there are no more, the user leaves, or a signal
//! ends us.
//!
//! One thread gathers the updates; this one waits for keys, signals and a beat, and draws. The terminal is without echo
//! and line editing meanwhile, and Ctrl-C is a key like q; a signal that ends us is read here too. So the terminal is
//! reset on the way out ([`Screen`]), however the view ends. The drawing itself is pure: a [`Picture`].

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, TryRecvError};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::error::Result;
use super::out;
use super::screen;
use crate::sys::exit_now;

/// Longest time from an update to its drawing.
const BEAT: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Whether a picture is possible: keys need a terminal as input, and drawing one as output.
pub(crate) fn is_possible() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|t| t == "dumb" || t.is_empty());
    io::stdin().is_terminal() && io::stdout().is_terminal() && !dumb
}

/// The contents of the screen.
pub(crate) trait Picture {
    /// The type of the updates that change the picture.
    type Update;

    /// Takes an update into the picture.
    fn add(&mut self, update: Self::Update);

    /// The lines of the picture, none wider than `width` columns; those beyond `rows` are not shown.
    fn lines(&self, width: usize, rows: usize) -> Vec<String>;

    /// Takes a key that was pressed; `true`: the user leaves.
    fn key(&mut self, key: u8) -> bool {
        leaves(key)
    }
}

/// Whether a key leaves a picture without keys of its own: q, Ctrl-C, Ctrl-D.
pub(crate) fn leaves(key: u8) -> bool {
    matches!(key, b'q' | b'Q' | 3 | 4)
}

/// How a view ended that no signal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// There are no more updates.
    UpdatesEnded,
    /// The user left.
    UserLeft,
}

/// Signals that end or redraw the view, blocked for every thread that is started later.
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Must run before the first thread of gRPC starts.
    pub(crate) fn block() -> Result<Signals> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGWINCH] {
            set.add(signal);
        }
        set.thread_block().map_err(io::Error::from)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Signals(SignalFd::with_flags(&set, flags).map_err(io::Error::from)?))
    }

    /// The number of a signal that ends us, if one has come.
    fn ending(&self) -> Option<i32> {
        let mut ending = None;
        while let Ok(Some(info)) = self.0.read_signal() {
            let number = info.ssi_signo.cast_signed();
            if number != Signal::SIGWINCH as i32 {
                ending = Some(number);
            }
        }
        ending
    }
}

/// Shows the picture. A signal that ends us leaves the process from here, with the code that a shell reports for it.
pub(crate) fn show<P: Picture>(
    updates: &Receiver<Result<P::Update>>,
    signals: &Signals,
    picture: &mut P,
) -> Result<Ending> {
    let screen = Screen::take()?;
    let left = draw(updates, signals, picture);
    drop(screen);
    match left? {
        Left::Signal(signal) => exit_now(128 + signal),
        Left::By(ending) => Ok(ending),
    }
}

enum Left {
    By(Ending),
    Signal(i32),
}

fn draw<P: Picture>(
    updates: &Receiver<Result<P::Update>>,
    signals: &Signals,
    picture: &mut P,
) -> Result<Left> {
    let mut drawn = String::new();
    loop {
        loop {
            match updates.try_recv() {
                Ok(update) => picture.add(update?),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(Left::By(Ending::UpdatesEnded)),
            }
        }
        let frame = frame(picture, screen::size(&io::stdout()));
        if frame != drawn {
            out::bytes(&mut io::stdout().lock(), frame.as_bytes())?;
            drawn = frame;
        }
        let stdin = io::stdin();
        let mut fds =
            [PollFd::new(&stdin, PollFlags::IN), PollFd::from_borrowed_fd(signals.0.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&BEAT)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(why) => return Err(io::Error::from(why).into()),
        }
        let keys = !fds[0].revents().is_empty();
        if let Some(signal) = signals.ending() {
            return Ok(Left::Signal(signal));
        }
        if keys && press(picture)? {
            return Ok(Left::By(Ending::UserLeft));
        }
    }
}

/// Everything from the upper left corner on, what was there before erased line by line: so nothing flickers.
pub(crate) fn frame(picture: &impl Picture, (columns, rows): (u16, u16)) -> String {
    let mut frame = String::from("\x1b[H");
    let lines = picture.lines(columns.into(), rows.into());
    for (n, line) in lines.iter().take(usize::from(rows)).enumerate() {
        let end = if n == 0 { "" } else { "\r\n" };
        frame += &format!("{end}{line}\x1b[K");
    }
    frame + "\x1b[J"
}

/// Hands pressed keys to the picture. `true`: the user leaves, or the terminal is gone.
fn press(picture: &mut impl Picture) -> Result<bool> {
    let mut keys = [0; 64];
    match rustix::io::read(io::stdin(), &mut keys) {
        Ok(0) => Ok(true),
        Ok(n) => Ok(keys[..n].iter().any(|key| picture.key(*key))),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(false),
        Err(why) => Err(io::Error::from(why).into()),
    }
}

/// The terminal as we need it; dropping it sets it back.
struct Screen {
    before: Termios,
}

/// The other screen, without a cursor.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
const LEAVE: &[u8] = b"\x1b[?25h\x1b[?1049l";

impl Screen {
    fn take() -> Result<Screen> {
        let before = tcgetattr(io::stdin()).map_err(io::Error::from)?;
        let mut now = before.clone();
        now.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Now, &now).map_err(io::Error::from)?;
        let screen = Screen { before };
        out::bytes(&mut io::stdout().lock(), ENTER)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing any more.
        let _ = out::bytes(&mut io::stdout().lock(), LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}
