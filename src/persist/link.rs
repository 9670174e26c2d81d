//! One end of a connection of the write socket: messages out and in, with descriptors beside them.
//!
//! A message with descriptors is a sendmsg(2) of its own: the kernel hands descriptors over with the first byte of it, and
//! a receiver reads no further in one call than to the end of what had them. So the sets of descriptors come in the order
//! of the SPOOL messages (unix(7), SCM_RIGHTS).

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mio::net::UnixStream;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, send, sendmsg,
};

use super::PersistError;
use super::frame::{Frame, FrameReader};

/// Most descriptors beside one message.
const DESCRIPTORS: usize = 4;
/// Bytes that one call reads.
const READ: usize = 64 << 10;
/// Bytes that may wait for a peer that does not read. Each job has a few messages of a hundred bytes.
const WAITING: usize = 16 << 20;

/// One message that has come.
#[derive(Debug)]
pub struct Received {
    /// The message itself.
    pub frame: Frame,
    /// The descriptors of a SPOOL; fewer than it names where this process has as many as it may have.
    pub descriptors: Vec<OwnedFd>,
}

/// A message that goes out.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    descriptors: Vec<OwnedFd>,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Link {
    socket: UnixStream,
    reader: FrameReader,
    /// The descriptors of SPOOL messages that have not come whole yet.
    sets: VecDeque<Vec<OwnedFd>>,
    out: VecDeque<Outgoing>,
    waiting: usize,
}

impl Link {
    /// A connection of this socket, which is non-blocking, with messages of so many bytes at most.
    pub fn new(socket: UnixStream, longest: usize) -> Self {
        let (sets, out) = Default::default();
        Link { socket, reader: FrameReader::new(longest), sets, out, waiting: 0 }
    }

    /// The socket, to be watched.
    pub fn socket(&mut self) -> &mut UnixStream {
        &mut self.socket
    }

    /// Whether a message has begun to come and has not ended.
    pub fn is_inside(&self) -> bool {
        self.reader.is_inside()
    }

    /// Whether messages wait for room in the socket.
    pub fn has_waiting(&self) -> bool {
        !self.out.is_empty()
    }

    /// Sends a message, with descriptors of which the peer gets copies. Bytes that do not fit into the socket wait until
    /// [`Link::flush`].
    ///
    /// # Errors
    /// The connection is broken, or its peer does not read.
    pub fn send(&mut self, frame: &Frame, descriptors: Vec<OwnedFd>) -> Result<(), PersistError> {
        let bytes = frame.encode();
        self.waiting += bytes.len();
        if self.waiting > WAITING {
            return Err(PersistError::Link(io::Error::other("the peer does not read")));
        }
        self.out.push_back(Outgoing { bytes, sent: 0, descriptors });
        self.flush()
    }

    /// Sends what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush(&mut self) -> Result<(), PersistError> {
        while let Some(first) = self.out.front_mut() {
            let sent = if first.descriptors.is_empty() {
                send(&self.socket, &first.bytes[first.sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
            } else {
                send_with(self.socket.as_fd(), &first.bytes, &first.descriptors)
            };
            match sent {
                Ok(sent) => {
                    // They have gone with the first byte.
                    first.descriptors.clear();
                    first.sent += sent;
                    self.waiting -= sent;
                    if first.sent == first.bytes.len() {
                        self.out.pop_front();
                    }
                }
                // Too many descriptors are under way (unix(7), ETOOMANYREFS): the peer takes them as it reads.
                Err(Errno::AGAIN | Errno::TOOMANYREFS) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(why) => return Err(PersistError::Link(why.into())),
            }
        }
        Ok(())
    }

    /// Reads once. `false`: nothing is there.
    ///
    /// # Errors
    /// The connection is broken or has ended.
    pub fn receive(&mut self) -> Result<bool, PersistError> {
        let mut buffer = [0; READ];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let read = match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags) {
            Ok(read) => read,
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::INTR) => return Ok(true),
            Err(why) => return Err(PersistError::Link(why.into())),
        };
        let mut set = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                set.extend(descriptors);
            }
        }
        // Without room for descriptors in this process they are gone, and nothing but this flag says so (recvmsg(2)).
        if !set.is_empty() || read.flags.contains(ReturnFlags::CTRUNC) {
            self.sets.push_back(set);
        }
        if read.bytes == 0 {
            return Err(PersistError::Link(io::ErrorKind::UnexpectedEof.into()));
        }
        self.reader.push(&buffer[..read.bytes]);
        Ok(true)
    }

    /// The next message that has come whole.
    ///
    /// # Errors
    /// Something that is no message; nothing behind it can be read.
    pub fn next_message(&mut self) -> Result<Option<Received>, PersistError> {
        let Some(frame) = self.reader.next_frame()? else { return Ok(None) };
        let descriptors = match frame {
            Frame::Spool { .. } => self
                .sets
                .pop_front()
                .ok_or_else(|| PersistError::Frame("a spool came without its descriptors".into()))?,
            _ => Vec::new(),
        };
        Ok(Some(Received { frame, descriptors }))
    }
}

fn send_with(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[OwnedFd]) -> rustix::io::Result<usize> {
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(Errno::INVAL);
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    use super::super::frame::{Files, Reached};
    use super::*;
    use crate::job::JobId;

    fn pair() -> (Link, Link) {
        let (a, b) = UnixStream::pair().unwrap();
        (Link::new(a, 1 << 20), Link::new(b, 1 << 20))
    }

    fn file(text: &str) -> OwnedFd {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.into()
    }

    fn text(descriptor: &OwnedFd) -> String {
        let mut file = File::from(descriptor.try_clone().unwrap());
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    fn all(link: &mut Link) -> Vec<Received> {
        let mut got = Vec::new();
        while link.receive().unwrap() {
            got.extend(std::iter::from_fn(|| link.next_message().unwrap()));
        }
        got
    }

    #[test]
    fn descriptors_arrive_with_their_own_messages() {
        let (mut a, mut b) = pair();
        let spool =
            |job, files| Frame::Spool { job, reached: Reached::default(), released: 0, created_ns: 1, files };
        let jobs = [JobId::random(), JobId::random()];
        let rows = |job| Frame::Rows { job, reached: Reached { rows: 1, sample_bytes: 2 } };
        a.send(&rows(jobs[0]), vec![]).unwrap();
        a.send(&spool(jobs[0], Files::INDEX.with(Files::STDOUT)), vec![file("one"), file("two")]).unwrap();
        a.send(&rows(jobs[1]), vec![]).unwrap();
        a.send(&spool(jobs[1], Files::INDEX), vec![file("three")]).unwrap();
        let got = all(&mut b);
        let texts: Vec<Vec<String>> = got.iter().map(|r| r.descriptors.iter().map(text).collect()).collect();
        assert_eq!(
            texts,
            [vec![], vec!["one".to_owned(), "two".to_owned()], vec![], vec!["three".to_owned()]]
        );
        assert_eq!(got[2].frame, rows(jobs[1]));
    }

    #[test]
    fn messages_wait_for_a_slow_peer_and_all_arrive() {
        let (mut a, mut b) = pair();
        let frame = Frame::Hello { boot_id: "x".repeat(5000), instance: String::new() };
        for _ in 0..200 {
            a.send(&frame, vec![]).unwrap();
        }
        assert!(a.has_waiting());
        let mut got = 0;
        while got < 200 {
            got += all(&mut b).len();
            a.flush().unwrap();
        }
        assert!(!a.has_waiting() && !b.is_inside());
        drop(a);
        assert!(b.receive().is_err());
    }
}
