//! The room of a command: a directory `<dataDir>/execs/<job>/<id>/` with its spool, its exit file and a note for the next
//! daemon. It is made aside under a name that begins with a dot, and renamed when it is whole; the next daemon removes
//! what is half-made. A room with the file `closed` has no place in joblet-init any more.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::job::exec::ExecEnd;
use crate::job::exit_file;
use crate::output::{OutputError, SpoolWriter};

const NOTE: &str = "note.json";
const EXIT_FILE: &str = "exit";
const CLOSED: &str = "closed";
const END: &str = "end.json";
/// The version of the note.
const VERSION: u32 = 1;

/// The part of a command that the next daemon must know. Its variables are not here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::daemon) struct Note {
    /// The version of the note.
    pub(in crate::daemon) version: u32,
    /// Its number in the job.
    pub(in crate::daemon) number: u32,
    /// Its place in joblet-init.
    pub(in crate::daemon) place: u32,
    /// The program that it runs.
    pub(in crate::daemon) command: String,
    /// Its arguments, without the program.
    pub(in crate::daemon) args: Vec<String>,
    /// Its working directory.
    pub(in crate::daemon) work_dir: String,
    /// How long it may run.
    pub(in crate::daemon) timeout: Option<Duration>,
    /// When the client sent its request, ns since the epoch.
    pub(in crate::daemon) started_ns: i64,
}

impl Note {
    /// A note of this version.
    pub(in crate::daemon) fn new(number: u32, place: u32, started_ns: i64) -> Note {
        let (command, work_dir) = (String::new(), String::new());
        Note {
            version: VERSION,
            number,
            place,
            command,
            args: Vec::new(),
            work_dir,
            timeout: None,
            started_ns,
        }
    }
}

/// Makes a room; its spool and its exit file, which is marked as waiting.
///
/// # Errors
/// The file system's refusal; nothing is left of the room then, or the next daemon removes it.
pub(super) fn make(room: &Path, note: &Note) -> Result<(SpoolWriter, File), OutputError> {
    let failed = |source| OutputError::Create { path: room.to_owned(), source };
    let name = room.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let aside = room.with_file_name(format!(".{name}"));
    let whole = || -> Result<(SpoolWriter, File), OutputError> {
        let spool = SpoolWriter::create(&aside)?;
        let file = |name: &str, bytes: &[u8]| -> io::Result<File> {
            let mut options = OpenOptions::new();
            let mut file =
                options.read(true).write(true).create_new(true).mode(0o600).open(aside.join(name))?;
            file.write_all(bytes)?;
            Ok(file)
        };
        file(NOTE, &serde_json::to_vec(note).map_err(io::Error::other).map_err(failed)?).map_err(failed)?;
        let exit_file = file(EXIT_FILE, &exit_file::waiting()).map_err(failed)?;
        fs::rename(&aside, room).map_err(failed)?;
        Ok((spool, exit_file))
    };
    whole().inspect_err(|_| drop(fs::remove_dir_all(&aside)))
}

/// Notes that a command has no place in joblet-init any more.
pub(super) fn close(room: &Path) -> io::Result<()> {
    File::create(room.join(CLOSED)).map(drop)
}

/// Whether [`close`] was called for the room.
pub(in crate::daemon) fn is_closed(room: &Path) -> bool {
    room.join(CLOSED).exists()
}

/// Writes down when and how a command ended.
pub(super) fn keep_end(room: &Path, end: &(i64, ExecEnd)) -> io::Result<()> {
    let aside = room.join(".end");
    fs::write(&aside, serde_json::to_vec(end).map_err(io::Error::other)?)?;
    fs::rename(aside, room.join(END))
}

/// When and how a command ended, if that was written down.
pub(in crate::daemon) fn end(room: &Path) -> Option<(i64, ExecEnd)> {
    serde_json::from_slice(&fs::read(room.join(END)).ok()?).ok()
}

/// Opens the exit file of a command.
pub(in crate::daemon) fn exit_file(room: &Path) -> io::Result<File> {
    File::open(room.join(EXIT_FILE))
}

/// Reads the note of a room.
///
/// # Errors
/// There is none, or one of another version.
pub(in crate::daemon) fn note(room: &Path) -> io::Result<Note> {
    let note: Note = serde_json::from_slice(&fs::read(room.join(NOTE))?).map_err(io::Error::other)?;
    if note.version == VERSION { Ok(note) } else { Err(io::Error::other("a note of another version")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_whole_or_not_there() {
        let place = tempfile::tempdir().unwrap();
        let room = place.path().join("job").join("room");
        let note = Note { command: "true".into(), ..Note::new(3, 7, 5) };
        make(&room, &note).unwrap();
        assert_eq!(fs::read_dir(place.path().join("job")).unwrap().count(), 1);
        let read = super::note(&room).unwrap();
        assert_eq!((read.number, read.place, read.command.as_str()), (3, 7, "true"));
        assert!(!is_closed(&room));
        close(&room).unwrap();
        assert!(is_closed(&room));
        // The same name again: what was made aside is gone.
        make(&room, &note).unwrap_err();
        assert_eq!(fs::read_dir(place.path().join("job")).unwrap().count(), 1);
    }
}
