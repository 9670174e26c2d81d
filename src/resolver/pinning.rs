//! Pins: addresses that a listed name led to, which the router lets its job reach for a while. The records between front
//! and pin, and front's memory of what is pinned. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::job::egress::Ports;

/// Bytes of a record, and of the number in front of all.
const RECORD: usize = 28;
const NUMBER: usize = 8;
/// Records of one message.
pub(super) const MOST_RECORDS: usize = 512;
/// Pins that a job may have at one time.
const MOST_OF_ONE: usize = 2048;
/// The shortest and the longest time that an answer counts for, seconds.
const SHORTEST: u32 = 60;
pub(super) const LONGEST: u32 = 86_400;
/// A pin outlives its answer: the job connects a moment later.
const SLACK: u32 = 60;

/// An address that a job may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The address of the job.
    pub(super) job: Ipv4Addr,
    /// The address that it may reach.
    pub(super) address: IpAddr,
    /// TCP or UDP (`IPPROTO_*`).
    pub(super) protocol: u8,
    /// The port; 0: all.
    pub(super) port: u16,
}

/// A message to pin: its number, and places with the seconds that each stays open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    /// The number that its answer has.
    pub(super) number: u64,
    /// Places and seconds.
    pub(super) places: Vec<(Place, u32)>,
}

impl Order {
    /// The bytes of the message.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = self.number.to_be_bytes().to_vec();
        for (place, seconds) in &self.places {
            w.extend(place.job.octets());
            // One of IPv4 in the form of RFC 4291, 2.5.5.2.
            w.extend(match place.address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            });
            w.extend([place.protocol, 0]);
            w.extend(place.port.to_be_bytes());
            w.extend(seconds.to_be_bytes());
        }
        w
    }

    /// Reads a message; `None`: it is none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Order> {
        let (number, records) = bytes.split_first_chunk::<NUMBER>()?;
        let (records, rest) = records.as_chunks::<RECORD>();
        if !rest.is_empty() || records.is_empty() || records.len() > MOST_RECORDS {
            return None;
        }
        let place = |r: &[u8; RECORD]| {
            let (address, rest) = r[4..].split_first_chunk::<16>()?;
            let rest: &[u8; 8] = rest.try_into().ok()?;
            let address = Ipv6Addr::from(*address);
            let place = Place {
                job: [r[0], r[1], r[2], r[3]].into(),
                address: address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4),
                protocol: rest[0],
                port: u16::from_be_bytes([rest[2], rest[3]]),
            };
            let seconds = u32::from_be_bytes([rest[4], rest[5], rest[6], rest[7]]);
            let known = [libc::IPPROTO_TCP, libc::IPPROTO_UDP].contains(&i32::from(place.protocol));
            (known && rest[1] == 0 && (1..=LONGEST + SLACK).contains(&seconds)).then_some((place, seconds))
        };
        let places = records.iter().map(place).collect::<Option<Vec<_>>>()?;
        Some(Order { number: u64::from_be_bytes(*number), places })
    }
}

/// The bytes of an answer: the number of its message, and the kernel's errno or 0.
pub(super) fn encode_outcome(number: u64, errno: i32) -> Vec<u8> {
    [&number.to_be_bytes()[..], &errno.to_be_bytes()].concat()
}

/// Reads an answer; `None`: it is none.
pub(super) fn decode_outcome(bytes: &[u8]) -> Option<(u64, i32)> {
    let (number, rest) = bytes.split_first_chunk::<NUMBER>()?;
    Some((u64::from_be_bytes(*number), i32::from_be_bytes(rest.try_into().ok()?)))
}

/// Addresses of one answer, of a name that is listed with these ports: all their pins are one message.
pub(super) fn addresses_for(ports: &Ports) -> usize {
    const MOST: usize = 16;
    match ports {
        Ports::All => MOST,
        Ports::These(ports) => (MOST_RECORDS / 2 / ports.len().max(1)).clamp(1, MOST),
    }
}

/// A job has as many pins as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// The pins that front has asked for.
#[derive(Debug, Default)]
pub(super) struct Pins {
    jobs: BTreeMap<Ipv4Addr, BTreeMap<Place, Instant>>,
}

