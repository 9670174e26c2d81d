//! The index of a spool: its header and its rows.

use std::path::Path;

use super::Stream;

/// The first bytes of an index.
pub const HEADER: [u8; 32] = *b"JOBLET SPOOL INDEX 1\n\0\0\0\0\0\0\0\0\0\0\0";
/// Bytes of each row; the header has as many.
pub const ROW: usize = 32;
/// Kinds of rows: the 30th byte, which was zero when there was one kind.
const BYTES: u8 = 0;
const LOST: u8 = 1;
/// The file name of the index.
pub const INDEX: &str = "index";

/// The number of rows in a finished spool; 0 where there is no spool.
pub(super) fn rows_stored(dir: &Path) -> u64 {
    let length = std::fs::metadata(dir.join(INDEX)).map_or(0, |index| index.len());
    length.saturating_sub(HEADER.len() as u64) / ROW as u64
}

/// One row of the spool's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The position in the job's output, from 1 across both streams.
    pub sequence: u64,
    /// The time at which the daemon read it from the job, ns since the epoch.
    pub time_ns: i64,
    /// The stream that the job wrote to.
    pub stream: Stream,
    /// The bytes or the gap that the row describes.
    pub span: Span,
}

/// A run of bytes, or a gap in their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// A range of the stream's file.
    Bytes {
        /// The first byte's offset in the file.
        offset: u64,
        /// The number of bytes.
        length: u32,
    },
    /// A number of bytes that were read from the job and discarded.
    Lost(u64),
}

impl Row {
    pub(super) fn encode(&self) -> [u8; ROW] {
        let (number, length, kind) = match self.span {
            Span::Bytes { offset, length } => (offset, length, BYTES),
            Span::Lost(bytes) => (bytes, 0, LOST),
        };
        let mut block = [0; ROW];
        block[..8].copy_from_slice(&self.sequence.to_le_bytes());
        block[8..16].copy_from_slice(&number.to_le_bytes());
        block[16..24].copy_from_slice(&self.time_ns.to_le_bytes());
        block[24..28].copy_from_slice(&length.to_le_bytes());
        block[28] = self.stream.number();
        block[29] = kind;
        block
    }

    /// Decodes a block of the index; `None` for one that is no row.
    pub fn decode(block: &[u8; ROW]) -> Option<Row> {
        let long = |at: usize| Some(u64::from_le_bytes(block.get(at..at + 8)?.try_into().ok()?));
        let stream = match block[28] {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return None,
        };
        let span = match block[29] {
            BYTES => {
                let length = u32::from_le_bytes(block.get(24..28)?.try_into().ok()?);
                Span::Bytes { offset: long(8)?, length }
            }
            LOST => Span::Lost(long(8)?),
            _ => return None,
        };
        Some(Row { sequence: long(0)?, time_ns: long(16)?.cast_signed(), stream, span })
    }
}

/// The offset in the index of the row behind the first `rows` rows.
pub(super) fn place(rows: u64) -> u64 {
    HEADER.len() as u64 + rows * ROW as u64
}
