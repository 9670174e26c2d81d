//! The header of an index: how the spool is kept, and which of its rows are released.
//!
//! The bytes of released rows may be gone, and so may the rows themselves. The places of the first two rows, which are
//! free then, hold the last released row of each stream instead: they say where the remaining bytes of the stream begin.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Stream;
use super::row::{HEADER, ROW, Row, Span};

/// The bytes that every index of version 1 starts with.
const MAGIC: usize = 21;
/// The byte that is 1 where the spool is a ring.
const RING: usize = 21;
/// The place of the number of released rows.
const RELEASED: usize = 24;
/// Bytes of the header with the places of the first two rows.
const LONGEST: usize = HEADER.len() + 2 * ROW;

/// A decoded header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// Whether the spool keeps the end of the output only, and goes with the job's end.
    pub is_ring: bool,
    /// The rows from the first one whose bytes may be gone.
    pub released: u64,
    /// The last released row with bytes of each stream, where it has one.
    pub last: [Option<Row>; 2],
}

impl Header {
    /// Reads the header of an index; `None` for a file that is no index of version 1.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(index: &File) -> io::Result<Option<Header>> {
        let mut block = [0; LONGEST];
        let length = read_up_to(index, &mut block)?;
        Ok(Header::decode(block.get(..length).unwrap_or_default()))
    }

    /// The header as it must be written: the places of rows that are not released stay as they are.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut block = HEADER.to_vec();
        block[RING] = u8::from(self.is_ring);
        block[RELEASED..].copy_from_slice(&self.released.to_le_bytes());
        // A single released row stands in its place already.
        if self.released > 1 {
            self.last.iter().for_each(|row| block.extend(row.map_or([0; ROW], |row| row.encode())));
        }
        block
    }

    /// The header in the first bytes of an index. An index that ends within its header has released nothing.
    pub(super) fn decode(block: &[u8]) -> Option<Header> {
        let magic = block.get(..MAGIC.min(block.len()))?;
        if !HEADER.starts_with(magic) || block.get(RING).is_some_and(|ring| *ring > 1) {
            return None;
        }
        if block.get(RING + 1..RELEASED).is_some_and(|rest| rest.iter().any(|byte| *byte != 0)) {
            return None;
        }
        let is_ring = block.get(RING) == Some(&1);
        let released = block.get(RELEASED..HEADER.len()).and_then(|bytes| bytes.try_into().ok());
        let mut header =
            Header { is_ring, released: released.map_or(0, u64::from_le_bytes), ..Header::default() };
        let (places, _) = block.get(HEADER.len()..).unwrap_or_default().as_chunks::<ROW>();
        let places = places.iter().take(usize::try_from(header.released).unwrap_or(2).min(2));
        places.filter_map(Row::decode).for_each(|row| header.note(row));
        Some(header)
    }

    /// Notes a row as the last released one of its stream.
    pub(super) fn note(&mut self, row: Row) {
        if matches!(row.span, Span::Bytes { .. }) {
            self.last[row.stream.place()] = Some(row);
        }
    }

    /// The offset in a stream's file behind its released bytes.
    pub fn end(&self, stream: Stream) -> u64 {
        match self.last[stream.place()].map(|row| row.span) {
            Some(Span::Bytes { offset, length }) => offset.saturating_add(u64::from(length)),
            Some(Span::Lost(_)) | None => 0,
        }
    }

    /// The bytes of the released rows and of what they describe, as the limits count them.
    pub fn bytes(&self) -> u64 {
        let rows = self.released.saturating_mul(ROW as u64);
        rows.saturating_add(self.end(Stream::Stdout)).saturating_add(self.end(Stream::Stderr))
    }
}

/// Reads as many bytes as there are.
fn read_up_to(file: &File, block: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = block.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(sequence: u64, stream: Stream) -> Row {
        Row { sequence, time_ns: 7, stream, span: Span::Bytes { offset: sequence * 10, length: 10 } }
    }

    #[test]
    fn header_of_a_new_index_has_released_nothing() {
        assert_eq!(Header::decode(&HEADER), Some(Header::default()));
        assert_eq!(Header::default().encode(), HEADER);
        assert_eq!(Header::decode(&HEADER[..9]), Some(Header::default()), "the daemon died within it");
        assert_eq!(Header::decode(b"JOBLET SPOOL INDEX 2\n"), None);
    }

    #[test]
    fn single_released_row_is_read_from_its_own_place() {
        let first = row(1, Stream::Stderr);
        let header = Header { released: 1, ..Header::default() };
        let block =
            [header.encode(), first.encode().to_vec(), row(2, Stream::Stdout).encode().to_vec()].concat();
        let read = Header::decode(&block).unwrap();
        assert_eq!((read.last, read.end(Stream::Stderr)), ([None, Some(first)], 20));
        assert_eq!(read.bytes(), 20 + ROW as u64);
    }

    proptest! {
        #[test]
        fn header_is_read_as_it_was_written(
            is_ring in any::<bool>(), released in 2..u64::MAX, has in any::<[bool; 2]>(),
        ) {
            let last = [Stream::Stdout, Stream::Stderr].map(|stream| has[stream.place()].then(|| row(5, stream)));
            let header = Header { is_ring, released, last };
            prop_assert_eq!(Header::decode(&header.encode()), Some(header));
        }

        #[test]
        fn any_header_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = Header::decode(&bytes);
            let _ = Header::decode(&[&HEADER[..], &bytes].concat());
        }
    }
}
