//! The networks of jobs: what a job reaches, and nothing else.
//!
//! Each networked job has one *wire*, a pair of interfaces, into a namespace of our own, the *router*, which routes and
//! filters. Nothing of a job is in the host's namespace, so nothing that the host does to its own rules opens a wall.
//!
//! ```text
//!  job                  router                                            host
//!  eth0 172.20.0.5/16 = job-1a2b3c4d  169.254.128.9 peer 172.20.0.5       joblet0 169.254.127.1 - masquerade - outside
//!                       joblet0  172.20.0.1 (a bridge without ports)      refuses all that is for itself
//!                       out0     169.254.127.2 ========================== joblet0
//!                       table inet joblet: spoofing, forward, input, nat
//! ```
//!
//! * **A wire has no layer 2**: ARP is off and both ends have the same MAC, so there is nothing to ask and nothing to
//!   forge there. A packet whose source the routing table does not lead back to its wire is dropped ([`rules`]).
//! * **The rules never change.** Networks, lists and limits are elements of sets, and a job is a wire in the group
//!   [`rules::JOBS`]: its start and its end change no rule, and a crash leaves none behind.
//! * **The router lives as long as somebody holds its descriptor**: the daemon, or the joblet-init of a networked job,
//!   from which the next daemon takes it. With the last one it goes, and the wires and the host's end with it.
//! * **A job's end is the end of its namespace.** No interface is removed by name: that would wait for RCU under the lock
//!   of all network changes of the host.
//! * **Everything fails closed**: while the host's side is missing, jobs have no outside.
//!
//! A job with an *egress list* ([`egress`]) reaches outside only what the list names: [`egress_sets`] has the elements of
//! the router that say so, [`denials`] reads what the router refused.
//!
//! Where the host has IPv6, so have jobs: each address has an image in IPv6 ([`ipv6`]), and every rule holds for both.
//!
//! [`lease`] has the words: ranges and addresses, and what is wrong with them. [`wire`] writes the messages of a
//! wire, which the child of a start sends. [`router`] makes and adopts the router, [`uplink`] the host's side of it.

pub mod denials;
pub mod egress_sets;
mod error;
pub mod host_rules;
pub mod ipv6;
pub mod lease;
pub mod rate;
pub mod router;
pub mod rules;
mod runs;
pub mod uplink;
pub mod wire;

/// Lists of what a job may reach, which requests and the configuration have too.
pub use crate::job::egress;
pub use egress_sets::EgressSets;
pub use error::NetworkError;
pub use lease::{Lease, Leases, Range};
pub use router::{Router, RouterConfig};
