//! The index beside a file of members: where each member begins, and its header.
//!
//! The index is never synced and never the truth. A row is written after its member is durable, so a row that is there
//! is right; one that is missing is made anew from the member's own header.

use super::member::{FIXED, HEADER, Header};

/// The first bytes of an index.
pub(super) const MAGIC: [u8; 32] = *b"JOBLET LOG INDEX 1\n\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// Bytes of a row.
pub(super) const ROW: usize = 96;

/// One row: a member and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// The offset of the member in its file.
    pub(super) offset: u64,
    pub(super) header: Header,
}

impl Row {
    /// The offset behind the member.
    pub(super) fn end(&self) -> u64 {
        self.offset + u64::from(self.header.size)
    }

    pub(super) fn encode(&self) -> [u8; ROW] {
        let mut block = [0; ROW];
        block[..8].copy_from_slice(&self.offset.to_le_bytes());
        block[8..].copy_from_slice(&self.header.encode()[FIXED.len()..]);
        block
    }

    /// Decodes a block of the index; `None`: its checksum is wrong.
    pub(super) fn decode(block: &[u8; ROW]) -> Option<Row> {
        let (offset, facts) = block.split_first_chunk()?;
        let mut header = [0; HEADER];
        header[..FIXED.len()].copy_from_slice(&FIXED);
        header[FIXED.len()..].copy_from_slice(facts);
        Some(Row { offset: u64::from_le_bytes(*offset), header: Header::decode(&header)? })
    }
}

/// The rows of an index that fit to each other and into a file of this length. The rest counts for nothing.
pub(super) fn believed(index: &[u8], length: u64) -> Vec<Row> {
    let Some(blocks) = index.strip_prefix(&MAGIC) else { return Vec::new() };
    let (blocks, _torn) = blocks.as_chunks::<ROW>();
    let mut end = 0;
    let fits = |block: &[u8; ROW]| {
        let row = Row::decode(block).filter(|row| row.offset == end && row.end() <= length)?;
        end = row.end();
        Some(row)
    };
    blocks.iter().map_while(fits).collect()
}

/// The offset of the row behind the first `rows` rows.
pub(super) fn place(rows: u64) -> u64 {
    MAGIC.len() as u64 + rows * ROW as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_believed_up_to_the_first_that_does_not_fit() {
        let rows: Vec<Row> = (0..4u64)
            .map(|n| Row { offset: n * 200, header: Header { size: 200, first: n, ..Header::default() } })
            .collect();
        let mut index = MAGIC.to_vec();
        index.extend(rows.iter().flat_map(Row::encode));
        assert_eq!(believed(&index, 800), rows);
        assert_eq!(believed(&index, 799), rows[..3]);
        assert_eq!(believed(&index[..index.len() - 1], 800), rows[..3]);
        let mut torn = index.clone();
        torn[MAGIC.len() + ROW + 40] ^= 4;
        assert_eq!(believed(&torn, 800), rows[..1]);
        index[3] ^= 1;
        assert_eq!(believed(&index, 800), []);
        assert_eq!(believed(b"", 800), []);
    }
}
