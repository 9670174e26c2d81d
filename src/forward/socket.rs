//! The sockets of links: nonblocking, with buffers of a fixed size.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// Bytes of each buffer of a socket that the kernel keeps for us. Without a bound of ours it would let a socket whose other
/// end does not read grow to many megabytes.
const BUFFER: usize = 208 << 10;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

fn new(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // Before connect and listen: the window is chosen then.
    sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    sockopt::set_socket_send_buffer_size(&socket, BUFFER)?;
    Ok(socket)
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

/// A socket of the calling thread's network that is connected to `address`, or on its way there.
pub(super) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = new(family(address))?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(why) => Err(why.into()),
    }
}

/// A listening socket of the calling thread's network, nonblocking. An IPv6 one takes no IPv4 connections. The port may
/// have connections of an earlier listener, but no other listener.
///
/// # Errors
/// The address is in use, is none of the host's, or may not be bound (bind(2)).
pub fn bind(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = new(family(address))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The next connection of a listening socket; `None` where none waits.
pub(super) fn accept(listener: &OwnedFd) -> io::Result<Option<TcpStream>> {
    match rustix::net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        Ok(accepted) => {
            // The other side may be a host that vanishes without a word.
            sockopt::set_socket_keepalive(&accepted, true)?;
            Ok(Some(TcpStream::from(accepted)))
        }
        Err(Errno::AGAIN) => Ok(None),
        // One that gave up meanwhile (accept(2), "Error handling").
        Err(Errno::CONNABORTED | Errno::INTR) => accept(listener),
        Err(why) => Err(why.into()),
    }
}

/// The answer of a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    Bytes(usize),
    End,
    Nothing,
}

/// A connected socket and what the poll has said of it.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    readable: bool,
    writable: bool,
}

impl Socket {
    /// Watches a socket from now on.
    pub(super) fn watch(stream: TcpStream, registry: &Registry, token: Token) -> io::Result<Self> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&stream.as_raw_fd()), token, interest)?;
        // Small writes go at once: nobody here waits for more.
        stream.set_nodelay(true)?;
        Ok(Socket { stream, readable: false, writable: false })
    }

    /// Notes an event of the poll.
    pub(super) fn note(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// The outcome of a connect that was under way; `None`: it still is.
    pub(super) fn connected(&self) -> Option<io::Result<()>> {
        if !self.writable && !self.readable {
            return None;
        }
        match self.stream.take_error() {
            Ok(Some(why)) | Err(why) => Some(Err(why)),
            Ok(None) => match self.stream.peer_addr() {
                Ok(_) => Some(Ok(())),
                Err(why) if why.kind() == io::ErrorKind::NotConnected => None,
                Err(why) => Some(Err(why)),
            },
        }
    }

    /// Reads what is there.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        if !self.readable {
            return Ok(Got::Nothing);
        }
        loop {
            return match self.stream.read(buffer) {
                Ok(0) => {
                    self.readable = false;
                    Ok(Got::End)
                }
                Ok(read) => Ok(Got::Bytes(read)),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    Ok(Got::Nothing)
                }
                Err(why) => Err(why),
            };
        }
    }

    /// Writes what finds room; 0 where nothing does.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.writable {
            return Ok(0);
        }
        loop {
            return match self.stream.write(bytes) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                    self.writable = false;
                    Ok(0)
                }
                written => written,
            };
        }
    }

    /// Says that nothing comes any more.
    pub(super) fn end(&self) {
        // The other end may be gone already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes it so that the other end hears of a failure, not of an end (tcp(7), SO_LINGER of 0 seconds).
    pub(super) fn reset(self) {
        let _ = sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
    }
}
