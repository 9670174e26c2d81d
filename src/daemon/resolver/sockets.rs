//! The sockets that front and pin get, made where they belong.

use std::io;
use std::net::{SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with, socketpair,
    sockopt,
};

use crate::network::rules::RESOLVER;
use crate::resolver::Packets;
use crate::sys::netlink::{Family, NetlinkError, Socket};
use crate::sys::thread::{join_network, unshare_fs};

const PORT: u16 = 53;
/// Bytes of questions that wait. The router lets 400 of a job through at once, which are 300 KiB with what the kernel adds: in
/// the usual room those of one job would displace all others.
const ROOM: usize = 8 << 20;

/// Sockets of the router.
#[derive(Debug)]
pub(super) struct OfRouter {
    /// For questions over UDP.
    pub(super) udp: OwnedFd,
    /// For questions over TCP.
    pub(super) tcp: OwnedFd,
    /// Lists the router's addresses.
    pub(super) links: Socket,
    /// Changes the router's sets.
    pub(super) filter: Socket,
}

/// Makes the sockets of the router, on a thread that goes there.
///
/// # Errors
/// The system's refusal: another resolver has the address, for example.
pub(super) fn of_router(router: BorrowedFd<'_>) -> io::Result<OfRouter> {
    let make = || {
        unshare_fs()?;
        join_network(router)?;
        let address = SocketAddrV4::new(RESOLVER, PORT);
        let refused = |why: NetlinkError| io::Error::other(why.to_string());
        let udp: OwnedFd = UdpSocket::bind(address)?.into();
        // Where the daemon may not, the usual room is there.
        let _ = sockopt::set_socket_recv_buffer_size_force(&udp, ROOM);
        Ok(OfRouter {
            udp,
            tcp: TcpListener::bind(address)?.into(),
            links: Socket::open(Family::Route).map_err(refused)?,
            filter: Socket::open(Family::Netfilter).map_err(refused)?,
        })
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("resolver-sockets".into()).spawn_scoped(scope, make)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn packets() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// The way between front and pin.
///
/// # Errors
/// The system's refusal.
pub(super) fn between() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// The socket at which front hears daemons, in place of one that is left there. Its directory is ours alone.
///
/// # Errors
/// The system's refusal.
pub(super) fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let socket = packets()?;
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, 8)?;
    Ok(socket)
}

/// Connects with front.
///
/// # Errors
/// Nobody listens there.
pub(super) fn connect_to(path: &Path) -> io::Result<Packets> {
    let socket = packets()?;
    // Room for a whole list, and for some of them.
    let _ = sockopt::set_socket_send_buffer_size(&socket, 1 << 20);
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(Packets::new(socket))
}

impl OfRouter {
    /// Those of front, besides the others that it gets.
    pub(super) fn of_front(&self) -> [BorrowedFd<'_>; 3] {
        [self.udp.as_fd(), self.tcp.as_fd(), self.links.as_fd()]
    }
}
