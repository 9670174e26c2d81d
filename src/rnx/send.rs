//! Uploads that do not fit into one request: they are streamed ahead of the job, which then names their handle.
//!
//! The files are read as they are sent, never whole. When the connection is lost, rnx asks how far the upload has come
//! and goes on from there: it reads the files again from the start, because the digest at the end is over all of them.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use futures_util::SinkExt;
use grpcio::{RpcStatusCode, WriteFlags};
use openssl::sha::Sha256;
use uuid::Uuid;

use super::error::{Error, Message, Result};
use super::out::Out;
use super::progress::Progress;
use super::server::Server;
use super::terminal::one_line;
use super::upload::{Unread, Uploads};
use crate::pb::joblet::{UploadEntry, UploadReference, UploadRequest, UploadStatus};

/// Bytes of one message, of the megabyte that the server takes.
const CHUNK: usize = 512 << 10;
/// How long a start may take, beside the time for the uploads.
const START: Duration = Duration::from_secs(30);
/// The slowest network that uploads are expected to pass, bytes per second.
const SLOWEST_LINE: u64 = 256 * 1024;
/// How long a server may take to come back.
const LONGEST: Duration = Duration::from_secs(60);
/// How often a connection may be lost in a row without a byte more on the server.
const TRIES: u32 = 5;

/// How long a start with so many bytes may take.
pub(crate) fn deadline(bytes: u64) -> Duration {
    START + Duration::from_secs(bytes / SLOWEST_LINE)
}

/// Sends what goes ahead, and then the request of so many bytes, by `ask`, which gets its deadline.
pub(crate) fn start<T>(
    server: &Server,
    size: u64,
    ahead: Option<&Upload>,
    progress: &mut Progress,
    ask: impl FnOnce(Duration) -> Result<T>,
) -> Result<T> {
    let Some(ahead) = ahead else {
        let _sending = progress.sending(size);
        return ask(deadline(size));
    };
    ahead.send(server, progress)?;
    // The daemon copies the files before a job starts.
    ask(deadline(size + ahead.bytes())).inspect_err(|why| {
        // It may have started where the answer was lost.
        if !why.is_unreachable() {
            ahead.discard(server);
        }
    })
}

/// An upload on its way, or stored.
pub(crate) struct Upload {
    handle: String,
    entries: Vec<UploadEntry>,
    files: Vec<Unread>,
    bytes: u64,
}

impl Upload {
    /// Takes the files out of `uploads`; nothing is read yet.
    pub(crate) fn of(uploads: &mut Uploads) -> Self {
        let files = uploads.take_unread();
        let mut sizes = vec![0; uploads.entries.len()];
        for file in &files {
            sizes[file.entry] = file.bytes;
        }
        let entries = std::mem::take(&mut uploads.entries).into_iter().zip(sizes);
        let entries =
            entries.map(|(file, size)| UploadEntry { file: Some(file).into(), size, ..Default::default() });
        Upload { handle: Uuid::new_v4().to_string(), entries: entries.collect(), files, bytes: uploads.bytes }
    }

    /// The handle for the job's request.
    pub(crate) fn handle(&self) -> String {
        self.handle.clone()
    }

    /// Bytes of all contents.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sends everything, across losses of the server.
    pub(crate) fn send(&self, server: &Server, progress: &mut Progress) -> Result<()> {
        let (mut offset, mut is_new, mut lost) = (0, true, 0);
        loop {
            let why = match self.call(server, offset, is_new, progress) {
                Ok(_) => {
                    progress.read();
                    return Ok(());
                }
                Err(why) => why,
            };
            progress.read();
            let resumable = why.is_unreachable() || matches!(why, Error::Call(RpcStatusCode::ABORTED, _));
            if !resumable || lost >= TRIES {
                return Err(why);
            }
            let note = Out { json: false, colour: false };
            let (address, why) = (server.address(), one_line(&why.to_string()));
            note.note(&format!(
                "rnx: lost the server at {address} ({why}); the upload goes on when it is back"
            ));
            match self.ask(server) {
                Ok(status) if status.complete => return Ok(()),
                Ok(status) => {
                    lost = if status.received > offset { 0 } else { lost + 1 };
                    (offset, is_new) = (status.received, false);
                }
                // The call was lost before its first message came.
                Err(Error::Call(RpcStatusCode::NOT_FOUND, _)) => {
                    lost += 1;
                    (offset, is_new) = (0, true);
                }
                Err(why) => return Err(why),
            }
        }
    }

    /// Has the server remove the upload, because its job was refused. A server that does not answer removes it later.
    pub(crate) fn discard(&self, server: &Server) {
        let reference = UploadReference { handle: self.handle(), ..Default::default() };
        let _ = server.ask_uploads(LONGEST, |uploads, option| uploads.delete_upload_opt(&reference, option));
    }

