//! Ranges and addresses of networks: pure, without the kernel.
//!
//! A lease is an address of a network and the number of a wire. Both are given next-fit, so that a new job rarely gets
//! the address of one that has just ended. The kernel knows the leases too: the router's end of a wire has the job's
//! address as its other end, and its index is the wire's number.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::error::NetworkError;
use super::runs::Runs;

/// The smallest network has two addresses for jobs and the gateway; the largest is a class A.
const PREFIXES: std::ops::RangeInclusive<u8> = 8..=30;
/// Wires are numbered from 1: their local ends are addresses of 169.254.128.0/17.
pub const MOST_WIRES: u16 = 0x7ffe;

/// Ranges that nobody may use for a network, and whose they are.
const FOREIGN: [(Range, &str); 5] = [
    (Range::new([0, 0, 0, 0], 8), "addresses without a host (0.0.0.0/8)"),
    (Range::new([127, 0, 0, 0], 8), "the loopback addresses (127.0.0.0/8)"),
    (
        Range::new([169, 254, 0, 0], 16),
        "the link-local addresses, with the metadata of clouds (169.254.0.0/16)",
    ),
    (Range::new([224, 0, 0, 0], 4), "the multicast addresses (224.0.0.0/4)"),
    (Range::new([240, 0, 0, 0], 4), "the reserved addresses (240.0.0.0/4)"),
];

/// A range of IPv4 addresses: a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    base: u32,
    prefix: u8,
}

impl Range {
    /// The range of this prefix that the address is in.
    pub const fn new(address: [u8; 4], prefix: u8) -> Self {
        let base = u32::from_be_bytes(address);
        Range { base: base & mask(prefix), prefix }
    }

    /// Bits of the prefix.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The first address, which names the range.
    pub fn first(self) -> Ipv4Addr {
        self.base.into()
    }

    /// The last address, which is the broadcast address of a network.
    pub fn last(self) -> Ipv4Addr {
        (self.base | !mask(self.prefix)).into()
    }

    /// The gateway of a network: the address behind the first.
    pub fn gateway(self) -> Ipv4Addr {
        (self.base | 1).into()
    }

    /// Addresses for jobs.
    pub fn room(self) -> u32 {
        (!mask(self.prefix)).saturating_sub(2)
    }

    /// Whether the address is in the range.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.base
    }

    /// Whether the ranges have an address in common.
    pub fn overlaps(self, other: Range) -> bool {
        let wider = mask(self.prefix.min(other.prefix));
        self.base & wider == other.base & wider
    }

    /// The n-th address for jobs, from 0.
    fn job(self, n: u32) -> Ipv4Addr {
        (self.base + 2 + n).into()
    }

    /// The number of an address for jobs.
    fn number(self, address: Ipv4Addr) -> Option<u32> {
        u32::from(address).checked_sub(self.base + 2).filter(|number| *number < self.room())
    }
}

const fn mask(prefix: u8) -> u32 {
    if prefix == 0 { 0 } else { u32::MAX << (32 - prefix) }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.prefix)
    }
}

impl FromStr for Range {
    type Err = NetworkError;

    /// Reads an address and a prefix. Without a prefix it is that address alone. Bits behind the prefix are refused: they
    /// are mostly a slip.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let no = |why: &str| NetworkError::Range { text: text.to_owned(), why: why.to_owned() };
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let address: Ipv4Addr = address.parse().map_err(|_| no("the address is not four numbers to 255"))?;
        let digits = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|prefix: &u8| digits && *prefix <= 32);
        let prefix = prefix.ok_or_else(|| no("the prefix is not a number to 32"))?;
        let range = Range::new(address.octets(), prefix);
        if range.first() != address {
            return Err(no(&format!("{address} has bits behind the prefix; the range is {range}")));
        }
        Ok(range)
    }
}

/// The name, in the router, of the bridge that holds the gateway address of a network: `joblet-` and the name, of which
/// eight characters have room; of a longer one the first three and five digits of its hash.
pub fn bridge_name(network: &str) -> String {
    if network == "bridge" {
        return "joblet0".to_owned();
    }
    if network.len() <= 8 {
        return format!("joblet-{network}");
    }
    // FNV-1a: the name stays the same in every version.
    let hash = network
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("joblet-{}{:05x}", &network[..3], hash & 0xf_ffff)
}

