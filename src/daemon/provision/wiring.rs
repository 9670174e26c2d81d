//! The router and the host's side of it, shared by the threads that start jobs.
//!
//! The router is made for the first job that needs it, or taken from a job of an earlier daemon. Making it takes a few
//! milliseconds, and it takes seconds where the kernel still takes an earlier one apart: so a spawner does it, and the
//! loop never does. Each start of a wire has a socket of the router for itself, because answers must not mix.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::Level;
use rustix::event::{Timespec, poll};

use super::host_watch::HostWatch;
use super::ipv6::Ipv6;
use crate::daemon::resolver::Resolver;
use crate::diag;
use crate::job::{JobId, Layer, NetRate};
use crate::network::egress::List;
use crate::network::ipv6::image;
use crate::network::router::{Definition, links_of};
use crate::network::uplink::Uplink;
use crate::network::{Lease, NetworkError, Router, RouterConfig, rate, wire};
use crate::sandbox::{Init, Messages, WireSpec};
use crate::sys::netlink::Socket;
use crate::sys::netlink::batch::Batch;
use crate::sys::netlink::link::Born;
use crate::sys::pidfd::network_namespace;

/// Bytes of the largest packet where the host has no way out.
const USUAL_MTU: u32 = 1500;
/// Sockets of the router that wait for starts: one for each thread that makes wires.
const SOCKETS: usize = 4;
/// How long the kernel may take to end the namespace of a job.
const DYING: Duration = Duration::from_secs(5);

/// The needs of a wire's start, which it gives back.
#[derive(Debug)]
pub(in crate::daemon) struct Lead {
    what: String,
    address: Ipv4Addr,
    router: OwnedFd,
    socket: Socket,
    outer: Sealed,
    inner: Sealed,
    note: OwnedFd,
}

/// Messages that are complete.
#[derive(Debug)]
struct Sealed {
    bytes: Vec<u8>,
    first: u32,
    last: u32,
}

impl Sealed {
    fn new(mut batch: Batch, first: u32) -> Self {
        let last = first + batch.len() as u32 - 1;
        Sealed { bytes: batch.numbered(first).to_vec(), first, last }
    }

    fn messages(&self) -> Messages<'_> {
        Messages { bytes: &self.bytes, first: self.first, last: self.last }
    }
}

impl Lead {
    /// The same for the sandbox, which borrows it for the clone.
    pub(super) fn as_wire(&self) -> WireSpec<'_> {
        WireSpec {
            what: &self.what,
            address: self.address,
            router: self.router.as_fd(),
            socket: self.socket.as_fd(),
            outer: self.outer.messages(),
            inner: self.inner.messages(),
            note: self.note.as_fd(),
        }
    }
}

/// The other side of a wire, for the sentence of its step.
pub(in crate::daemon) fn wire_to(network: &str, address: &str) -> String {
    format!("network {network} as {address}")
}

/// The way from jobs to the outside, as far as it is there.
#[derive(Debug)]
pub(in crate::daemon) struct Wiring {
    /// The node's part of a router that is made next. Changed only by who has the lock of `connected`.
    config: Mutex<RouterConfig>,
    resolver: Resolver,
    ipv6: Ipv6,
    connected: Arc<Mutex<Option<Connected>>>,
    sockets: Mutex<Vec<Socket>>,
}

#[derive(Debug)]
struct Connected {
    router: Router,
    uplink: Uplink,
    ipv6: Ipv6,
    mtu: u32,
    _watch: HostWatch,
}

impl Wiring {
    /// The way to the resolver.
    pub(in crate::daemon) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// A node with these networks, and no router yet. The resolver hears of one.
    pub(in crate::daemon) fn new(config: RouterConfig, resolver: Resolver, ipv6: Ipv6) -> Self {
        let (connected, sockets) = Default::default();
        Wiring { config: Mutex::new(config), resolver, ipv6, connected, sockets }
    }

    /// Whether jobs get IPv6.
    pub(in crate::daemon) fn ipv6(&self) -> Ipv6 {
        self.ipv6.clone()
    }

    fn config(&self) -> MutexGuard<'_, RouterConfig> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a network, to the router too if there is one.
    ///
    /// # Errors
    /// The kernel's refusal; the network is not there then.
    pub(in crate::daemon) fn add_network(&self, network: Definition) -> Result<(), NetworkError> {
        let mut connected = self.connected();
        if let Some(connected) = &mut *connected {
            connected.router.add(network.clone())?;
        }
        self.config().networks.push(network);
        Ok(())
    }

