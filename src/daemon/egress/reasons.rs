//! Why a job was refused, in words, and the flag or setting that would allow it: pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::job::egress::{List, Verdict};
use crate::network::RouterConfig;
use crate::network::denials::Target;
use crate::network::ipv6::of_image;
use crate::network::rules::{CONNECTIONS, RESOLVER, is_never};

/// Where clouds answer with what a machine may know of itself.
const METADATA: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// A rule, and what would allow the destination; empty where nothing does.
pub(super) type Reason = (String, String);

/// The list of a job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed<'l> {
    /// Its list, if it has one.
    pub(super) list: Option<&'l List>,
    /// Whether it builds a runtime: the list of such a job is the node's.
    pub(super) is_build: bool,
}

impl Listed<'_> {
    /// The flag or setting that puts an entry on it.
    fn with(&self, entry: &str) -> String {
        match self.is_build {
            true => format!("runtime.build.allow: [\"{entry}\"] in the node's configuration"),
            false => format!("--egress {entry}"),
        }
    }

    /// The flag or setting from which an entry is to be taken.
    fn without(&self, entry: &str) -> String {
        let place = if self.is_build { "runtime.build.allow" } else { "--egress" };
        format!("{place} without {entry}")
    }

    /// The flag or setting for another network.
    fn in_network(&self, name: &str) -> String {
        match self.is_build {
            true => format!("runtime.build.network: {name} in the node's configuration"),
            false => format!("--network {name}"),
        }
    }
}

/// Why the router refused a destination of a job in this network with this list.
pub(super) fn of_target(
    target: &Target,
    network: &str,
    listed: &Listed<'_>,
    config: &RouterConfig,
) -> Reason {
    let Target { address, protocol, port } = *target;
    if let Some(reason) = of_own_network(address, network, listed, config) {
        return reason;
    }
    let flag = match port {
        0 => listed.with(&address.to_string()),
        port if address.is_ipv6() => listed.with(&format!("[{address}]:{port}")),
        port => listed.with(&format!("{address}:{port}")),
    };
    let unlisted = of_list(listed, address, protocol, port, &flag);
    let opened = |address| config.allowed.iter().any(|range| range.contains(address));
    if is_never(address) && !matches!(address, IpAddr::V4(address) if opened(address)) {
        let rule = rule_of(address);
        // The configuration opens no range of IPv6.
        if address.is_multicast() || address.is_ipv6() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return (rule.into(), String::new());
        }
        let setting = format!("network.egress.allow: [{address}] in the node's configuration");
        let allow = if unlisted.is_some() { format!("{setting}, and {flag}") } else { setting };
        return (rule.into(), allow);
    }
    unlisted.unwrap_or_else(|| (format!("more than {CONNECTIONS} connections at a time"), String::new()))
}

/// The rule for an address that no job reaches.
fn rule_of(address: IpAddr) -> &'static str {
    let (private, link_local) = match address {
        IpAddr::V4(address) => (address.is_private(), address.is_link_local()),
        IpAddr::V6(address) => (address.is_unique_local(), address.is_unicast_link_local()),
    };
    match address {
        _ if METADATA.contains(&address) => "metadata of a cloud",
        _ if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) => {
            "multicast and broadcast"
        }
        _ if private => "private range",
        _ if link_local => "link-local address",
        _ => "address that is not of the internet",
    }
}

/// Destinations that are not outside: the host, the router and other jobs.
fn of_own_network(
    address: IpAddr,
    network: &str,
    listed: &Listed<'_>,
    config: &RouterConfig,
) -> Option<Reason> {
    let nothing = |rule: &str| Some((rule.to_owned(), String::new()));
    if config.host.contains(&address) || address.is_loopback() {
        return nothing("the host itself");
    }
    let address = match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => of_image(address)?,
    };
    if address == RESOLVER {
        return nothing("the resolver answers at port 53 only");
    }
    let other = config.networks.iter().find(|other| other.range.contains(address))?;
    if other.range.gateway() == address {
        return nothing("the router itself");
    }
    match other.name.as_str() {
        name if name != network => {
            let allow = if other.together { listed.in_network(name) } else { String::new() };
            Some((format!("another network, {name}"), allow))
        }
        name if !other.together => {
            Some((format!("jobs of network {name} reach no other job"), listed.in_network("bridge")))
        }
        _ => nothing("no job has this address"),
    }
}

fn of_list(listed: &Listed<'_>, to: IpAddr, protocol: u8, port: u16, flag: &str) -> Option<Reason> {
    let list = listed.list?;
    let is_ported = [libc::IPPROTO_TCP, libc::IPPROTO_UDP].contains(&i32::from(protocol));
    if !is_ported {
        return Some(("a job with an egress list has TCP and UDP only".into(), String::new()));
    }
    let denies = |(range, only): &(crate::job::egress::Prefix, Option<u16>)| {
        range.contains(to) && only.is_none_or(|only| only == port)
    };
    if let Some((range, only)) = list.denied_ranges().find(denies) {
        let entry = only.map_or_else(|| range.to_string(), |only| format!("{range}:{only}"));
        return Some((format!("denied by the egress list: !{entry}"), listed.without(&format!("!{entry}"))));
    }
    (!list.allows_address(to, port)).then(|| ("not in the egress list".into(), flag.to_owned()))
}

