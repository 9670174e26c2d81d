//! One file of members: finding members by their headers, and reading them.

use std::borrow::Borrow;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

use flate2::bufread::GzDecoder;

use super::member::{self, FIXED, HEADER, Header};
use super::sidecar::Row;

/// Reads as many bytes as there are, up to the length of the buffer.
fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], at + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    Ok(done)
}

/// The member that begins at an offset; `None`: there is none of ours, or it ends behind `length`.
pub(super) fn row_at(file: &File, offset: u64, length: u64) -> io::Result<Option<Row>> {
    let mut block = [0; HEADER];
    if offset + HEADER as u64 > length || read_up_to(file, &mut block, offset)? < HEADER {
        return Ok(None);
    }
    let row = Header::decode(&block).map(|header| Row { offset, header });
    Ok(row.filter(|row| row.end() <= length))
}

/// Whether a row of an index tells the truth about the file.
pub(super) fn is_true(file: &File, row: &Row) -> io::Result<bool> {
    Ok(row_at(file, row.offset, row.end())?.is_some_and(|found| found == *row))
}

/// The JSON of a member; `None`: it is damaged.
pub(super) fn json_of(file: &File, row: &Row) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; row.header.size as usize];
    let read = read_up_to(file, &mut bytes, row.offset)?;
    let right = read == bytes.len() && bytes.starts_with(&row.header.encode());
    Ok(if right { member::unpack(&row.header, &bytes) } else { None })
}

/// Reads a file from an offset on. Unlike the file's own position, the reader's is nobody else's.
#[derive(Debug)]
pub(super) struct ReadFrom<F> {
    pub(super) file: F,
    pub(super) at: u64,
}

impl<F: Borrow<File>> Read for ReadFrom<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.borrow().read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Bytes of text that are inflated to tell another program's member from a torn one of ours, which has at most a megabyte.
const PROOF: u64 = 16 << 20;

/// Whether another program's gzip member begins at an offset. Behind members of ours it has to be whole, because what is
/// torn there may be a member of ours.
pub(super) fn is_foreign(file: &File, offset: u64) -> io::Result<bool> {
    let mut block = [0; FIXED.len()];
    let read = read_up_to(file, &mut block, offset)?;
    // A member of ours with a flipped bit is damaged and not another program's.
    let same = block.iter().zip(FIXED).filter(|(byte, fixed)| **byte == *fixed).count();
    if read < block.len() || !block.starts_with(b"\x1f\x8b\x08") || same + 2 >= FIXED.len() {
        return Ok(false);
    }
    let member = GzDecoder::new(BufReader::new(ReadFrom { file, at: offset }));
    if offset == 0 && member.header().is_some() {
        return Ok(true);
    }
    // A member that inflates so far is whole enough: a worker that has other jobs waits for the answer.
    Ok(io::copy(&mut member.take(PROOF), &mut io::sink()).is_ok())
}