/// Checks the range of a new network against the ranges that belong to others (with a name for each).
///
/// # Errors
/// The range is too small or too large, or belongs to somebody else.
pub fn check_range(range: Range, others: &[(Range, String)]) -> Result<(), NetworkError> {
    if !PREFIXES.contains(&range.prefix) {
        let why = format!("a network has a prefix of {} to {} bits", PREFIXES.start(), PREFIXES.end());
        return Err(NetworkError::Range { text: range.to_string(), why });
    }
    let foreign =
        FOREIGN.iter().find(|(other, _)| range.overlaps(*other)).map(|(_, whose)| (*whose).to_owned());
    let with = foreign.or_else(|| {
        others
            .iter()
            .find(|(other, _)| range.overlaps(*other))
            .map(|(other, whose)| format!("{whose} ({other})"))
    });
    with.map_or(Ok(()), |with| Err(NetworkError::Overlap { range: range.to_string(), with }))
}

/// The address and the wire of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The network's name.
    pub network: String,
    /// The network's range.
    pub range: Range,
    /// The job's address.
    pub address: Ipv4Addr,
    /// The number of the wire, from 1 to [`MOST_WIRES`].
    pub wire: u16,
    /// Whether the address was another job's a moment ago, whose wire the kernel may still be taking apart.
    pub again: bool,
    /// Whether the wire has the image of the address too ([`ipv6`](super::ipv6)).
    pub ipv6: bool,
}

/// Addresses that were given back last and are remembered for [`Lease::again`].
const RECENT: usize = 1024;

/// The addresses that are given to jobs, and the numbers of their wires.
#[derive(Debug, Default)]
pub struct Leases {
    networks: BTreeMap<String, Addresses>,
    /// The networks by the first address of their ranges, which have no address in common.
    by_first: BTreeMap<Ipv4Addr, String>,
    /// The wire of each address that is in use, also of those of a network that was removed meanwhile.
    used: BTreeMap<Ipv4Addr, u16>,
    /// The same addresses, to find one that is free.
    taken: Runs,
    wires: Runs,
    last_wire: u16,
    recent: VecDeque<Ipv4Addr>,
}

#[derive(Debug)]
struct Addresses {
    range: Range,
    /// Number of the address that was given last.
    last: u32,
    /// Addresses of the range that are in use. Counted along: the loop asks for each warm sandbox.
    in_use: usize,
}

impl Leases {
    /// Begins to give addresses of a network.
    ///
    /// # Errors
    /// There is a network of that name.
    pub fn add(&mut self, network: &str, range: Range) -> Result<(), NetworkError> {
        if self.networks.contains_key(network) {
            return Err(NetworkError::Exists(network.to_owned()));
        }
        // Jobs of a network that is gone may have some.
        let in_use = self.used.range(range.first()..=range.last()).count();
        let addresses = Addresses { range, last: range.room().saturating_sub(1), in_use };
        self.by_first.insert(range.first(), network.to_owned());
        self.networks.insert(network.to_owned(), addresses);
        Ok(())
    }

    /// Ends to give addresses of a network. Those that are in use stay so until they are released.
    pub fn remove(&mut self, network: &str) {
        if let Some(gone) = self.networks.remove(network) {
            self.by_first.remove(&gone.range.first());
        }
    }

    /// The networks with their ranges.
    pub fn networks(&self) -> impl Iterator<Item = (&str, Range)> {
        self.networks.iter().map(|(name, network)| (name.as_str(), network.range))
    }

    /// The range of a network.
    pub fn range(&self, network: &str) -> Option<Range> {
        self.networks.get(network).map(|network| network.range)
    }

    /// The number of addresses of a network that are free; `None` where there is no such network.
    pub fn free(&self, network: &str) -> Option<usize> {
        let Addresses { range, in_use, .. } = self.networks.get(network)?;
        Some((range.room() as usize).saturating_sub(*in_use))
    }

    /// The count of the network that has an address, if there is one.
    fn in_use(&mut self, address: Ipv4Addr) -> Option<&mut usize> {
        let (_, name) = self.by_first.range(..=address).next_back()?;
        let network = self.networks.get_mut(name).filter(|network| network.range.contains(address))?;
        Some(&mut network.in_use)
    }

