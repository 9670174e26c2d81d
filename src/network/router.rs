//! The router: a network namespace without a process, in which all wires end.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::error::{NetworkError, changing};
use super::ipv6::{self, image};
use super::lease::{Lease, Range, bridge_name};
use super::rate;
use super::rules::{self, Elements, MARK, OUT, RESOLVER, TABLE};
use super::uplink::{HOST_ADDRESS, PREFIX, ROUTER_ADDRESS, Uplink, set};
use super::wire;
use crate::sys::netlink::batch::Batch;
use crate::sys::netlink::link::{self, Address, Link};
use crate::sys::netlink::{Family, Socket};
use crate::sys::nftables;
use crate::sys::nftables::set::{Element, ElementState, Set};
use crate::sys::thread::{join_network, unshare_fs, unshare_network};

/// The metric of routes to what no wire leads to: the last of all.
const LAST: u32 = 4000;
/// The index of loopback in every namespace.
const LOOPBACK: u32 = 1;

/// Settings of the router, before it has an interface. ICMP has no limits there: a job would hear of its sixth refusal a
/// second late, and not at all while another one is refused a thousand times a second.
const SETTINGS: [(&str, &str); 8] = [
    ("/proc/sys/net/ipv4/ip_forward", "1"),
    ("/proc/sys/net/ipv4/icmp_ratemask", "0"),
    ("/proc/sys/net/ipv4/conf/all/send_redirects", "0"),
    ("/proc/sys/net/ipv4/conf/default/send_redirects", "0"),
    ("/proc/sys/net/ipv4/conf/all/accept_source_route", "0"),
    ("/proc/sys/net/ipv4/conf/default/accept_source_route", "0"),
    ("/proc/sys/net/ipv4/conf/all/rp_filter", "0"),
    ("/proc/sys/net/ipv4/conf/default/rp_filter", "0"),
];
/// Settings of a kernel with IPv6, and of one that tracks connections already. IPv6 is off until [`Router::give_ipv6`]. An
/// interface makes no address of its own, and answers with one that it has: to look at those of all wires takes long.
const OPTIONAL_SETTINGS: [(&str, &str); 10] = [
    ("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"),
    ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"),
    ("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1"),
    ("/proc/sys/net/ipv6/conf/default/use_oif_addrs_only", "1"),
    ("/proc/sys/net/ipv6/conf/default/accept_ra", "0"),
    ("/proc/sys/net/ipv6/conf/default/accept_redirects", "0"),
    ("/proc/sys/net/ipv6/conf/all/accept_source_route", "-1"),
    ("/proc/sys/net/ipv6/conf/default/accept_source_route", "-1"),
    // No kind of message that there is.
    ("/proc/sys/net/ipv6/icmp/ratemask", "0"),
    ("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established", "7200"),
];

/// Settings of a router whose jobs have IPv6.
const IPV6_SETTINGS: [(&str, &str); 3] = [
    ("/proc/sys/net/ipv6/conf/all/disable_ipv6", "0"),
    ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "0"),
    ("/proc/sys/net/ipv6/conf/all/forwarding", "1"),
];

/// A network, as the router knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its name, which is unique.
    pub name: String,
    /// The range of its addresses.
    pub range: Range,
    /// Whether its jobs reach each other.
    pub together: bool,
    /// Whether its jobs reach nothing outside.
    pub inner: bool,
}

/// The node's part of the router.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouterConfig {
    /// All networks of the node.
    pub networks: Vec<Definition>,
    /// Ranges that jobs reach although they are private.
    pub allowed: Vec<Range>,
    /// The host's own addresses, which jobs do not reach.
    pub host: BTreeSet<IpAddr>,
    /// The name server that jobs' questions go to.
    pub upstream: Option<Ipv4Addr>,
}

impl RouterConfig {
    fn elements(&self) -> Elements {
        let of = |is: fn(&Definition) -> bool| -> Vec<Range> {
            self.networks.iter().filter(|network| is(network)).map(|network| network.range).collect()
        };
        Elements {
            networks: of(|network| network.together),
            inner: of(|network| network.inner),
            allowed: self.allowed.clone(),
            host: self.host.clone(),
            upstream: self.upstream,
        }
    }
}

/// The router, as one who holds its descriptor sees it.
#[derive(Debug)]
pub struct Router {
    namespace: OwnedFd,
    links: Socket,
    filter: Socket,
    config: RouterConfig,
    /// Whether jobs have IPv6: once they have, it stays so.
    ipv6: bool,
}

/// A wire that the router has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireState {
    /// Its number, from 1.
    pub wire: u16,
    /// The job's address.
    pub address: Ipv4Addr,
}

