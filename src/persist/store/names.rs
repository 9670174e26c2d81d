//! The names of a job's files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::output::Stream;

/// The three series of records that a job has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Rows of the standard output.
    Stdout,
    /// Rows of the standard error.
    Stderr,
    /// Samples of the job.
    Samples,
}

impl From<Stream> for Kind {
    fn from(stream: Stream) -> Kind {
        match stream {
            Stream::Stdout => Kind::Stdout,
            Stream::Stderr => Kind::Stderr,
        }
    }
}

impl Kind {
    /// All kinds in the order in which they are written.
    pub(super) const ALL: [Kind; 3] = [Kind::Stdout, Kind::Stderr, Kind::Samples];

    /// The position in [`Kind::ALL`].
    pub(super) fn place(self) -> usize {
        self as usize
    }

    /// The word for errors and names.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Stdout => "stdout",
            Kind::Stderr => "stderr",
            Kind::Samples => "metrics",
        }
    }

    fn extension(self) -> &'static str {
        if self == Kind::Samples { "jsonl" } else { "log" }
    }
}

/// The files of one kind in a job's directory: the current one, and those that were rotated away. A higher number is
/// newer, and a file keeps its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) dir: PathBuf,
    pub(super) kind: Kind,
}

impl Names {
    /// The file with this number; `None`: the current one.
    pub(super) fn log(&self, number: Option<u32>) -> PathBuf {
        let (name, extension) = (self.kind.name(), self.kind.extension());
        self.dir.join(match number {
            Some(n) => format!("{name}.{extension}.{n}.gz"),
            None => format!("{name}.{extension}.gz"),
        })
    }

    /// The index beside the file with this number.
    pub(super) fn index(&self, number: Option<u32>) -> PathBuf {
        let name = self.kind.name();
        self.dir.join(match number {
            Some(n) => format!("{name}.{n}.idx"),
            None => format!("{name}.idx"),
        })
    }

    /// The file that packing writes.
    pub(super) fn temporary(&self) -> PathBuf {
        self.dir.join(format!("{}.{}.gz.tmp", self.kind.name(), self.kind.extension()))
    }

    /// The numbers of the rotated files, oldest first. A directory that is not there has none.
    ///
    /// # Errors
    /// The directory cannot be read. It must not pass for an empty one: the next file to be rotated would get the number
    /// of the first, and take its place.
    pub(super) fn rotated(&self) -> io::Result<Vec<u32>> {
        let prefix = format!("{}.{}.", self.kind.name(), self.kind.extension());
        let number = |name: &str| name.strip_prefix(&prefix)?.strip_suffix(".gz")?.parse::<u32>().ok();
        let entries = match fs::read_dir(&self.dir) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut numbers: Vec<u32> = Vec::new();
        for entry in entries {
            numbers.extend(entry?.file_name().to_str().and_then(number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// The file that says when a job ended.
pub(super) fn end_file(dir: &Path) -> PathBuf {
    dir.join("job.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_files_are_found_oldest_first() {
        let dir = tempfile::tempdir().unwrap();
        let names = Names { dir: dir.path().to_owned(), kind: Kind::Stdout };
        for number in [None, Some(10), Some(9), Some(1)] {
            fs::write(names.log(number), "").unwrap();
        }
        for other in ["stderr.log.3.gz", "stdout.log.x.gz", "stdout.log.4.gz.tmp", "stdout.4.idx"] {
            fs::write(dir.path().join(other), "").unwrap();
        }
        assert_eq!(names.rotated().unwrap(), [1, 9, 10]);
        assert_eq!(names.log(Some(9)), dir.path().join("stdout.log.9.gz"));
        let samples = Names { kind: Kind::Samples, ..names };
        assert_eq!(samples.log(None), dir.path().join("metrics.jsonl.gz"));
        assert_eq!(samples.index(Some(2)), dir.path().join("metrics.2.idx"));
    }
}