/// Why the resolver refused a name.
pub(super) fn of_name(name: &str, listed: &Listed<'_>) -> Reason {
    match listed.list.map(|list| list.allows_name(name, None)) {
        Some(Verdict::Denied) => ("denied by the egress list".into(), listed.without("that denial")),
        Some(Verdict::Unlisted) => ("not in the egress list".into(), listed.with(name)),
        Some(Verdict::Allowed(_)) | None => (
            "it leads to addresses that are closed to jobs".into(),
            "network.egress.allow in the node's configuration".into(),
        ),
    }
}

/// The name of a protocol above IP.
pub(super) fn protocol(number: u8) -> String {
    match i32::from(number) {
        libc::IPPROTO_TCP => "tcp".into(),
        libc::IPPROTO_UDP => "udp".into(),
        libc::IPPROTO_ICMP => "icmp".into(),
        libc::IPPROTO_ICMPV6 => "icmpv6".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Range;
    use crate::network::router::Definition;

    /// A router of two networks.
    fn router() -> RouterConfig {
        let network = |name: &str, range: [u8; 4], together| Definition {
            name: name.into(),
            range: Range::new(range, 16),
            together,
            inner: false,
        };
        RouterConfig {
            networks: vec![
                network("bridge", [172, 20, 0, 0], true),
                network("isolated", [172, 21, 0, 0], false),
            ],
            allowed: vec![Range::new([10, 1, 0, 0], 16)],
            host: ["203.0.113.2", "2600::2"].map(|text| text.parse().unwrap()).into(),
            ..RouterConfig::default()
        }
    }

    #[test]
    fn each_refusal_names_its_rule_and_what_would_allow_it() {
        let config = router();
        let texts = ["example.org", "1.2.3.4:443", "!9.9.9.0/24:53"].map(str::to_owned);
        let list = List::parse(&texts).unwrap();
        let why = |address: [u8; 4], protocol: u8, port, listed: bool| {
            let target = Target { address: Ipv4Addr::from(address).into(), protocol, port };
            let of_job = Listed { list: listed.then_some(&list), is_build: false };
            let (rule, allow) = of_target(&target, "isolated", &of_job, &config);
            format!("{rule} | {allow}")
        };
        for (got, expected) in [
            (why([8, 8, 8, 8], 6, 443, true), "not in the egress list | --egress 8.8.8.8:443"),
            (why([8, 8, 8, 8], 1, 0, true), "a job with an egress list has TCP and UDP only | "),
            (
                why([9, 9, 9, 9], 17, 53, true),
                "denied by the egress list: !9.9.9.0/24:53 | --egress without !9.9.9.0/24:53",
            ),
            (
                why([10, 9, 9, 9], 6, 80, true),
                "private range | network.egress.allow: [10.9.9.9] in the node's configuration, and --egress 10.9.9.9:80",
            ),
            (
                why([10, 9, 9, 9], 6, 80, false),
                "private range | network.egress.allow: [10.9.9.9] in the node's configuration",
            ),
            (why([10, 1, 9, 9], 6, 80, true), "not in the egress list | --egress 10.1.9.9:80"),
            (
                why([169, 254, 169, 254], 6, 80, false),
                "metadata of a cloud | network.egress.allow: [169.254.169.254] in the node's configuration",
            ),
            (why([203, 0, 113, 2], 6, 22, false), "the host itself | "),
            (why([172, 20, 0, 9], 6, 22, false), "another network, bridge | --network bridge"),
            (
                why([172, 21, 0, 9], 6, 22, false),
                "jobs of network isolated reach no other job | --network bridge",
            ),
            (why([172, 21, 0, 1], 6, 22, false), "the router itself | "),
            (why([224, 0, 0, 1], 17, 22, false), "multicast and broadcast | "),
            (why([8, 8, 8, 8], 6, 443, false), "more than 2048 connections at a time | "),
            (why([1, 2, 3, 4], 6, 443, true), "more than 2048 connections at a time | "),
        ] {
            assert_eq!(got, expected);
        }
        let six = |address: &str, listed: bool| {
            let target = Target { address: address.parse().unwrap(), protocol: 6, port: 80 };
            let of_job = Listed { list: listed.then_some(&list), is_build: false };
            let (rule, allow) = of_target(&target, "isolated", &of_job, &config);
            format!("{rule} | {allow}")
        };
        for (got, expected) in [
            (six("2600::8", true), "not in the egress list | --egress [2600::8]:80"),
            (six("2600::2", false), "the host itself | "),
            (six("fd00:ec2::254", false), "metadata of a cloud | "),
            (six("fd00::1", true), "private range | "),
            (six("fe80::1", false), "link-local address | "),
            (six("fd6a:6f62:6c65::ac14:9", false), "another network, bridge | --network bridge"),
            (six("::ffff:8.8.8.8", false), "address that is not of the internet | "),
        ] {
            assert_eq!(got, expected);
        }
        let of_job = Listed { list: Some(&list), is_build: false };
        assert_eq!(of_name("evil.net", &of_job).1, "--egress evil.net");
        assert_eq!(protocol(17) + &protocol(47), "udp47");
    }

    #[test]
    fn refusals_of_a_build_name_the_settings_of_builds() {
        let (config, list) = (router(), List::parse(&["example.org".to_owned()]).unwrap());
        let of_build = Listed { list: Some(&list), is_build: true };
        let setting = "runtime.build.allow: [\"evil.net\"] in the node's configuration";
        assert_eq!(of_name("evil.net", &of_build).1, setting);
        let other = Target { address: Ipv4Addr::new(172, 21, 0, 9).into(), protocol: 6, port: 22 };
        let setting = "runtime.build.network: bridge in the node's configuration";
        assert_eq!(of_target(&other, "isolated", &of_build, &config).1, setting);
    }
}