impl Router {
    /// Makes a router with its rules, and without the host.
    ///
    /// # Errors
    /// The step that the host refused.
    pub fn make(config: RouterConfig) -> Result<Router, NetworkError> {
        let mut router = within(|| {
            namespace(unshare_network(), "make the router's namespace")?;
            for (path, value) in SETTINGS {
                set(path, value)?;
            }
            Router::open(config)
        })?;
        let table = rules::router(&router.config.elements(), &[]);
        changing(table.commit(&mut router.filter), "write the router's rules")?;
        router.optional_settings()?;
        let mut batch = Batch::default();
        link::set_up(&mut batch, Link::Index(LOOPBACK));
        link::add_address(&mut batch, LOOPBACK, RESOLVER, 32);
        changing(router.links.talk(&mut batch.confirm()), "set up the router's loopback")?;
        for network in router.config.networks.clone() {
            router.place(&network)?;
        }
        Ok(router)
    }

    /// Takes a router that an earlier daemon made. Its sets become those of `config`; its rules are left as they are, unless
    /// another version wrote them.
    ///
    /// # Errors
    /// The step that the host refused.
    pub fn adopt(taken: OwnedFd, config: RouterConfig) -> Result<Router, NetworkError> {
        let mut router = within(|| {
            namespace(join_network(taken.as_fd()), "enter the router's namespace")?;
            Router::open(config)
        })?;
        let same = router.has_rules()?;
        let elements = router.config.elements();
        let change = if same { rules::refill(&elements) } else { rules::router(&elements, &router.lists()?) };
        changing(change.commit(&mut router.filter), "write the router's sets")?;
        router.take_out_strangers()?;
        let six = router.links.dump(&mut link::get_ipv6_addresses(), link::ipv6_address_entry);
        let six = changing(six, "list the router's addresses")?;
        router.ipv6 = six.contains(&image(ROUTER_ADDRESS));
        let addresses = router.addresses()?;
        for network in router.config.networks.clone() {
            if !addresses.iter().any(|address| address.local == network.range.gateway()) {
                router.place(&network)?;
            }
        }
        Ok(router)
    }

    /// Opens the calling thread's namespace as the router.
    fn open(config: RouterConfig) -> Result<Router, NetworkError> {
        let open = |family| changing(Socket::open(family), "reach the router");
        let own = File::open("/proc/thread-self/ns/net");
        Ok(Router {
            namespace: namespace(own, "open the router's namespace")?.into(),
            links: open(Family::Route)?,
            filter: open(Family::Netfilter)?,
            config,
            ipv6: false,
        })
    }

    fn optional_settings(&self) -> Result<(), NetworkError> {
        self.settings(OPTIONAL_SETTINGS.iter().filter(|(path, _)| std::fs::exists(path).unwrap_or(false)))
    }

