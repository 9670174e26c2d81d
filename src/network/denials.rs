//! The ledger of denials, which the router keeps, and what a job was refused, counted over its life.
//!
//! The kernel counts the packets of each destination for an hour from the first; the entry cannot be renewed, so it says
//! when the first packet was refused, and not when the last one was. [`Tally`] adds up what several looks at the ledger have
//! shown, so that a count goes on when an entry has expired.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::error::{NetworkError, changing};
use super::rules::{DENIAL_TIME, DENIALS, DENIALS6, TABLE};
use crate::sys::netlink::Socket;
use crate::sys::nftables::elements;
use crate::sys::nftables::set::ElementState;

/// Destinations of one job that are counted each for itself.
pub const MOST_ROWS: usize = 1000;

/// A destination that the router refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The address of the destination.
    pub address: IpAddr,
    /// The number of the protocol above IP.
    pub protocol: u8,
    /// The port of TCP or UDP, else 0.
    pub port: u16,
}

/// An entry of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The address of the job.
    pub job: Ipv4Addr,
    /// The destination of the packets.
    pub target: Target,
    /// Packets that were refused.
    pub packets: u64,
    /// Time since the first of them.
    pub age: Duration,
}

/// The ledger as it is now.
///
/// # Errors
/// The kernel's refusal.
pub fn read(filter: &mut Socket) -> Result<Vec<Entry>, NetworkError> {
    let mut entries = Vec::new();
    for set in [&DENIALS, &DENIALS6] {
        let found = changing(elements(filter, TABLE, set), "read the ledger of denials")?;
        entries.extend(found.iter().filter_map(entry));
    }
    Ok(entries)
}

fn entry(element: &ElementState) -> Option<Entry> {
    let (job, rest) = element.key.split_first_chunk::<4>()?;
    // Protocol and port have four bytes each.
    let (address, rest) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
    let address = match address.len() {
        4 => IpAddr::V4(<[u8; 4]>::try_from(address).ok()?.into()),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?)),
    };
    Some(Entry {
        job: Ipv4Addr::from(*job),
        target: Target { address, protocol: rest[0], port: u16::from_be_bytes([rest[4], rest[5]]) },
        packets: element.packets?,
        age: DENIAL_TIME.saturating_sub(element.remaining?),
    })
}

/// The destinations that one job was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    rows: BTreeMap<Target, Row>,
    uncounted: u64,
}

/// One destination of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The first refusal, ns since the epoch.
    pub first_ns: i64,
    // Packets of entries that are gone, and those of the entry that is there.
    before: u64,
    shown: u64,
    // The first refusal of the entry that is there.
    entry_ns: i64,
}

impl Row {
    /// Packets that were refused.
    pub fn packets(&self) -> u64 {
        self.before + self.shown
    }
}

/// The moment of a look at the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// By the clock on the wall, ns since the epoch.
    pub wall_ns: i64,
    /// By the clock that nobody sets (CLOCK_MONOTONIC), ns.
    pub monotonic_ns: i64,
}

/// Two looks at one entry differ in its beginning by less: the kernel's timeouts have ticks.
const SAME: i64 = 1_000_000_000;

impl Tally {
    /// Takes in entries of the job, as a look shows them, all at once or piece by piece. The destinations that are new.
    /// `beyond` counts packets of this look to destinations that have no room; 0 before its first piece.
    pub fn add<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Entry>,
        look: Look,
        beyond: &mut u64,
    ) -> Vec<(Target, Row)> {
        let mut new = Vec::new();
        for Entry { target, packets, age, .. } in entries {
            let age = i64::try_from(age.as_nanos()).unwrap_or(0);
            let entry_ns = look.monotonic_ns - age;
            if let Some(row) = self.rows.get_mut(target) {
                if *packets < row.shown || (entry_ns - row.entry_ns).abs() > SAME {
                    (row.before, row.entry_ns) = (row.before + row.shown, entry_ns);
                }
                row.shown = *packets;
            } else if self.rows.len() < MOST_ROWS {
                let row = Row { first_ns: look.wall_ns - age, before: 0, shown: *packets, entry_ns };
                self.rows.insert(*target, row);
                new.push((*target, row));
            } else {
                *beyond += packets;
            }
        }
        self.uncounted = self.uncounted.max(*beyond);
        new
    }

    /// The destinations, in the order of addresses.
    pub fn rows(&self) -> impl Iterator<Item = (&Target, &Row)> {
        self.rows.iter()
    }

    /// Packets to destinations that had no room of their own, as far as they are known.
    pub fn uncounted(&self) -> u64 {
        self.uncounted
    }

    /// The sum of all refused packets.
    pub fn packets(&self) -> u64 {
        self.rows.values().map(Row::packets).sum::<u64>() + self.uncounted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(last: u8, packets: u64, age_s: u64) -> Entry {
        let target = Target { address: Ipv4Addr::new(10, 0, 0, last).into(), protocol: 6, port: 443 };
        Entry { job: Ipv4Addr::new(172, 20, 0, 2), target, packets, age: Duration::from_secs(age_s) }
    }

    const S: i64 = 1_000_000_000;

    fn at(seconds: i64) -> Look {
        Look { wall_ns: (1_000_000 + seconds) * S, monotonic_ns: seconds * S }
    }

    #[test]
    fn count_goes_on_when_an_entry_has_expired_and_came_again() {
        let mut tally = Tally::default();
        assert_eq!(tally.add([entry(1, 3, 5), entry(2, 1, 0)].iter(), at(100), &mut 0).len(), 2);
        assert!(tally.add([entry(1, 7, 6)].iter(), at(101), &mut 0).is_empty());
        assert_eq!((tally.packets(), tally.rows().next().unwrap().1.first_ns), (8, (1_000_000 + 95) * S));
        // Expired, and there again with fewer packets, then with more.
        tally.add([entry(1, 2, 1)].iter(), at(4000), &mut 0);
        assert_eq!(tally.packets(), 7 + 2 + 1);
        tally.add([entry(1, 50, 1)].iter(), at(9000), &mut 0);
        assert_eq!(tally.packets(), 7 + 2 + 50 + 1);
        // Somebody sets the clock on the wall.
        tally.add([entry(1, 51, 2)].iter(), Look { wall_ns: 5, ..at(9001) }, &mut 0);
        assert_eq!((tally.packets(), tally.rows().next().unwrap().1.first_ns), (61, (1_000_000 + 95) * S));
    }

    #[test]
    fn destinations_beyond_the_bound_are_counted_together() {
        let mut tally = Tally::default();
        let at_age = |n: u32, age| {
            let entry = entry(0, 2, age);
            Entry { target: Target { address: Ipv4Addr::from(n).into(), ..entry.target }, ..entry }
        };
        for second in 0..3 {
            let many: Vec<Entry> = (0..MOST_ROWS as u32 + 7).map(|n| at_age(n, second)).collect();
            let (mut beyond, look) = (0, at(second.cast_signed()));
            // In pieces, as whoever holds a lock meanwhile takes it in.
            let new: usize =
                many.chunks(300).map(|some| tally.add(some.iter(), look, &mut beyond).len()).sum();
            assert_eq!((new, beyond), (if second == 0 { MOST_ROWS } else { 0 }, 14));
        }
        assert_eq!((tally.rows().count(), tally.uncounted()), (MOST_ROWS, 14));
        assert_eq!(tally.packets(), 2 * (MOST_ROWS as u64 + 7));
    }
}
