//! Messages over TCP: two bytes of length in front of each (RFC 1035, 4.2.2). Pure.

/// Bytes of the length.
const LENGTH: usize = 2;

/// Bytes that come, of which whole messages are taken.
#[derive(Debug)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    most: usize,
}

/// A message is longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

impl Frames {
    /// Messages of at most so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Frames { bytes: Vec::new(), most }
    }

    /// Takes bytes that have come.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, once it is there.
    ///
    /// # Errors
    /// It is too long.
    pub(super) fn take(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let Some(length) = self.bytes.first_chunk::<LENGTH>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*length));
        if length > self.most {
            return Err(TooLong);
        }
        let end = LENGTH + length;
        if self.bytes.len() < end {
            return Ok(None);
        }
        let message = self.bytes[LENGTH..end].to_vec();
        self.bytes.drain(..end);
        Ok(Some(message))
    }
}

/// A message with its length in front; one that is too long for it has none and says so by its emptiness.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    match u16::try_from(message.len()) {
        Ok(length) => [&length.to_be_bytes()[..], message].concat(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn messages_come_out_however_they_are_cut(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6),
            size in 1usize..64,
        ) {
            let mut frames = Frames::new(512);
            let bytes: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                frames.push(piece);
                while let Some(message) = frames.take().unwrap() {
                    found.push(message);
                }
            }
            prop_assert_eq!(found, messages);
            prop_assert!(frames.bytes.is_empty());
        }
    }

    #[test]
    fn long_message_is_refused_before_it_is_there() {
        let mut frames = Frames::new(512);
        frames.push(&[2, 1]);
        assert_eq!(frames.take(), Err(TooLong));
        assert!(framed(&[0; 65_536]).is_empty());
    }
}
