//! The host's side: one interface, one small table, and forwarding where the host has none.
//!
//! The host sees one source address of its own link and needs no route to any network of jobs. Others may flush
//! all of this at any time: jobs have no outside then, until [`Uplink::mend`] puts it back.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::error::{NetworkError, changing};
use super::host_rules::{self, GUARDS, Guarded};
use super::ipv6::{self, image};
use super::lease::Range;
use super::rules::{HOST_END, OUT, TABLE};
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
const PASSING: &str = "pass the host's chain FORWARD";
/// How long the kernel may take to end the namespace of an earlier router.
const DYING: Duration = Duration::from_secs(5);
/// Where docker lets others put rules, and where they stand without it.
const FOREIGN: [Table<'_>; 2] =
    [Table { layer: Layer::Ipv4, name: "filter" }, Table { layer: Layer::Ipv6, name: "filter" }];
const FOREIGN_CHAINS: [&str; 2] = ["DOCKER-USER", "FORWARD"];
/// Forwarding of each family between all interfaces, which is the administrator's; and by what comes in at one alone.
const FORWARDING: [Forwarding; 2] = [
    Forwarding { all: "/proc/sys/net/ipv4/ip_forward", of: ("/proc/sys/net/ipv4/conf", "forwarding") },
    Forwarding {
        all: "/proc/sys/net/ipv6/conf/all/forwarding",
        // Since Linux 6.17. `all` would have the host take no router advertisements any more, and lose its own way out.
        of: ("/proc/sys/net/ipv6/conf", "force_forwarding"),
    },
];

struct Forwarding {
    all: &'static str,
    of: (&'static str, &'static str),
}

impl Forwarding {
    fn of(&self, name: &str) -> String {
        format!("{}/{name}/{}", self.of.0, self.of.1)
    }
}

/// The host's namespace, as we change it.
#[derive(Debug)]
pub struct Uplink {
    links: Socket,
    filter: Socket,
    /// Files of interfaces on which we switched forwarding on.
    forwarding: Vec<String>,
    /// The ways out, of each family, for which the rules were written.
    ways: [Option<WayOut>; 2],
    /// Whether jobs have IPv6.
    ipv6: bool,
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
            ways: [None, None],
            ipv6: false,
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

    /// The same for IPv6.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn ipv6_way_out(&mut self) -> Result<Option<WayOut>, NetworkError> {
        let routes = self.links.dump(&mut link::get_ipv6_routes(), link::ipv6_route_entry);
        let routes = changing(routes, "list the host's IPv6 routes")?;
        let defaults = routes.iter().filter(|route| route.destination.1 == 0);
        let Some(index) = defaults.min_by_key(|route| route.metric).map(|route| route.index) else {
            return Ok(None);
        };
        Ok(self.link(Link::Index(index))?.map(|link| WayOut { name: link.name, mtu: link.mtu }))
    }

    /// Why jobs of this host cannot have IPv6; `None`: they can.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn lacks_ipv6(&mut self) -> Result<Option<&'static str>, NetworkError> {
        let [_, six] = &FORWARDING;
        if !exists(six.all) {
            return Ok(Some("the kernel has no IPv6"));
        }
        let (Some(way), mtu) = (self.ipv6_way_out()?, self.way_out()?.map_or(USUAL_MTU, |way| way.mtu))
        else {
            return Ok(Some("the host has no default route of IPv6"));
        };
        if way.mtu.min(mtu) < ipv6::LEAST_MTU {
            return Ok(Some("the largest packet of its way out has fewer than 1280 bytes"));
        }
        let forwards = is_on(six.all) || exists(&six.of(&way.name));
        Ok((!forwards).then_some(
            "the host forwards no IPv6, and this kernel cannot forward for one interface alone (6.17 can)",
        ))
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
    pub fn addresses(&mut self) -> Result<BTreeSet<IpAddr>, NetworkError> {
        let doing = "list the host's addresses";
        let four = changing(self.links.dump(&mut link::get_addresses(), link::address_entry), doing)?;
        let six = self.links.dump(&mut link::get_ipv6_addresses(), link::ipv6_address_entry);
        let four = four.iter().map(|address| IpAddr::V4(address.local));
        Ok(four.chain(changing(six, doing)?.into_iter().map(IpAddr::V6)).collect())
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

    /// Gives the host's end an address of IPv6 too, or finds it there: jobs have IPv6 from now on.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn connect_ipv6(&mut self) -> Result<(), NetworkError> {
        if self.ipv6 {
            return Ok(());
        }
        let doing = "give the host's end of the router an IPv6 address";
        let off = format!("/proc/sys/net/ipv6/conf/{HOST_END}/disable_ipv6");
        if is_on(&off) {
            set(&off, "0")?;
        }
        let index = self.link(Link::Name(HOST_END))?.map_or(0, |link| link.index);
        let mut batch = Batch::default();
        link::add_address(&mut batch, index, image(HOST_ADDRESS), ipv6::BITS + PREFIX);
        match self.links.talk(&mut batch.confirm()) {
            Err(why) if why.errno() == Some(libc::EEXIST) => {}
            done => changing(done, doing)?,
        }
        self.ipv6 = true;
        Ok(())
    }

    /// Puts right what is missing of the rules, of forwarding, and of the way through docker's rules.
    ///
    /// # Errors
    /// The kernel's refusal; jobs may have no outside then.
    pub fn mend(&mut self) -> Result<(), NetworkError> {
        let [four, six] = self.find_ways()?;
        self.ways = [four.clone(), six.clone()];
        let guarded = Guarded { four: self.forward(0, four.as_ref())?, six: self.forward(1, six.as_ref())? };
        let table = host_rules::host(ROUTER_ADDRESS, &guarded);
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
        let ours = |family: &Forwarding| {
            let ours = |path: &&String| path.starts_with(family.of.0);
            is_on(family.all) || self.forwarding.iter().filter(ours).all(|path| is_on(path))
        };
        let whole = table
            && FORWARDING.iter().all(ours)
            && self.find_ways()? == self.ways
            && self.shut_chains()?.is_empty();
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
        const ADDRESSES: [u32; 2] = [5, 9]; // RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
        const ROUTES: [u32; 2] = [7, 11]; // RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE
        const SETTINGS: [u32; 2] = [24, 25]; // RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF
        let open =
            |family, groups: &[u32]| changing(Events::open(family, groups), "watch the host's network");
        Ok([
            open(Family::Netfilter, &[TABLES])?,
            open(Family::Route, &[ADDRESSES, ROUTES, SETTINGS].concat())?,
        ])
    }

    /// Has the kernel forward between us and the way out, where it forwards nothing yet: on these two interfaces only. The
    /// name of the one that is to be guarded then.
    fn forward(&mut self, number: usize, way: Option<&WayOut>) -> Result<Option<String>, NetworkError> {
        let family = &FORWARDING[number];
        if number == 1 && !self.ipv6 {
            self.take_ipv6_back()?;
            return Ok(None);
        }
        if is_on(family.all) || !exists(&family.of(HOST_END)) {
            return Ok(None);
        }
        for name in [Some(HOST_END), way.map(|way| way.name.as_str())].into_iter().flatten() {
            let path = family.of(name);
            // An earlier daemon of ours may have switched it on; else it is the administrator's.
            if name != HOST_END && is_on(&path) && !self.guards(GUARDS[number], name)? {
                continue;
            }
            set(&path, "1")?;
            if !self.forwarding.contains(&path) {
                self.forwarding.push(path);
            }
        }
        let guarded = way.filter(|way| self.forwarding.contains(&family.of(&way.name)));
        Ok(guarded.map(|way| way.name.clone()))
    }

    /// Takes forwarding back that an earlier daemon of ours switched on, before its guard goes.
    fn take_ipv6_back(&mut self) -> Result<(), NetworkError> {
        let [_, six] = &FORWARDING;
        let Some(way) = self.ipv6_way_out()? else { return Ok(()) };
        if self.guards(GUARDS[1], &way.name)? { set(&six.of(&way.name), "0") } else { Ok(()) }
    }

    /// Whether our table, as it is now, guards an interface.
    fn guards(&mut self, chain: &str, name: &str) -> Result<bool, NetworkError> {
        match nftables::rules(&mut self.filter, TABLE, chain) {
            Err(why) if why.errno() == Some(libc::ENOENT) => Ok(false),
            rules => Ok(changing(rules, "read the host's table joblet")?.iter().any(|rule| rule.names(name))),
        }
    }

    /// Lets us through the chain of docker, or through one of iptables that drops what it does not know: to accept a packet
    /// elsewhere does not help against a chain that drops it.
    fn pass_foreign_chains(&mut self) -> Result<(), NetworkError> {
        let shut = self.shut_chains()?;
        if shut.is_empty() {
            return Ok(());
        }
        let mut t = Transaction::default();
        for (table, chain) in shut {
            t.insert_rule(table, chain, &host_rules::admission(true));
            t.insert_rule(table, chain, &host_rules::admission(false));
        }
        changing(t.commit(&mut self.filter), PASSING)
    }

    /// Whether the host's chain FORWARD drops what it does not know, as docker has it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn drops_unknown(&mut self) -> Result<bool, NetworkError> {
        let [four, _] = FOREIGN;
        self.table_drops_unknown(four)
    }

    fn table_drops_unknown(&mut self, table: Table<'_>) -> Result<bool, NetworkError> {
        let policy = changing(nftables::drops(&mut self.filter, table, "FORWARD"), PASSING)?;
        Ok(policy == Some(true))
    }

    /// The chains that do not let us through: one of a family at most.
    fn shut_chains(&mut self) -> Result<Vec<(Table<'static>, &'static str)>, NetworkError> {
        let families = if self.ipv6 { &FOREIGN[..] } else { &FOREIGN[..1] };
        let mut shut = Vec::new();
        for table in families {
            if !self.table_drops_unknown(*table)? {
                continue;
            }
            for chain in FOREIGN_CHAINS {
                if changing(nftables::has_chain(&mut self.filter, *table, chain), PASSING)? {
                    let rules = changing(nftables::rules(&mut self.filter, *table, chain), PASSING)?;
                    if rules.iter().filter(|rule| rule.names(HOST_END)).count() < 2 {
                        shut.push((*table, chain));
                    }
                    break;
                }
            }
        }
        Ok(shut)
    }

    /// The ways out as they are now; that of IPv6 where jobs have it.
    fn find_ways(&mut self) -> Result<[Option<WayOut>; 2], NetworkError> {
        let six = if self.ipv6 { self.ipv6_way_out()? } else { None };
        Ok([self.way_out()?, six])
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
        for (table, chain) in FOREIGN.into_iter().flat_map(|table| FOREIGN_CHAINS.map(|chain| (table, chain)))
        {
            let rules = nftables::rules(&mut self.filter, table, chain).unwrap_or_default();
            rules
                .iter()
                .filter(|rule| rule.names(HOST_END))
                .for_each(|rule| t.remove_rule(table, chain, rule));
        }
        changing(t.commit(&mut self.filter), "remove the host's table joblet")
    }
}

fn is_on(path: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|on| on.trim() == "1")
}

fn exists(path: &str) -> bool {
    fs::exists(path).unwrap_or(false)
}

/// Writes a setting of the calling thread's namespace.
pub(super) fn set(path: &str, value: &'static str) -> Result<(), NetworkError> {
    fs::write(path, value).map_err(|source| NetworkError::Setting { path: path.to_owned(), value, source })
}
