//! The first message of a copy of files.

use std::fmt;

use super::Refusal;
use super::request::{invalid, job};
use super::volume::named;
use crate::files::Point;
use crate::job::JobRef;
use crate::pb::joblet::{FilesMessage, file_place};

/// The place of files on the node.
#[derive(Debug)]
pub(in crate::api) enum Place {
    /// A volume, by its name as it was given.
    Volume(String),
    /// The /work of a running job.
    Work(JobRef),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Volume(name) => write!(f, "volume {name}"),
            Place::Work(job) => write!(f, "job {job}"),
        }
    }
}

/// The files that a call copies.
#[derive(Debug)]
pub(in crate::api) struct Opened {
    /// Where they are.
    pub(in crate::api) place: Place,
    /// The path in it; empty: all of it.
    pub(in crate::api) path: Vec<u8>,
    /// The path is that of a directory, even if it does not exist yet.
    pub(in crate::api) into: bool,
    /// The bytes that an earlier call has brought.
    pub(in crate::api) after: Option<Point>,
}

impl Opened {
    /// The name under which the path is copied out.
    pub(in crate::api) fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

/// Reads the first message. The paths are checked where they are used.
///
/// # Errors
/// It opens nothing, no volume and no job, or one that cannot exist.
pub(in crate::api) fn opened(message: FilesMessage) -> Result<Opened, Refusal> {
    let open = message.open.into_option();
    let Some(open) = open.filter(|_| message.pieces.is_empty()) else {
        return invalid("the first message of a copy must say where, and nothing else".to_owned());
    };
    let place = match open.place.into_option().and_then(|place| place.place) {
        Some(file_place::Place::Volume(volume)) => Place::Volume(named(volume)?),
        Some(file_place::Place::Job(uuid)) => Place::Work(job(&uuid)?),
        _ => return invalid("the place of a copy must be a volume or a job".to_owned()),
    };
    let after = Some(open.after).filter(|path| !path.is_empty()).map(|path| Point { source: 0, path });
    Ok(Opened { place, path: open.path, into: open.into, after })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::joblet::{FilePiece, FilePlace, FilesOpen};

    #[test]
    fn first_message_names_a_volume_and_a_path() {
        let message = |volume: &str| {
            let place = file_place::Place::Volume(volume.to_owned());
            let place = FilePlace { place: Some(place), ..FilePlace::default() };
            let open =
                FilesOpen { place: Some(place).into(), path: b"a/b\xff".to_vec(), ..FilesOpen::default() };
            FilesMessage { open: Some(open).into(), ..FilesMessage::default() }
        };
        let found = opened(message("data")).unwrap();
        assert!(matches!(&found.place, Place::Volume(name) if name == "data"));
        assert_eq!((found.name(), &found.after), (&b"b\xff"[..], &None));
        assert!(opened(message("")).is_err());
        assert!(opened(FilesMessage::default()).is_err());
        let both = FilesMessage { pieces: vec![FilePiece::default()], ..message("data") };
        assert!(opened(both).unwrap_err().to_string().contains("nothing else"));
    }
}