    fn use_address(&mut self, address: Ipv4Addr, wire: u16) {
        if self.used.insert(address, wire).is_none()
            && self.taken.insert(address.into())
            && let Some(count) = self.in_use(address)
        {
            *count += 1;
        }
    }

    /// The next free address of a network, and a wire.
    ///
    /// # Errors
    /// There is no such network, or nothing is free.
    pub fn lease(&mut self, network: &str) -> Result<Lease, NetworkError> {
        let free = self.wires.next_gap(self.last_wire.into(), 1, MOST_WIRES.into());
        let wire = free.and_then(|wire| u16::try_from(wire).ok());
        let wire = wire.ok_or(NetworkError::NoWire(self.wires.len()))?;
        let lease = self.lease_for(network, wire)?;
        self.wires.insert(wire.into());
        self.last_wire = wire;
        Ok(lease)
    }

    /// The next free address of a network, for a wire that is there.
    fn lease_for(&mut self, network: &str, wire: u16) -> Result<Lease, NetworkError> {
        let unknown = || NetworkError::Unknown(network.to_owned());
        let addresses = self.networks.get_mut(network).ok_or_else(unknown)?;
        let (range, last) = (addresses.range, addresses.last);
        let ends = range.room().checked_sub(1).map(|most| [last, 0, most].map(|n| u32::from(range.job(n))));
        let free = ends.and_then(|[last, first, most]| self.taken.next_gap(last, first, most));
        let Some(number) = free.and_then(|address| range.number(address.into())) else {
            let used = addresses.in_use;
            return Err(NetworkError::NoAddress {
                network: network.to_owned(),
                range: range.to_string(),
                used,
            });
        };
        let address = range.job(number);
        addresses.last = number;
        self.use_address(address, wire);
        let again = self.recent.contains(&address);
        Ok(Lease { network: network.to_owned(), range, address, wire, again, ipv6: false })
    }

    /// Gives a wire another address, of this network; the old one goes on to be the wire's too, until it is given back
    /// with [`Leases::release_address`].
    ///
    /// # Errors
    /// There is no such network, or nothing is free.
    pub fn renew(&mut self, lease: &Lease, network: &str) -> Result<Lease, NetworkError> {
        Ok(Lease { ipv6: lease.ipv6, ..self.lease_for(network, lease.wire)? })
    }

    /// Takes the lease of an earlier daemon's job.
    ///
    /// # Errors
    /// There is no such network, or somebody else has the address or the wire.
    pub fn reserve(&mut self, lease: &Lease) -> Result<(), NetworkError> {
        if !self.networks.contains_key(&lease.network) {
            return Err(NetworkError::Unknown(lease.network.clone()));
        }
        if self.wires.contains(lease.wire.into()) || self.used.contains_key(&lease.address) {
            return Err(NetworkError::Twice(lease.address));
        }
        self.use_address(lease.address, lease.wire);
        self.wires.insert(lease.wire.into());
        self.last_wire = self.last_wire.max(lease.wire);
        if let Some(network) = self.networks.get_mut(&lease.network)
            && let Some(number) = network.range.number(lease.address)
        {
            network.last = number;
        }
        Ok(())
    }

    /// Goes on behind the wires that an earlier daemon's router has. Those that no job has any more are being taken apart.
    pub fn go_on_behind(&mut self, wires: impl IntoIterator<Item = (u16, Ipv4Addr)>) {
        for (wire, address) in wires {
            self.last_wire = self.last_wire.max(wire);
            if !self.used.contains_key(&address) {
                self.remember(address);
            }
        }
    }

    fn remember(&mut self, address: Ipv4Addr) {
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(address);
    }

    /// Gives a lease back. The kernel takes its wire apart by itself.
    pub fn release(&mut self, lease: &Lease) {
        self.release_address(lease);
        self.wires.remove(lease.wire.into());
    }

