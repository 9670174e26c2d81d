//! Messages between the daemon and *front*: one record of a Unix socket of the kind SOCK_SEQPACKET each.
//!
//! ```text
//!   daemon -> front   HOST servers, ranges   JOB address, network, names, list      FORGET address
//!                     SYNCED (all jobs are known)     REPORT number      STOP
//!   front -> daemon   HELLO version, router       DENIED address, name, type, count      REPORTED number
//! ```
//!
//! A daemon that connects tells everything anew and then says SYNCED; front goes on with what an earlier one told until
//! then. A JOB replaces the earlier one of its address. Numbers are big-endian; a text has its length in front (two bytes),
//! a list its number of items (two bytes).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest record, bytes.
pub const LONGEST: usize = 128 << 10;
/// Most names of a job, and name servers of a host.
const MOST_NAMES: usize = 16;
/// Longest text: a name of DNS, with a port behind it.
const LONGEST_TEXT: usize = 320;

/// A job that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// Its address, which tells whose a question is.
    pub address: Ipv4Addr,
    /// The first address and the prefix of its network.
    pub range: (Ipv4Addr, u8),
    /// Whether the jobs of its network reach each other, and so know each other's names.
    pub together: bool,
    /// Whether its network has no outside: then names outside do not exist for it.
    pub inner: bool,
    /// Whether it has IPv6 too, by the image of its address.
    pub ipv6: bool,
    /// Its names, in lower case: `job-<id8>` first, which is what its address is called.
    pub names: Vec<String>,
    /// The entries of its egress list, as `network::egress::List` writes them; `None`: it reaches everything outside.
    pub list: Option<Vec<String>>,
}

/// A message to front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToFront {
    /// The host: its name servers in their order, and the private ranges that its configuration opens for jobs.
    Host(Vec<SocketAddr>, Vec<(Ipv4Addr, u8)>),
    /// A job, before its first question.
    Job(Box<Asker>),
    /// The job of this address has ended.
    Forget(Ipv4Addr),
    /// All jobs are known now: those of an earlier daemon that were not are forgotten.
    Synced,
    /// All denials are to be told now, and then this number.
    Report(u64),
    /// The process is to end.
    Stop,
}

/// A message from front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromFront {
    /// The first one: the version of the program, and the router that it is of.
    Hello(String),
    /// A job asked for a name that it may not know.
    Denied(Denial),
    /// All denials before the request of this number have been sent.
    Reported(u64),
}

/// A name that a job was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The job's address.
    pub address: Ipv4Addr,
    /// The name, in lower case and without a dot at its end.
    pub name: String,
    /// The type of record that it asked for: 1 is A.
    pub kind: u16,
    /// How often since the last message about it.
    pub count: u32,
}

/// A record that is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of the resolver is malformed")]
pub struct Malformed;

/// Whether an address is in a range of a message.
pub fn within((first, prefix): (Ipv4Addr, u8), address: Ipv4Addr) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    u32::from(first) & mask == u32::from(address) & mask
}

const HOST: u8 = 1;
const JOB: u8 = 2;
const FORGET: u8 = 3;
const SYNCED: u8 = 4;
const STOP: u8 = 5;
const REPORT: u8 = 6;
const HELLO: u8 = 64;
const DENIED: u8 = 65;
const REPORTED: u8 = 66;

