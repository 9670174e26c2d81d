//! Messages of DNS: questions of jobs are read strictly, and written anew for the name server; answers are read as far as
//! somebody looks at them (RFC 1035, 2181, 6891, 8914).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::name::{Broken, Name};

/// Bytes of an answer over UDP where the question has no EDNS.
pub const PLAIN: usize = 512;
/// The most that we send and take over UDP: it passes every link in one piece (dnsflagday.net/2020).
pub const MOST: usize = 1232;
/// The time that an answer of ours may be kept, seconds.
const KEPT: u32 = 5;

/// Types of records that are looked at.
pub mod kind {
    #![allow(missing_docs, reason = "the names of RFC 1035 and its followers")]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const OPT: u16 = 41;
    pub const SVCB: u16 = 64;
    pub const HTTPS: u16 = 65;
    pub const CAA: u16 = 257;
}

/// Codes of answers.
pub mod code {
    #![allow(missing_docs, reason = "the names of RFC 1035")]
    pub const NOERROR: u8 = 0;
    pub const FORMERR: u8 = 1;
    pub const SERVFAIL: u8 = 2;
    pub const NXDOMAIN: u8 = 3;
    pub const NOTIMP: u8 = 4;
    pub const REFUSED: u8 = 5;
}

/// Extended errors (RFC 8914).
pub mod extended {
    #![allow(missing_docs, reason = "the names of RFC 8914")]
    pub const OTHER: u16 = 0;
    pub const BLOCKED: u16 = 15;
    pub const FILTERED: u16 = 17;
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
}

const INTERNET: u16 = 1;
const HEADER: usize = 12;
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const RECURSION: u16 = 0x0100;
const RECURSES: u16 = 0x0080;
const UNCHECKED: u16 = 0x0010;
/// The flag DO within the time of an OPT record.
const DNSSEC_OK: u32 = 0x8000;
/// A pointer to the name of the question, which stands behind the header.
const ASKED: [u8; 2] = [0xc0, HEADER as u8];
const EXTENDED_ERROR: u16 = 15;

/// A question of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The number that its answer has.
    pub id: u16,
    /// The name in the question.
    pub name: Name,
    /// The type of record.
    pub kind: u16,
    /// The bytes that its sender takes over UDP, where it has EDNS.
    pub edns: Option<u16>,
    flags: u16,
    dnssec: bool,
}

/// A message that is no question that we answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Odd {
    /// Nobody waits for an answer to it.
    Noise,
    /// The answer, of this number and with this code, is an error.
    Refused(u16, u8),
}

struct Header {
    id: u16,
    flags: u16,
    counts: [u16; 4],
}

fn be16(bytes: &[u8], at: usize) -> Result<u16, Broken> {
    let pair = bytes.get(at..at + 2).ok_or(Broken)?;
    Ok(u16::from_be_bytes([pair[0], pair[1]]))
}

fn be32(bytes: &[u8], at: usize) -> Result<u32, Broken> {
    Ok(u32::from(be16(bytes, at)?) << 16 | u32::from(be16(bytes, at + 2)?))
}

fn header(bytes: &[u8]) -> Result<Header, Broken> {
    let at = |n: usize| be16(bytes, 2 * n);
    Ok(Header { id: at(0)?, flags: at(1)?, counts: [at(2)?, at(3)?, at(4)?, at(5)?] })
}

impl Question {
    /// Reads a question: exactly one, of the internet, with EDNS or without, and nothing else.
    ///
    /// # Errors
    /// It is another message, or none.
    pub fn read(bytes: &[u8]) -> Result<Question, Odd> {
        let Ok(Header { id, flags, counts }) = header(bytes) else { return Err(Odd::Noise) };
        if flags & RESPONSE != 0 {
            return Err(Odd::Noise);
        }
        let refused = |code| Err(Odd::Refused(id, code));
        if flags & OPCODE != 0 {
            return refused(code::NOTIMP);
        }
        let [1, 0, 0, more @ (0 | 1)] = counts else { return refused(code::FORMERR) };
        let broken = |Broken| Odd::Refused(id, code::FORMERR);
        let (name, at) = Name::read(bytes, HEADER).map_err(broken)?;
        let (kind, class) = (be16(bytes, at).map_err(broken)?, be16(bytes, at + 2).map_err(broken)?);
        let mut question = Question { id, name, kind, edns: None, flags, dnssec: false };
        let mut end = at + 4;
        if more == 1 {
            end = question.read_edns(bytes, end).map_err(broken)?;
        }
        if end != bytes.len() {
            return refused(code::FORMERR);
        }
        if class != INTERNET {
            return refused(code::REFUSED);
        }
        Ok(question)
    }

