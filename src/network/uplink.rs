//! The host's side: one interface, one small table, and forwarding where the host has none.
//!
//! The host sees one source address of its own link and needs no route to any network of jobs. Others may flush
//! all of this at any time: jobs have no outside then, until [`Uplink::mend`] puts it back.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::error::{NetworkError, changing};
use super::lease::Range;
use super::rules::{self, HOST_END, OUT, TABLE};
use crate::sys::netlink::batch::Batch;
use crate::sys::netlink::link::{self, Born, Link, LinkState, Pair, Route};
use crate::sys::netlink::{Events, Family, Socket, until_free};
use crate::sys::nftables::{self, Layer, Table, Transaction};

/// Both ends of the wire between host and router. They are link-local: private ranges belong to somebody, and others drop
/// the shared range 100.64.0.0/10.
pub(super) const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 127, 1);
/// The router's end, which is the source of all that jobs send.
pub const ROUTER_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 127, 2);
pub(super) const PREFIX: u8 = 30;
const MAC: [u8; 6] = [0x02, 0x6a, 169, 254, 127, 0];
/// Bytes of the largest packet where the host has no way out.
const USUAL_MTU: u32 = 1500;
/// Forwarding between all interfaces.
const FORWARDS_ALL: &str = "/proc/sys/net/ipv4/ip_forward";
const PASSING: &str = "pass the host's chain FORWARD";
/// How long the kernel may take to end the namespace of an earlier router.
const DYING: Duration = Duration::from_secs(5);
/// Where docker lets others put rules, and where they stand without it.
const FOREIGN: Table<'_> = Table { layer: Layer::Ipv4, name: "filter" };
const FOREIGN_CHAINS: [&str; 2] = ["DOCKER-USER", "FORWARD"];

/// The host's namespace, as we change it.
#[derive(Debug)]
pub struct Uplink {
    links: Socket,
    filter: Socket,
    /// Files of interfaces on which we switched forwarding on.
    forwarding: Vec<String>,
    /// The way out for which the rules were written.
    way: Option<WayOut>,
}

/// The way out of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayOut {
    /// Name of the interface.
    pub name: String,
    /// Bytes of its largest packet.
    pub mtu: u32,
}