impl ToFront {
    /// The bytes of the message; `None`: it is longer than [`LONGEST`].
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut w = Vec::new();
        match self {
            ToFront::Host(servers, opened) => {
                w.push(HOST);
                put_list(&mut w, servers, |w, server| {
                    match server.ip() {
                        IpAddr::V4(ip) => w.extend(ip.to_ipv6_mapped().octets()),
                        IpAddr::V6(ip) => w.extend(ip.octets()),
                    }
                    w.extend(server.port().to_be_bytes());
                });
                put_list(&mut w, opened, put_range);
            }
            ToFront::Job(job) => {
                w.push(JOB);
                w.extend(job.address.octets());
                put_range(&mut w, &job.range);
                w.extend([job.together, job.inner, job.ipv6, job.list.is_some()].map(u8::from));
                put_list(&mut w, &job.names, |w, name| put_text(w, name));
                put_list(&mut w, job.list.as_deref().unwrap_or_default(), |w, entry| put_text(w, entry));
            }
            ToFront::Forget(address) => {
                w.push(FORGET);
                w.extend(address.octets());
            }
            ToFront::Synced => w.push(SYNCED),
            ToFront::Report(number) => {
                w.push(REPORT);
                w.extend(number.to_be_bytes());
            }
            ToFront::Stop => w.push(STOP),
        }
        (w.len() <= LONGEST).then_some(w)
    }

    /// Reads a message.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader(bytes);
        let message = match r.byte()? {
            HOST => {
                let servers = r.list(MOST_NAMES, |r| {
                    let ip = Ipv6Addr::from(r.array::<16>()?);
                    let ip = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4);
                    Ok(SocketAddr::new(ip, r.u16()?))
                })?;
                ToFront::Host(servers, r.list(usize::MAX, Reader::range)?)
            }
            JOB => {
                let address = r.array::<4>()?.into();
                let range = r.range()?;
                let (together, inner, ipv6, listed) = (r.flag()?, r.flag()?, r.flag()?, r.flag()?);
                let names = r.list(MOST_NAMES, Reader::text)?;
                let list = r.list(usize::MAX, Reader::text)?;
                let list =
                    if listed { Some(list) } else { list.is_empty().then_some(None).ok_or(Malformed)? };
                ToFront::Job(Box::new(Asker { address, range, together, inner, ipv6, names, list }))
            }
            FORGET => ToFront::Forget(r.array::<4>()?.into()),
            SYNCED => ToFront::Synced,
            REPORT => ToFront::Report(u64::from_be_bytes(r.array()?)),
            STOP => ToFront::Stop,
            _ => return Err(Malformed),
        };
        r.end().map(|()| message)
    }
}

impl FromFront {
    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Vec::new();
        match self {
            FromFront::Hello(version) => {
                w.push(HELLO);
                put_text(&mut w, version);
            }
            FromFront::Denied(denial) => {
                w.push(DENIED);
                w.extend(denial.address.octets());
                put_text(&mut w, &denial.name);
                w.extend(denial.kind.to_be_bytes());
                w.extend(denial.count.to_be_bytes());
            }
            FromFront::Reported(number) => {
                w.push(REPORTED);
                w.extend(number.to_be_bytes());
            }
        }
        w
    }

    /// Reads a message. Front parses what jobs send, so nothing in it is believed: a text has printable ASCII alone.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader(bytes);
        let message = match r.byte()? {
            HELLO => FromFront::Hello(r.text()?),
            DENIED => FromFront::Denied(Denial {
                address: r.array::<4>()?.into(),
                name: r.text()?,
                kind: r.u16()?,
                count: u32::from_be_bytes(r.array()?),
            }),
            REPORTED => FromFront::Reported(u64::from_be_bytes(r.array()?)),
            _ => return Err(Malformed),
        };
        r.end().map(|()| message)
    }
}

fn put_range(w: &mut Vec<u8>, (first, prefix): &(Ipv4Addr, u8)) {
    w.extend(first.octets());
    w.push(*prefix);
}

fn put_text(w: &mut Vec<u8>, text: &str) {
    let bytes = &text.as_bytes()[..text.len().min(LONGEST_TEXT)];
    w.extend((bytes.len() as u16).to_be_bytes());
    w.extend(bytes);
}

