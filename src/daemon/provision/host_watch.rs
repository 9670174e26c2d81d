//! A thread that hears of changes of the host's network, and has our part of it put right.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crossbeam_channel::bounded;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::network::NetworkError;
use crate::network::uplink::Uplink;
use crate::sys::netlink::Events;
use crate::sys::thread::unshare_fs;

/// News of one change come in crowds: so long nothing is looked at after the first.
const CROWD: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// The thread; it ends when this goes.
#[derive(Debug)]
pub(super) struct HostWatch {
    _end: OwnedFd,
}

impl HostWatch {
    /// Watches the calling thread's namespace. `look` is called after changes, until it says that it is over.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn start(look: impl Fn() -> bool + Send + 'static) -> Result<HostWatch, NetworkError> {
        let events = Uplink::events()?;
        let failed =
            |source: io::Error| NetworkError::Namespace { doing: "watch the host's network", source };
        let (end, ours) = pipe_with(PipeFlags::CLOEXEC).map_err(|why| failed(why.into()))?;
        let thread = std::thread::Builder::new().name("host-network".into());
        let (apart, is_apart) = bounded(1);
        let watch = move || {
            // A spawner starts us, which joins mount namespaces: it may share its root with nobody (setns(2)).
            let own = unshare_fs();
            let goes_on = own.is_ok();
            let _ = apart.send(own);
            while goes_on && hears(&events, &end) && look() {}
        };
        thread.spawn(watch).map_err(failed)?;
        is_apart.recv().map_err(io::Error::other).flatten().map_err(failed)?;
        Ok(HostWatch { _end: ours })
    }
}

/// Waits for changes; `false` when the watch is over.
fn hears(events: &[Events; 2], end: &OwnedFd) -> bool {
    let [tables, links] = events;
    let mut fds =
        [tables.as_fd(), links.as_fd(), end.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    if poll(&mut fds, None).is_err_and(|why| why != rustix::io::Errno::INTR) {
        return false;
    }
    // Only the end of the watch cuts this short.
    let mut over = [PollFd::new(end, PollFlags::IN)];
    if poll(&mut over, Some(&CROWD)) != Ok(0) {
        return false;
    }
    events.iter().for_each(Events::clear);
    true
}
