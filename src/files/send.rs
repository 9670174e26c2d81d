//! The sender of a copy.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use super::digest::{self, Blocks, Digest, Next};
use super::error::FilesError;
use super::link::Link;
use super::piece::{Entry, Have, Kind, Piece};
use super::walk::{Step, Walk};
use super::wire::{self, Batch};
use super::{BLOCK, RESUMABLE, Watch, beneath};
use crate::pb::joblet::FilesMessage;

/// A file or a directory to send.
#[derive(Debug)]
pub struct Source {
    /// The directory that it is in, or it is itself.
    pub root: OwnedFd,
    /// Its path beneath that; empty: that directory itself.
    pub place: Vec<u8>,
    /// Its path at the receiver; empty: what is in that directory.
    pub path: Vec<u8>,
}

/// A place in the order of all entries: everything up to it, itself included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The number of the source, from 0.
    pub source: usize,
    /// The path at the receiver.
    pub path: Vec<u8>,
}

/// Sends these files and trees, in their order, except what is there up to `after`; returns when the receiver has all of it on
/// its disk. Entries that cannot be copied are left out, and told to both sides.
///
/// # Errors
/// The other side is gone, or a source is not there.
pub fn send(
    link: &mut Link,
    sources: &[Source],
    after: Option<&Point>,
    watch: &mut dyn Watch,
) -> Result<(), FilesError> {
    let mut sender =
        Sender { link, watch, batch: Batch::default(), sent: VecDeque::new(), done: 0, answer: None };
    let begin = after.map_or(0, |after| after.source);
    for (number, source) in sources.iter().enumerate().skip(begin) {
        let after = after.filter(|after| after.source == number).map(|after| after.path.clone());
        let mut walk = Walk::new(source.root.as_fd(), &source.place, &source.path, after);
        while let Some(step) = walk.next()? {
            sender.step(source, number, step)?;
        }
    }
    sender.finish()
}

struct Sender<'a> {
    link: &'a mut Link,
    watch: &'a mut dyn Watch,
    batch: Batch,
    /// Entries that the receiver has not answered, in order. There are as many as the messages on their way have.
    sent: VecDeque<Point>,
    done: u64,
    answer: Option<Have>,
}