    fn settings<'a>(
        &self,
        all: impl Iterator<Item = &'a (&'static str, &'static str)> + Send,
    ) -> Result<(), NetworkError> {
        within(|| {
            namespace(join_network(self.namespace.as_fd()), "enter the router's namespace")?;
            all.into_iter().try_for_each(|(path, value)| set(path, value))
        })
    }

    /// Connects the router with the host, for which the first daemon that makes it calls this.
    ///
    /// # Errors
    /// The kernel's refusal, or another's interface of our name.
    pub fn connect(&mut self, host: &mut Uplink) -> Result<(), NetworkError> {
        host.connect(self.namespace.as_fd())?;
        let doing = "set up the router's way out";
        let found = self.links.dump(&mut link::get_link(Link::Name(OUT)), link::link_state);
        let index = changing(found, doing)?.first().map_or(0, |link| link.index);
        let mut batch = Batch::default();
        link::set_up(&mut batch, Link::Index(index));
        link::add_address(&mut batch, index, ROUTER_ADDRESS, PREFIX);
        link::add_default_route(&mut batch, index, HOST_ADDRESS);
        changing(self.links.talk(&mut batch.confirm()), doing)
    }

    /// Gives IPv6 to wires that are made from now on. The rules for it are there already.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn give_ipv6(&mut self, host: &mut Uplink) -> Result<(), NetworkError> {
        host.connect_ipv6()?;
        if self.ipv6 {
            return Ok(());
        }
        self.settings(IPV6_SETTINGS.iter())?;
        let doing = "give the router's way out an IPv6 address";
        let found = self.links.dump(&mut link::get_link(Link::Name(OUT)), link::link_state);
        let index = changing(found, doing)?.first().map_or(0, |link| link.index);
        let mut batch = Batch::default();
        link::add_address(&mut batch, index, image(ROUTER_ADDRESS), ipv6::BITS + PREFIX);
        link::add_default_route(&mut batch, index, image(HOST_ADDRESS));
        changing(self.links.talk(&mut batch.confirm()), doing)?;
        self.ipv6 = true;
        Ok(())
    }

    /// Whether wires have IPv6 that are made now.
    pub fn has_ipv6(&self) -> bool {
        self.ipv6
    }

    /// Adds a network.
    ///
    /// # Errors
    /// The kernel's refusal; the network is not there then.
    pub fn add(&mut self, network: Definition) -> Result<(), NetworkError> {
        self.place(&network)?;
        self.config.networks.push(network.clone());
        self.refill().inspect_err(|_| {
            self.config.networks.retain(|other| other.name != network.name);
            let _ = self.displace(&network);
        })
    }

    /// Removes a network, in which no job is.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn remove(&mut self, name: &str) -> Result<(), NetworkError> {
        let Some(at) = self.config.networks.iter().position(|network| network.name == name) else {
            return Err(NetworkError::Unknown(name.to_owned()));
        };
        let network = self.config.networks.remove(at);
        self.refill()?;
        self.displace(&network)
    }

    /// Puts into force what changes with the host: its addresses, and the name server.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn follow(&mut self, host: BTreeSet<IpAddr>, upstream: Option<Ipv4Addr>) -> Result<(), NetworkError> {
        if (&self.config.host, self.config.upstream) == (&host, upstream) {
            return Ok(());
        }
        (self.config.host, self.config.upstream) = (host, upstream);
        self.refill()
    }

    /// Whether the router has the rules of this version.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn has_rules(&mut self) -> Result<bool, NetworkError> {
        changing(nftables::has_set(&mut self.filter, TABLE, MARK.name), "look for the router's rules")
    }

    /// The elements of jobs' lists.
    fn lists(&mut self) -> Result<Vec<(&'static Set<'static>, Vec<Element>)>, NetworkError> {
        let read = |set: &'static Set<'static>| {
            let found = match nftables::elements(&mut self.filter, TABLE, set) {
                // Rules from before there were lists.
                Err(why) if why.errno() == Some(libc::ENOENT) => Vec::new(),
                found => changing(found, "read the lists of jobs")?,
            };
            Ok((set, found.iter().filter_map(ElementState::as_element).collect()))
        };
        rules::LISTS.into_iter().map(read).collect()
    }

    fn refill(&mut self) -> Result<(), NetworkError> {
        let change = rules::refill(&self.config.elements());
        changing(change.commit(&mut self.filter), "write the router's sets")
    }

    /// Gives a network its bridge, which holds the gateway's address and has no ports. Addresses without a job lead there:
    /// they would follow the default route out. The rules refuse them; a route that refuses would say so five times only.
    fn place(&mut self, network: &Definition) -> Result<(), NetworkError> {
        let doing = || format!("place network {} in the router", network.name);
        let bridge = bridge_name(&network.name);
        let mut batch = Batch::default();
        link::add_bridge(&mut batch, &bridge);
        match self.links.talk(&mut batch.confirm()) {
            Err(why) if why.errno() == Some(libc::EEXIST) => {}
            done => changing(done, doing())?,
        }
        let found = self.links.dump(&mut link::get_link(Link::Name(&bridge)), link::link_state);
        let index = changing(found, doing())?.first().map_or(0, |link| link.index);
        let mut batch = Batch::default();
        link::add_address(&mut batch, index, network.range.gateway(), 32);
        link::add_route(&mut batch, index, (network.range.first(), network.range.prefix()), LAST);
        changing(self.links.talk(&mut batch.confirm()), doing())
    }

    fn displace(&mut self, network: &Definition) -> Result<(), NetworkError> {
        let mut batch = Batch::default();
        let bridge = bridge_name(&network.name);
        link::remove(&mut batch, Link::Name(&bridge));
        let doing = format!("take network {} out of the router", network.name);
        changing(self.links.talk(&mut batch.confirm()), doing)
    }

    /// Takes out what is no network any more, or has another range now: an earlier daemon ended in the middle of a change.
    fn take_out_strangers(&mut self) -> Result<(), NetworkError> {
        let routes = self.links.dump(&mut link::get_routes(), link::route_entry);
        let routes = changing(routes, "list the router's routes")?;
        let is_network = |to| self.config.networks.iter().any(|n| (n.range.first(), n.range.prefix()) == to);
        let strange = routes.iter().filter(|route| route.metric == LAST && !is_network(route.destination));
        let strange: Vec<u32> = strange.filter_map(|route| route.index).collect();
        for index in strange {
            let mut batch = Batch::default();
            link::remove(&mut batch, Link::Index(index));
            changing(self.links.talk(&mut batch.confirm()), "take a removed network out of the router")?;
        }
        Ok(())
    }

    fn addresses(&mut self) -> Result<Vec<Address>, NetworkError> {
        let dumped = self.links.dump(&mut link::get_addresses(), link::address_entry);
        changing(dumped, "list the router's addresses")
    }

    /// Bytes a second that go to the job of a wire at most; `None`: no limit.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn rate_of(&mut self, wire: u16) -> Result<Option<u64>, NetworkError> {
        rate::of(&mut self.links, wire::index_of(wire))
    }

    /// Whether the router leads the image of a lease's address to its wire.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn has_image(&mut self, lease: &Lease) -> Result<bool, NetworkError> {
        let routes = self.links.dump(&mut link::get_ipv6_routes(), link::ipv6_route_entry);
        let own = ((image(lease.address), wire::ALONE), wire::index_of(lease.wire));
        let mut routes = changing(routes, "list the router's routes")?.into_iter();
        Ok(routes.any(|route| (route.destination, route.index) == own))
    }

    /// The wires that the router has: the kernel's own list of leases.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn wires(&mut self) -> Result<Vec<WireState>, NetworkError> {
        let addresses = self.addresses()?;
        let wires = addresses.iter().filter_map(|address| {
            wire::wire_of(address.index).map(|wire| WireState { wire, address: address.peer })
        });
        Ok(wires.collect())
    }

    /// Another socket for links, for a thread of its own: answers must not mix.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open_links(&self) -> Result<Socket, NetworkError> {
        within(|| {
            namespace(join_network(self.namespace.as_fd()), "enter the router's namespace")?;
            changing(Socket::open(Family::Route), "reach the router")
        })
    }

    /// Another socket for the packet filter, likewise.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open_filter(&self) -> Result<Socket, NetworkError> {
        within(|| {
            namespace(join_network(self.namespace.as_fd()), "enter the router's namespace")?;
            changing(Socket::open(Family::Netfilter), "reach the router")
        })
    }

    /// The networks and settings of the router.
    pub fn config(&self) -> &RouterConfig {
        &self.config
    }
}