    fn ask(&self, server: &Server) -> Result<UploadStatus> {
        let reference = UploadReference { handle: self.handle(), ..Default::default() };
        server.ask_uploads(LONGEST, |uploads, option| uploads.get_upload_opt(&reference, option))
    }

    /// One call, from `offset` on.
    fn call(
        &self,
        server: &Server,
        offset: u64,
        is_new: bool,
        progress: &mut Progress,
    ) -> Result<UploadStatus> {
        let mut contents = Contents::of(&self.files);
        contents.skip(offset)?;
        let entries = if is_new { self.entries.clone() } else { Vec::new() };
        let first = UploadRequest { handle: self.handle(), entries, offset, ..Default::default() };
        server.upload(async |sink| {
            let mut next = Some(first);
            let mut sent = offset;
            while let Some(mut message) = next.take() {
                let data = contents.next(CHUNK)?;
                sent += data.len() as u64;
                message.data = data;
                if sent == self.bytes {
                    message.sha256 = contents.hash.clone().finish().to_vec();
                } else {
                    next = Some(UploadRequest::default());
                }
                // The server has ended the call: its status says why.
                if sink.send((message, WriteFlags::default())).await.is_err() {
                    break;
                }
                progress.streaming(sent, self.bytes);
            }
            Ok(())
        })
    }
}

/// The contents of all files, one behind the other.
struct Contents<'a> {
    files: std::slice::Iter<'a, Unread>,
    open: Option<(File, &'a Unread, u64)>,
    hash: Sha256,
}

impl<'a> Contents<'a> {
    fn of(files: &'a [Unread]) -> Self {
        Contents { files: files.iter(), open: None, hash: Sha256::new() }
    }

    /// Reads what the server has already, for the digest.
    fn skip(&mut self, bytes: u64) -> Result<()> {
        let mut left = bytes;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            left -= self.next(part)?.len() as u64;
        }
        Ok(())
    }

    /// The next bytes: `most` of them, unless the files end before.
    fn next(&mut self, most: usize) -> Result<Vec<u8>> {
        let mut data = vec![0; most];
        let mut filled = 0;
        while filled < most {
            let Some((file, of, left)) = &mut self.open else {
                let Some(of) = self.files.next() else { break };
                let file = File::open(&of.path).map_err(|e| cannot(of, &e.to_string()))?;
                self.open = Some((file, of, of.bytes));
                continue;
            };
            let room = usize::try_from(*left).unwrap_or(most).min(most - filled);
            if room == 0 {
                // One byte more than it had: it grew while it was sent.
                let grew = file.read(&mut [0]).map_err(|e| cannot(of, &e.to_string()))? > 0;
                if grew {
                    return Err(cannot(of, "it grew while it was read"));
                }
                self.open = None;
                continue;
            }
            match file.read(&mut data[filled..filled + room]) {
                Ok(0) => return Err(cannot(of, "it became shorter while it was read")),
                Ok(read) => {
                    filled += read;
                    *left -= read as u64;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(cannot(of, &e.to_string())),
            }
        }
        data.truncate(filled);
        self.hash.update(&data);
        Ok(data)
    }
}

fn cannot(file: &Unread, why: &str) -> Error {
    let text = format!("cannot upload {}: {why}", file.path.display());
    Error::Upload(Message::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &tempfile::TempDir, contents: &[&str]) -> Vec<Unread> {
        let file = |(entry, content): (usize, &&str)| {
            let path = dir.path().join(entry.to_string());
            std::fs::write(&path, content).unwrap();
            Unread { entry, path, bytes: content.len() as u64 }
        };
        contents.iter().enumerate().map(file).collect()
    }

    #[test]
    fn contents_of_files_follow_each_other_from_any_offset() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir, &["abc", "", "defgh", "i"]);
        for offset in 0..=9 {
            let mut contents = Contents::of(&files);
            contents.skip(offset).unwrap();
            let mut rest = Vec::new();
            loop {
                let part = contents.next(2).unwrap();
                if part.is_empty() {
                    break;
                }
                rest.extend(part);
            }
            assert_eq!(rest, &b"abcdefghi"[offset as usize..]);
            assert_eq!(contents.hash.finish(), openssl::sha::sha256(b"abcdefghi"));
        }
    }

    #[test]
    fn file_that_changes_its_size_meanwhile_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for (now, why) in [("abcd", "it grew while it was read"), ("ab", "it became shorter")] {
            let files = files(&dir, &["abc", "x"]);
            std::fs::write(&files[0].path, now).unwrap();
            let error = Contents::of(&files).next(100).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