    fn read_edns(&mut self, bytes: &[u8], at: usize) -> Result<usize, Broken> {
        let is_root = *bytes.get(at).ok_or(Broken)? == 0;
        let (kind, size, flags) = (be16(bytes, at + 1)?, be16(bytes, at + 3)?, be32(bytes, at + 5)?);
        let version = flags >> 16 & 0xff;
        if !is_root || kind != kind::OPT || version != 0 {
            return Err(Broken);
        }
        self.edns = Some(size);
        self.dnssec = flags & DNSSEC_OK != 0;
        Ok(at + 11 + usize::from(be16(bytes, at + 9)?))
    }

    /// Bytes that an answer over UDP may have.
    pub fn room(&self) -> usize {
        self.edns.map_or(PLAIN, |size| usize::from(size).clamp(PLAIN, MOST))
    }

    /// The same question for a name server, under another number and without the options of the job.
    pub fn forwarded(&self, id: u16) -> Vec<u8> {
        let mut w = Writer::new(id, self.flags & (RECURSION | UNCHECKED), self);
        if self.edns.is_some() {
            w.edns(if self.dnssec { DNSSEC_OK } else { 0 }, None);
        }
        w.bytes
    }

    /// An answer without records.
    pub fn refused(&self, code: u8, why: Option<u16>) -> Vec<u8> {
        self.answer(code, &[], why, usize::MAX)
    }

    /// An answer with these records; truncated where they are more than `room` bytes.
    pub fn answer(&self, code: u8, records: &[Record], why: Option<u16>, room: usize) -> Vec<u8> {
        let flags = RESPONSE | RECURSES | self.flags & (RECURSION | UNCHECKED) | u16::from(code);
        let write = |flags, records: &[Record]| {
            let mut w = Writer::new(self.id, flags, self);
            records.iter().for_each(|record| w.record(record, &self.name));
            if self.edns.is_some() {
                w.edns(0, why);
            }
            w.bytes
        };
        let whole = write(flags, records);
        if whole.len() <= room { whole } else { write(flags | TRUNCATED, &[]) }
    }

    /// The answer of a name server, for the job. It must be [`Answer::of`] this question.
    pub fn relayed(&self, answer: &[u8], room: usize) -> Vec<u8> {
        if answer.len() > room {
            let flags = RESPONSE | RECURSES | TRUNCATED | self.flags & (RECURSION | UNCHECKED);
            return Writer::new(self.id, flags, self).bytes;
        }
        let mut bytes = answer.to_vec();
        bytes[..2].copy_from_slice(&self.id.to_be_bytes());
        bytes
    }
}

/// A whole answer that has no question: an error.
pub fn bare_error(id: u16, code: u8) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    bytes[2..4].copy_from_slice(&(RESPONSE | RECURSES | u16::from(code)).to_be_bytes());
    bytes
}

/// A record of an answer, its data without compression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The name that owns the record.
    pub owner: Name,
    /// The type of record.
    pub kind: u16,
    /// Seconds that it may be kept.
    pub ttl: u32,
    /// The data of the record.
    pub data: Vec<u8>,
}

impl Record {
    /// The address of a name of ours.
    pub fn address(owner: &Name, address: impl Into<IpAddr>) -> Record {
        let (kind, data) = match address.into() {
            IpAddr::V4(address) => (kind::A, address.octets().to_vec()),
            IpAddr::V6(address) => (kind::AAAA, address.octets().to_vec()),
        };
        Record { owner: owner.clone(), kind, ttl: KEPT, data }
    }

    /// The name of an address of ours.
    pub fn pointer(owner: &Name, name: &Name) -> Record {
        Record { owner: owner.clone(), kind: kind::PTR, ttl: KEPT, data: name.bytes().to_vec() }
    }

    /// The address of the record, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.kind {
            kind::A => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(&self.data[..]).ok()?))),
            kind::AAAA => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&self.data[..]).ok()?))),
            _ => None,
        }
    }

    /// The IPv4 address of the record, if it is one.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        if let IpAddr::V4(address) = self.ip()? { Some(address) } else { None }
    }

    /// The name that its owner stands for.
    pub fn alias(&self) -> Option<Name> {
        let (name, end) = Name::read(&self.data, 0).ok().filter(|_| self.kind == kind::CNAME)?;
        (end == self.data.len()).then_some(name)
    }

    fn read(bytes: &[u8], at: usize) -> Result<(Record, usize), Broken> {
        let (owner, at) = Name::read(bytes, at)?;
        let (kind, ttl) = (be16(bytes, at)?, be32(bytes, at + 4)?);
        let begin = at + 10;
        let end = begin + usize::from(be16(bytes, at + 8)?);
        if end > bytes.len() || (be16(bytes, at + 2)? != INTERNET && kind != kind::OPT) {
            return Err(Broken);
        }
        // A time with its first bit set is none (RFC 2181, 8).
        let ttl = if ttl > i32::MAX.cast_unsigned() { 0 } else { ttl };
        Ok((Record { owner, kind, ttl, data: plain(bytes, kind, begin, end)? }, end))
    }
}

