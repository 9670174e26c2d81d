//! Errors of networks, named after what was tried.

use std::io;
use std::net::Ipv4Addr;

use crate::sys::netlink::NetlinkError;

/// The cause for which a network could not be made, changed or leased from.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The text is no range of addresses.
    #[error("{text:?} is no range of IPv4 addresses: {why}; write one like 10.50.0.0/16")]
    Range {
        /// The text that was given.
        text: String,
        /// The reason, as a clause.
        why: String,
    },
    /// The range has addresses that belong to somebody else.
    #[error("{range} overlaps {with}; choose another range")]
    Overlap {
        /// The requested range.
        range: String,
        /// The owner of the addresses, with its range.
        with: String,
    },
    /// There is a network of that name.
    #[error("network {0:?} exists already")]
    Exists(String),
    /// There is no network of that name.
    #[error("network {0:?} does not exist; see: rnx network list")]
    Unknown(String),
    /// The network is the node's own.
    #[error("network {0:?} is built in and cannot be removed")]
    BuiltIn(String),
    /// There are as many networks as the configuration allows.
    #[error("there are {0} networks already, as many as network.max_custom_networks allows")]
    Full(usize),
    /// All addresses of the network are in use.
    #[error("network {network:?} has no free address: {used} jobs use all of {range}")]
    NoAddress {
        /// The network's name.
        network: String,
        /// Its range, as text.
        range: String,
        /// Addresses in use.
        used: usize,
    },
    /// As many wires exist as can be numbered.
    #[error("{0} jobs have a network already, as many as one host can have")]
    NoWire(usize),
    /// The address or the wire of an earlier daemon's job is another job's.
    #[error("the address {0} is in use twice")]
    Twice(Ipv4Addr),
    /// A namespace could not be made or entered.
    #[error("cannot {doing}: {source}")]
    Namespace {
        /// The attempt, as a verb and its object.
        doing: &'static str,
        /// The kernel's refusal.
        source: io::Error,
    },
    /// A setting could not be written.
    #[error("cannot write {value:?} to {path}: {source}")]
    Setting {
        /// The path of its file.
        path: String,
        /// The value that was to be written.
        value: &'static str,
        /// The kernel's refusal.
        source: io::Error,
    },
    /// The kernel refused a change.
    #[error("cannot {doing}: {source}")]
    Change {
        /// The attempt, as a verb and its object.
        doing: String,
        /// The kernel's answer.
        source: NetlinkError,
    },
    /// An interface of our name is there, and it is not ours.
    #[error(
        "cannot connect jobs with the host: an interface {0:?} exists already and is not joblet's; rename or remove it"
    )]
    Taken(&'static str),
}

/// Names the attempt in a refusal.
pub(super) fn changing<T>(
    done: Result<T, NetlinkError>,
    doing: impl Into<String>,
) -> Result<T, NetworkError> {
    done.map_err(|source| NetworkError::Change { doing: doing.into(), source })
}
