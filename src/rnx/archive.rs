//! The archive of an image on its way to a node.
//!
//! A file is sent as it is. A directory becomes a tar archive while it is sent, written by a thread of its own into a queue of
//! a few pieces; nothing of it is held whole.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use futures_util::SinkExt;
use grpcio::WriteFlags;
use openssl::sha::Sha256;

use super::error::{Error, Message, Result};
use super::out::Out;
use super::progress::Progress;
use super::server::Server;
use crate::pb::joblet::{ImportRuntimeRequest, ImportRuntimeResponse};

/// Bytes of one message, of the megabyte that the server takes.
const CHUNK: usize = 512 << 10;
/// Pieces that wait to be sent.
const PIECES: usize = 2;
/// The deepest directory of an image; an OCI layout has three.
const DEEPEST: usize = 16;

/// An archive that can be sent.
pub(crate) struct Archive {
    from: Source,
    /// Bytes, where they are known beforehand.
    bytes: Option<u64>,
}

enum Source {
    File(File, PathBuf),
    Directory(PathBuf),
    StandardInput,
}

impl Archive {
    /// The archive on standard input.
    pub(crate) fn standard_input() -> Archive {
        Archive { from: Source::StandardInput, bytes: None }
    }
}

/// An archive file, or a directory that holds an image.
pub(crate) fn open(path: &Path) -> Result<Archive> {
    let meta = fs::metadata(path).map_err(|e| cannot(path, &e.to_string()))?;
    if meta.is_dir() {
        if !["index.json", "manifest.json"].iter().any(|name| path.join(name).is_file()) {
            let why = "the directory has neither index.json nor manifest.json, so it is no image";
            return Err(cannot(path, why));
        }
        return Ok(Archive { from: Source::Directory(path.to_owned()), bytes: None });
    }
    if !meta.is_file() {
        return Err(cannot(path, "it is neither a file nor a directory"));
    }
    if meta.len() == 0 {
        return Err(cannot(path, "it is empty"));
    }
    let file = File::open(path).map_err(|e| cannot(path, &e.to_string()))?;
    Ok(Archive { from: Source::File(file, path.to_owned()), bytes: Some(meta.len()) })
}

/// Sends an archive; `first` names the runtime. Returns when the node has made it.
pub(crate) fn send(
    server: &Server,
    first: ImportRuntimeRequest,
    archive: Archive,
    out: Out,
) -> Result<ImportRuntimeResponse> {
    let mut progress = Progress::of_bytes(out);
    let all = archive.bytes.unwrap_or_default();
    let mut pieces = Pieces::of(archive)?;
    let answer = server.import_runtime(async |sink| {
        let (mut next, mut hash, mut sent) = (Some(first), Sha256::new(), 0);
        while let Some(mut message) = next.take() {
            let data = pieces.next()?;
            hash.update(&data);
            sent += data.len() as u64;
            if data.is_empty() {
                message.sha256 = hash.clone().finish().to_vec();
            } else {
                next = Some(ImportRuntimeRequest::default());
            }
            message.data = data;
            // The server has ended the call: its status says why.
            if sink.send((message, WriteFlags::default())).await.is_err() {
                break;
            }
            progress.streaming(sent, all.max(sent));
        }
        Ok(())
    });
    progress.read();
    answer
}

/// The bytes of an archive, piece by piece; an empty one is the end.
enum Pieces {
    Read(Box<dyn Read>, PathBuf),
    Written(Receiver<Written>, PathBuf),
}

type Written = io::Result<Vec<u8>>;

impl Pieces {
    fn of(archive: Archive) -> Result<Pieces> {
        Ok(match archive.from {
            Source::File(file, path) => Pieces::Read(Box::new(file), path),
            Source::StandardInput => Pieces::Read(Box::new(io::stdin()), "standard input".into()),
            Source::Directory(path) => {
                let (write, written) = sync_channel(PIECES);
                let dir = path.clone();
                let run = move || {
                    let mut writer = Writer { to: write, piece: Vec::with_capacity(CHUNK) };
                    let outcome = pack(&dir, &mut writer).and_then(|()| writer.flush());
                    // Without a reader nobody wants the outcome either.
                    let _ = writer.to.send(outcome.map(|()| Vec::new()));
                };
                let thread = std::thread::Builder::new().name("archive".into()).spawn(run);
                thread.map_err(|e| cannot(&path, &e.to_string()))?;
                Pieces::Written(written, path)
            }
        })
    }

