//! Network interfaces: `/proc/net/dev`, `/proc/net/if_inet6` (proc(5)).

use std::net::Ipv6Addr;

/// Beginnings of names of interfaces that belong to containers and virtual machines.
const OF_GUESTS: [&str; 6] = ["veth", "br-", "virbr", "tap", "tun", "docker"];

/// Counters of an interface since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Bytes that came in.
    pub rx_bytes: u64,
    /// Packets that came in.
    pub rx_packets: u64,
    /// Errors on the way in.
    pub rx_errors: u64,
    /// Packets dropped on the way in.
    pub rx_drops: u64,
    /// Bytes that went out.
    pub tx_bytes: u64,
    /// Packets that went out.
    pub tx_packets: u64,
    /// Errors on the way out.
    pub tx_errors: u64,
    /// Packets dropped on the way out.
    pub tx_drops: u64,
}

/// An interface of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    /// The name of the interface.
    pub name: String,
    /// Its counters since it was made.
    pub counters: Counters,
    /// Addresses, IPv4 first.
    pub addresses: Vec<String>,
    /// The hardware address; empty where there is none.
    pub mac: String,
}

/// Parses `/proc/net/dev`, without the loopback and the interfaces of containers and virtual machines.
pub fn net_dev(text: &str) -> Vec<Interface> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let named = lines.map(|(name, numbers)| (name.trim(), numbers));
    let shown =
        named.filter(|(name, _)| *name != "lo" && !OF_GUESTS.iter().any(|guest| name.starts_with(guest)));
    let read = |(name, numbers): (&str, &str)| {
        Some(Interface { name: name.to_owned(), counters: counters(numbers)?, ..Interface::default() })
    };
    shown.filter_map(read).collect()
}

fn counters(numbers: &str) -> Option<Counters> {
    let mut n = [0u64; 16];
    let mut words = numbers.split_whitespace();
    for place in &mut n {
        *place = words.next()?.parse().ok()?;
    }
    Some(Counters {
        rx_bytes: n[0],
        rx_packets: n[1],
        rx_errors: n[2],
        rx_drops: n[3],
        tx_bytes: n[8],
        tx_packets: n[9],
        tx_errors: n[10],
        tx_drops: n[11],
    })
}

/// Parses `/proc/net/if_inet6`: the name of each interface with an address of it.
pub fn inet6(text: &str) -> Vec<(String, Ipv6Addr)> {
    let read = |line: &str| {
        let mut words = line.split_whitespace();
        let address = u128::from_str_radix(words.next().filter(|hex| hex.len() == 32)?, 16).ok()?;
        Some((words.nth(4)?.to_owned(), Ipv6Addr::from(address)))
    };
    text.lines().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str =
        "Inter-|   Receive                  |  Transmit\n face |bytes    packets errs drop|bytes packets\n";

    #[test]
    fn interfaces_of_guests_and_the_loopback_are_left_out() {
        let numbers = "1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0";
        let names =
            ["lo", "eth0", "veth12", "br-9f", "virbr0", "tap0", "tun0", "docker0", "joblet0", "wlan0"];
        let lines: Vec<String> = names.iter().map(|name| format!("{name:>6}: {numbers}")).collect();
        let found = net_dev(&format!("{HEAD}{}", lines.join("\n")));
        let names: Vec<_> = found.iter().map(|interface| interface.name.as_str()).collect();
        assert_eq!(names, ["eth0", "joblet0", "wlan0"]);
        let wanted = Counters {
            rx_bytes: 1,
            rx_packets: 2,
            rx_errors: 3,
            rx_drops: 4,
            tx_bytes: 5,
            tx_packets: 6,
            tx_errors: 7,
            tx_drops: 8,
        };
        assert_eq!(found[0].counters, wanted);
        assert!(net_dev("eth0: 1 2 3\n").is_empty());
    }

    #[test]
    fn addresses_of_version_6_have_their_interface() {
        let text = "fe800000000000000000000000000001 02 40 20 80     eth0\nnonsense\n";
        assert_eq!(inet6(text), [("eth0".to_owned(), "fe80::1".parse().unwrap())]);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parsers(text in "([a-z0-9]{0,6}: ?[0-9 ]{0,40}\n?){0,3}[0-9a-f ]{0,60}") {
            let _ = (net_dev(&text), inet6(&text));
        }
    }
}
