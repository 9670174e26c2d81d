//! Ranges with ports, cut so that no two have an address and a port in common: the packet filter takes no others.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::prefix::{Prefix, number, with};

/// Addresses and ports of them, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first and the last address, of one family.
    pub addresses: (IpAddr, IpAddr),
    /// The first and the last port.
    pub ports: (u16, u16),
}

/// The windows of ranges of one family. Addresses with the same ports that lie together are one window.
pub(super) fn windows(ranges: &[(Prefix, Option<u16>)]) -> Vec<Window> {
    let Some((like, _)) = ranges.first() else { return Vec::new() };
    let like = like.first();
    let ends = |range: Prefix| (number(range.first()), number(range.last()));
    let cuts: BTreeSet<u128> = ranges
        .iter()
        .flat_map(|(range, _)| [Some(ends(*range).0), ends(*range).1.checked_add(1)])
        .flatten()
        .collect();
    let mut pieces: Vec<(u128, u128, Ports)> = Vec::new();
    for cut in &cuts {
        let ports = ports_at(ranges, *cut);
        let next = cuts.range(cut + 1..).next();
        let last = next.map_or(ends(*widest(ranges)).1, |next| next - 1);
        match pieces.last_mut() {
            Some(before) if before.2 == ports && before.1 + 1 == *cut => before.1 = last,
            _ if ports == Ports::These(BTreeSet::new()) => {}
            _ => pieces.push((*cut, last, ports)),
        }
    }
    let window = |first, last, ports| Window { addresses: (with(like, first), with(like, last)), ports };
    let of = |(first, last, ports): (u128, u128, Ports)| match ports {
        Ports::All => vec![window(first, last, (0, u16::MAX))],
        Ports::These(ports) => ports.into_iter().map(|port| window(first, last, (port, port))).collect(),
    };
    pieces.into_iter().flat_map(of).collect()
}

#[derive(PartialEq, Eq)]
enum Ports {
    All,
    These(BTreeSet<u16>),
}

/// The range that ends last.
fn widest(ranges: &[(Prefix, Option<u16>)]) -> &Prefix {
    let last = ranges.iter().map(|(range, _)| range).max_by_key(|range| number(range.last()));
    last.expect("windows() has returned where there is no range")
}

fn ports_at(ranges: &[(Prefix, Option<u16>)], address: u128) -> Ports {
    let mut ports = BTreeSet::new();
    for (range, port) in ranges {
        if (number(range.first())..=number(range.last())).contains(&address) {
            match port {
                None => return Ports::All,
                Some(port) => drop(ports.insert(*port)),
            }
        }
    }
    Ports::These(ports)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(texts: &[(&str, Option<u16>)]) -> Vec<String> {
        let ranges: Vec<_> = texts.iter().map(|(text, port)| (text.parse().unwrap(), *port)).collect();
        let shown = |w: &Window| format!("{}-{} {}-{}", w.addresses.0, w.addresses.1, w.ports.0, w.ports.1);
        windows(&ranges).iter().map(shown).collect()
    }

    #[test]
    fn ranges_within_others_are_cut_out_of_them() {
        assert_eq!(cut(&[]), [""; 0]);
        assert_eq!(
            cut(&[("10.0.0.0/8", None), ("10.1.0.0/16", Some(80))]),
            ["10.0.0.0-10.255.255.255 0-65535"]
        );
        assert_eq!(cut(&[("10.0.0.0/9", None), ("10.128.0.0/9", None)]), ["10.0.0.0-10.255.255.255 0-65535"]);
        assert_eq!(
            cut(&[("10.0.0.0/30", Some(80)), ("10.0.0.2", None), ("10.0.0.3", Some(443))]),
            [
                "10.0.0.0-10.0.0.1 80-80",
                "10.0.0.2-10.0.0.2 0-65535",
                "10.0.0.3-10.0.0.3 80-80",
                "10.0.0.3-10.0.0.3 443-443"
            ]
        );
        assert_eq!(cut(&[("0.0.0.0/0", None)]), ["0.0.0.0-255.255.255.255 0-65535"]);
        assert_eq!(cut(&[("::/0", Some(1))]), ["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 1-1"]);
    }

    fn ranges() -> impl Strategy<Value = Vec<(Prefix, Option<u16>)>> {
        // Few bits, so that they meet.
        let range = (0u32..16, 0u32..=4, prop::option::of(1u16..4)).prop_map(|(n, bits, port)| {
            let base = (n << 28) & u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            (format!("{}/{bits}", std::net::Ipv4Addr::from(base)).parse().unwrap(), port)
        });
        prop::collection::vec(range, 0..8)
    }

    proptest! {
        #[test]
        fn windows_hold_the_same_as_the_ranges_and_meet_nowhere(ranges in ranges(), n in 0u32..16, port in 1u16..5) {
            let address = IpAddr::from(std::net::Ipv4Addr::from(n << 28));
            let wanted = ranges.iter().any(|(range, only)| range.contains(address) && only.is_none_or(|only| only == port));
            let holds = |w: &&Window| w.addresses.0 <= address && address <= w.addresses.1 && w.ports.0 <= port && port <= w.ports.1;
            prop_assert_eq!(windows(&ranges).iter().filter(holds).count(), usize::from(wanted));
        }
    }
}
