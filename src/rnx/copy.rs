//! Copies of files between this host and a node: one call, and a thread for each way of its messages.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;

use futures_executor::block_on;
use futures_util::{SinkExt, StreamExt};
use grpcio::{RpcStatusCode, WriteFlags};

use super::error::{Error, Result};
use super::reconnect;
use super::server::Server;
use crate::files::{self, FilesError, Link, Point, Receiver, Source, Watch};
use crate::pb::joblet::{EmptyRequest, FilePlace, FilesMessage, FilesOpen, file_place};

/// The kind of owner that files on a node have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A volume has them.
    Volume,
    /// A running job has them in its /work.
    Job,
}

/// Files of a volume or of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    /// The kind of their owner.
    pub(crate) owner: Owner,
    /// The name of the volume, or the id of the job.
    pub(crate) name: String,
    /// The path in it, without `/` at its ends; empty: all of it.
    pub(crate) path: String,
    /// It was written as a directory: with `/` at its end, or as nothing but the volume.
    pub(crate) is_directory: bool,
}

impl Remote {
    /// Reads `NAME:PATH`; `None`: the word names a file of this host. A file with a colon is written with a `/` before that.
    ///
    /// # Errors
    /// A path with `..`.
    pub(crate) fn parse(owner: Owner, word: &str) -> Result<Option<Remote>> {
        let Some((name, path)) = word.split_once(':') else { return Ok(None) };
        if name.is_empty() || name.contains('/') {
            return Ok(None);
        }
        let path = match owner {
            Owner::Volume => path,
            Owner::Job => beneath_work(word, path)?,
        };
        let names: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
        if names.contains(&"..") {
            return Err(Error::usage(format!("{word}: the path behind the colon has no ..")));
        }
        let is_directory = names.is_empty() || path.ends_with('/') || path.ends_with("/.");
        Ok(Some(Remote { owner, name: name.to_owned(), path: names.join("/"), is_directory }))
    }

    fn open(&self, into: bool, after: Option<&Point>) -> FilesMessage {
        let name = self.name.clone();
        let place = match self.owner {
            Owner::Volume => file_place::Place::Volume(name),
            Owner::Job => file_place::Place::Job(name),
        };
        let open = FilesOpen {
            place: Some(FilePlace { place: Some(place), ..FilePlace::default() }).into(),
            path: self.path.clone().into_bytes(),
            into,
            after: after.map(|after| after.path.clone()).unwrap_or_default(),
            ..FilesOpen::default()
        };
        FilesMessage { open: Some(open).into(), ..FilesMessage::default() }
    }
}

/// The path in /work that a path of a job means: an absolute one begins with it.
fn beneath_work<'a>(word: &str, path: &'a str) -> Result<&'a str> {
    match path.strip_prefix("/work") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => Ok(rest),
        _ if path.starts_with('/') => Err(Error::usage(format!("{word}: only files in /work can be copied"))
            .hint("another path is copied by a command: rnx job exec ID cat PATH")),
        _ => Ok(path),
    }
}

/// The progress of a copy.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Entries that are complete.
    pub(crate) entries: u64,
    /// Bytes of content, holes included.
    pub(crate) bytes: u64,
    /// Entries that are left out, and why.
    pub(crate) skipped: Vec<(Vec<u8>, String)>,
    last: Option<Point>,
}

/// Skipped entries that are remembered; all are counted.
const REMEMBERED: usize = 1000;

impl Watch for Progress {
    fn skipped(&mut self, path: &[u8], why: &str) {
        if self.skipped.len() < REMEMBERED {
            self.skipped.push((path.to_vec(), why.to_owned()));
        }
    }

    fn done(&mut self, point: &Point) {
        self.entries += 1;
        self.last = Some(point.clone());
    }

