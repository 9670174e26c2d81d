//! Whether jobs get IPv6: where the configuration has it and the host has a way out of it. A router that has it once keeps
//! it, so that a job never loses an address; a job keeps what it began with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use log::Level;

use crate::diag;
use crate::network::router::probe_ipv6;
use crate::network::uplink::Uplink;
use crate::network::{NetworkError, Router};

/// The switch, shared by the loop, which leases addresses, and by the threads that make wires.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Ipv6 {
    wanted: bool,
    on: Arc<AtomicBool>,
}

impl Ipv6 {
    /// The switch of a node, as the host is now.
    pub(in crate::daemon) fn new(wanted: bool) -> Self {
        let ipv6 = Ipv6 { wanted, on: Arc::default() };
        if wanted && let Err(why) = Uplink::open().and_then(|mut host| ipv6.look(&mut host)) {
            diag::event!(Level::Warn, "jobs have no IPv6: cannot look at the host's", error = why);
        }
        ipv6
    }

    /// Whether jobs that begin now get it.
    pub(in crate::daemon) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    fn set(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// Switches it on where the host has it now.
    fn look(&self, host: &mut Uplink) -> Result<(), NetworkError> {
        if self.wanted && !self.is_on() && host.lacks_ipv6()?.is_none() && probe_ipv6()? {
            self.set(true);
        }
        Ok(())
    }

    /// Has a router and its host follow the switch. A refusal of one of them is logged, and jobs go on without.
    pub(super) fn follow(&self, router: &mut Router, host: &mut Uplink) {
        let mut follow = || {
            if router.has_ipv6() {
                self.set(self.wanted);
                return host.connect_ipv6();
            }
            self.look(host)?;
            if self.is_on() { router.give_ipv6(host) } else { Ok(()) }
        };
        if let Err(why) = follow() {
            self.set(false);
            diag::limited!(Level::Error, "jobs have no IPv6", error = why);
        }
    }
}