fn put_list<T>(w: &mut Vec<u8>, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    let items = &items[..items.len().min(usize::from(u16::MAX))];
    w.extend((items.len() as u16).to_be_bytes());
    items.iter().for_each(|item| put(w, item));
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    fn range(&mut self) -> Result<(Ipv4Addr, u8), Malformed> {
        let first = self.array::<4>()?.into();
        let prefix = Some(self.byte()?).filter(|prefix| *prefix <= 32);
        Ok((first, prefix.ok_or(Malformed)?))
    }

    fn text(&mut self) -> Result<String, Malformed> {
        let length = usize::from(self.u16()?);
        let (text, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        let printable = length <= LONGEST_TEXT && text.iter().all(u8::is_ascii_graphic);
        printable.then(|| String::from_utf8_lossy(text).into_owned()).ok_or(Malformed)
    }

    fn list<T>(
        &mut self,
        most: usize,
        item: impl Fn(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let number = usize::from(self.u16()?);
        if number > most {
            return Err(Malformed);
        }
        (0..number).map(|_| item(self)).collect()
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asker() -> impl Strategy<Value = Asker> {
        let text = || "[!-~]{1,300}";
        let list = proptest::option::of(proptest::collection::vec(text(), 0..40));
        let names = proptest::collection::vec(text(), 0..4);
        (any::<u32>(), any::<u32>(), 0u8..=32, any::<bool>(), any::<bool>(), any::<bool>(), names, list)
            .prop_map(|(address, first, prefix, together, inner, ipv6, names, list)| Asker {
                address: address.into(),
                range: (first.into(), prefix),
                together,
                inner,
                ipv6,
                names,
                list,
            })
    }

    proptest! {
        #[test]
        fn jobs_are_read_as_they_were_written(job in asker()) {
            let message = ToFront::Job(Box::new(job));
            prop_assert_eq!(ToFront::decode(&message.encode().unwrap()), Ok(message));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(message) = ToFront::decode(&bytes) {
                prop_assert_eq!(ToFront::decode(&message.encode().unwrap()), Ok(message));
            }
            if let Ok(message) = FromFront::decode(&bytes) {
                prop_assert_eq!(FromFront::decode(&message.encode()), Ok(message));
            }
        }
    }

    #[test]
    fn short_messages_are_read_as_they_were_written() {
        let servers = ["127.0.0.53:53", "[2001:db8::1]:53"].map(|server| server.parse().unwrap());
        for message in [
            ToFront::Host(servers.to_vec(), vec![([10, 0, 0, 0].into(), 8)]),
            ToFront::Forget(Ipv4Addr::new(172, 20, 0, 2)),
            ToFront::Synced,
            ToFront::Report(1 << 40),
            ToFront::Stop,
        ] {
            assert_eq!(ToFront::decode(&message.encode().unwrap()), Ok(message));
        }
        let denial = Denial { address: [10, 0, 0, 1].into(), name: "a.example".into(), kind: 16, count: 7 };
        for message in [FromFront::Hello("0.1.0".into()), FromFront::Denied(denial), FromFront::Reported(7)] {
            assert_eq!(FromFront::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn names_from_front_have_no_control_characters() {
        let denial = |name: &str| {
            FromFront::Denied(Denial { address: [10, 0, 0, 1].into(), name: name.into(), kind: 1, count: 1 })
        };
        for name in ["a\nb", "a b", "\u{1b}[2J", "ä"] {
            assert_eq!(FromFront::decode(&denial(name).encode()), Err(Malformed), "{name:?}");
        }
    }

    #[test]
    fn ranges_have_their_addresses() {
        let ten = ([10, 0, 0, 0].into(), 8);
        assert!(within(ten, [10, 255, 0, 1].into()) && !within(ten, [11, 0, 0, 1].into()));
        assert!(within(([0, 0, 0, 0].into(), 0), [11, 0, 0, 1].into()));
        let one = ([10, 0, 0, 1].into(), 32);
        assert!(within(one, [10, 0, 0, 1].into()) && !within(one, [10, 0, 0, 2].into()));
    }

    #[test]
    fn list_that_is_too_long_is_not_sent() {
        let list = Some(vec!["x".repeat(300); 1000]);
        let job = Asker {
            address: [10, 0, 0, 2].into(),
            range: ([10, 0, 0, 0].into(), 8),
            together: true,
            inner: false,
            ipv6: true,
            names: vec![],
            list,
        };
        assert_eq!(ToFront::Job(Box::new(job)).encode(), None);
    }
}
