//! Ports of the host that reach a job, as requests and the configuration name them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::InvalidField;

/// Most published ports of one job.
pub const MOST: usize = 32;

/// A port of the host whose connections go to a port of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Published {
    /// An address of the host; unspecified for all of its kind.
    pub address: IpAddr,
    /// The port there, from 1.
    pub port: u16,
    /// The port inside the job, from 1.
    pub job_port: u16,
}

impl Published {
    /// Reads `[ADDRESS:]PORT:JOBPORT`. Without an address it is the loopback; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// Another form, or a port of 0.
    pub fn parse(text: &str) -> Result<Self, InvalidField> {
        let wrong = |why: &str| {
            let shown: String = text.chars().take(64).collect();
            InvalidField::new(format!(
                "invalid publish \"{}\": {why}; give [ADDRESS:]PORT:JOBPORT, such as 8080:80",
                shown.escape_debug()
            ))
        };
        let port = |text: &str| match text.parse::<u16>() {
            Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
            _ => Err(wrong("a port is a number from 1 to 65535")),
        };
        let (rest, job_port) = text.rsplit_once(':').ok_or_else(|| wrong("two ports are needed"))?;
        let (address, host_port) = match rest.rsplit_once(':') {
            None => (IpAddr::V4(Ipv4Addr::LOCALHOST), rest),
            Some((address, port)) => {
                let inner = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
                let read = match inner {
                    Some(inner) => inner.parse().map(IpAddr::V6),
                    None => address.parse().map(IpAddr::V4),
                };
                (read.map_err(|_| wrong("the address is no IP address of the host"))?, port)
            }
        };
        Ok(Published { address, port: port(host_port)?, job_port: port(job_port)? })
    }

    /// The address and port on the host.
    pub fn host(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Whether two cannot be listened on at one time.
    pub fn collides_with(&self, other: &Published) -> bool {
        let (a, b) = (self.address, other.address);
        let overlap = a == b || a.is_unspecified() || b.is_unspecified();
        self.port == other.port && a.is_ipv4() == b.is_ipv4() && overlap
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host(), self.job_port)
    }
}

/// Checks the ports of one job together.
///
/// # Errors
/// Too many, or two that are the same port of the host.
pub fn check(ports: &[Published]) -> Result<(), InvalidField> {
    if ports.len() > MOST {
        return Err(InvalidField::new(format!(
            "publish has {} ports, at most {MOST} are allowed for a job",
            ports.len()
        )));
    }
    for (at, one) in ports.iter().enumerate() {
        if let Some(other) = ports.iter().take(at).find(|other| one.collides_with(other)) {
            return Err(InvalidField::new(format!("publish has port {} twice: {other} and {one}", one.port)));
        }
    }
    Ok(())
}

/// The ports of the host that the configuration lets jobs have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publishable {
    allowed: bool,
    addresses: Vec<(IpAddr, u8)>,
    ports: RangeInclusive<u16>,
}

impl Publishable {
    /// The ports of a range such as `1024-65535` on addresses in these ranges, such as `127.0.0.0/8`.
    ///
    /// # Errors
    /// The text that is no range.
    pub fn new(allowed: bool, addresses: &[String], ports: &str) -> Result<Self, InvalidField> {
        let addresses: Result<Vec<_>, _> = addresses.iter().map(|text| address_range(text)).collect();
        let wrong = || InvalidField::new(format!("{ports:?} is no range of ports, such as 1024-65535"));
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
        let ports = port(first)?..=port(last)?;
        if ports.is_empty() {
            return Err(wrong());
        }
        Ok(Publishable { allowed, addresses: addresses?, ports })
    }

    /// Why this port may not be published, as a sentence that names the key.
    pub fn refusal(&self, port: &Published) -> Option<String> {
        if !self.allowed {
            return Some("this node publishes no ports of jobs (network.allow_publish: false)".to_owned());
        }
        if !self.ports.contains(&port.port) {
            return Some(format!(
                "port {} may not be published on this node: network.publish.ports is {}-{}",
                port.port,
                self.ports.start(),
                self.ports.end()
            ));
        }
        let contains = |(range, prefix): &(IpAddr, u8)| within(port.address, *range, *prefix);
        let is_listed = self.addresses.iter().any(contains);
        // All addresses of the host are only what the configuration names so.
        let is_all =
            !port.address.is_unspecified() || self.addresses.iter().any(|(range, _)| range.is_unspecified());
        (!is_listed || !is_all).then(|| {
            format!(
                "address {} may not be published on this node: it is not in network.publish.addresses",
                port.address
            )
        })
    }
}

/// An address, with or without a prefix.
fn address_range(text: &str) -> Result<(IpAddr, u8), InvalidField> {
    let wrong = || InvalidField::new(format!("{text:?} is no range of addresses, such as 127.0.0.0/8"));
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| wrong())?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.unwrap_or(bits);
    if prefix > bits { Err(wrong()) } else { Ok((address, prefix)) }
}

