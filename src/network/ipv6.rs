//! IPv6 of jobs: pure. Every IPv4 address of a network has an IPv6 address, its *image*: [`PREFIX`] and its four bytes.
//!
//! So a lease, the range of a network and the sets of the router speak of both, and nothing more is leased, stored or
//! renewed. The prefix is the same on every node: packets leave the host with the host's address, so no two nodes ever
//! see each other's.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The bits of all images, `fd6a:6f62:6c65::/96`: a unique local prefix (RFC 4193).
pub const PREFIX: [u8; 12] = [0xfd, 0x6a, 0x6f, 0x62, 0x6c, 0x65, 0, 0, 0, 0, 0, 0];
/// Bits of [`PREFIX`].
pub const BITS: u8 = 96;
/// The gateway of every job. Wires have no layer 2, so that nobody asks for it.
pub const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The smallest largest packet of a link that has IPv6 (RFC 8200, 5).
pub const LEAST_MTU: u32 = 1280;

/// All addresses of the internet are in 2000::/3, so everything else is closed: translations of IPv4, unique local ranges
/// with the metadata of clouds (fd00:ec2::254), link-local and site-local addresses, multicast.
const NEVER: [(u128, u128); 6] = [
    block(0, 3),
    block(0x2001_0000, 23), // protocols of the IETF: Teredo, benchmarks, ORCHID
    block(0x2001_0db8, 32), // documentation
    block(0x2002_0000, 16), // 6to4
    block(0x3fff_0000, 20), // documentation
    (block(0x4000_0000, 2).0, u128::MAX),
];

const fn block(first: u32, bits: u32) -> (u128, u128) {
    let first = (first as u128) << 96;
    (first, first | u128::MAX >> bits)
}

/// The IPv6 address that belongs to an IPv4 address of ours.
pub fn image(address: Ipv4Addr) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets[..12].copy_from_slice(&PREFIX);
    octets[12..].copy_from_slice(&address.octets());
    octets.into()
}

/// The IPv4 address of which this is the image.
pub fn of_image(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let (prefix, last) = octets.split_first_chunk::<12>()?;
    let last: [u8; 4] = last.try_into().ok()?;
    (*prefix == PREFIX).then(|| last.into())
}

/// The first and the last addresses of ranges that no job reaches.
pub fn never_ranges() -> impl Iterator<Item = (Ipv6Addr, Ipv6Addr)> {
    NEVER.into_iter().map(|(first, last)| (first.into(), last.into()))
}

/// Whether no job reaches the address.
pub fn is_never(address: Ipv6Addr) -> bool {
    let number = u128::from(address);
    NEVER.iter().any(|(first, last)| (*first..=*last).contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_lead_back_to_their_addresses() {
        let job = Ipv4Addr::new(172, 20, 0, 5);
        assert_eq!(image(job).to_string(), "fd6a:6f62:6c65::ac14:5");
        assert_eq!(of_image(image(job)), Some(job));
        for other in ["fd6a:6f62:6c65:1::ac14:5", "::ac14:5", "::ffff:172.20.0.5"] {
            assert_eq!(of_image(other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_host_of_the_internet_is_never_reached() {
        for (address, never) in [
            ("::", true),
            ("::1", true),
            ("::ffff:8.8.8.8", true),
            ("::8.8.8.8", true),
            ("64:ff9b::8.8.8.8", true),
            ("64:ff9b:1::1", true),
            ("100::1", true),
            ("1fff:ffff::1", true),
            ("2001::1", true),
            ("2001:1ff::1", true),
            ("2001:200::1", false),
            ("2001:db8::9", true),
            ("2001:4860:4860::8888", false),
            ("2002:808:808::1", true),
            ("2600::1", false),
            ("3ffe:ffff::1", false),
            ("3fff::1", true),
            ("3fff:1000::1", false),
            ("4000::1", true),
            ("5f00::1", true),
            ("fd00:ec2::254", true),
            ("fd20:ce::254", true),
            ("fd6a:6f62:6c65::ac14:5", true),
            ("fe80::1", true),
            ("fec0::1", true),
            ("ff02::1", true),
            ("ffff::1", true),
        ] {
            assert_eq!(is_never(address.parse().unwrap()), never, "{address}");
        }
    }
}
