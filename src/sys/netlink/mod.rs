//! Conversations with the kernel over netlink(7): a socket, a batch of messages, the answers.
//!
//! A socket belongs to the network namespace in which its thread was when it was opened, whatever namespace its user is
//! in later. The kernel works on a request within the send(2) that brings it, so that the answers wait when that returns.
//! [`batch`] writes messages and reads attributes; [`link`] has the messages of rtnetlink(7) that networks are made of;
//! `sys/nftables` has those of the packet filter.

pub mod batch;
pub mod link;
pub mod queue;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::raw::{errno, syscall};
use batch::{Batch, attributes, u32_at};

/// Message types of every family (linux/netlink.h): an errno or an acknowledgement, and the end of a dump.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The text of an extended answer, an attribute of it.
const EXT_ACK_TEXT: u16 = 1;
/// The answer has no copy of the request, and it has attributes.
const CAPPED: u16 = 0x100;
const HAS_TEXT: u16 = 0x200;
/// A dump that something changed meanwhile.
const INTERRUPTED: u16 = 0x10;
/// Bytes read at a time: the kernel fills no more than 32 KiB of a dump into one answer.
const BUFFER: usize = 64 << 10;
/// How often a dump is begun again after a change in the middle of it.
const DUMPS: usize = 20;

/// An answer that was not "done", or no answer.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket could not be opened.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// The request could not be sent.
    #[error("cannot send to the kernel: {0}")]
    Send(#[source] io::Error),
    /// The answer could not be read.
    #[error("cannot read the kernel's answer: {0}")]
    Receive(#[source] io::Error),
    /// The kernel refused a message of the batch.
    #[error("{}", refusal(*.errno, .text))]
    Refused {
        /// Place of the message in its batch, from 0.
        message: usize,
        /// The kernel's errno, positive.
        errno: i32,
        /// The kernel's own words, empty where it has none.
        text: String,
    },
    /// The kernel did not say that all is done: a batch of nftables without an end, for example.
    #[error("the kernel did not confirm the change")]
    Unconfirmed,
    /// The table changed during each of several dumps.
    #[error("the list changed while it was read, {DUMPS} times")]
    Restless,
}

impl NetlinkError {
    /// The errno of a refusal.
    pub fn errno(&self) -> Option<i32> {
        match self {
            NetlinkError::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

fn refusal(errno: i32, text: &str) -> String {
    let why = Errno::from_raw_os_error(errno);
    let why = io::Error::from(why);
    if text.is_empty() { why.to_string() } else { format!("{why}: {text}") }
}

/// The netlink families in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Interfaces, addresses and routes: rtnetlink(7).
    Route,
    /// The packet filter.
    Netfilter,
}

/// A netlink socket of the namespace in which it was opened.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl From<OwnedFd> for Socket {
    /// A socket that another process opened.
    fn from(fd: OwnedFd) -> Self {
        Socket { fd, sequence: 1 }
    }
}

impl Socket {
    /// Opens one in the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel lacks the family, or the process has no descriptor left.
    pub fn open(family: Family) -> Result<Socket, NetlinkError> {
        let protocol = match family {
            Family::Route => None,
            Family::Netfilter => Some(rustix::net::netlink::NETFILTER),
        };
        Socket::open_protocol(protocol).map_err(NetlinkError::Open)
    }

    fn open_protocol(protocol: Option<Protocol>) -> io::Result<Socket> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let fd = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?;
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            set_option(fd.as_fd(), option)?;
        }
        // An answer for each of a hundred messages has to find room.
        rustix::net::sockopt::set_socket_recv_buffer_size(&fd, 1 << 20)?;
        Ok(Socket { fd, sequence: 1 })
    }

    /// Numbers that no earlier request of this socket had, for so many messages: a child of the owner may send them.
    pub fn reserve(&mut self, messages: usize) -> u32 {
        let first = self.sequence;
        // 0 is left out, so that a number is never taken for "none".
        self.sequence = first.checked_add(messages as u32).unwrap_or(1);
        first
    }

    /// Sends a batch and takes its answers. The kernel goes on behind a message of rtnetlink that it refuses; a batch
    /// of nftables changes all or nothing.
    ///
    /// # Errors
    /// The first refusal; or no word of success.
    pub fn talk(&mut self, batch: &mut Batch) -> Result<(), NetlinkError> {
        let first = self.send(batch)?;
        let mut buffer = vec![0; BUFFER];
        let mut confirmed = false;
        let mut refused = None;
        while let Some(length) = self.receive(&mut buffer, RecvFlags::DONTWAIT)? {
            for answer in Answers(buffer.get(..length).unwrap_or_default()) {
                let Some(message) = answer.place(first, batch.len()) else { continue };
                match answer.verdict() {
                    Some(Ok(())) => confirmed |= Some(message) == batch.confirmed(),
                    Some(Err((errno, text))) if refused.is_none() => {
                        refused = Some(NetlinkError::Refused { message, errno, text });
                    }
                    _ => {}
                }
            }
        }
        match refused {
            Some(refused) => Err(refused),
            None if confirmed => Ok(()),
            None => Err(NetlinkError::Unconfirmed),
        }
    }

    /// Sends a request for a list and gives each entry (its type and its bytes behind the header) to `entry`.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn dump<T>(
        &mut self,
        request: &mut Batch,
        mut entry: impl FnMut(u16, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMPS {
            let first = self.send(request)?;
            if let Some(entries) = self.entries(first, &mut entry)? {
                return Ok(entries);
            }
        }
        Err(NetlinkError::Restless)
    }

    /// The entries of one dump; `None` where something changed in the middle of it.
    fn entries<T>(
        &mut self,
        first: u32,
        entry: &mut impl FnMut(u16, &[u8]) -> Option<T>,
    ) -> Result<Option<Vec<T>>, NetlinkError> {
        let mut buffer = vec![0; BUFFER];
        let (mut found, mut torn) = (Vec::new(), false);
        loop {
            let length = self.receive(&mut buffer, RecvFlags::empty())?.unwrap_or(0);
            for answer in Answers(buffer.get(..length).unwrap_or_default()) {
                if answer.place(first, 1).is_none() {
                    continue;
                }
                torn |= answer.flags & INTERRUPTED != 0;
                match answer.verdict() {
                    Some(Err((errno, text))) => {
                        return Err(NetlinkError::Refused { message: 0, errno, text });
                    }
                    Some(Ok(())) => return Ok((!torn).then_some(found)),
                    None => found.extend(entry(answer.kind, answer.body)),
                }
            }
        }
    }

    fn send(&mut self, batch: &mut Batch) -> Result<u32, NetlinkError> {
        let first = self.reserve(batch.len());
        let bytes = batch.numbered(first);
        let sent = rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, bytes, SendFlags::empty()));
        sent.map_err(|why| NetlinkError::Send(why.into()))?;
        Ok(first)
    }

    /// The length of the next answer; `None` where none waits.
    fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<Option<usize>, NetlinkError> {
        match rustix::io::retry_on_intr(|| rustix::net::recv(&self.fd, &mut *buffer, flags)) {
            Ok((length, _)) => Ok(Some(length)),
            Err(Errno::AGAIN) => Ok(None),
            Err(why) => Err(NetlinkError::Receive(why.into())),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn set_option(socket: BorrowedFd<'_>, option: i32) -> io::Result<()> {
    let on = 1i32;
    let args = [
        socket.as_raw_fd() as usize,
        libc::SOL_NETLINK as usize,
        option as usize,
        &raw const on as usize,
        size_of::<i32>(),
        0,
    ];
    // SAFETY: `on` lives until the call returns, and the size passed is its own size.
    errno(unsafe { syscall(libc::SYS_setsockopt, args) }).map(drop).map_err(io::Error::from_raw_os_error)
}

/// One message of an answer.
#[derive(Debug)]
struct Answer<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Answer<'_> {
    /// The place, in a batch of so many messages from the sequence `first`, of the one that this answers.
    fn place(&self, first: u32, messages: usize) -> Option<usize> {
        let place = self.sequence.wrapping_sub(first) as usize;
        (place < messages).then_some(place)
    }

    /// Success, or the errno and the kernel's words; `None` where this is no verdict but an entry.
    fn verdict(&self) -> Option<Result<(), (i32, String)>> {
        if self.kind != ERROR && self.kind != DONE {
            return None;
        }
        let errno = u32_at(self.body, 0).unwrap_or(0).cast_signed();
        Some(if errno == 0 { Ok(()) } else { Err((-errno, self.text())) })
    }

    /// The text of an extended answer. It follows the errno and, where that is, the request.
    fn text(&self) -> String {
        if self.flags & HAS_TEXT == 0 {
            return String::new();
        }
        let request = match (self.kind, self.flags & CAPPED) {
            (DONE, _) => 0,
            (_, 0) => u32_at(self.body, 4).unwrap_or(0) as usize,
            _ => HEADER,
        };
        let rest = self.body.get(4 + batch::aligned(request)..).unwrap_or_default();
        let text = attributes(rest).find(|(kind, _)| *kind == EXT_ACK_TEXT);
        let text = text.map(|(_, text)| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
        text.unwrap_or_default()
    }
}

/// Bytes of a `struct nlmsghdr`.
const HEADER: usize = 16;

/// The messages of one read.
struct Answers<'a>(&'a [u8]);

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let length = u32_at(self.0, 0)? as usize;
        let message = self.0.get(..length).filter(|message| message.len() >= HEADER)?;
        self.0 = self.0.get(batch::aligned(length)..).unwrap_or_default();
        let half = |at: usize| u16::from_ne_bytes([message[at], message[at + 1]]);
        let sequence = u32_at(message, 8)?;
        Some(Answer { kind: half(4), flags: half(6), sequence, body: &message[HEADER..] })
    }
}

