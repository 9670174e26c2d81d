//! Gzip members that say what is in them.
//!
//! A member holds whole records and carries a header of ours in the extra field of RFC 1952, as bgzip does, so every
//! tool that knows gzip reads it. The header is 104 bytes long, little endian, and its CRC covers the gzip header too.

use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

/// Bytes of a member before its deflate stream.
pub const HEADER: usize = 104;
/// Bytes of content after which a member is sealed.
pub const CONTENT: usize = 256 << 10;
/// Bytes of JSON after which a member is sealed: many small records take more room than their content.
pub(super) const JSON: usize = 384 << 10;
/// Most bytes of JSON in a member, and of the member: a header that names more is none.
pub(super) const LONGEST: usize = 1 << 20;
/// Bytes of a gzip trailer: CRC-32 and length.
const TRAILER: usize = 8;
const VERSION: u32 = 1;

/// The gzip header: FEXTRA, no time, the field "JL" of 88 bytes.
pub(super) const FIXED: [u8; 16] = *b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x5c\0JL\x58\0";

/// A record in the member counts lost bytes.
pub const HAS_GAP: u32 = 1;
/// Times have gone back in this member or in one before it in its file.
pub const TIMES_GO_BACK: u32 = 2;

/// The facts about a member that its header states.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the whole member in the file.
    pub size: u32,
    /// Bytes of its JSON.
    pub json: u32,
    /// The first sequence in it.
    pub first: u64,
    /// The last sequence in it.
    pub last: u64,
    /// All rows of both streams up to this sequence were durable when the member was written.
    pub through: u64,
    /// The earliest time in it, ns since the epoch.
    pub least_ns: i64,
    /// The latest time in it, ns since the epoch.
    pub greatest_ns: i64,
    /// Bytes of the stream before it.
    pub bytes_before: u64,
    /// Line breaks of the stream before it.
    pub lines_before: u64,
    /// Bytes of the stream in it.
    pub bytes: u32,
    /// Line breaks in it.
    pub lines: u32,
    /// Records in it.
    pub records: u32,
    /// [`HAS_GAP`] and [`TIMES_GO_BACK`].
    pub flags: u32,
}

