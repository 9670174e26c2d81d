//! Sets and maps of the packet filter, and their elements.

use std::time::Duration;

use super::super::netlink::batch::{Attributes, attribute, attributes};
use super::expression::LIST_ENTRY;

/// Flags of a set (`enum nft_set_flags`).
const INTERVALS: u32 = 4;
const MAP: u32 = 8;
const TIMEOUT: u32 = 16;
const DYNAMIC: u32 = 32;
const SEVERAL_FIELDS: u32 = 128;

const FLAGS: u16 = 3;
const KEY_TYPE: u16 = 4;
const KEY_LENGTH: u16 = 5;
const DATA_TYPE: u16 = 6;
const DATA_LENGTH: u16 = 7;
const DESCRIPTION: u16 = 9;
const NUMBER: u16 = 10;
const SET_TIMEOUT: u16 = 11;
const DESCRIBED_SIZE: u16 = 1;
const DESCRIBED_FIELDS: u16 = 2;
const FIELD_LENGTH: u16 = 1;

const KEY: u16 = 1;
const DATA: u16 = 2;
const ELEMENT_FLAGS: u16 = 3;
const ELEMENT_TIMEOUT: u16 = 4;
const EXPIRATION: u16 = 5;
const EXPRESSION: u16 = 7;
const KEY_END: u16 = 10;
const EXPRESSIONS: u16 = 11;
const VALUE: u16 = 1;
/// The element ends an interval.
const END: u32 = 1;

/// A part of a key. The number is nft's name for its type, for people who list the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// An IPv4 address.
    Ipv4 = 7,
    /// An IPv6 address.
    Ipv6 = 8,
    /// The number of a protocol above IP.
    Protocol = 12,
    /// A port of TCP or UDP.
    Port = 13,
}

impl Field {
    /// Bytes of the value.
    fn length(self) -> usize {
        match self {
            Field::Ipv4 => 4,
            Field::Ipv6 => 16,
            Field::Protocol => 1,
            Field::Port => 2,
        }
    }
}

/// A set, as it is made.
#[derive(Debug, Clone, Copy)]
pub struct Set<'a> {
    /// Its name in its table.
    pub name: &'a str,
    /// The parts of its key. Each takes a multiple of four bytes where there are several.
    pub fields: &'a [Field],
    /// The value that belongs to a key, in a map.
    value: Option<Field>,
    intervals: bool,
    dynamic: Option<(u32, Option<Duration>)>,
    expiring: Option<u32>,
}

impl<'a> Set<'a> {
    /// A set of single keys.
    pub const fn of(name: &'a str, fields: &'a [Field]) -> Self {
        Set { name, fields, value: None, intervals: false, dynamic: None, expiring: None }
    }

    /// The same for intervals of keys.
    #[must_use]
    pub const fn intervals(self) -> Self {
        Set { intervals: true, ..self }
    }

    /// The same with a value for each key.
    #[must_use]
    pub const fn to(self, value: Field) -> Self {
        Set { value: Some(value), ..self }
    }

    /// The same for elements that rules put in, so many at most, each for this time. A rule does not hold for an element
    /// for which there is no room.
    #[must_use]
    pub const fn dynamic(self, size: u32, timeout: Option<Duration>) -> Self {
        Set { dynamic: Some((size, timeout)), ..self }
    }

    /// The same for elements of which each has a time of its own, so many at most.
    #[must_use]
    pub const fn expiring(self, size: u32) -> Self {
        Set { expiring: Some(size), ..self }
    }

    fn flags(&self) -> u32 {
        let mut flags = 0;
        if self.intervals {
            flags |= INTERVALS;
            if self.fields.len() > 1 {
                flags |= SEVERAL_FIELDS;
            }
        }
        if self.value.is_some() {
            flags |= MAP;
        }
        if let Some((_, timeout)) = self.dynamic {
            flags |= DYNAMIC | if timeout.is_some() { TIMEOUT } else { 0 };
        }
        if self.expiring.is_some() {
            flags |= TIMEOUT;
        }
        flags
    }

    pub(super) fn write(&self, a: &mut Attributes<'_>, number: u32) {
        const TYPE_BITS: u32 = 6;
        let type_of = |fields: &[Field]| fields.iter().fold(0, |all, field| all << TYPE_BITS | *field as u32);
        let several = self.fields.len() > 1;
        let length = |field: &Field| {
            (if several { field.length().next_multiple_of(4) } else { field.length() }) as u32
        };
        a.be32(FLAGS, self.flags());
        a.be32(KEY_TYPE, type_of(self.fields));
        a.be32(KEY_LENGTH, self.fields.iter().map(length).sum());
        if let Some(value) = self.value {
            a.be32(DATA_TYPE, value as u32);
            a.be32(DATA_LENGTH, value.length() as u32);
        }
        a.be32(NUMBER, number);
        if let Some(size) = self.dynamic.map(|(size, _)| size).or(self.expiring) {
            a.nest(DESCRIPTION, |a| a.be32(DESCRIBED_SIZE, size));
        } else if several && self.intervals {
            a.nest(DESCRIPTION, |a| {
                a.nest(DESCRIBED_FIELDS, |a| {
                    for field in self.fields {
                        a.nest(LIST_ENTRY, |a| a.be32(FIELD_LENGTH, field.length() as u32));
                    }
                });
            });
        }
        if let Some((_, Some(timeout))) = self.dynamic {
            a.be64(SET_TIMEOUT, timeout.as_millis() as u64);
        }
    }
}

