//! SHA-256 digests as images write them.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use openssl::sha::Sha256;

use super::ImageError;

/// A digest `sha256:<64 hexadecimal digits>`. Images may name others; none is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(openssl::sha::sha256(bytes))
    }

    /// The digest of these 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    /// The 64 digits, which are the name of a file or directory.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The error where bytes with this digest were promised and others came.
    pub(super) fn expect(&self, what: &'static str, found: Digest) -> Result<(), ImageError> {
        if *self == found {
            return Ok(());
        }
        Err(ImageError::Verify { what, promised: self.to_string(), found: found.to_string() })
    }

    /// A digest from its digits alone.
    pub(super) fn from_hex(hex: &str) -> Option<Digest> {
        let mut bytes = [0; 32];
        let is_lower = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        if hex.len() != 64 || !hex.bytes().all(is_lower) {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Digest(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Digest, String> {
        let hex = text.strip_prefix("sha256:").and_then(Digest::from_hex);
        hex.ok_or_else(|| {
            format!("{:?} is no digest sha256:<64 hexadecimal digits>", super::printable(text.as_bytes()))
        })
    }
}

/// A reader that takes the digest of what passes.
pub(super) struct Hashing<R> {
    inner: R,
    state: Sha256,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(inner: R) -> Self {
        Hashing { inner, state: Sha256::new() }
    }

    /// Reads to the end; the digest of everything.
    pub(super) fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(Digest(self.state.finish()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.state.update(&buffer[..got]);
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_and_written() {
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        assert_eq!(Digest::of(b"").to_string(), text);
        assert_eq!(Hashing::new(&b"abc"[..]).finish().unwrap(), Digest::of(b"abc"));
        for bad in
            ["", "sha256:", &text.replace("e3", "E3"), &text.replace("e3", "../"), &text[..70], "sha512:00"]
        {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