impl AsFd for Router {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

/// Writes the whole table into a namespace that is thrown away: whether this host can have a router.
///
/// # Errors
/// The step that the host refuses.
pub fn probe() -> Result<(), NetworkError> {
    let range = Range::new([172, 20, 0, 0], 16);
    let bridge = Definition { name: "bridge".to_owned(), range, together: true, inner: true };
    let config = RouterConfig {
        networks: vec![bridge],
        allowed: vec![Range::new([10, 0, 0, 0], 8)],
        host: BTreeSet::from([Ipv4Addr::new(203, 0, 113, 2).into()]),
        upstream: Some(Ipv4Addr::new(9, 9, 9, 9)),
    };
    Router::make(config).map(drop)
}

/// Whether a new namespace of this host has IPv6, as those of jobs are.
///
/// # Errors
/// No namespace.
pub fn probe_ipv6() -> Result<bool, NetworkError> {
    within(|| {
        namespace(unshare_network(), "make a namespace")?;
        let is_on = |of: &str| {
            let off = std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{of}/disable_ipv6"));
            off.is_ok_and(|off| off.trim() == "0")
        };
        Ok(is_on("all") && is_on("default"))
    })
}

/// A socket for the links of a job's namespace.
///
/// # Errors
/// The kernel's refusal.
pub fn links_of(job: BorrowedFd<'_>) -> Result<Socket, NetworkError> {
    within(|| {
        namespace(join_network(job), "enter a job's network namespace")?;
        changing(Socket::open(Family::Route), "reach a job's network namespace")
    })
}

/// Runs `act` on a thread of its own, which may go into another namespace. It gets a root of its own first: a thread that
/// joins mount namespaces may share its root with nobody, and a thread that has ended shares it for a moment more.
fn within<T: Send>(act: impl FnOnce() -> Result<T, NetworkError> + Send) -> Result<T, NetworkError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("router".into()).spawn_scoped(scope, || {
            namespace(unshare_fs(), "give a thread its own root")?;
            act()
        });
        let ended = thread.map(std::thread::ScopedJoinHandle::join);
        match namespace(ended, "start a thread for the router")? {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn namespace<T>(done: std::io::Result<T>, doing: &'static str) -> Result<T, NetworkError> {
    done.map_err(|source| NetworkError::Namespace { doing, source })
}