/// The data of a record, in which names may be compressed: those of RFC 1035, and SRV as some servers write it.
fn plain(message: &[u8], kind: u16, begin: usize, end: usize) -> Result<Vec<u8>, Broken> {
    let (before, names, behind) = match kind {
        kind::NS | kind::CNAME | kind::PTR => (0, 1, 0),
        kind::MX => (2, 1, 0),
        kind::SRV => (6, 1, 0),
        kind::SOA => (0, 2, 20),
        _ => return Ok(message[begin..end].to_vec()),
    };
    let mut data = message.get(begin..begin + before).ok_or(Broken)?.to_vec();
    let mut at = begin + before;
    for _ in 0..names {
        let (name, next) = Name::read(message, at)?;
        data.extend_from_slice(name.bytes());
        at = next;
    }
    data.extend_from_slice(message.get(at..at + behind).ok_or(Broken)?);
    if at + behind == end { Ok(data) } else { Err(Broken) }
}

/// The answer of a name server, as far as it is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The code of the answer (RCODE).
    pub code: u8,
    /// Whether records were left out for want of room.
    pub truncated: bool,
    /// The records of its first section.
    pub records: Vec<Record>,
}

impl Answer {
    /// Whether the message answers the question that was sent under this number.
    pub fn of(bytes: &[u8], id: u16, question: &Question) -> bool {
        let same = || -> Result<bool, Broken> {
            let head = header(bytes)?;
            if head.id != id || head.flags & (RESPONSE | OPCODE) != RESPONSE || head.counts[0] != 1 {
                return Ok(false);
            }
            let (name, at) = Name::read(bytes, HEADER)?;
            let (kind, class) = (be16(bytes, at)?, be16(bytes, at + 2)?);
            Ok(name == question.name && kind == question.kind && class == INTERNET)
        };
        same() == Ok(true)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// It is none. The sections behind the first are not read.
    pub fn read(bytes: &[u8]) -> Result<Answer, Broken> {
        let head = header(bytes)?;
        let (_, at) = Name::read(bytes, HEADER)?;
        let mut at = at + 4;
        let mut records = Vec::new();
        for _ in 0..head.counts[1] {
            let (record, end) = Record::read(bytes, at)?;
            records.push(record);
            at = end;
        }
        let code = (head.flags & 0xf) as u8;
        Ok(Answer { code, truncated: head.flags & TRUNCATED != 0, records })
    }

    /// The code of an answer that has a header.
    pub fn code_of(bytes: &[u8]) -> u8 {
        header(bytes).map_or(code::SERVFAIL, |head| (head.flags & 0xf) as u8)
    }
}

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn new(id: u16, flags: u16, question: &Question) -> Self {
        let mut bytes = Vec::with_capacity(PLAIN);
        for number in [id, flags, 1, 0, 0, 0] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend_from_slice(question.name.bytes());
        bytes.extend(question.kind.to_be_bytes());
        bytes.extend(INTERNET.to_be_bytes());
        Writer { bytes }
    }

    fn count(&mut self, section: usize) {
        let at = 4 + 2 * section;
        let number = u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]).saturating_add(1);
        self.bytes[at..at + 2].copy_from_slice(&number.to_be_bytes());
    }

    fn record(&mut self, record: &Record, asked: &Name) {
        self.count(1);
        let owner = if record.owner == *asked { &ASKED[..] } else { record.owner.bytes() };
        self.bytes.extend_from_slice(owner);
        self.bytes.extend(record.kind.to_be_bytes());
        self.bytes.extend(INTERNET.to_be_bytes());
        self.bytes.extend(record.ttl.to_be_bytes());
        self.bytes.extend((record.data.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(&record.data);
    }

    fn edns(&mut self, flags: u32, why: Option<u16>) {
        self.count(3);
        self.bytes.push(0);
        self.bytes.extend(kind::OPT.to_be_bytes());
        self.bytes.extend((MOST as u16).to_be_bytes());
        self.bytes.extend(flags.to_be_bytes());
        let Some(why) = why else {
            self.bytes.extend(0u16.to_be_bytes());
            return;
        };
        for number in [6, EXTENDED_ERROR, 2, why] {
            self.bytes.extend(number.to_be_bytes());
        }
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