impl Header {
    /// The bytes at the start of the member.
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut block = [0; HEADER];
        block[..16].copy_from_slice(&FIXED);
        let words = [(16, self.size), (20, self.json), (80, self.bytes), (84, self.lines)];
        let more = [(88, self.records), (92, self.flags), (96, VERSION)];
        for (at, value) in words.into_iter().chain(more) {
            block[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        let longs = [self.first, self.last, self.through, self.least_ns.cast_unsigned()];
        let more = [self.greatest_ns.cast_unsigned(), self.bytes_before, self.lines_before];
        for (n, value) in longs.into_iter().chain(more).enumerate() {
            block[24 + 8 * n..32 + 8 * n].copy_from_slice(&value.to_le_bytes());
        }
        let sum = checksum(&block[..100]);
        block[100..].copy_from_slice(&sum.to_le_bytes());
        block
    }

    /// Decodes the start of a member; `None`: it is not of this format, or damaged.
    pub(super) fn decode(block: &[u8; HEADER]) -> Option<Header> {
        let word = |at: usize| Some(u32::from_le_bytes(block.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(block.get(at..at + 8)?.try_into().ok()?));
        if block[..16] != FIXED || word(96)? != VERSION || word(100)? != checksum(&block[..100]) {
            return None;
        }
        let header = Header {
            size: word(16)?,
            json: word(20)?,
            first: long(24)?,
            last: long(32)?,
            through: long(40)?,
            least_ns: long(48)?.cast_signed(),
            greatest_ns: long(56)?.cast_signed(),
            bytes_before: long(64)?,
            lines_before: long(72)?,
            bytes: word(80)?,
            lines: word(84)?,
            records: word(88)?,
            flags: word(92)?,
        };
        let sizes = HEADER + TRAILER..=LONGEST;
        (sizes.contains(&(header.size as usize)) && header.json as usize <= LONGEST).then_some(header)
    }

    /// The facts about two members in a row as one.
    pub(super) fn join(&self, next: &Header) -> Header {
        Header {
            size: 0,
            json: self.json + next.json,
            last: next.last,
            through: self.through.max(next.through),
            least_ns: self.least_ns.min(next.least_ns),
            greatest_ns: self.greatest_ns.max(next.greatest_ns),
            bytes: self.bytes + next.bytes,
            lines: self.lines + next.lines,
            records: self.records + next.records,
            flags: self.flags | next.flags,
            ..*self
        }
    }
}

/// CRC-32 of some bytes.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// The compressor of a thread. A new one zeroes 260 KiB, so there is one for each level, kept from member to member.
#[derive(Debug, Default)]
pub struct Packer {
    levels: [Option<Box<Compress>>; 9],
}

impl Packer {
    /// A compressor, which no member uses yet.
    pub fn new() -> Packer {
        Packer::default()
    }

    /// Appends a member with this JSON at a level of 1 to 9, and completes its header.
    pub(super) fn pack(&mut self, json: &[u8], level: u32, header: &mut Header, out: &mut Vec<u8>) {
        let level = level.clamp(1, 9);
        let deflate = self.levels[level as usize - 1]
            .get_or_insert_with(|| Box::new(Compress::new(Compression::new(level), false)));
        deflate.reset();
        let start = out.len();
        out.resize(start + HEADER, 0);
        // Bytes without any pattern grow by five bytes in each 16 KiB at most.
        out.reserve(json.len() + json.len() / 1024 + 64);
        while !matches!(
            deflate.compress_vec(&json[deflate.total_in() as usize..], out, FlushCompress::Finish),
            Ok(Status::StreamEnd)
        ) {
            out.reserve(4096);
        }
        out.extend_from_slice(&checksum(json).to_le_bytes());
        out.extend_from_slice(&(json.len() as u32).to_le_bytes());
        header.size = (out.len() - start) as u32;
        header.json = json.len() as u32;
        out[start..start + HEADER].copy_from_slice(&header.encode());
    }
}

/// Inflates a whole member. `None`: its deflate stream, its CRC or its length is wrong.
pub(super) fn unpack(header: &Header, member: &[u8]) -> Option<Vec<u8>> {
    let body = member.get(HEADER..member.len().checked_sub(TRAILER)?)?;
    let trailer = &member[member.len() - TRAILER..];
    let mut json = Vec::with_capacity(header.json as usize);
    let mut inflate = Decompress::new(false);
    let done = inflate.decompress_vec(body, &mut json, FlushDecompress::Finish);
    let whole = matches!(done, Ok(Status::StreamEnd))
        && inflate.total_in() == body.len() as u64
        && json.len() == header.json as usize;
    let right = [checksum(&json).to_le_bytes(), (json.len() as u32).to_le_bytes()].concat() == trailer;
    (whole && right).then_some(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    fn header() -> Header {
        Header {
            first: 3,
            last: 9,
            through: 2,
            least_ns: -5,
            greatest_ns: 1_705_314_600_000_000_000,
            bytes_before: 1 << 40,
            lines_before: 77,
            bytes: 10,
            lines: 1,
            records: 2,
            flags: HAS_GAP,
            ..Header::default()
        }
    }

    #[test]
    fn any_gzip_reader_reads_a_member() {
        let json: Vec<u8> = (0..100_000u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        let (mut packer, mut file) = (Packer::new(), Vec::new());
        for level in [6, 1, 3, 9, 0] {
            let (mut head, start) = (header(), file.len());
            packer.pack(&json, level, &mut head, &mut file);
            let member = &file[start..];
            assert_eq!(head.size as usize, member.len());
            assert_eq!(Header::decode(member.first_chunk().unwrap()), Some(head));
            assert_eq!(unpack(&head, member).as_ref(), Some(&json));
        }
        let mut all = Vec::new();
        flate2::read::MultiGzDecoder::new(&file[..]).read_to_end(&mut all).unwrap();
        assert!(all == json.repeat(5));
    }

    #[test]
    fn empty_json_makes_a_member() {
        let (mut head, mut file) = (Header::default(), Vec::new());
        Packer::new().pack(b"", 6, &mut head, &mut file);
        assert_eq!(unpack(&head, &file), Some(Vec::new()));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_in_a_header_is_seen(at in 0..HEADER * 8) {
            let mut block = header().encode();
            // The sizes of this one are zero, which no member has.
            prop_assert_eq!(Header::decode(&block), None);
            let head = Header { size: 200, ..header() };
            block = head.encode();
            prop_assert_eq!(Header::decode(&block), Some(head));
            block[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(Header::decode(&block), None);
        }

        #[test]
        fn damage_is_refused_or_changes_no_text(at in any::<prop::sample::Index>(), bit in 0u32..8) {
            let json = b"{\"a\":\"some text, some text\"}\n".repeat(20);
            let (mut head, mut file) = (header(), Vec::new());
            Packer::new().pack(&json, 6, &mut head, &mut file);
            let at = HEADER + at.index(file.len() - HEADER);
            file[at] ^= 1u8 << bit;
            prop_assert!(unpack(&head, &file).is_none_or(|read| read == json));
        }
    }
}
