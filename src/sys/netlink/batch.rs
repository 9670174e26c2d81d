//! Messages that go to the kernel in one send, and the attributes within messages (linux/netlink.h).
//!
//! Integers of a header are in the machine's order; those of attributes are what the family wants, rtnetlink the
//! machine's, nftables the network's.

/// Flags of a request (netlink(7)).
const REQUEST: u16 = 1;
const ACK: u16 = 4;
/// The flag of an attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// The bits of a type that are no flag.
const KIND: u16 = 0x3fff;
const ALIGN: usize = 4;

/// The length with the padding that follows it.
pub fn aligned(length: usize) -> usize {
    length.next_multiple_of(ALIGN)
}

/// The 32 bits at this offset, in the machine's order.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

/// Several messages that are sent at once.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each message begins.
    starts: Vec<usize>,
    confirmed: Option<usize>,
}

impl Batch {
    /// Adds a message: its type, its flags beside `NLM_F_REQUEST`, the fixed part of its family, and its attributes.
    pub fn message(&mut self, kind: u16, flags: u16, fixed: &[u8], write: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend([0; 8]);
        self.bytes.extend(fixed);
        self.pad();
        write(&mut Attributes(&mut self.bytes));
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether it has no message.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Bytes that it has so far.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Has the message that was added last answered also where it succeeds. Refusals are always answered.
    #[must_use]
    pub fn confirm(mut self) -> Self {
        self.confirm_last();
        self
    }

    /// The same as [`Batch::confirm`], in place.
    pub fn confirm_last(&mut self) {
        let Some(start) = self.starts.last().copied() else { return };
        self.confirmed = Some(self.starts.len() - 1);
        let at = start + 6;
        let flags = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]) | ACK;
        self.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
    }

    /// Place of the message whose success is answered.
    pub fn confirmed(&self) -> Option<usize> {
        self.confirmed
    }

    /// The bytes, with sequence numbers from `first` on.
    pub fn numbered(&mut self, first: u32) -> &[u8] {
        for (n, start) in self.starts.iter().enumerate() {
            let number = first.wrapping_add(n as u32);
            self.bytes[start + 8..start + 12].copy_from_slice(&number.to_ne_bytes());
        }
        &self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }
}

/// Writes the attributes of one message or of one nested attribute.
#[derive(Debug)]
pub struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    /// An attribute with these bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.0.extend((4 + value.len() as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(aligned(self.0.len()), 0);
    }

    /// A string with its NUL.
    pub fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    /// A number in the machine's order.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// A number in the network's order.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A long number in the network's order.
    pub fn be64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Attributes<'_>)) {
        self.nest_behind(kind, &[], write);
    }

    /// An attribute that holds attributes behind a struct.
    pub fn nest_behind(&mut self, kind: u16, fixed: &[u8], write: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend((kind | NESTED).to_ne_bytes());
        self.0.extend(fixed);
        self.0.resize(aligned(self.0.len()), 0);
        write(&mut Attributes(&mut *self.0));
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// The attributes in these bytes, type and value, until they end or make no sense.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (bytes.get(..2)?, bytes.get(2..4)?);
        let length = usize::from(u16::from_ne_bytes(length.try_into().ok()?));
        let kind = u16::from_ne_bytes(kind.try_into().ok()?) & KIND;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of an attribute in these bytes.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(of, _)| *of == kind).map(|(_, value)| value)
}

/// The bytes of a text in hexadecimal digits; everything else in it is left out.
#[cfg(test)]
pub(in crate::sys) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_and_padding_lie_where_the_kernel_reads_them() {
        let mut batch = Batch::default();
        batch.message(0x10, 0x400, &[1, 2, 3, 4], |a| {
            a.text(3, "lo");
            a.nest(18, |a| a.u32(1, 7));
        });
        batch.message(0x11, 0, &[], |_| {});
        let mut batch = batch.confirm();
        let expected = [
            vec![40, 0, 0, 0, 0x10, 0, 0x01, 0x04, 9, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
            vec![7, 0, 3, 0, b'l', b'o', 0, 0],
            vec![12, 0, 18, 0x80, 8, 0, 1, 0, 7, 0, 0, 0],
            vec![16, 0, 0, 0, 0x11, 0, 0x05, 0, 10, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(batch.numbered(9), expected.concat());
        assert_eq!((batch.len(), batch.confirmed()), (2, Some(1)));
    }

    proptest! {
        #[test]
        fn attributes_that_are_written_are_read_back(
            list in proptest::collection::vec((0u16..0x3fff, proptest::collection::vec(any::<u8>(), 0..40)), 0..8)
        ) {
            let mut bytes = Vec::new();
            let mut writer = Attributes(&mut bytes);
            for (kind, value) in &list {
                writer.bytes(*kind, value);
            }
            let read: Vec<_> = attributes(&bytes).map(|(kind, value)| (kind, value.to_vec())).collect();
            prop_assert_eq!(read, list);
        }

        #[test]
        fn reading_any_bytes_as_attributes_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(attributes(&bytes).count() <= bytes.len() / 4 + 1);
        }
    }
}
