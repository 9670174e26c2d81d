//! Ranges of addresses of both families: an address and the bits of it that count.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of IPv4 or IPv6 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    first: IpAddr,
    bits: u8,
}

impl Prefix {
    /// The address alone.
    pub fn of(address: IpAddr) -> Self {
        Prefix { first: address, bits: width(address) }
    }

    /// The first address, which names the range.
    pub fn first(self) -> IpAddr {
        self.first
    }

    /// The last address.
    pub fn last(self) -> IpAddr {
        with(self.first, number(self.first) | !self.mask())
    }

    /// Bits that count: 0 to 32, or to 128.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Whether the address is in the range.
    pub fn contains(self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && number(address) & self.mask() == number(self.first)
    }

    /// Whether the whole of the other range is in this one.
    pub fn covers(self, other: Prefix) -> bool {
        self.bits <= other.bits && self.contains(other.first)
    }

    /// Whether the ranges have an address in common: then one is within the other.
    pub fn overlaps(self, other: Prefix) -> bool {
        self.covers(other) || other.covers(self)
    }

    fn mask(self) -> u128 {
        let behind = u32::from(width(self.first) - self.bits);
        u128::MAX.checked_shl(behind).unwrap_or(0)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address as a number.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The address of this number, of the family of `like`; bits beyond it are left out.
pub(super) fn with(like: IpAddr, number: u128) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::from(number as u32).into() } else { Ipv6Addr::from(number).into() }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bits == width(self.first) {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}/{}", self.first, self.bits)
        }
    }
}

impl FromStr for Prefix {
    type Err = String;

    /// Reads an address with or without a number of bits. Bits behind them are refused: they are mostly a slip.
    fn from_str(text: &str) -> Result<Self, String> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| format!("{address:?} is no address"))?;
        if let IpAddr::V6(six) = address
            && let Some(four) = six.to_ipv4_mapped()
        {
            return Err(format!("it is an IPv4 address in IPv6 form; write {four}"));
        }
        let most = width(address);
        let digits = |bits: &str| (1..=3).contains(&bits.len()) && bits.bytes().all(|b| b.is_ascii_digit());
        let bits = match bits {
            None => most,
            Some(bits) => {
                let number = bits.parse::<u8>().ok().filter(|number| digits(bits) && *number <= most);
                number.ok_or_else(|| format!("behind '/' stands a number to {most}"))?
            }
        };
        let whole = Prefix { first: address, bits };
        let first = with(address, number(address) & whole.mask());
        if first != address {
            return Err(format!("{address} has bits behind the prefix; write {first}/{bits}"));
        }
        Ok(whole)
    }
}