    /// Gives the address of a lease back, whose wire goes on with another one.
    pub fn release_address(&mut self, lease: &Lease) {
        if self.used.get(&lease.address) == Some(&lease.wire) {
            self.used.remove(&lease.address);
            self.taken.remove(lease.address.into());
            if let Some(count) = self.in_use(lease.address) {
                *count -= 1;
            }
            self.remember(lease.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_read_and_slips_are_named() {
        let lab = range("10.50.0.0/16");
        assert_eq!(
            (lab.gateway().to_string(), lab.last().to_string()),
            ("10.50.0.1".into(), "10.50.255.255".into())
        );
        assert_eq!((lab.room(), range("10.0.0.0/30").room()), (65_533, 1));
        for (text, why) in [
            ("10.50.0.1/16", "the range is 10.50.0.0/16"),
            ("10.50.0/16", "not four numbers"),
            ("10.50.0.0/33", "not a number to 32"),
            ("10.50.0.0/+8", "not a number to 32"),
            ("10.50.0.0/", "not a number to 32"),
            ("fd00::/8", "not four numbers"),
            ("", "not four numbers"),
        ] {
            let said = text.parse::<Range>().unwrap_err().to_string();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn range_of_somebody_else_is_refused_with_the_owner() {
        let others = [(range("172.20.0.0/16"), "network \"bridge\"".into())];
        for (text, why) in [
            ("172.20.5.0/24", "overlaps network \"bridge\" (172.20.0.0/16)"),
            ("172.0.0.0/8", "overlaps network \"bridge\""),
            ("127.5.0.0/16", "loopback"),
            ("169.254.169.0/24", "metadata of clouds"),
            ("239.0.0.0/8", "multicast"),
            ("255.0.0.0/8", "reserved"),
            ("0.0.0.0/0", "a prefix of 8 to 30 bits"),
            ("10.0.0.0/31", "a prefix of 8 to 30 bits"),
        ] {
            let said = check_range(range(text), &others).unwrap_err().to_string();
            assert!(said.contains(why), "{text}: {said}");
        }
        check_range(range("10.50.0.0/16"), &others).unwrap();
    }

    #[test]
    fn names_of_networks_fit_interfaces() {
        for name in ["lab", "a", "team_1-x", &"n".repeat(63)] {
            assert!(bridge_name(name).len() <= 15, "{}", bridge_name(name));
        }
        assert_eq!((bridge_name("bridge"), bridge_name("lab")), ("joblet0".into(), "joblet-lab".into()));
        assert_eq!(bridge_name("laboratory"), "joblet-labe00a0");
        assert_ne!(bridge_name("laboratory-1"), bridge_name("laboratory-2"));
    }

    #[test]
    fn addresses_are_given_in_a_circle_and_never_the_gateway() {
        let mut leases = Leases::default();
        leases.add("lab", range("10.0.0.0/29")).unwrap();
        let all: Vec<Lease> = (0..5).map(|_| leases.lease("lab").unwrap()).collect();
        let last = |lease: &Lease| lease.address.octets()[3];
        assert_eq!(all.iter().map(last).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
        assert_eq!(all.iter().map(|lease| lease.wire).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        let full = leases.lease("lab").unwrap_err().to_string();
        assert_eq!(full, "network \"lab\" has no free address: 5 jobs use all of 10.0.0.0/29");
        leases.release(&all[1]);
        leases.release(&all[3]);
        let next = leases.lease("lab").unwrap();
        assert_eq!(
            (last(&next), leases.free("lab"), next.again),
            (3, Some(1), true),
            "its wire may still be there"
        );
        let again = leases.lease("lab").unwrap();
        assert_eq!((last(&again), again.wire), (5, 7), "the numbers of wires go on");
        assert!(leases.reserve(&again).is_err());
    }

    #[test]
    fn wire_gets_an_address_of_another_network_and_keeps_its_number() {
        let mut leases = Leases::default();
        leases.add("lab", range("10.0.0.0/29")).unwrap();
        leases.add("other", range("10.1.0.0/30")).unwrap();
        let first = leases.lease("lab").unwrap();
        let second = leases.renew(&first, "other").unwrap();
        assert_eq!((second.address, second.wire), ([10, 1, 0, 2].into(), first.wire));
        assert!(leases.renew(&first, "other").is_err(), "it has one address");
        assert!(leases.renew(&first, "none").is_err());
        leases.release_address(&first);
        assert_eq!((leases.free("lab"), leases.free("other")), (Some(5), Some(0)));
        leases.release(&second);
        assert_eq!(leases.free("other"), Some(1));
        assert_eq!(leases.lease("lab").unwrap().wire, 2);
    }

    /// The wire of a job that ended right after a restart was still there when the next one got its number and address.
    #[test]
    fn leases_go_on_behind_those_of_an_earlier_daemon() {
        let mut before = Leases::default();
        before.add("lab", range("10.0.0.0/24")).unwrap();
        let (first, dying) = (before.lease("lab").unwrap(), before.lease("lab").unwrap());
        let mut leases = Leases::default();
        leases.add("lab", range("10.0.0.0/24")).unwrap();
        leases.reserve(&first).unwrap();
        leases.go_on_behind([&first, &dying].map(|lease| (lease.wire, lease.address)));
        leases.release(&first);
        let next = leases.lease("lab").unwrap();
        assert_eq!((next.address, next.wire, next.again), (dying.address, 3, true));
        let after = leases.lease("lab").unwrap();
        assert_eq!((after.address, after.again), ([10, 0, 0, 4].into(), false));
    }

    /// A warm sandbox of the first network is still in the making when the second one is made.
    #[test]
    fn lease_of_a_removed_network_frees_nothing_of_the_next_one() {
        let mut leases = Leases::default();
        leases.add("lab", range("10.0.0.0/29")).unwrap();
        let old = leases.lease("lab").unwrap();
        leases.remove("lab");
        assert_eq!(leases.free("lab"), None);
        leases.add("lab", range("10.0.0.0/29")).unwrap();
        assert_eq!(leases.free("lab"), Some(4), "the old address is still in use");
        let new = leases.lease("lab").unwrap();
        assert_ne!(new.address, old.address);
        leases.release(&old);
        leases.release(&old);
        assert_eq!(leases.free("lab"), Some(4));
    }

    /// The loop looked at each address that was in use, for each job.
    #[test]
    fn last_address_of_a_large_network_is_leased_at_once() {
        let mut leases = Leases::default();
        leases.add("lab", range("10.0.0.0/17")).unwrap();
        let room = range("10.0.0.0/17").room();
        let all: Vec<Lease> = (0..room).map(|_| leases.lease("lab").unwrap()).collect();
        leases.lease("lab").unwrap_err();
        let (first, last) = (&all[1], &all[all.len() - 1]);
        leases.release(first);
        assert_eq!(leases.lease("lab").unwrap().address, first.address);
        leases.release(last);
        assert_eq!(leases.lease("lab").unwrap().address, last.address);
        assert_eq!(leases.free("lab"), Some(0));
    }

    proptest! {
        #[test]
        fn ranges_overlap_where_one_holds_an_end_of_the_other(a: u32, p in 0u8..=32, b: u32, q in 0u8..=32) {
            let (a, b) = (Range::new(a.to_be_bytes(), p), Range::new(b.to_be_bytes(), q));
            prop_assert_eq!(a.overlaps(b), a.contains(b.first()) || b.contains(a.first()));
            prop_assert_eq!(a.to_string().parse::<Range>().unwrap(), a);
        }

        #[test]
        fn texts_never_panic(text in "\\PC{0,24}") {
            let _ = text.parse::<Range>();
        }

        /// Against a model: no address twice, only those for jobs, and none refused while one is free.
        #[test]
        fn leases_are_unique_and_all_are_given(steps in proptest::collection::vec(any::<(bool, u8)>(), 1..120)) {
            let mut leases = Leases::default();
            let lab = range("10.0.0.0/27");
            leases.add("lab", lab).unwrap();
            let mut held: Vec<Lease> = Vec::new();
            for (take, which) in steps {
                if take {
                    match leases.lease("lab") {
                        Ok(lease) => {
                            prop_assert!(held.iter().all(|h| h.address != lease.address && h.wire != lease.wire));
                            prop_assert!(lab.contains(lease.address) && lease.wire > 0);
                            prop_assert!(![lab.first(), lab.gateway(), lab.last()].contains(&lease.address));
                            held.push(lease);
                        }
                        Err(_) => prop_assert_eq!(held.len() as u32, lab.room()),
                    }
                } else if !held.is_empty() {
                    let lease = held.swap_remove(usize::from(which) % held.len());
                    leases.release(&lease);
                }
                prop_assert_eq!(leases.free("lab"), Some(lab.room() as usize - held.len()));
            }
        }
    }
}