    /// Removes a network, in which no job is, from the router too if there is one.
    ///
    /// # Errors
    /// The kernel's refusal; a router that is made next does not have it.
    pub(in crate::daemon) fn remove_network(&self, name: &str) -> Result<(), NetworkError> {
        let mut connected = self.connected();
        self.config().networks.retain(|network| network.name != name);
        connected.as_mut().map_or(Ok(()), |connected| connected.router.remove(name))
    }

    fn connected(&self) -> MutexGuard<'_, Option<Connected>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<Socket>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prepares the wire of a job, and what tells the job of denials. Makes the router where there is none, and puts right what others changed in the host.
    ///
    /// # Errors
    /// The step that the host refused: a job that asked for a network does not start without it.
    pub(super) fn lead(
        &self,
        lease: &Lease,
        name: &str,
        rate: NetRate,
        note: OwnedFd,
    ) -> Result<Lead, NetworkError> {
        self.await_address(lease)?;
        let mut connected = self.connected();
        // Here too: the news of a change may not have come yet.
        let connected = match &mut *connected {
            Some(connected) => {
                connected.follow_host()?;
                connected
            }
            none => none.insert(self.make()?),
        };
        let free = self.sockets().pop();
        let mut socket = free.map_or_else(|| connected.router.open_links(), Ok)?;
        let own = Lease { ipv6: lease.ipv6 && connected.router.has_ipv6(), ..lease.clone() };
        let wire = wire::wire(name, &own, Born::Pid(1), connected.mtu, rate);
        let first = socket.reserve(wire.router.len());
        let router = connected.router.as_fd().try_clone_to_owned().map_err(|source| {
            NetworkError::Namespace { doing: "copy the descriptor of the router", source }
        })?;
        Ok(Lead {
            what: wire_to(&lease.network, &lease.address.to_string()),
            address: lease.address,
            router,
            socket,
            outer: Sealed::new(wire.router, first),
            inner: Sealed::new(wire.inside, 1),
            note,
        })
    }

    /// A socket of the namespace of a warm sandbox, by which its wire can get another address without entering it.
    pub(in crate::daemon) fn inside(&self, init: &Init) -> Result<Socket, NetworkError> {
        let failed = |source| NetworkError::Namespace { doing: "open a job's network namespace", source };
        links_of(network_namespace(init.pidfd.as_fd(), init.pid).map_err(failed)?.as_fd())
    }

    /// Gives the wire of a warm sandbox the address of its job, where it had an old one, and its rate, if it is another one.
    ///
    /// # Errors
    /// The step that the kernel refused: the sandbox is good for nothing then.
    pub(in crate::daemon) fn renew(
        &self,
        inside: &mut Socket,
        old: Option<&Lease>,
        new: &Lease,
        rate: Option<NetRate>,
    ) -> Result<(), NetworkError> {
        if old.is_some() {
            self.await_address(new)?;
        }
        let (mut socket, has_ipv6) = {
            let connected = self.connected();
            let Some(connected) = &*connected else { return Err(NetworkError::Unknown(new.network.clone())) };
            let free = self.sockets().pop();
            (free.map_or_else(|| connected.router.open_links(), Ok)?, connected.router.has_ipv6())
        };
        let own = |lease: &Lease| Lease { ipv6: lease.ipv6 && has_ipv6, ..lease.clone() };
        let mut wire = wire::renewal(old.map(own).as_ref(), &own(new), rate);
        let doing = || format!("connect to {}", wire_to(&new.network, &new.address.to_string()));
        let talk = |socket: &mut Socket, batch: &mut Batch| {
            if batch.is_empty() { Ok(()) } else { socket.talk(batch) }
        };
        let done = talk(&mut socket, &mut wire.router).and_then(|()| talk(inside, &mut wire.inside));
        self.sockets().push(socket);
        done.map_err(|source| NetworkError::Change { doing: doing(), source })
    }

    /// Waits until the kernel has taken the wire apart that had this address a moment ago: the router would send there what
    /// is for the new one.
    fn await_address(&self, lease: &Lease) -> Result<(), NetworkError> {
        let end = Instant::now() + DYING;
        let others = |wire: &(u16, Ipv4Addr)| wire.0 != lease.wire && wire.1 == lease.address;
        while lease.again && self.wires().unwrap_or_default().iter().any(others) {
            if Instant::now() >= end {
                return Err(NetworkError::Twice(lease.address));
            }
            // No event tells when a namespace is gone but one for each interface.
            let pause = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
            let _ = poll(&mut [], Some(&pause));
        }
        Ok(())
    }

    /// Takes the socket of a start for the next one.
    pub(super) fn give_back(&self, lead: Lead) {
        self.sockets().push(lead.socket);
    }

