//! The sources of the loop's poll: typed tokens that are never reused, and registrations that end by drop.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::job::JobId;
use crate::job::exec::ExecId;

/// Something that the poll reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A mailbox has something.
    Mailbox,
    /// A signal has come.
    Signals,
    /// The timer of scheduled jobs has fired, or the clock was set.
    Schedule,
    /// PID 1 of this job has ended.
    Init(JobId),
    /// The report pipe of this job has its word.
    Report(JobId),
    /// The report pipe of this command in a job has its word.
    ExecReport(ExecId),
    /// This command in a job has ended.
    ExecDone(ExecId),
}

/// The token of the waker that all mailboxes of the loop share.
pub(super) const WAKE: Token = Token(0);
/// The token of the signalfd, which the loop owns from its beginning to its end.
pub(super) const SIGNALS: Token = Token(1);

/// All registrations of one poll.
#[derive(Clone)]
pub(super) struct Sources(Rc<Shared>);

struct Shared {
    registry: Registry,
    known: RefCell<HashMap<Token, Source>>,
    next: Cell<usize>,
}

impl Sources {
    /// Nothing is watched yet but the waker and the signals.
    pub(super) fn new(registry: Registry) -> Self {
        let known = RefCell::new(HashMap::from([(WAKE, Source::Mailbox), (SIGNALS, Source::Signals)]));
        Sources(Rc::new(Shared { registry, known, next: Cell::new(SIGNALS.0 + 1) }))
    }

    /// Watches a descriptor until the registration is dropped, and keeps it open as long.
    ///
    /// # Errors
    /// The kernel's refusal (epoll_ctl(2)); the descriptor is closed then.
    pub(super) fn watch(&self, source: Source, fd: OwnedFd) -> io::Result<Registered> {
        let token = Token(self.0.next.replace(self.0.next.get() + 1));
        self.0.registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        self.0.known.borrow_mut().insert(token, source);
        Ok(Registered { token, fd, shared: self.0.clone() })
    }

    /// The source behind a token; `None` where its registration is gone.
    pub(super) fn of(&self, token: Token) -> Option<Source> {
        self.0.known.borrow().get(&token).copied()
    }
}

/// A descriptor that is watched. Dropped, it is watched no more and closed.
pub(super) struct Registered {
    token: Token,
    fd: OwnedFd,
    shared: Rc<Shared>,
}

impl AsFd for Registered {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.known.borrow_mut().remove(&self.token);
        // A duplicate of the descriptor may live on elsewhere: closing ours would not end the registration (epoll(7)).
        let _ = self.shared.registry.deregister(&mut SourceFd(&self.fd.as_raw_fd()));
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registered({}, {:?})", self.token.0, self.fd)
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sources({})", self.0.known.borrow().len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll};
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[test]
    fn dropped_registration_reports_no_more() {
        let mut poll = Poll::new().unwrap();
        let sources = Sources::new(poll.registry().try_clone().unwrap());
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let duplicate = read.try_clone().unwrap();
        let registered = sources.watch(Source::Schedule, read).unwrap();
        rustix::io::write(&write, b"x").unwrap();
        let mut events = Events::with_capacity(4);
        let mut seen = || {
            poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
            events.iter().filter_map(|event| sources.of(event.token())).collect::<Vec<_>>()
        };
        assert_eq!(seen(), [Source::Schedule]);
        drop(registered);
        rustix::io::write(&write, b"x").unwrap();
        assert_eq!(seen(), []);
        drop(duplicate);
    }
}
