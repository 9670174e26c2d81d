//! The name service of jobs: the program `joblet-resolver`, which is two processes, and the wire to it.
//!
//! ```text
//!  jobs --- questions ---> 169.254.1.53 in the router                  the host's namespace
//!                             |                                               |
//!                          front (own user, no capability, no file) --- the host's name servers
//!                             |            ^
//!        records of 28 bytes  |            '--- which jobs there are, their names and lists --- joblet
//!                            pin (CAP_NET_ADMIN) --- the router's set of open addresses
//! ```
//!
//! *front* reads what jobs send, so it can do next to nothing: its listening sockets are of the router, those to name
//! servers of the host, so that one on the host's loopback works too. It knows a job by the source of its question, which
//! the router lets nobody forge. *pin* may change the router's sets, and reads nothing but records of a fixed size.
//!
//! * **Names of jobs** ([`askers`]) are answered for the jobs of the same network alone, and never sent on.
//! * **A job without a list** gets the answer of the host's name server as it is, once it fits the question.
//! * **A job with a list** hears at once that a name is blocked (NXDOMAIN with an extended error), and of listed names
//!   gets the records that it may have ([`sieve`]). Their addresses are in the router's set *before* the job has the
//!   answer ([`pinning`]), so it never meets a closed door.
//! * **Nothing waits**: one loop, a table of questions under way with a share for each job ([`flight`]), a time for each.
//! * **Both processes outlive the daemon**, which connects again and tells everything anew ([`protocol`]). When one ends,
//!   so does the other, and the daemon starts both. While they are away the router sends questions of jobs without a list
//!   to a name server of the host; those of jobs with one stay unanswered. Without a daemon and without a job front ends.
//!
//! Bounds: 1024 questions under way and 128 of a job; 256 connections and 16 of a job, 16 questions of each; 2048 pins of
//! a job; 64 denied names of a job until the daemon hears of them. Beyond, the job with the most gives way. Each process has
//! 256 MiB ([`MEMORY`]), and ends where that is not enough.

mod askers;
mod clients;
mod confine;
mod daemon_link;
mod denials;
mod flight;
mod frames;
mod front;
pub mod message;
pub mod name;
mod packets;
mod pin;
mod pinning;
mod program;
pub mod protocol;
mod question;
mod sieve;
mod upstream;
mod wires;

pub use packets::Packets;
pub use program::main;

/// Bytes of memory that each process may have, and both of them together: some hundred jobs with the longest lists.
pub const MEMORY: u64 = 256 << 20;
/// The version of the program and of its messages: a daemon replaces a resolver of another one.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-2");
/// The first word of front: the version, and the router that it is of.
pub fn hello(router: &str) -> String {
    format!("{VERSION}@{router}")
}

/// The descriptors of front, from 3 on.
pub const FRONT_FILES: [&str; 5] = [
    "the socket for questions over UDP",
    "the socket for questions over TCP",
    "the daemon's socket",
    "the way to pin",
    "the router's list of addresses",
];
/// The descriptors of pin, from 3 on.
pub const PIN_FILES: [&str; 2] = ["the way to front", "the router's packet filter"];
