//! The few rules of the host, as constants; and the kernel modules that they and those of the router need.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::ipv6::image;
use super::rules::{Elements, HOST_END, TABLE, router};
use crate::sys::nftables::expression::{
    Connection, DESTINATION_CHANGED, Direction::In, Direction::Out, Expression as E, FIRST, Verdict, state,
};
use crate::sys::nftables::{Base, Hook, Kind, Transaction};

/// Interfaces on which forwarding is on for our sake only: what comes in there passes to us and to nobody else, unless
/// somebody translates it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Guarded {
    /// That of IPv4.
    pub(super) four: Option<String>,
    /// That of IPv6.
    pub(super) six: Option<String>,
}

/// The chains of the host that guard interfaces, of IPv4 and of IPv6.
pub(super) const GUARDS: [&str; 2] = ["forward", "forward6"];

/// The whole table of the host, for a router with this address and its image.
pub(super) fn host(own: Ipv4Addr, guarded: &Guarded) -> Transaction {
    let mut t = Transaction::default();
    t.remove_table(TABLE);
    t.add_table(TABLE);
    let base = |kind, hook, priority| Some(Base { kind, hook, priority, accept: true });
    t.add_chain(TABLE, "input", base(Kind::Filter, Hook::Input, -10));
    for chain in GUARDS {
        t.add_chain(TABLE, chain, base(Kind::Filter, Hook::Forward, -10));
    }
    t.add_chain(TABLE, "masquerade", base(Kind::Nat, Hook::Postrouting, 100));
    t.add_rule(TABLE, "input", &[E::interface(In, true, HOST_END), vec![E::Reject]].concat());
    let strange = E::state(state::NEW | state::INVALID);
    t.add_rule(
        TABLE,
        "forward",
        &[E::interface(Out, true, HOST_END), strange, vec![E::Verdict(Verdict::Drop)]].concat(),
    );
    let families = [(E::ipv4(), GUARDS[0], &guarded.four), (E::ipv6(), GUARDS[1], &guarded.six)];
    for (family, chain, name) in families {
        let Some(name) = name else { continue };
        let untranslated = vec![
            E::Connection(Connection::Status, FIRST),
            E::Mask(FIRST, DESTINATION_CHANGED),
            E::Compare(FIRST, true, vec![0; 4]),
        ];
        let rule = [
            family,
            E::interface(In, true, name),
            E::interface(Out, false, HOST_END),
            E::state(state::NEW),
            untranslated,
            vec![E::Verdict(Verdict::Drop)],
        ];
        t.add_rule(TABLE, chain, &rule.concat());
    }
    let is_router = |load, octets: &[u8]| vec![load, E::Compare(FIRST, true, octets.to_vec())];
    for from_router in [
        [E::ipv4(), is_router(E::source(FIRST), &own.octets())].concat(),
        [E::ipv6(), is_router(E::ipv6_source(0, 16, FIRST), &image(own).octets())].concat(),
    ] {
        let rule = [from_router, E::interface(Out, false, HOST_END), vec![E::Masquerade]];
        t.add_rule(TABLE, "masquerade", &rule.concat());
    }
    t
}

/// The rules that let us through a foreign chain, in exactly the shape in which iptables writes them, so that it still
/// reads the chain: by the way in, and by the way out.
pub(super) fn admission(direction_in: bool) -> Vec<E<'static>> {
    let direction = if direction_in { In } else { Out };
    [E::interface(direction, true, HOST_END), vec![E::Count], vec![E::Verdict(Verdict::Accept)]].concat()
}

/// The kernel modules that a router needs, with its rules, its interfaces and the host's side.
pub fn modules() -> BTreeSet<&'static str> {
    let mut all = BTreeSet::from(["bridge", "veth"]);
    all.extend(router(&Elements::default(), &[]).modules());
    let name = Some(String::new());
    all.extend(host(Ipv4Addr::UNSPECIFIED, &Guarded { four: name.clone(), six: name }).modules());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_those_of_the_words_in_the_rules() {
        let expected = "bridge nf_tables nft_chain_nat nft_connlimit nft_ct nft_fib_inet nft_limit nft_masq nft_nat \
                        nft_reject_inet nft_socket veth";
        assert_eq!(modules().into_iter().collect::<Vec<_>>().join(" "), expected);
    }
}
