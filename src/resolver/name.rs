//! Names of DNS, as messages have them: labels with their lengths, an empty one at the end (RFC 1035, 3.1).

use std::fmt;

/// Bytes that are no name, or no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// Longest name, its lengths and its last label included.
const LONGEST: usize = 255;
/// The longest label, in bytes.
const LONGEST_LABEL: usize = 63;
/// The two upper bits of a length that is a pointer.
const POINTER: u8 = 0xc0;

/// A name without compression. Letters stay as they came; names are equal whatever the case is.
#[derive(Debug, Clone)]
pub struct Name(Vec<u8>);

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        // Lengths are below the letters.
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl Name {
    /// Reads the name at `at` of a message, and where it ends there. A pointer leads to before the piece that it ends, so
    /// that there is no circle.
    ///
    /// # Errors
    /// It is too long, leads nowhere, or does not end.
    pub fn read(message: &[u8], mut at: usize) -> Result<(Name, usize), Broken> {
        let mut name = Vec::new();
        let mut end = None;
        let mut piece = at;
        loop {
            let length = *message.get(at).ok_or(Broken)?;
            match length & POINTER {
                0 => {
                    let label = message.get(at..=at + usize::from(length)).ok_or(Broken)?;
                    name.extend_from_slice(label);
                    at += label.len();
                    if name.len() > LONGEST {
                        return Err(Broken);
                    }
                    if length == 0 {
                        return Ok((Name(name), end.unwrap_or(at)));
                    }
                }
                POINTER => {
                    let low = *message.get(at + 1).ok_or(Broken)?;
                    let to = usize::from(u16::from_be_bytes([length & !POINTER, low]));
                    if to >= piece {
                        return Err(Broken);
                    }
                    end.get_or_insert(at + 2);
                    (at, piece) = (to, to);
                }
                _ => return Err(Broken),
            }
        }
    }

    /// The name of a text such as `job-1a2b3c4d.joblet`, with letters, digits, `-` and `_` in its labels.
    pub fn of(text: &str) -> Option<Name> {
        let mut name = Vec::new();
        for label in text.split('.') {
            let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if label.is_empty() || label.len() > LONGEST_LABEL || !plain {
                return None;
            }
            name.push(label.len() as u8);
            name.extend(label.bytes());
        }
        name.push(0);
        (name.len() <= LONGEST).then_some(Name(name))
    }

    /// The bytes of the name.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first().filter(|(length, _)| **length > 0)?;
            let (label, next) = behind.split_at_checked(usize::from(*length))?;
            rest = next;
            Some(label)
        })
    }
}

impl fmt::Display for Name {
    /// The text in lower case, without a dot at its end; a byte that is no part of a usual name as `\ddd` (RFC 1035, 5.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, label) in self.labels().enumerate() {
            if n > 0 {
                f.write_str(".")?;
            }
            for byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{:03}", byte)?,
                    byte if byte.is_ascii_graphic() => {
                        write!(f, "{}", char::from(byte.to_ascii_lowercase()))?;
                    }
                    byte => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pointers_lead_backwards_or_nowhere() {
        // "a" at 0, "b" and a pointer to it at 3.
        let message = [1, b'a', 0, 1, b'b', 0xc0, 0];
        let (name, end) = Name::read(&message, 3).unwrap();
        assert_eq!((name.to_string(), end), ("b.a".to_owned(), 7));
        for (bad, at) in [
            (&[0xc0, 0][..], 0),      // to itself
            (&[0xc0, 2, 0xc0, 0], 0), // to each other
            (&[1, b'a', 0xc0, 0], 0), // to its own beginning
            (&[0, 0xc0, 3, 0], 1),    // forwards
            (&[0xc0], 0),             // cut off
            (&[5, b'a'], 0),
            (&[0x40, 0], 0), // the other two kinds of length
            (&[0x80, 0], 0),
            (&[], 0),
            (&[1, b'a'], 0), // without an end
        ] {
            assert_eq!(Name::read(bad, at).unwrap_err(), Broken, "{bad:?}");
        }
    }

    #[test]
    fn names_have_255_bytes_at_most() {
        let label = [&[63][..], &[b'x'; 63]].concat();
        let most = [label.repeat(3), vec![61], vec![b'x'; 61], vec![0]].concat();
        assert_eq!(Name::read(&most, 0).unwrap().1, 255);
        let more = [label.repeat(3), vec![62], vec![b'x'; 62], vec![0]].concat();
        assert!(Name::read(&more, 0).is_err());
        // Pointers do not make it longer either.
        let mut message = most.clone();
        message.extend([1, b'y', 0xc0, 0]);
        assert!(Name::read(&message, 255).is_err());
    }

    #[test]
    fn texts_have_no_byte_that_could_be_taken_for_another() {
        let name = Name(vec![4, b'A', b'.', b'\n', b'\\', 1, 0xff, 0]);
        assert_eq!(name.to_string(), "a\\046\\010\\092.\\255");
        assert_eq!(Name::of("Job-1.joblet"), Name::of("job-1.JOBLET"));
        for text in ["", "a..b", ".", "a b", "ä", &"x".repeat(64), &"x.".repeat(200)] {
            assert_eq!(Name::of(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_name_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0usize..600) {
            if let Ok((name, end)) = Name::read(&bytes, at) {
                prop_assert!(name.bytes().len() <= 255 && end <= bytes.len() && end > at);
                let (again, _) = Name::read(name.bytes(), 0).unwrap();
                prop_assert_eq!(again, name);
            }
        }

        #[test]
        fn short_pointers_are_a_name_or_none(bytes in proptest::collection::vec(prop_oneof![Just(0xc0u8), 0u8..8], 0..64)) {
            let _ = Name::read(&bytes, bytes.len() / 2);
        }
    }
}