    fn make(&self) -> Result<Connected, NetworkError> {
        let mut uplink = Uplink::open()?;
        let mtu = uplink.way_out()?.map_or(USUAL_MTU, |way| way.mtu);
        let config =
            RouterConfig { host: uplink.addresses()?, upstream: name_server(), ..self.config().clone() };
        let mut router = Router::make(config)?;
        router.connect(&mut uplink)?;
        self.ipv6.follow(&mut router, &mut uplink);
        uplink.mend()?;
        // The host has an address more now. The next start would find that, and change the set then.
        router.follow(uplink.addresses()?, name_server())?;
        self.open_sockets(&router)?;
        diag::event!(Level::Info, "made the router of jobs' networks", mtu = mtu);
        self.resolver.serve(router.as_fd());
        self.resolver.await_start();
        Ok(Connected { router, uplink, ipv6: self.ipv6.clone(), mtu, _watch: self.watch()? })
    }

    fn open_sockets(&self, router: &Router) -> Result<(), NetworkError> {
        let opened = (0..SOCKETS).map(|_| router.open_links()).collect::<Result<Vec<_>, _>>()?;
        self.sockets().extend(opened);
        Ok(())
    }

    /// Has the host's side put right whenever the host's network changes.
    fn watch(&self) -> Result<HostWatch, NetworkError> {
        let connected = Arc::downgrade(&self.connected);
        HostWatch::start(move || {
            let Some(connected) = connected.upgrade() else { return false };
            let mut connected = connected.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(Err(why)) = connected.as_mut().map(Connected::follow_host) {
                diag::limited!(
                    Level::Error,
                    "jobs may have no way out: cannot mend the host's side",
                    error = why
                );
            }
            connected.is_some()
        })
    }

    /// Takes the router of an earlier daemon from a job that keeps it, unless there is one.
    ///
    /// # Errors
    /// The step that the host refused.
    pub(in crate::daemon) fn adopt(&self, namespace: OwnedFd) -> Result<(), NetworkError> {
        let mut connected = self.connected();
        if connected.is_some() {
            return Ok(());
        }
        let mut uplink = Uplink::open()?;
        let mtu = uplink.way_out()?.map_or(USUAL_MTU, |way| way.mtu);
        let config =
            RouterConfig { host: uplink.addresses()?, upstream: name_server(), ..self.config().clone() };
        let mut router = Router::adopt(namespace, config)?;
        self.ipv6.follow(&mut router, &mut uplink);
        uplink.mend()?;
        self.open_sockets(&router)?;
        diag::event!(Level::Info, "took over the router of jobs' networks");
        self.resolver.serve(router.as_fd());
        let ipv6 = self.ipv6.clone();
        *connected = Some(Connected { router, uplink, ipv6, mtu, _watch: self.watch()? });
        Ok(())
    }