fn within(address: IpAddr, range: IpAddr, prefix: u8) -> bool {
    let (bits, (one, other)) = match (address, range) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (32, (u128::from(a.to_bits()), u128::from(b.to_bits()))),
        (IpAddr::V6(a), IpAddr::V6(b)) => (128, (a.to_bits(), b.to_bits())),
        _ => return false,
    };
    let rest = u32::from(bits - prefix.min(bits));
    one.checked_shr(rest).unwrap_or(0) == other.checked_shr(rest).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_written_alike() {
        for (text, expected) in [
            ("8080:80", "127.0.0.1:8080:80"),
            ("0.0.0.0:1:65535", "0.0.0.0:1:65535"),
            ("[::1]:8080:80", "[::1]:8080:80"),
            ("[::]:8080:80", "[::]:8080:80"),
        ] {
            let read = Published::parse(text).unwrap();
            assert_eq!(read.to_string(), expected);
            assert_eq!(Published::parse(&read.to_string()), Ok(read));
        }
        for text in [
            "",
            "80",
            ":80",
            "80:",
            "0:80",
            "80:0",
            "65536:1",
            "1:65536",
            "+1:80",
            "::1:80:80",
            "localhost:1:2",
            "[127.0.0.1]:1:2",
            "1:2:3",
            "1:2:3:4",
            "8080:80/tcp",
            "-1:80",
            " 8080:80",
        ] {
            let why = Published::parse(text).unwrap_err().0;
            assert!(why.starts_with("invalid publish") && why.contains("PORT:JOBPORT"), "{text}: {why}");
        }
    }

    fn ports(list: &[&str]) -> Vec<Published> {
        list.iter().map(|text| Published::parse(text).unwrap()).collect()
    }

    #[test]
    fn same_port_of_the_host_is_refused_twice() {
        for (list, fine) in [
            (&["1:1", "2:1"][..], true),
            (&["1:1", "1:2"], false),
            (&["1:1", "0.0.0.0:1:2"], false),
            (&["1:1", "127.0.0.2:1:2"], true),
            (&["[::1]:1:1", "0.0.0.0:1:2"], true),
            (&["[::1]:1:1", "[::]:1:2"], false),
        ] {
            assert_eq!(check(&ports(list)).is_ok(), fine, "{list:?}");
        }
        let many: Vec<String> = (1..=33).map(|port| format!("{port}:1")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(
            check(&ports(&many)).unwrap_err().0.contains("33 ports") && check(&ports(&many[1..])).is_ok()
        );
    }

    #[test]
    fn configuration_says_what_may_be_published() {
        let of = |addresses: &[&str], ports: &str| {
            let addresses: Vec<String> = addresses.iter().map(|text| (*text).to_owned()).collect();
            Publishable::new(true, &addresses, ports).unwrap()
        };
        let usual = of(&["127.0.0.0/8", "::1"], "1024-65535");
        let refusal = |rules: &Publishable, text: &str| rules.refusal(&Published::parse(text).unwrap());
        for text in ["8080:80", "127.9.9.9:1024:1", "[::1]:65535:1"] {
            assert_eq!(refusal(&usual, text), None, "{text}");
        }
        for text in ["0.0.0.0:8080:80", "[::]:8080:80", "192.0.2.1:8080:80", "[::2]:8080:80"] {
            assert!(refusal(&usual, text).unwrap().contains("network.publish.addresses"), "{text}");
        }
        assert!(refusal(&usual, "1023:80").unwrap().contains("network.publish.ports is 1024-65535"));
        let lan = of(&["192.0.2.0/24"], "80");
        assert_eq!(refusal(&lan, "192.0.2.9:80:8080"), None);
        assert!(refusal(&lan, "0.0.0.0:80:8080").is_some() && refusal(&lan, "192.0.2.9:81:1").is_some());
        let all = of(&["0.0.0.0/0"], "1-65535");
        assert_eq!((refusal(&all, "0.0.0.0:80:80"), refusal(&all, "192.0.2.1:80:80")), (None, None));
        assert_eq!(refusal(&of(&["0.0.0.0"], "80"), "0.0.0.0:80:80"), None);
        let none = Publishable::new(false, &[], "1-2").unwrap();
        assert!(refusal(&none, "1:1").unwrap().contains("network.allow_publish"));
        for (addresses, ports) in
            [("127.0.0.1/33", "1"), ("::/129", "1"), ("x", "1"), ("::1", "0-1"), ("::1", "2-1")]
        {
            assert!(Publishable::new(true, &[addresses.to_owned()], ports).is_err(), "{addresses} {ports}");
        }
    }
}
