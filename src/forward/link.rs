//! One connection that is carried: its near end, its far end in the job, and the two directions between them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::CHUNK;
use super::job_network::JobNetwork;
use super::permits::LinkPermit;
use super::shared::{Direction, Element, LinkError, Shared, State};
use super::socket::{Got, Socket};

/// Checks whether the client of a call may go on.
pub(super) type Recheck = Box<dyn Fn() -> bool + Send>;

/// The end of a link outside the job.
pub(super) enum Near {
    /// A call, which shares the state.
    Call(Recheck),
    /// A connection to a port of the host.
    Socket(Socket),
}

/// A connection with both of its ends.
pub(super) struct Link {
    pub(super) network: Arc<JobNetwork>,
    pub(super) near: Near,
    pub(super) far: Option<Socket>,
    pub(super) shared: Arc<Shared>,
    /// Addresses inside that are tried next, where the one before refuses.
    pub(super) targets: VecDeque<SocketAddr>,
    /// When it is given up: while it connects, or when its job has ended.
    pub(super) deadline: Option<Instant>,
    /// The part of a chunk that its socket had no room for.
    inward: Rest,
    outward: Rest,
    /// Whether the job's side broke it off.
    broken: bool,
    /// Counts as long as the link has it.
    _permit: LinkPermit,
}

/// The state of a link after its turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    /// A socket or the call wakes it.
    Idle,
    /// It has more to do.
    Again,
    /// It has ended.
    Over(Result<(), LinkError>),
}

#[derive(Debug, Default)]
struct Rest {
    bytes: Vec<u8>,
    written: usize,
}

impl Link {
    /// A link that has no far end yet.
    pub(super) fn new(
        network: Arc<JobNetwork>,
        near: Near,
        shared: Arc<Shared>,
        targets: VecDeque<SocketAddr>,
        permit: LinkPermit,
    ) -> Self {
        let (inward, outward) = Default::default();
        Link {
            network,
            near,
            far: None,
            shared,
            targets,
            deadline: None,
            inward,
            outward,
            broken: false,
            _permit: permit,
        }
    }

    /// Whether both of its ends are connected.
    pub(super) fn is_open(&self) -> bool {
        self.shared.lock().opened
    }

    /// The job's side is connected.
    pub(super) fn open(&mut self) {
        // One of an ended job stays.
        self.deadline = self.deadline.filter(|_| self.network.is_closed());
        self.shared.lock().opened = true;
        self.shared.wake();
    }

    /// Moves at most one chunk each way.
    pub(super) fn advance(&mut self, buffer: &mut [u8; CHUNK]) -> After {
        self.shared.lock().notified = false;
        let Some(far) = &mut self.far else { return After::Idle };
        let mut moved = false;
        if let Near::Socket(near) = &mut self.near {
            match read_into(near, &self.shared, |state| &mut state.inward, buffer) {
                Ok(any) => moved |= any,
                // Its client is gone: the job hears of that as a failure too.
                Err(_) => return After::Over(Err(LinkError::Reset)),
            }
        }
        if let Err(why) =
            write_on(&mut self.inward, far, &self.shared, |state| &mut state.inward).map(|any| moved |= any)
        {
            // The job's earlier bytes are still read. A side that had closed before breaks nothing off (EPIPE).
            self.broken |= why.kind() == io::ErrorKind::ConnectionReset;
            self.inward = Rest::default();
            self.shared.lock().inward.discard();
            moved = true;
        }
        match read_into(far, &self.shared, |state| &mut state.outward, buffer) {
            Ok(any) => moved |= any,
            // With the job its connections end: that is no failure.
            Err(_) if self.network.has_ended() => {
                self.shared.lock().outward.end();
                moved = true;
            }
            Err(_) => return After::Over(Err(LinkError::Reset)),
        }
        if self.broken && self.shared.lock().outward.has_ended() && !self.network.has_ended() {
            return After::Over(Err(LinkError::Reset));
        }
        if let Near::Socket(near) = &mut self.near {
            match write_on(&mut self.outward, near, &self.shared, |state| &mut state.outward) {
                Ok(any) => moved |= any,
                Err(_) => return After::Over(Err(LinkError::Reset)),
            }
        }
        self.after(moved)
    }

    fn after(&self, moved: bool) -> After {
        let (inward, outward) = {
            let state = self.shared.lock();
            (state.inward.is_over(), state.outward.is_over())
        };
        if outward && (inward || self.network.is_closed() || self.network.has_ended()) {
            return After::Over(Ok(()));
        }
        if moved {
            self.shared.wake();
            return After::Again;
        }
        After::Idle
    }

    /// Ends the link, and tells both of its ends how.
    pub(super) fn end(self, how: Result<(), LinkError>) {
        let failed = how.is_err();
        self.shared.lock().over.get_or_insert(how);
        self.shared.wake();
        if failed {
            if let Near::Socket(near) = self.near {
                near.reset();
            }
            if let Some(far) = self.far {
                far.reset();
            }
        }
    }
}

/// Reads a chunk into a direction that has room; whether there was anything.
fn read_into(
    from: &mut Socket,
    shared: &Shared,
    direction: fn(&mut State) -> &mut Direction,
    buffer: &mut [u8; CHUNK],
) -> io::Result<bool> {
    if !direction(&mut shared.lock()).has_room() {
        return Ok(false);
    }
    match from.read(buffer)? {
        Got::Nothing => return Ok(false),
        Got::End => direction(&mut shared.lock()).end(),
        Got::Bytes(read) => {
            let chunk = buffer.get(..read).unwrap_or_default().to_vec();
            direction(&mut shared.lock()).put(chunk);
        }
    }
    Ok(true)
}

/// Writes what a direction has; whether there was anything.
fn write_on(
    rest: &mut Rest,
    to: &mut Socket,
    shared: &Shared,
    direction: fn(&mut State) -> &mut Direction,
) -> io::Result<bool> {
    let mut moved = false;
    if rest.written == rest.bytes.len() {
        let mut state = shared.lock();
        let direction = direction(&mut state);
        match direction.take() {
            Element::Nothing => return Ok(false),
            Element::End => {
                drop(state);
                to.end();
                return Ok(true);
            }
            Element::Chunk(bytes) => {
                direction.set_writing(true);
                *rest = Rest { bytes, written: 0 };
                moved = true;
            }
        }
    }
    let written = to.write(rest.bytes.get(rest.written..).unwrap_or_default())?;
    rest.written += written;
    if rest.written == rest.bytes.len() {
        *rest = Rest::default();
        direction(&mut shared.lock()).set_writing(false);
        shared.wake();
    }
    Ok(moved || written > 0)
}