/// A socket that hears of changes in the namespace in which it was opened.
#[derive(Debug)]
pub struct Events(OwnedFd);

impl Events {
    /// Opens one for some multicast groups of the family, by their numbers, 1 to 32.
    ///
    /// # Errors
    /// The kernel lacks the family or a group.
    pub fn open(family: Family, groups: &[u32]) -> Result<Events, NetlinkError> {
        let socket = Socket::open(family)?;
        let groups = groups.iter().fold(0, |all, group| all | 1 << (group - 1));
        let address = rustix::net::netlink::SocketAddrNetlink::new(0, groups);
        rustix::net::bind(&socket.fd, &address).map_err(|why| NetlinkError::Open(why.into()))?;
        Ok(Events(socket.fd))
    }

    /// Takes all waiting messages away. The caller looks up what has changed: the kernel drops messages that find no room.
    pub fn clear(&self) {
        let mut buffer = [0; 4096];
        loop {
            match rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::DONTWAIT) {
                // ENOBUFS: news was dropped.
                Ok(_) | Err(Errno::NOBUFS | Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Pause between two tries for a name that is taken.
const BETWEEN_TRIES: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// Tries `attempt` until it succeeds or its refusal is another one than `errno`, for so long at most: the kernel takes
/// namespaces apart on a worker of its own, and names come free with that.
///
/// # Errors
/// The last refusal.
pub fn until_free<T>(
    bound: Duration,
    errno: i32,
    mut attempt: impl FnMut() -> Result<T, NetlinkError>,
) -> Result<T, NetlinkError> {
    let end = Instant::now() + bound;
    loop {
        match attempt() {
            Err(why) if why.errno() == Some(errno) && Instant::now() < end => {
                // Nothing tells of a name that comes free but the next try.
                let _ = rustix::event::poll(&mut [], Some(&BETWEEN_TRIES));
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer to the second message: EEXIST, capped, with a text.
    fn refusal_with_text() -> Vec<u8> {
        let text = b"File exists, really\0";
        let mut bytes = Vec::new();
        let length = HEADER + 4 + HEADER + 4 + text.len();
        bytes.extend((length as u32).to_ne_bytes());
        bytes.extend(ERROR.to_ne_bytes());
        bytes.extend((CAPPED | HAS_TEXT).to_ne_bytes());
        bytes.extend(8u32.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend((-libc::EEXIST).to_ne_bytes());
        bytes.extend([0; HEADER]);
        bytes.extend((4 + text.len() as u16).to_ne_bytes());
        bytes.extend(EXT_ACK_TEXT.to_ne_bytes());
        bytes.extend(text);
        bytes
    }

    #[test]
    fn refusal_names_its_message_and_the_kernels_words() {
        let bytes = refusal_with_text();
        let answer = Answers(&bytes).next().unwrap();
        assert_eq!(answer.place(7, 3), Some(1));
        assert_eq!(answer.place(7, 1), None, "another batch's");
        let why = answer.verdict().unwrap().unwrap_err();
        assert_eq!(why, (libc::EEXIST, "File exists, really".to_owned()));
        let said = NetlinkError::Refused { message: 1, errno: why.0, text: why.1 }.to_string();
        assert_eq!(said, "File exists (os error 17): File exists, really");
    }

    #[test]
    fn real_socket_refuses_what_the_kernel_does_not_know() {
        let mut socket = Socket::open(Family::Route).unwrap();
        let mut batch = Batch::default();
        batch.message(u16::MAX, 0, &[0; 16], |_| {});
        let why = socket.talk(&mut batch.confirm()).unwrap_err();
        assert_eq!(why.errno(), Some(libc::EOPNOTSUPP), "{why}");
    }

    proptest! {
        #[test]
        fn reading_any_bytes_as_answers_ends(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for answer in Answers(&bytes) {
                let _ = (answer.verdict(), attributes(answer.body).count());
            }
        }

        #[test]
        fn damaged_answers_never_panic(at in 0usize..80, byte in any::<u8>()) {
            let mut bytes = refusal_with_text();
            let at = at % bytes.len();
            bytes[at] = byte;
            for answer in Answers(&bytes) {
                let _ = answer.verdict();
            }
        }
    }
}
