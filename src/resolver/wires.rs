//! Whether the router has jobs: by its addresses, which every process may list.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use super::protocol::within;
use crate::sys::netlink::{Socket, link};

/// The router's end of each wire has an address of this range, and nothing else has.
const ENDS: (Ipv4Addr, u8) = (Ipv4Addr::new(169, 254, 128, 0), 17);

/// A socket of the router.
#[derive(Debug)]
pub(super) struct Wires(Socket);

impl Wires {
    /// Takes a socket of rtnetlink(7) that was opened in the router.
    pub(super) fn new(socket: OwnedFd) -> Self {
        Wires(Socket::from(socket))
    }

    /// Whether a wire is there. Where the kernel does not say, one is.
    pub(super) fn are_there(&mut self) -> bool {
        let addresses = self.0.dump(&mut link::get_addresses(), link::address_entry);
        addresses.map_or(true, |all| all.iter().any(|address| within(ENDS, address.local)))
    }
}
