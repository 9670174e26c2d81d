//! The files of a spool, opened anew and for reading only: the writer's own descriptors could be written through.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::output::spool::{HEADER, ROW};
use crate::output::{Header, INDEX, Stream};
use crate::persist::frame::{Files, Reached};

/// The name of the file of samples.
const SAMPLES: &str = "metrics.jsonl";

/// Descriptors of a spool, and what stands in its files.
#[derive(Debug)]
pub(super) struct SpoolFiles {
    /// Which files there are.
    pub(super) files: Files,
    /// Their descriptors, in the order of the set.
    pub(super) descriptors: Vec<OwnedFd>,
    /// How far they have come, as their lengths say.
    pub(super) reached: Reached,
    /// Rows that are gone from them.
    pub(super) released: u64,
}

/// Opens a spool. `None`: there is none, or one whose bytes do not last.
///
/// # Errors
/// A file that cannot be opened.
pub(super) fn open(dir: &Path) -> io::Result<Option<SpoolFiles>> {
    let open = |name: &str| match File::open(dir.join(name)) {
        Ok(file) => Ok(Some(file)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why),
    };
    let Some(index) = open(INDEX)? else { return Ok(None) };
    let Some(header) = Header::read(&index)? else { return Ok(None) };
    if header.is_ring {
        return Ok(None);
    }
    let length = |file: &File| file.metadata().map(|meta| meta.len());
    let rows = length(&index)?.saturating_sub(HEADER.len() as u64) / ROW as u64;
    let mut found = SpoolFiles {
        files: Files::INDEX,
        descriptors: vec![index.into()],
        reached: Reached { rows, sample_bytes: 0 },
        released: header.released,
    };
    for (name, file) in [
        (Stream::Stdout.file_name(), Files::STDOUT),
        (Stream::Stderr.file_name(), Files::STDERR),
        (SAMPLES, Files::SAMPLES),
    ] {
        let Some(opened) = open(name)? else { continue };
        if file == Files::SAMPLES {
            found.reached.sample_bytes = whole_lines(&opened, length(&opened)?)?;
        }
        found.files = found.files.with(file);
        found.descriptors.push(opened.into());
    }
    Ok(Some(found))
}

/// Bytes of a file up to its last line feed: the daemon that wrote it may have died in a line.
fn whole_lines(file: &File, length: u64) -> io::Result<u64> {
    let mut block = [0; 4096];
    let mut end = length;
    while end > 0 {
        let from = end.saturating_sub(block.len() as u64);
        let block = &mut block[..(end - from) as usize];
        file.read_exact_at(block, from)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_at_the_end_does_not_count() {
        let file = tempfile::tempfile().unwrap();
        let text = [vec![b'a'; 5000], vec![b'\n'], vec![b'b'; 9000]].concat();
        for (length, whole) in [(0, 0), (5000, 0), (5001, 5001), (14_001, 5001)] {
            file.set_len(0).unwrap();
            file.write_all_at(&text[..length], 0).unwrap();
            assert_eq!(whole_lines(&file, length as u64).unwrap(), whole);
        }
    }
}