impl Uplink {
    /// Opens the host's side, in the calling thread's namespace.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open() -> Result<Uplink, NetworkError> {
        let open = |family| changing(Socket::open(family), "reach the host's network");
        Ok(Uplink {
            links: open(Family::Route)?,
            filter: open(Family::Netfilter)?,
            forwarding: Vec::new(),
            way: None,
        })
    }

    /// The interface of the host's default route; `None` where it has none.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn way_out(&mut self) -> Result<Option<WayOut>, NetworkError> {
        let routes = self.routes()?;
        let defaults = routes.iter().filter(|route| route.destination.1 == 0);
        let Some(index) = defaults.min_by_key(|route| route.metric).and_then(|route| route.index) else {
            return Ok(None);
        };
        Ok(self.link(Link::Index(index))?.map(|link| WayOut { name: link.name, mtu: link.mtu }))
    }

    fn routes(&mut self) -> Result<Vec<Route>, NetworkError> {
        changing(self.links.dump(&mut link::get_routes(), link::route_entry), "list the host's routes")
    }

    /// The ranges that the host reaches by a route or has an address in, except the default route, with a name for each.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn ranges(&mut self) -> Result<Vec<(Range, String)>, NetworkError> {
        let routes = self.routes()?.into_iter().filter(|route| route.destination.1 > 0);
        Ok(routes
            .map(|route| {
                let (address, prefix) = route.destination;
                (Range::new(address.octets(), prefix), "a route of the host".to_owned())
            })
            .collect())
    }

    /// The host's own addresses.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn addresses(&mut self) -> Result<BTreeSet<Ipv4Addr>, NetworkError> {
        let dumped = self.links.dump(&mut link::get_addresses(), link::address_entry);
        Ok(changing(dumped, "list the host's addresses")?.iter().map(|address| address.local).collect())
    }

    fn link(&mut self, link: Link<'_>) -> Result<Option<LinkState>, NetworkError> {
        match self.links.dump(&mut link::get_link(link), link::link_state) {
            Err(why) if why.errno() == Some(libc::ENODEV) => Ok(None),
            found => Ok(changing(found, "look for an interface")?.pop()),
        }
    }

    /// Connects the host with a new router.
    ///
    /// # Errors
    /// Somebody else has an interface of our name; or the kernel's refusal.
    pub fn connect(&mut self, router: BorrowedFd<'_>) -> Result<(), NetworkError> {
        let mtu = self.way_out()?.map_or(USUAL_MTU, |way| way.mtu);
        let pair = Pair {
            name: HOST_END,
            index: None,
            group: 0,
            up: true,
            peer: OUT,
            peer_index: None,
            born: Born::Namespace(router),
            mac: MAC,
            mtu,
        };
        let mut batch = Batch::default();
        link::add_pair(&mut batch, &pair);
        let mut batch = batch.confirm();
        match until_free(DYING, libc::EEXIST, || self.links.talk(&mut batch)) {
            Err(why) if why.errno() == Some(libc::EEXIST) => return Err(NetworkError::Taken(HOST_END)),
            done => changing(done, "connect the host with the router")?,
        }
        let index = self.link(Link::Name(HOST_END))?.map_or(0, |link| link.index);
        let mut batch = Batch::default();
        link::set_up_without_ipv6(&mut batch, Link::Index(index));
        link::add_address(&mut batch, index, HOST_ADDRESS, PREFIX);
        changing(self.links.talk(&mut batch.confirm()), "set up the host's end of the router")
    }

    /// Puts right what is missing of the rules, of forwarding, and of the way through docker's rules.
    ///
    /// # Errors
    /// The kernel's refusal; jobs may have no outside then.
    pub fn mend(&mut self) -> Result<(), NetworkError> {
        let way = self.way_out()?;
        self.way.clone_from(&way);
        let guarded = self.forward(way.as_ref())?;
        let table = rules::host(ROUTER_ADDRESS, guarded.as_deref());
        changing(table.commit(&mut self.filter), "write the host's table joblet")?;
        self.pass_foreign_chains()
    }

    /// The same as [`Uplink::mend`] where something is missing or has changed; whether that was so.
    ///
    /// # Errors
    /// As [`Uplink::mend`].
    pub fn keep(&mut self) -> Result<bool, NetworkError> {
        let table =
            changing(nftables::has_table(&mut self.filter, TABLE), "look for the host's table joblet")?;
        let is_on = |path: &str| fs::read_to_string(path).is_ok_and(|on| on.trim() == "1");
        let whole = table
            && self.way_out()? == self.way
            && (is_on(FORWARDS_ALL) || self.forwarding.iter().all(|path| is_on(path)))
            && self.shut_chain()?.is_none();
        if !whole {
            self.mend()?;
        }
        Ok(!whole)
    }

    /// Hears of changes of the host that [`Uplink::keep`] looks at: tables, addresses, routes and forwarding.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn events() -> Result<[Events; 2], NetworkError> {
        const TABLES: u32 = 7; // NFNLGRP_NFTABLES
        const ADDRESSES: u32 = 5; // RTNLGRP_IPV4_IFADDR
        const ROUTES: u32 = 7; // RTNLGRP_IPV4_ROUTE
        const SETTINGS: u32 = 24; // RTNLGRP_IPV4_NETCONF
        let open =
            |family, groups: &[u32]| changing(Events::open(family, groups), "watch the host's network");
        Ok([open(Family::Netfilter, &[TABLES])?, open(Family::Route, &[ADDRESSES, ROUTES, SETTINGS])?])
    }

    /// Has the kernel forward between us and the way out, where it forwards nothing yet: on these two interfaces only. The
    /// name of the one that is to be guarded then.
    fn forward(&mut self, way: Option<&WayOut>) -> Result<Option<String>, NetworkError> {
        if fs::read_to_string(FORWARDS_ALL).is_ok_and(|on| on.trim() == "1") {
            return Ok(None);
        }
        for name in [Some(HOST_END), way.map(|way| way.name.as_str())].into_iter().flatten() {
            let path = forwarding_of(name);
            let is_on = fs::read_to_string(&path).is_ok_and(|on| on.trim() == "1");
            // An earlier daemon of ours may have switched it on; else it is the administrator's.
            if is_on && !self.guards(name)? {
                continue;
            }
            set(&path, "1")?;
            if !self.forwarding.contains(&path) {
                self.forwarding.push(path);
            }
        }
        let guarded = way.filter(|way| self.forwarding.contains(&forwarding_of(&way.name)));
        Ok(guarded.map(|way| way.name.clone()))
    }

    /// Whether our table, as it is now, guards an interface.
    fn guards(&mut self, name: &str) -> Result<bool, NetworkError> {
        match nftables::rules(&mut self.filter, TABLE, "forward") {
            Err(why) if why.errno() == Some(libc::ENOENT) => Ok(false),
            rules => Ok(changing(rules, "read the host's table joblet")?.iter().any(|rule| rule.names(name))),
        }
    }

    /// Lets us through the chain of docker, or through one of iptables that drops what it does not know: to accept a packet
    /// elsewhere does not help against a chain that drops it.
    fn pass_foreign_chains(&mut self) -> Result<(), NetworkError> {
        let Some(chain) = self.shut_chain()? else { return Ok(()) };
        let mut t = Transaction::default();
        t.insert_rule(FOREIGN, chain, &rules::admission(true));
        t.insert_rule(FOREIGN, chain, &rules::admission(false));
        changing(t.commit(&mut self.filter), PASSING)
    }

    /// Whether the host's chain FORWARD drops what it does not know, as docker has it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn drops_unknown(&mut self) -> Result<bool, NetworkError> {
        let policy = changing(nftables::drops(&mut self.filter, FOREIGN, "FORWARD"), PASSING)?;
        Ok(policy == Some(true))
    }

    /// The chain that does not let us through, if there is one.
    fn shut_chain(&mut self) -> Result<Option<&'static str>, NetworkError> {
        if !self.drops_unknown()? {
            return Ok(None);
        }
        for chain in FOREIGN_CHAINS {
            if changing(nftables::has_chain(&mut self.filter, FOREIGN, chain), PASSING)? {
                let rules = changing(nftables::rules(&mut self.filter, FOREIGN, chain), PASSING)?;
                let shut = rules.iter().filter(|rule| rule.names(HOST_END)).count() < 2;
                return Ok(shut.then_some(chain));
            }
        }
        Ok(None)
    }

    /// Takes our rules and forwarding back, when no job is left. The interface goes with the router.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn remove(&mut self) -> Result<(), NetworkError> {
        for path in self.forwarding.drain(..) {
            // An interface that is gone has no file either.
            let _ = fs::write(&path, "0");
        }
        let mut t = Transaction::default();
        t.remove_table(TABLE);
        for chain in FOREIGN_CHAINS {
            let rules = nftables::rules(&mut self.filter, FOREIGN, chain).unwrap_or_default();
            rules
                .iter()
                .filter(|rule| rule.names(HOST_END))
                .for_each(|rule| t.remove_rule(FOREIGN, chain, rule));
        }
        changing(t.commit(&mut self.filter), "remove the host's table joblet")
    }
}

fn forwarding_of(name: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{name}/forwarding")
}

/// Writes a setting of the calling thread's namespace.
pub(super) fn set(path: &str, value: &'static str) -> Result<(), NetworkError> {
    fs::write(path, value).map_err(|source| NetworkError::Setting { path: path.to_owned(), value, source })
}
