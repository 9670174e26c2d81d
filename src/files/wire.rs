//! The pieces of a copy as messages of the contract.

use super::error::FilesError;
use super::piece::{Entry, Have, Kind, Piece};
use super::{BATCH, BLOCK};
use crate::pb::joblet::{FileHave, FileInfo, FilePiece, FilesMessage, file_piece};

/// Bytes of the longest reason why an entry is skipped.
const LONGEST_REASON: usize = 1 << 10;

/// Pieces that become one message.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pieces: Vec<FilePiece>,
    bytes: usize,
}

impl Batch {
    /// Adds a piece; the message, where that is full.
    pub(super) fn push(&mut self, piece: Piece) -> Option<FilesMessage> {
        if let Piece::Data(block) = &piece {
            self.bytes += block.len();
        }
        self.pieces.push(FilePiece { piece: Some(encode(piece)), ..FilePiece::default() });
        (self.bytes >= BATCH.0 || self.pieces.len() >= BATCH.1).then(|| self.take()).flatten()
    }

    /// The message of the pieces that are there, if there are any.
    pub(super) fn take(&mut self) -> Option<FilesMessage> {
        self.bytes = 0;
        let pieces = std::mem::take(&mut self.pieces);
        (!pieces.is_empty()).then(|| FilesMessage { pieces, ..FilesMessage::default() })
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "directory",
        Kind::Link => "link",
    }
}

fn encode(piece: Piece) -> file_piece::Piece {
    match piece {
        Piece::Begin(entry) => file_piece::Piece::Begin(FileInfo {
            path: entry.path,
            kind: word(entry.kind).to_owned(),
            size: entry.size,
            mode: entry.mode,
            mtime_ns: entry.mtime_ns,
            link: entry.link,
            ..FileInfo::default()
        }),
        Piece::Skipped(path, why) => {
            file_piece::Piece::Begin(FileInfo { path, skipped: why, ..FileInfo::default() })
        }
        Piece::Resume(at) => file_piece::Piece::Resume(at),
        Piece::Data(block) => file_piece::Piece::Data(block),
        Piece::Zeros(blocks) => file_piece::Piece::ZeroBlocks(blocks),
        Piece::End(digest) => {
            file_piece::Piece::End(digest.map(|digest| digest.to_vec()).unwrap_or_default())
        }
    }
}

/// Reads a piece.
///
/// # Errors
/// It is none: an unknown kind, a block that is too long, a digest of another length.
pub(super) fn decode(piece: FilePiece) -> Result<Piece, FilesError> {
    let wrong = |what| Err(FilesError::Peer(what));
    Ok(match piece.piece {
        Some(file_piece::Piece::Begin(info)) if !info.skipped.is_empty() => {
            let end = info.skipped.char_indices().map(|(at, _)| at).find(|at| *at > LONGEST_REASON);
            Piece::Skipped(info.path, info.skipped[..end.unwrap_or(info.skipped.len())].to_owned())
        }
        Some(file_piece::Piece::Begin(info)) => Piece::Begin(entry(info)?),
        Some(file_piece::Piece::Data(block)) if block.len() <= BLOCK => Piece::Data(block),
        Some(file_piece::Piece::Data(_)) => return wrong("a block that is too long"),
        Some(file_piece::Piece::ZeroBlocks(blocks)) => Piece::Zeros(blocks),
        Some(file_piece::Piece::Resume(at)) => Piece::Resume(at),
        Some(file_piece::Piece::End(digest)) if digest.is_empty() => Piece::End(None),
        Some(file_piece::Piece::End(digest)) => match digest.try_into() {
            Ok(digest) => Piece::End(Some(digest)),
            Err(_) => return wrong("a digest that has not 32 bytes"),
        },
        Some(_) | None => return wrong("a piece that is none"),
    })
}

fn entry(info: FileInfo) -> Result<Entry, FilesError> {
    let kind = [Kind::File, Kind::Directory, Kind::Link].into_iter().find(|kind| word(*kind) == info.kind);
    let kind = kind.ok_or(FilesError::Peer("an entry of an unknown kind"))?;
    let FileInfo { path, size, mode, mtime_ns, link, .. } = info;
    Ok(Entry { path, kind, size, mode: mode & 0o777, mtime_ns, link })
}

/// The answer of a receiver to the beginning of a large file.
pub(super) fn have(have: &Have) -> FilesMessage {
    let have = FileHave { bytes: have.bytes, digest: have.digest.to_vec(), ..FileHave::default() };
    FilesMessage { have: Some(have).into(), ..FilesMessage::default() }
}

/// Reads that answer. One that makes no sense means nothing.
pub(super) fn had(have: FileHave) -> Have {
    let digest = have.digest.try_into().ok();
    let is_whole = have.bytes.is_multiple_of(BLOCK as u64);
    digest.filter(|_| is_whole).map_or_else(Have::default, |digest| Have { bytes: have.bytes, digest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protobuf::Message;

    #[test]
    fn pieces_are_the_same_after_the_wire() {
        let entry = Entry {
            path: b"a/\xff".to_vec(),
            kind: Kind::Link,
            size: 7,
            mode: 0o640,
            mtime_ns: -1,
            link: b"../x".to_vec(),
        };
        let pieces = [
            Piece::Begin(entry),
            Piece::Skipped(b"p".to_vec(), "it is a FIFO".to_owned()),
            Piece::Resume(1 << 40),
            Piece::Data(vec![1; BLOCK]),
            Piece::Zeros(9),
            Piece::End(Some([7; 32])),
            Piece::End(None),
        ];
        for piece in pieces {
            let wire = FilePiece { piece: Some(encode(piece.clone())), ..FilePiece::default() };
            assert_eq!(decode(wire).unwrap(), piece);
        }
        let known = Have { bytes: BLOCK as u64, digest: [3; 32] };
        assert_eq!(had(have(&known).have.unwrap()), known);
        assert!(Batch::default().push(Piece::Data(vec![0; BLOCK])).is_some(), "a block fills a message");
        assert!(Batch::default().push(Piece::Zeros(1)).is_none());
    }

    proptest! {
        #[test]
        fn pieces_of_any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(piece) = FilePiece::parse_from_bytes(&bytes) {
                let _ = decode(piece);
            }
        }
    }
}
