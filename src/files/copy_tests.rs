//! Whole copies between two directories, by threads.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use futures_executor::block_on;
use futures_util::{SinkExt, StreamExt};

use super::*;
use crate::pb::joblet::{FileInfo, FilePiece, FilesMessage, file_piece};

fn open(path: &Path) -> OwnedFd {
    open_directory(path).unwrap()
}

/// A watch that remembers what a copy says.
#[derive(Debug, Default)]
struct Heard {
    skipped: Vec<String>,
    done: Vec<Point>,
    bytes: u64,
}

impl Watch for Heard {
    fn skipped(&mut self, path: &[u8], why: &str) {
        self.skipped.push(format!("{}: {why}", path.escape_ascii()));
    }

    fn done(&mut self, point: &Point) {
        self.done.push(point.clone());
    }

    fn copied(&mut self, bytes: u64) {
        self.bytes += bytes;
    }
}

/// Copies all of `from` into `to`. The link breaks behind so many messages of the sender.
fn copy(from: &Path, to: &Path, after: Option<&Point>, most: usize) -> (Result<(), FilesError>, Heard) {
    let (mut sender, mut sent, mut answers) = Link::new();
    let (mut taker, mut answered, mut messages) = Link::new();
    let root = open(to);
    let receiving = std::thread::spawn(move || {
        let mut receiver = Receiver::new(root, b"", true, None)?;
        receive(&mut taker, &mut receiver, &mut Unwatched)
    });
    let forth = std::thread::spawn(move || {
        for _ in 0..most {
            let Some(message) = block_on(sent.next()) else { return };
            if block_on(messages.send(message)).is_err() {
                return;
            }
        }
    });
    let back = std::thread::spawn(move || {
        while let Some(answer) = block_on(answered.next()) {
            if block_on(answers.send(answer)).is_err() {
                return;
            }
        }
    });
    let mut heard = Heard::default();
    let source = Source { root: open(from), place: Vec::new(), path: Vec::new() };
    let copied = send(&mut sender, &[source], after, &mut heard);
    drop(sender);
    forth.join().unwrap();
    let received = receiving.join().unwrap();
    back.join().unwrap();
    (copied.and(received), heard)
}

#[test]
fn copy_that_is_cut_anywhere_goes_on_and_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir_all(from.join("d/e")).unwrap();
    fs::create_dir(&to).unwrap();
    for n in 0..600 {
        fs::write(from.join(format!("d/{n}")), format!("{n}")).unwrap();
    }
    let big: Vec<u8> = (0..5 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8 | 1).collect();
    fs::write(from.join("d/big"), &big).unwrap();
    fs::write(from.join("z"), "last").unwrap();
    fs::write(from.join(OsStr::from_bytes(b"\xfe\xff")), "odd").unwrap();
    let mut after = None;
    let mut cuts = 0;
    for most in 1.. {
        let (copied, heard) = copy(&from, &to, after.as_ref(), most);
        after = heard.done.last().cloned().or(after);
        match copied {
            Ok(()) => break,
            Err(why) => assert!(matches!(why, FilesError::Gone), "{why}"),
        }
        cuts += 1;
    }
    assert!(cuts >= 8, "{cuts}");
    assert_eq!(fs::read(to.join("d/big")).unwrap(), big);
    for n in 0..600 {
        assert_eq!(fs::read(to.join(format!("d/{n}"))).unwrap(), format!("{n}").into_bytes());
    }
    assert_eq!(fs::read(to.join(OsStr::from_bytes(b"\xfe\xff"))).unwrap(), b"odd");
    assert!(to.join("d/e").is_dir() && !to.join(PARTS).exists());
}

