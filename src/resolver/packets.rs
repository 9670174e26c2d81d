//! Records over Unix sockets of the kind SOCK_SEQPACKET: each comes whole or not at all.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send, sockopt};

/// One end of a connection. It never waits.
#[derive(Debug)]
pub struct Packets(OwnedFd);

impl Packets {
    /// Takes a socket that does not block.
    pub fn new(socket: OwnedFd) -> Self {
        Packets(socket)
    }

    /// Takes a connection that waits at a listener, of root or of this user; others are closed.
    pub fn accept(listener: BorrowedFd<'_>, user: u32) -> Option<Packets> {
        loop {
            let socket = accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).ok()?;
            let peer = sockopt::socket_peercred(&socket).ok()?.uid.as_raw();
            if peer == 0 || peer == user {
                return Some(Packets(socket));
            }
        }
    }

    /// Sends a record.
    ///
    /// # Errors
    /// There is no room for it now (`WouldBlock`), or the other end has gone.
    pub fn send(&self, record: &[u8]) -> io::Result<()> {
        send(&self.0, record, SendFlags::NOSIGNAL).map(drop).map_err(Into::into)
    }

    /// The next record; `None`: there is none now.
    ///
    /// # Errors
    /// The other end has gone, or a record is longer than the buffer.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match recv(&self.0, &mut *buffer, RecvFlags::TRUNC) {
            Ok((_, 0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, length)) if length > buffer.len() => Err(io::ErrorKind::InvalidData.into()),
            Ok((_, length)) => Ok(Some(&buffer[..length])),
            Err(Errno::AGAIN) => Ok(None),
            Err(why) => Err(why.into()),
        }
    }
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Packets {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketType, socketpair};

    #[test]
    fn records_come_whole_and_long_ones_end_the_connection() {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let (a, b) = (Packets::new(a), Packets::new(b));
        let mut buffer = [0; 8];
        assert_eq!(b.receive(&mut buffer).unwrap(), None);
        a.send(b"one").unwrap();
        a.send(b"two").unwrap();
        assert_eq!(b.receive(&mut buffer).unwrap(), Some(&b"one"[..]));
        assert_eq!(b.receive(&mut buffer).unwrap(), Some(&b"two"[..]));
        a.send(b"nine bytes").unwrap();
        assert_eq!(b.receive(&mut buffer).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(a);
        assert_eq!(b.receive(&mut buffer).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