impl Pins {
    /// The elements to pin so that a job reaches these addresses at these ports for as long as their answers count
    /// (seconds, each). Elements that are pinned for so long already are left out.
    ///
    /// # Errors
    /// The job would have too many.
    pub(super) fn wanted(
        &mut self,
        job: Ipv4Addr,
        addresses: &[(IpAddr, u32)],
        ports: &Ports,
        now: Instant,
    ) -> Result<Vec<(Place, u32)>, Full> {
        let all = [0];
        let ports = match ports {
            Ports::All => &all[..],
            Ports::These(ports) => ports,
        };
        let pins = self.jobs.entry(job).or_default();
        let mut wanted = Vec::new();
        for (address, ttl) in addresses {
            let counts = (*ttl).clamp(SHORTEST, LONGEST);
            let until = now + Duration::from_secs(counts.into());
            for port in ports {
                for protocol in [libc::IPPROTO_TCP, libc::IPPROTO_UDP] {
                    let place = Place { job, address: *address, protocol: protocol as u8, port: *port };
                    if pins.get(&place).is_none_or(|end| *end < until) {
                        wanted.push((place, counts + SLACK));
                    }
                }
            }
        }
        let new = wanted.iter().filter(|(place, _)| !pins.contains_key(place)).count();
        if pins.len() + new > MOST_OF_ONE {
            pins.retain(|_, end| *end > now);
        }
        let new = wanted.iter().filter(|(place, _)| !pins.contains_key(place)).count();
        if pins.len() + new > MOST_OF_ONE || wanted.len() > MOST_RECORDS {
            return Err(Full);
        }
        Ok(wanted)
    }

    /// These are pinned, asked for at this time.
    pub(super) fn done(&mut self, places: &[(Place, u32)], asked: Instant) {
        for (place, seconds) in places {
            let end = asked + Duration::from_secs((*seconds).into());
            self.jobs.entry(place.job).or_default().insert(*place, end);
        }
    }

    /// Forgets the pins of a job.
    pub(super) fn forget(&mut self, job: Ipv4Addr) {
        self.jobs.remove(&job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const JOB: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 2);

    #[test]
    fn pins_are_renewed_before_their_answer_is_over() {
        let (mut pins, now) = (Pins::default(), Instant::now());
        let found = [(Ipv4Addr::new(1, 2, 3, 4).into(), 0), (Ipv6Addr::LOCALHOST.into(), 300)];
        let wanted = pins.wanted(JOB, &found, &Ports::All, now).unwrap();
        assert_eq!(wanted.iter().map(|(_, seconds)| *seconds).collect::<Vec<_>>(), [120, 120, 360, 360]);
        assert!(wanted.iter().all(|(place, _)| place.port == 0));
        pins.done(&wanted, now);
        assert_eq!(pins.wanted(JOB, &found, &Ports::All, now + Duration::from_secs(60)), Ok(vec![]));
        assert_eq!(pins.wanted(JOB, &found, &Ports::All, now + Duration::from_secs(61)).unwrap().len(), 4);
        let these = Ports::These(vec![80, 443]);
        assert_eq!(pins.wanted(JOB, &found[..1], &these, now).unwrap().len(), 4);
        pins.forget(JOB);
        assert_eq!(pins.wanted(JOB, &found, &Ports::All, now).unwrap().len(), 4);
    }

    #[test]
    fn pins_of_a_job_are_bounded_and_make_room_when_they_end() {
        let (mut pins, now) = (Pins::default(), Instant::now());
        for n in 0..MOST_OF_ONE as u32 / 2 {
            let wanted = pins.wanted(JOB, &[(Ipv4Addr::from(n).into(), 0)], &Ports::All, now).unwrap();
            pins.done(&wanted, now);
        }
        let one_more = [(Ipv4Addr::new(9, 9, 9, 9).into(), 0)];
        assert_eq!(pins.wanted(JOB, &one_more, &Ports::All, now), Err(Full));
        let other = Ipv4Addr::new(172, 20, 0, 3);
        assert_eq!(pins.wanted(other, &one_more, &Ports::All, now).unwrap().len(), 2);
        let later = now + Duration::from_secs(121);
        assert_eq!(pins.wanted(JOB, &one_more, &Ports::All, later).unwrap().len(), 2);
    }

    #[test]
    fn name_with_many_ports_has_few_addresses() {
        assert_eq!(addresses_for(&Ports::All), 16);
        assert_eq!(addresses_for(&Ports::These(vec![443])), 16);
        assert_eq!(addresses_for(&Ports::These((1..=256).collect())), 1);
    }

    #[test]
    fn orders_are_read_as_they_were_written() {
        let place = Place { job: JOB, address: Ipv4Addr::new(1, 2, 3, 4).into(), protocol: 17, port: 443 };
        let six = Place { protocol: 6, address: IpAddr::V6("2600::8".parse().unwrap()), ..place };
        let order = Order { number: 7, places: vec![(place, 120), (six, 86_460)] };
        assert_eq!(order.encode().len(), 8 + 2 * RECORD);
        assert_eq!(Order::decode(&order.encode()), Some(order.clone()));
        for places in
            [vec![], vec![(Place { protocol: 1, ..place }, 120)], vec![(place, 0)], vec![(place, 86_461)]]
        {
            assert_eq!(Order::decode(&Order { number: 7, places }.encode()), None);
        }
        assert_eq!(decode_outcome(&encode_outcome(7, -1)), Some((7, -1)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_order_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(order) = Order::decode(&bytes) {
                prop_assert_eq!(&order.encode(), &bytes);
            }
            let _ = decode_outcome(&bytes);
        }
    }
}