#[test]
fn hundred_thousand_blocks_of_zeros_are_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    let file = fs::File::create_new(from.join("sparse")).unwrap();
    let size = 100_000 * BLOCK as u64 + 1;
    file.set_len(size).unwrap();
    file.write_all_at(b"x", size / 2).unwrap();
    let (copied, heard) = copy(&from, &to, None, usize::MAX);
    copied.unwrap();
    let meta = fs::metadata(to.join("sparse")).unwrap();
    assert!(meta.len() == size && meta.blocks() < 1000, "{} in {} blocks", meta.len(), meta.blocks());
    assert!(heard.bytes >= size);
    let mut byte = [0];
    fs::File::open(to.join("sparse")).unwrap().read_exact_at(&mut byte, size / 2).unwrap();
    assert_eq!(&byte, b"x");
}

/// The result of a receiver that gets these pieces.
fn receive_pieces(to: &Path, pieces: Vec<file_piece::Piece>) -> Result<(), FilesError> {
    let (mut taker, mut answered, mut messages) = Link::new();
    let root = open(to);
    let receiving = std::thread::spawn(move || {
        let mut receiver = Receiver::new(root, b"", true, None)?;
        receive(&mut taker, &mut receiver, &mut Unwatched)
    });
    let pieces = pieces.into_iter().map(|piece| FilePiece { piece: Some(piece), ..FilePiece::default() });
    let message = FilesMessage { pieces: pieces.collect(), complete: true, ..FilesMessage::default() };
    block_on(messages.send(message)).unwrap();
    while block_on(answered.next()).is_some() {}
    receiving.join().unwrap()
}

#[test]
fn receiver_refuses_what_leads_out_or_breaks_the_order() {
    use file_piece::Piece::{Begin, Data, End, Resume, ZeroBlocks};
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("to");
    fs::create_dir(&to).unwrap();
    std::os::unix::fs::symlink(dir.path(), to.join("link")).unwrap();
    let begin = |path: &str, kind: &str, size| {
        Begin(FileInfo {
            path: path.into(),
            kind: kind.into(),
            size,
            mode: 0o7777,
            link: b"x".to_vec(),
            ..FileInfo::default()
        })
    };
    for pieces in [
        vec![begin("../x", "file", 1)],
        vec![begin("/x", "file", 1)],
        vec![begin("link/x", "file", 1), Data(vec![1]), End(vec![0; 32])],
        vec![begin("link/x", "link", 0), End(Vec::new())],
        vec![begin("link", "directory", 0)],
        vec![begin(".joblet-parts/x", "file", 1)],
        vec![begin("x", "fifo", 0)],
        vec![begin("x", "file", 1), Data(vec![1]), End(vec![0; 32])],
        vec![begin("x", "file", 1), Data(vec![1; 2])],
        vec![begin("x", "file", 1), ZeroBlocks(2)],
        vec![begin("x", "file", 1), ZeroBlocks(u64::MAX)],
        vec![begin("x", "file", 1), begin("y", "file", 1)],
        vec![begin("x", "file", 1), End(vec![0; 31])],
        vec![begin("x", "file", 1)],
        vec![begin("x", "file", 2 << 20), Resume(BLOCK as u64)],
        vec![begin("x", "file", 2 << 20), Data(vec![1; BLOCK])],
        vec![begin("x", "file", 1), Resume(0)],
        vec![begin("x", "directory", 0)],
        vec![End(Vec::new())],
        vec![Data(vec![0])],
    ] {
        let shown = format!("{pieces:?}");
        assert!(receive_pieces(&to, pieces).is_err(), "{shown}");
    }
    let mut left: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.retain(|name| name != PARTS);
    left.sort();
    assert_eq!(left, ["link", "x"], "a directory has begun");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing came out");
    receive_pieces(&to, vec![begin("f", "file", 0), End(digest_of_nothing())]).unwrap();
    assert_eq!(fs::metadata(to.join("f")).unwrap().mode() & 0o7777, 0o777, "nothing but permission bits");
}

fn digest_of_nothing() -> Vec<u8> {
    digest::Digest::new().value().to_vec()
}
