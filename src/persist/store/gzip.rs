//! Gzip files that any program may have written, as lines: members one after the other, of any size.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;

use super::segment::ReadFrom;

/// Bytes of the longest line that is read: the record of a chunk of a megabyte. Longer ones are left out.
const LONGEST: usize = 4 << 20;

/// The lines of a file from a member on.
pub(super) struct GzipLines {
    /// Gone at the end of the file.
    member: Option<BufReader<GzDecoder<BufReader<ReadFrom<File>>>>>,
    line: Vec<u8>,
    /// The offset of the member in which the next line begins, if it is the first one there.
    start: Option<u64>,
    /// Bytes of text that are inflated yet; `None`: there were more.
    room: Option<u64>,
}

impl GzipLines {
    /// Begins at a member.
    pub(super) fn new(file: File, offset: u64) -> GzipLines {
        let source = BufReader::new(ReadFrom { file, at: offset });
        let member = Some(BufReader::new(GzDecoder::new(source)));
        GzipLines { member, line: Vec::new(), start: Some(offset), room: Some(u64::MAX) }
    }

    /// Ends the lines behind so many bytes of text from here on.
    pub(super) fn limit(&mut self, bytes: u64) {
        self.room = Some(bytes);
    }

    /// Bytes of text that may follow; `None`: more came than was allowed, and the lines have ended there.
    pub(super) fn room(&self) -> Option<u64> {
        self.room
    }

    /// The next line without its line feed, and the offset of the member whose first line it is. A member that is torn
    /// or no gzip ends the lines.
    pub(super) fn next(&mut self) -> Option<(&[u8], Option<u64>)> {
        self.line.clear();
        let mut start = self.start.take();
        while let Some(member) = &mut self.member {
            let had = self.line.len();
            let room = (LONGEST - had.min(LONGEST)) as u64 + 1;
            let read = member.by_ref().take(room).read_until(b'\n', &mut self.line);
            if let Ok(bytes) = read {
                self.room = self.room.and_then(|room| room.checked_sub(bytes as u64));
                if self.room.is_none() {
                    self.member = None;
                    break;
                }
            }
            match read {
                Ok(0) => {
                    let at = self.next_member();
                    // Only a line that begins with a member can be found from there.
                    start = if self.line.is_empty() { at } else { start };
                }
                Ok(_) if self.line.len() > LONGEST => self.line.truncate(LONGEST / 2),
                Ok(_) if self.line.ends_with(b"\n") => {
                    self.line.pop();
                    return Some((&self.line, start));
                }
                Ok(_) => {}
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.member = None,
            }
        }
        None
    }

    /// Goes on behind the end of a member, and returns the offset of the next one.
    fn next_member(&mut self) -> Option<u64> {
        let mut source = self.member.take()?.into_inner().into_inner();
        let is_end = source.fill_buf().map_or(true, <[u8]>::is_empty);
        let offset = source.get_ref().at - source.buffer().len() as u64;
        if !is_end {
            self.member = Some(BufReader::new(GzDecoder::new(source)));
        }
        (!is_end).then_some(offset)
    }
}

impl std::fmt::Debug for GzipLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GzipLines").field("start", &self.start).finish_non_exhaustive()
    }
}

/// The length of one whole member at an offset, and of its text; `None`: it is torn or none.
pub(super) fn member_size(file: &File, offset: u64) -> Option<(u64, u64)> {
    let mut member = GzDecoder::new(BufReader::new(ReadFrom { file, at: offset }));
    let text = io::copy(&mut member, &mut io::sink()).ok()?;
    let source = member.into_inner();
    Some((source.get_ref().at - source.buffer().len() as u64 - offset, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    #[test]
    fn lines_are_whole_across_members() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.gz");
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for text in ["a\nb", "c\n", "", "d\ne\n", "no end"] {
            starts.push(bytes.len() as u64);
            let mut gz = GzEncoder::new(Vec::new(), Compression::new(6));
            gz.write_all(text.as_bytes()).unwrap();
            bytes.extend(gz.finish().unwrap());
        }
        bytes.extend(b"\x1f\x8b\x08 torn");
        std::fs::write(&path, &bytes).unwrap();
        let open = || File::open(&path).unwrap();
        let mut lines = GzipLines::new(open(), 0);
        let mut got = Vec::new();
        while let Some((line, start)) = lines.next() {
            got.push((String::from_utf8(line.to_vec()).unwrap(), start));
        }
        let want = [("a", Some(0)), ("bc", None), ("d", Some(starts[3])), ("e", None)];
        assert_eq!(got, want.map(|(line, start)| (line.to_owned(), start)));
        let mut later = GzipLines::new(open(), starts[3]);
        assert_eq!(later.next().unwrap().0, b"d");
        assert_eq!(member_size(&open(), starts[0]), Some((starts[1], 3)));
        assert_eq!(member_size(&open(), starts[4] + 5), None);
    }
}