    /// Another socket of the router for its packet filter; `None` where there is no router.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(in crate::daemon) fn open_filter(&self) -> Result<Option<Socket>, NetworkError> {
        self.connected().as_ref().map(|connected| connected.router.open_filter()).transpose()
    }

    /// The networks of the node and what jobs reach, as the router has it.
    pub(in crate::daemon) fn router_config(&self) -> RouterConfig {
        let connected = self.connected();
        connected
            .as_ref()
            .map_or_else(|| self.config().clone(), |connected| connected.router.config().clone())
    }

    /// The wires that the router has, by number and address; `None` where there is no router, or it does not say.
    pub(in crate::daemon) fn wires(&self) -> Option<BTreeSet<(u16, Ipv4Addr)>> {
        let mut connected = self.connected();
        let wires = connected.as_mut()?.router.wires();
        let wires = wires.inspect_err(|why| {
            diag::event!(Level::Error, "cannot list the wires of jobs", error = why);
        });
        Some(wires.ok()?.into_iter().map(|wire| (wire.wire, wire.address)).collect())
    }

    /// Makes a job's names and its list known, before its payload runs; `false` where its network is gone.
    pub(in crate::daemon) fn name(&self, id: JobId, name: &str, lease: &Lease, list: Option<&List>) -> bool {
        let connected = self.connected();
        let config;
        let networks = match &*connected {
            Some(connected) => &connected.router.config().networks,
            None => {
                config = self.config();
                &config.networks
            }
        };
        let Some(network) = networks.iter().find(|network| network.name == lease.network) else {
            return false;
        };
        let has_ipv6 = connected.as_ref().is_some_and(|connected| connected.router.has_ipv6());
        let lease = Lease { ipv6: lease.ipv6 && has_ipv6, ..lease.clone() };
        self.resolver.add(id, name, (&lease, network), list);
        true
    }

    /// The wire and the rules of a job, read back from the kernel.
    pub(in crate::daemon) fn read_back(&self, lease: &Lease) -> Vec<Layer> {
        const RULES: &str = "those of this version";
        let promised = format!("{} at wire {}", lease.address, lease.wire);
        let mut connected = self.connected();
        let Some(connected) = &mut *connected else {
            return vec![Layer::new("network.wire", promised, "no router", false)];
        };
        let wire = connected.router.wires().map(|wires| {
            let wire = wires.into_iter().find(|wire| wire.wire == lease.wire);
            wire.map_or("no such wire".to_owned(), |wire| format!("{} at wire {}", wire.address, wire.wire))
        });
        let seen = wire.unwrap_or_else(|why| why.to_string());
        let kept = seen == promised;
        let rules = connected.router.has_rules();
        let (rules, same) = match rules {
            Ok(true) => (RULES.to_owned(), true),
            Ok(false) => ("others".to_owned(), false),
            Err(why) => (why.to_string(), false),
        };
        let mut layers = vec![Layer::new("network.wire", promised, seen, kept)];
        if lease.ipv6 {
            let own = image(lease.address).to_string();
            let found = connected.router.has_image(lease);
            let seen = found.map(|is| if is { own.clone() } else { "no such address".to_owned() });
            let seen = seen.unwrap_or_else(|why| why.to_string());
            let kept = seen == own;
            layers.push(Layer::new("network.ipv6", own, seen, kept));
        }
        layers.push(Layer::new("network.rules", RULES, rules, same));
        layers
    }

    /// The rate of a job's wire, read back from the kernel at both ends.
    pub(in crate::daemon) fn read_rate(
        &self,
        lease: &Lease,
        rate: NetRate,
        init: BorrowedFd<'_>,
        pid: i32,
    ) -> Layer {
        const NAME: &str = "network.rate";
        let up = || -> Result<_, NetworkError> {
            let doing = "find a job's network";
            let inside =
                network_namespace(init, pid).map_err(|source| NetworkError::Namespace { doing, source })?;
            rate::inside(inside.as_fd(), wire::ETH0)
        };
        let down =
            self.connected().as_mut().map(|connected| connected.router.rate_of(lease.wire)).transpose();
        match up().and_then(|up| Ok((up, down?))) {
            Ok((up, down)) => {
                let seen = NetRate { up: up.unwrap_or(0), down: down.flatten().unwrap_or(0) };
                Layer::new(NAME, rate.to_string(), seen.to_string(), seen == rate)
            }
            Err(why) => Layer::new(NAME, rate.to_string(), why.to_string(), false),
        }
    }

    /// Takes the host's side back, unless jobs go on with it. The router goes when its last descriptor does.
    pub(in crate::daemon) fn close(&self, jobs_go_on: bool) {
        let connected = self.connected().take();
        if let Some(mut connected) = connected.filter(|_| !jobs_go_on)
            && let Err(why) = connected.uplink.remove()
        {
            diag::event!(Level::Warn, "cannot take the host's side of the router back", error = why);
        }
    }
}

impl Connected {
    /// Puts right what others changed in the host since the last start: our table, its addresses, its name server.
    fn follow_host(&mut self) -> Result<(), NetworkError> {
        self.ipv6.follow(&mut self.router, &mut self.uplink);
        if self.uplink.keep()? {
            diag::limited!(Level::Warn, "the host's network has changed; mended joblet's part of it");
        }
        self.router.follow(self.uplink.addresses()?, name_server())
    }
}

/// The host's first name server that is another host: one on its loopback cannot be reached from the router.
fn name_server() -> Option<Ipv4Addr> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    first_name_server(&text)
}

fn first_name_server(text: &str) -> Option<Ipv4Addr> {
    let mut servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.find_map(|rest| {
        let address: Ipv4Addr = rest.split_whitespace().next()?.parse().ok()?;
        (!address.is_loopback() && !address.is_unspecified()).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_name_server_that_is_another_host_is_taken() {
        for (text, expected) in [
            ("nameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver 8.8.8.8\n", Some([10, 0, 0, 2])),
            ("# nameserver 1.1.1.1\nsearch example.org\n  nameserver\t9.9.9.9 # x\n", Some([9, 9, 9, 9])),
            ("nameserver fd00::1\nnameserver 0.0.0.0\n", None),
            ("", None),
        ] {
            assert_eq!(first_name_server(text), expected.map(Ipv4Addr::from), "{text}");
        }
    }
}