/// An element to put into a set or to take out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    key: Vec<u8>,
    last: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    time: Option<Duration>,
}

impl Element {
    /// A single key.
    pub fn key(key: &[u8]) -> Self {
        Element { key: key.to_vec(), last: None, value: None, time: None }
    }

    /// A key and its value, of a map.
    pub fn pair(key: &[u8], value: &[u8]) -> Self {
        Element { key: key.to_vec(), last: None, value: Some(value.to_vec()), time: None }
    }

    /// An interval, its last key included; with several fields, one in each.
    pub fn range(first: &[u8], last: &[u8]) -> Self {
        Element { key: first.to_vec(), last: Some(last.to_vec()), value: None, time: None }
    }

    /// The same for this time, in a set of expiring elements; without one it stays.
    #[must_use]
    pub fn lasting(self, time: Duration) -> Self {
        Element { time: Some(time), ..self }
    }

    pub(super) fn write(&self, a: &mut Attributes<'_>, set: &Set<'_>) {
        let one_field = set.fields.len() == 1;
        a.nest(LIST_ENTRY, |a| {
            a.nest(KEY, |a| a.bytes(VALUE, &self.key));
            match &self.last {
                Some(last) if !one_field => a.nest(KEY_END, |a| a.bytes(VALUE, last)),
                _ => {}
            }
            if let Some(value) = &self.value {
                a.nest(DATA, |a| a.bytes(VALUE, value));
            }
            if let Some(time) = self.time {
                a.be64(ELEMENT_TIMEOUT, u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            }
        });
        // An interval of one field is two elements; the last one may have no end.
        let last = self.last.as_ref().filter(|_| one_field);
        let Some(end) = last.and_then(|last| next(last)) else { return };
        a.nest(LIST_ENTRY, |a| {
            a.nest(KEY, |a| a.bytes(VALUE, &end));
            a.be32(ELEMENT_FLAGS, END);
        });
    }
}

/// The key behind this one; `None` behind the last.
fn next(key: &[u8]) -> Option<Vec<u8>> {
    let mut next = key.to_vec();
    for byte in next.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(next);
        }
    }
    None
}

/// An element of a set, as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ElementState {
    /// Its key, or the first of an interval.
    pub key: Vec<u8>,
    /// The last key of an interval, where the set has several fields.
    pub last: Option<Vec<u8>>,
    /// Its value, in a map.
    pub value: Option<Vec<u8>>,
    /// Whether the interval before ends in front of it.
    pub is_end: bool,
    /// How long it stays.
    pub remaining: Option<Duration>,
    /// Packets that its counter has seen.
    pub packets: Option<u64>,
}

impl ElementState {
    /// The same element, to be put into a set again; `None` for the end of an interval that has one field.
    pub fn as_element(&self) -> Option<Element> {
        self.as_key().map(|key| Element { value: self.value.clone(), time: self.remaining, ..key })
    }

    /// Its key or keys, to be taken out of the set; `None` as before.
    pub fn as_key(&self) -> Option<Element> {
        let element = Element { key: self.key.clone(), last: self.last.clone(), value: None, time: None };
        (!self.is_end).then_some(element)
    }

    /// The elements of a list.
    pub(super) fn read_all(list: &[u8]) -> Vec<ElementState> {
        attributes(list).filter_map(|(_, element)| ElementState::read(element)).collect()
    }

    fn read(element: &[u8]) -> Option<ElementState> {
        const COUNTED_PACKETS: u16 = 2;
        let value = |kind| attribute(element, kind).and_then(|data| attribute(data, VALUE));
        let expression = attribute(element, EXPRESSION)
            .or_else(|| attribute(element, EXPRESSIONS).and_then(|list| attribute(list, LIST_ENTRY)));
        let is_counter = |e: &&[u8]| attribute(e, 1) == Some(b"counter\0");
        let counter = expression.filter(is_counter).and_then(|e| attribute(e, 2));
        Some(ElementState {
            key: value(KEY)?.to_vec(),
            last: value(KEY_END).map(<[u8]>::to_vec),
            value: value(DATA).map(<[u8]>::to_vec),
            is_end: attribute(element, ELEMENT_FLAGS).and_then(be32).is_some_and(|flags| flags & END != 0),
            remaining: attribute(element, EXPIRATION).and_then(be64).map(Duration::from_millis),
            packets: counter.and_then(|c| attribute(c, COUNTED_PACKETS)).and_then(be64),
        })
    }
}

fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn be64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn key_behind_a_key_carries_and_ends() {
        assert_eq!(next(&[10, 255, 255, 255]), Some(vec![11, 0, 0, 0]));
        assert_eq!(next(&[255; 4]), None);
    }

    proptest! {
        #[test]
        fn elements_of_any_bytes_are_read_or_left(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ElementState::read_all(&bytes);
        }
    }
}
