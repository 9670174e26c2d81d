//! The host's name servers, and one question to one of them: over UDP from a port that the kernel picks at random for
//! this question alone, or over TCP.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};

use super::frames::{Frames, framed};

/// Longest answer over TCP.
const LONGEST: usize = 65_535;

/// The name servers of the host.
#[derive(Debug, Default)]
pub(super) struct Servers {
    all: Vec<SocketAddr>,
    /// The one that answered last.
    first: usize,
}

impl Servers {
    /// Takes other name servers.
    pub(super) fn replace(&mut self, all: Vec<SocketAddr>) {
        if self.all != all {
            *self = Servers { all, first: 0 };
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The one for this try of a question, from 0, and its number.
    pub(super) fn of_try(&self, n: usize) -> Option<(usize, SocketAddr)> {
        let number = (self.first + n).checked_rem(self.all.len())?;
        Some((number, self.all[number]))
    }

    /// That one answers.
    pub(super) fn answers(&mut self, number: usize) {
        if number < self.all.len() {
            self.first = number;
        }
    }
}

/// A question that is with a name server.
#[derive(Debug)]
pub(super) enum Link {
    /// One datagram over UDP.
    Udp(UdpSocket),
    /// A connection over TCP.
    Tcp {
        /// The connection to the name server.
        stream: TcpStream,
        /// The bytes of the question that are not sent yet.
        left: Vec<u8>,
        /// The bytes of the answer.
        frames: Frames,
    },
}

impl Link {
    /// Asks a name server; events come under this token.
    ///
    /// # Errors
    /// The system's refusal.
    pub(super) fn ask(
        server: SocketAddr,
        tcp: bool,
        question: &[u8],
        registry: &Registry,
        token: Token,
    ) -> io::Result<Link> {
        if tcp {
            let mut stream = TcpStream::connect(server)?;
            registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            return Ok(Link::Tcp { stream, left: framed(question), frames: Frames::new(LONGEST) });
        }
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let mut socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        // Connected: the kernel drops what others send.
        socket.connect(server)?;
        socket.send(question)?;
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Link::Udp(socket))
    }

    /// The next message of the name server; `None`: not yet.
    ///
    /// # Errors
    /// It is not there, or has gone.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        match self {
            Link::Udp(socket) => match socket.recv(buffer) {
                Ok(length) => Ok(Some(buffer[..length].to_vec())),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(why) => Err(why),
            },
            Link::Tcp { stream, left, frames } => {
                while !left.is_empty() {
                    match stream.write(left) {
                        Ok(sent) => drop(left.drain(..sent)),
                        Err(why) if is_early(&why) => break,
                        Err(why) => return Err(why),
                    }
                }
                loop {
                    if let Some(message) = frames.take().map_err(|_| io::ErrorKind::InvalidData)? {
                        return Ok(Some(message));
                    }
                    match stream.read(buffer) {
                        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                        Ok(length) => frames.push(&buffer[..length]),
                        Err(why) if is_early(&why) => return Ok(None),
                        Err(why) => return Err(why),
                    }
                }
            }
        }
    }
}

/// The connection is not made yet, or has nothing.
fn is_early(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_tried_in_turn_from_the_one_that_answered_last() {
        let server = |n: u8| SocketAddr::from(([10, 0, 0, n], 53));
        let mut servers = Servers::default();
        assert_eq!(servers.of_try(0), None);
        servers.replace(vec![server(1), server(2), server(3)]);
        assert_eq!(servers.of_try(4), Some((1, server(2))));
        servers.answers(2);
        assert_eq!(servers.of_try(0), Some((2, server(3))));
        servers.replace(vec![server(1), server(2), server(3)]);
        assert_eq!(servers.of_try(1), Some((0, server(1))), "nothing has changed");
        servers.replace(vec![server(4)]);
        assert_eq!(servers.of_try(7), Some((0, server(4))));
    }
}
