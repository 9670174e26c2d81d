//! SQLite's write-ahead log, as far as we have to know it: how much of it is in use.
//!
//! The format is SQLite's (sqlite.org/fileformat2.html, "The Write-Ahead Log"): a header of 32 bytes with the page size at 8 and
//! two salts at 16, then frames, each with a header of 24 bytes in which the salts stand again, at 8, and one page. A
//! frame with other salts is of an earlier round.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes before the first frame.
pub(super) const HEADER: usize = 32;
const FRAME: usize = 24;

/// The log from its beginning to the end of its newest round.
///
/// # Errors
/// The disk's.
pub(super) fn written(log: &File) -> io::Result<Vec<u8>> {
    let mut header = [0; HEADER];
    if log.metadata()?.len() < HEADER as u64 {
        return Ok(Vec::new());
    }
    log.read_exact_at(&mut header, 0)?;
    let page = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
    let salts = &header[16..24];
    let length = log.metadata()?.len() as usize;
    let mut end = HEADER;
    let mut frame = [0; FRAME];
    while page > 0 && end + FRAME + page <= length {
        log.read_exact_at(&mut frame, end as u64)?;
        if frame[8..16] != *salts {
            break;
        }
        end += FRAME + page;
    }
    let mut written = vec![0; end];
    log.read_exact_at(&mut written, 0)?;
    Ok(written)
}