    fn copied(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl Progress {
    /// Whether an entry was left out that could have been copied: it cannot be read, or changed meanwhile.
    pub(crate) fn lacks(&self) -> bool {
        self.skipped.iter().any(|(_, why)| !files::is_special(why))
    }
}

/// Copies files of this host into a volume or a job; goes on where a lost server comes back.
///
/// # Errors
/// A file that is not there, a refusal of the server, or a server that stays away.
pub(crate) fn to_node(server: &'static Server, local: &[String], to: &Remote) -> Result<Progress> {
    let mut progress = Progress::default();
    // The entries of a directory need one to go to.
    let into = to.is_directory || local.len() > 1 || local.iter().any(|path| is_content(path));
    retry(server, &mut progress, |progress| {
        let sources = local.iter().map(|path| source(path)).collect::<Result<Vec<_>>>()?;
        let after = progress.last.clone();
        call(server, true, to.open(into, None), |link| files::send(link, &sources, after.as_ref(), progress))
    })?;
    Ok(progress)
}

/// Copies files of a volume or a job to this host, likewise.
///
/// # Errors
/// As [`to_node`]; or the local place cannot be written.
pub(crate) fn from_node(server: &'static Server, from: &[Remote], to: &str) -> Result<Progress> {
    let mut all = Progress::default();
    for remote in from {
        all.last = None;
        let into = from.len() > 1 || remote.path.is_empty();
        retry(server, &mut all, |progress| {
            let after = progress.last.clone();
            let (root, path, into) = target(to, into)?;
            let mut receiver = Receiver::new(root, &path, into, None).map_err(|why| failure(&why))?;
            call(server, false, remote.open(false, after.as_ref()), |link| {
                files::receive(link, &mut receiver, progress)
            })
        })?;
    }
    Ok(all)
}

/// Tries again, behind what is done, as long as the server comes back.
fn retry(
    server: &'static Server,
    progress: &mut Progress,
    mut attempt: impl FnMut(&mut Progress) -> Result<()>,
) -> Result<()> {
    let mut watch = reconnect::Watch::new(server);
    while let Err(why) = attempt(progress) {
        let question = EmptyRequest { limit: 1, ..EmptyRequest::default() };
        watch.back(why, None, |jobs, option| jobs.list_jobs_opt(&question, option))?;
    }
    Ok(())
}

/// Whether a local path means what is in a directory.
fn is_content(path: &str) -> bool {
    path == "." || path == "/" || path.ends_with("/.")
}

/// A local file or directory to send. A link in its own path is followed: the user has named it.
fn source(path: &str) -> Result<Source> {
    let cannot = |why: &dyn std::fmt::Display| Error::Upload(format!("cannot copy {path}: {why}").into());
    let real = fs::canonicalize(path).map_err(|why| cannot(&why))?;
    if is_content(path) {
        let root = files::open_directory(&real).map_err(|why| failure(&why))?;
        return Ok(Source { root, place: Vec::new(), path: Vec::new() });
    }
    let (Some(parent), Some(place)) = (real.parent(), real.file_name()) else {
        return Err(cannot(&"it has no name"));
    };
    let name = Path::new(path).file_name().unwrap_or(place);
    let root = files::open_directory(parent).map_err(|why| failure(&why))?;
    Ok(Source { root, place: place.as_bytes().to_vec(), path: name.as_bytes().to_vec() })
}

/// A local place to receive at: a root, the path beneath that, and whether it is to be a directory.
fn target(to: &str, into: bool) -> Result<(OwnedFd, Vec<u8>, bool)> {
    let path = Path::new(to);
    if path.is_dir() {
        return Ok((files::open_directory(path).map_err(|why| failure(&why))?, Vec::new(), true));
    }
    let into = into || to.ends_with('/');
    let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default().to_vec();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((files::open_directory(parent).map_err(|why| failure(&why))?, name, into))
}

fn failure(why: &FilesError) -> Error {
    Error::Upload(why.to_string().into())
}

/// Makes one call, whose messages `work` sends and takes.
fn call(
    server: &'static Server,
    writes: bool,
    open: FilesMessage,
    work: impl FnOnce(&mut Link) -> std::result::Result<(), FilesError>,
) -> Result<()> {
    let (mut to_node, mut from_node) = server.copy_files(writes)?;
    let (mut link, mut sent, mut taken) = Link::new();
    let outward = move || {
        let mut next = Some(open);
        while let Some(message) = next {
            // A call that the server has ended says why to its reader.
            if block_on(to_node.send((message, WriteFlags::default()))).is_err() {
                return;
            }
            next = block_on(sent.next());
        }
        let _ = block_on(to_node.close());
    };
    let inward = move || loop {
        match block_on(from_node.next()) {
            Some(Ok(message)) => {
                // A side that has ended takes nothing more, but the status is still to come.
                let _ = block_on(taken.send(message));
            }
            Some(Err(why)) => return Some(why),
            None => return None,
        }
    };
    let spawn = thread::Builder::new().name("files out".into()).spawn(outward);
    let outward = spawn?;
    let inward = thread::Builder::new().name("files in".into()).spawn(inward)?;
    let copied = work(&mut link);
    drop(link);
    let _ = outward.join();
    let status = inward.join().unwrap_or_default();
    match (copied, status) {
        (Ok(()), _) => Ok(()),
        // Our own failure ends the call, which the server then calls canceled.
        (Err(FilesError::Gone), Some(why)) => Err(server.explain(why)),
        (Err(FilesError::Gone), None) => {
            let text = "the server has ended the copy before its end".to_owned();
            Err(Error::Call(RpcStatusCode::UNAVAILABLE, text.into()))
        }
        (Err(why), _) => Err(failure(&why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_files_of_volumes_or_of_this_host() {
        let read = |word| {
            Remote::parse(Owner::Volume, word)
                .unwrap()
                .map(|found| (found.name, found.path, found.is_directory))
        };
        let remote =
            |volume: &str, path: &str, is_directory| Some((volume.into(), path.into(), is_directory));
        for (word, wanted) in [
            ("data:", remote("data", "", true)),
            ("data:/", remote("data", "", true)),
            ("data:a/b", remote("data", "a/b", false)),
            ("data://a/./b/", remote("data", "a/b", true)),
            ("data:a:b", remote("data", "a:b", false)),
            ("./data:a", None),
            ("data", None),
            (":a", None),
            ("/tmp/x:y", None),
        ] {
            assert_eq!(read(word), wanted, "{word}");
        }
        assert!(Remote::parse(Owner::Volume, "data:a/../b").is_err());
        let of_job = |word| Remote::parse(Owner::Job, word).map(|found| found.map(|found| found.path));
        for word in ["f47a:a/b", "f47a:/work/a/b", "f47a:/work//a/b/"] {
            assert_eq!(of_job(word).unwrap().as_deref(), Some("a/b"), "{word}");
        }
        assert_eq!(of_job("f47a:/work").unwrap().as_deref(), Some(""));
        for word in ["f47a:/tmp/x", "f47a:/workshop", "f47a:/", "f47a:/work/../etc"] {
            assert!(of_job(word).is_err(), "{word}");
        }
    }

    #[test]
    fn local_paths_give_a_root_a_place_and_a_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        let at = |path: &str| source(&format!("{}/{path}", dir.path().display())).unwrap();
        let link = at("link");
        assert_eq!((link.place.as_slice(), link.path.as_slice()), (&b"real"[..], &b"link"[..]));
        let content = at("real/.");
        assert_eq!((content.place.as_slice(), content.path.as_slice()), (&b""[..], &b""[..]));
        assert!(source("/gone/x").is_err());
        let to = |path: &str, into| target(&format!("{}/{path}", dir.path().display()), into).unwrap();
        assert_eq!((to("real", false).1, to("real", false).2), (Vec::new(), true));
        assert_eq!((to("new", false).1, to("new", false).2), (b"new".to_vec(), false));
        assert!(to("new/", false).2 && to("new", true).2);
    }
}