    fn next(&mut self) -> Result<Vec<u8>> {
        match self {
            Pieces::Read(from, path) => {
                let mut data = Vec::with_capacity(CHUNK);
                let read = from.by_ref().take(CHUNK as u64).read_to_end(&mut data);
                read.map_err(|e| cannot(path, &e.to_string()))?;
                Ok(data)
            }
            Pieces::Written(from, path) => {
                let piece = from.recv().unwrap_or_else(|_| Err(io::ErrorKind::UnexpectedEof.into()));
                piece.map_err(|e| cannot(path, &e.to_string()))
            }
        }
    }
}

/// Cuts what is written into pieces, and waits while there are enough.
struct Writer {
    to: SyncSender<Written>,
    piece: Vec<u8>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(CHUNK));
        self.to.send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Writes the files below a directory as a tar archive, sorted by name. Links are followed: an image has none that matter.
fn pack(dir: &Path, to: &mut Writer) -> io::Result<()> {
    let mut archive = tar::Builder::new(to);
    archive.mode(tar::HeaderMode::Deterministic);
    let mut open = vec![(dir.to_owned(), PathBuf::new())];
    while let Some((at, prefix)) = open.pop() {
        if prefix.components().count() > DEEPEST {
            return Err(io::Error::other(format!("{} is too deep for an image", at.display())));
        }
        let mut names =
            fs::read_dir(&at)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            let (path, sent) = (at.join(&name), prefix.join(&name));
            let meta = fs::metadata(&path)?;
            if meta.is_dir() {
                open.push((path, sent));
            } else if meta.is_file() {
                archive.append_file(&sent, &mut File::open(&path)?)?;
            } else {
                return Err(io::Error::other(format!(
                    "{} is neither a file nor a directory",
                    path.display()
                )));
            }
        }
    }
    archive.finish()
}

fn cannot(path: &Path, why: &str) -> Error {
    Error::Upload(Message::from(format!("cannot import {}: {why}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(archive: Archive) -> Result<Vec<u8>> {
        let mut pieces = Pieces::of(archive)?;
        let mut all = Vec::new();
        loop {
            let piece = pieces.next()?;
            if piece.is_empty() {
                return Ok(all);
            }
            assert!(piece.len() <= CHUNK);
            all.extend(piece);
        }
    }

    #[test]
    fn directory_is_sent_as_an_archive_and_a_file_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let blob = vec![7; 3 * CHUNK / 2];
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        fs::write(dir.path().join("index.json"), "{}").unwrap();
        fs::write(dir.path().join("blobs/sha256/a"), &blob).unwrap();
        let sent = read(open(dir.path()).unwrap()).unwrap();
        let mut archive = tar::Archive::new(sent.as_slice());
        let names = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().into_owned(), content.len())
        });
        assert_eq!(
            names.collect::<Vec<_>>(),
            [("index.json".into(), 2), ("blobs/sha256/a".into(), blob.len())]
        );
        let file = dir.path().join("image.tar");
        fs::write(&file, &blob).unwrap();
        assert_eq!(read(open(&file).unwrap()).unwrap(), blob);
    }

    #[test]
    fn things_that_are_no_image_are_refused_before_anything_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let refusal = |path: &Path| open(path).err().unwrap().to_string();
        assert!(refusal(dir.path()).contains("neither index.json nor manifest.json"));
        assert!(refusal(&dir.path().join("none")).contains("No such file"));
        fs::write(dir.path().join("empty"), "").unwrap();
        assert!(refusal(&dir.path().join("empty")).contains("it is empty"));
        assert!(refusal(Path::new("/dev/null")).contains("neither a file nor a directory"));
    }
}
