//! Layers as they are stored: plain, gzip or zstd, told by their first bytes.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The first four bytes of a frame that a decoder passes over (RFC 8878, 3.1.2), but for the lowest four bits.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// The head of a frame with a window of 1 KiB (RFC 8878, 3.1.1.1).
const ZSTD_SMALL_HEAD: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0, 0];

type Source<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// The bytes that were compressed.
pub(super) enum Plain<R: Read> {
    Stored(Source<R>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(Box<Frames<Source<R>>>),
}

impl<R: Read> Plain<R> {
    /// Looks at the first bytes.
    pub(super) fn new(mut inner: R) -> io::Result<Self> {
        let mut first = Vec::new();
        inner.by_ref().take(4).read_to_end(&mut first)?;
        let is = |magic: &[u8]| first.starts_with(magic);
        let (gzip, zstd) = (is(&GZIP), is(&ZSTD) || first.get(1..4) == Some(&ZSTD_SKIPPABLE));
        let source = BufReader::with_capacity(128 * 1024, Cursor::new(first).chain(inner));
        Ok(match (gzip, zstd) {
            (true, _) => Plain::Gzip(Box::new(MultiGzDecoder::new(source))),
            (_, true) => Plain::Zstd(Box::new(Frames::new(source)?)),
            _ => Plain::Stored(source),
        })
    }

    /// Whether anything is compressed.
    pub(super) fn is_compressed(&self) -> bool {
        !matches!(self, Plain::Stored(_))
    }
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Plain::Stored(inner) => inner.read(buffer),
            Plain::Gzip(inner) => inner.read(buffer),
            Plain::Zstd(inner) => inner.read(buffer),
        }
    }
}

/// The frames of a zstd file, one behind the other. The decoder keeps at most its window, 100 MiB.
pub(super) struct Frames<R: Read> {
    source: R,
    decoder: FrameDecoder,
    is_in_frame: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(source: R) -> io::Result<Self> {
        let mut decoder = FrameDecoder::new();
        // The decoder refuses windows over 100 MiB in every frame but its first.
        decoder.init(ZSTD_SMALL_HEAD.as_slice()).map_err(|why| io::Error::other(why.to_string()))?;
        Ok(Frames { source, decoder, is_in_frame: false })
    }

    /// Begins the next frame; `false` at the end.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut self.source.by_ref().take(u64::from(length)), &mut io::sink())?;
                }
                Err(why) => return Err(io::Error::other(why.to_string())),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.is_in_frame && !self.begin()? {
                return Ok(0);
            }
            self.is_in_frame = true;
            let got = self.decoder.read(buffer)?;
            if got > 0 {
                return Ok(got);
            }
            if self.decoder.is_finished() {
                self.is_in_frame = false;
                continue;
            }
            let step = BlockDecodingStrategy::UptoBytes(buffer.len());
            self.decoder
                .decode_blocks(&mut self.source, step)
                .map_err(|why| io::Error::other(why.to_string()))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn plain(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Plain::new(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn plain_gzip_and_zstd_streams_are_read_in_all_their_parts() {
        let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(plain(&text).unwrap(), text);
        assert_eq!(plain(b"").unwrap(), b"");
        assert_eq!(plain(b"ab").unwrap(), b"ab");
        let twice = text.repeat(2);
        assert_eq!(plain(&[gzip(&text), gzip(&text)].concat()).unwrap(), twice);
        let skippable = [b"\x53\x2a\x4d\x18\x03\0\0\0abc".as_slice(); 2].concat();
        let frames = [skippable.clone(), zstd(&text), skippable.clone(), zstd(&text), skippable].concat();
        assert_eq!(plain(&frames).unwrap(), twice);
    }

    #[test]
    fn truncated_streams_and_giant_windows_are_refused() {
        let text = b"joblet".repeat(10_000);
        for packed in [gzip(&text), zstd(&text)] {
            for length in [5, packed.len() / 2, packed.len() - 1] {
                assert!(plain(&packed[..length]).is_err(), "{length} of {}", packed.len());
            }
        }
        // A window of 3.75 TiB.
        assert!(plain(b"\x28\xb5\x2f\xfd\0\xff\x01\0\0").is_err());
    }
}