impl Sender<'_> {
    fn step(&mut self, source: &Source, number: usize, step: Step) -> Result<(), FilesError> {
        let point = |path| Point { source: number, path };
        match step {
            Step::Skip(path, why) => {
                self.watch.skipped(&path, &why);
                self.sent.push_back(point(path.clone()));
                self.push(Piece::Skipped(path, why))
            }
            Step::Leave(path) => {
                self.sent.push_back(point(path));
                self.push(Piece::End(None))
            }
            Step::Entry(entry, place) => match entry.kind {
                Kind::Directory => self.push(Piece::Begin(entry)),
                Kind::Link => {
                    self.sent.push_back(point(entry.path.clone()));
                    self.push(Piece::Begin(entry))?;
                    self.push(Piece::End(None))
                }
                Kind::File => {
                    self.sent.push_back(point(entry.path.clone()));
                    self.file(source, entry, &place)
                }
            },
        }
    }

    /// Sends one file, of which the directory has just shown what it is.
    fn file(&mut self, source: &Source, mut entry: Entry, place: &[u8]) -> Result<(), FilesError> {
        let opened = beneath::look(source.root.as_fd(), place).and_then(|shown| {
            // Somebody may have put another file, or what is none, in its place.
            let stat = rustix::fs::fstat(&shown)?;
            let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
            let size = stat.st_size.cast_unsigned();
            if is_file {
                beneath::read(shown.as_fd()).map(|file| (file, size))
            } else {
                Err(rustix::io::Errno::INVAL)
            }
        });
        let (file, size) = match opened {
            Ok(opened) => opened,
            Err(why) => {
                let why = format!("it cannot be opened: {}", std::io::Error::from(why));
                self.watch.skipped(&entry.path, &why);
                return self.push(Piece::Skipped(entry.path, why));
            }
        };
        entry.size = size;
        let path = entry.path.clone();
        self.push(Piece::Begin(entry))?;
        let (at, digest) =
            if size > RESUMABLE { self.agree(&file, size, &path)? } else { (0, Digest::new()) };
        match self.content(&file, at, size, digest) {
            Ok(Some(digest)) => self.push(Piece::End(Some(digest))),
            Ok(None) => self.give_up(&path, "it became shorter while it was copied"),
            Err(FilesError::File { source, .. }) => {
                self.give_up(&path, &format!("it cannot be read: {source}"))
            }
            Err(why) => Err(why),
        }
    }

    fn give_up(&mut self, path: &[u8], why: &str) -> Result<(), FilesError> {
        self.watch.skipped(path, why);
        self.push(Piece::End(None))
    }

    /// Asks what the receiver has of a file; goes on there if its bytes are ours.
    fn agree(&mut self, file: &File, size: u64, path: &[u8]) -> Result<(u64, Digest), FilesError> {
        self.flush()?;
        let have = loop {
            if let Some(have) = self.answer.take() {
                break have;
            }
            let message = self.link.receive()?;
            self.take(message)?;
        };
        let ours = if have.bytes == 0 || have.bytes > size {
            None
        } else {
            digest::of_file(file, have.bytes).map_err(FilesError::file("read", path))?
        };
        let (at, digest) = match ours.filter(|ours| ours.value() == have.digest) {
            Some(ours) => (have.bytes, ours),
            None => (0, Digest::new()),
        };
        self.watch.copied(at);
        self.push(Piece::Resume(at))?;
        Ok((at, digest))
    }

    /// Sends the content from a byte on; `None`: the file has become shorter.
    fn content(
        &mut self,
        file: &File,
        at: u64,
        size: u64,
        mut digest: Digest,
    ) -> Result<Option<[u8; 32]>, FilesError> {
        let mut blocks = Blocks::new(file, at, size);
        let mut buffer = Box::new([0; BLOCK]);
        let mut zeros = 0;
        while let Some(next) = blocks.next(&mut buffer).map_err(FilesError::file("read", b""))? {
            match next {
                Next::Zeros(blocks) => {
                    zeros += blocks;
                    digest.zeros(blocks);
                    self.watch.copied(blocks.saturating_mul(BLOCK as u64));
                }
                Next::Data(length) => {
                    if zeros > 0 {
                        self.push(Piece::Zeros(std::mem::take(&mut zeros)))?;
                    }
                    digest.data(&buffer[..length]);
                    self.watch.copied(length as u64);
                    self.push(Piece::Data(buffer[..length].to_vec()))?;
                }
                Next::Over => return Ok(None),
            }
        }
        if zeros > 0 {
            self.push(Piece::Zeros(zeros))?;
        }
        Ok(Some(digest.value()))
    }

    fn push(&mut self, piece: Piece) -> Result<(), FilesError> {
        match self.batch.push(piece) {
            Some(message) => self.send(message),
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), FilesError> {
        match self.batch.take() {
            Some(message) => self.send(message),
            None => Ok(()),
        }
    }

    /// Sends a message. The receiver's answers are taken first: it waits when nobody takes them.
    fn send(&mut self, message: FilesMessage) -> Result<(), FilesError> {
        while let Some(answer) = self.link.try_receive()? {
            self.take(answer)?;
        }
        self.link.send(message)
    }

    /// Takes an answer of the receiver; true for its last one.
    fn take(&mut self, message: FilesMessage) -> Result<bool, FilesError> {
        if let Some(have) = message.have.into_option() {
            self.answer = Some(wire::had(have));
        }
        while self.done < message.done {
            let point = self.sent.pop_front();
            let point = point.ok_or(FilesError::Peer("more answers than it got entries"))?;
            self.done += 1;
            self.watch.done(&point);
        }
        Ok(message.complete)
    }

    fn finish(mut self) -> Result<(), FilesError> {
        self.flush()?;
        self.send(FilesMessage { complete: true, ..FilesMessage::default() })?;
        loop {
            let message = self.link.receive()?;
            if self.take(message)? {
                return Ok(());
            }
        }
    }
}
