//! A cursor over the lines that somebody asks for, while more are written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::line::{self, LONGEST};
use super::trail::{name, numbers};
use crate::stream::{Next, Source, Watermark};

/// Bytes that are read at one time.
const PIECE: usize = 2 * LONGEST;

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// No earlier ones, ns since the epoch; 0: from the beginning.
    pub since_ns: i64,
    /// No later ones; 0: up to the end.
    pub until_ns: i64,
    /// An id of a job or a workflow, or its beginning; empty: any.
    pub id: String,
    /// The end of a method's full name, in any case; empty: any.
    pub method: String,
    /// Goes on with lines that are written later.
    pub follow: bool,
}

impl Query {
    /// Whether a line is wanted; `None`: it and all behind it are too late.
    fn wants(&self, line: &Value) -> Option<bool> {
        let time = line::time_ns(line).unwrap_or_default();
        if self.until_ns != 0 && time > self.until_ns {
            return None;
        }
        let is_about = |key: &str| {
            let id = line.get("object").and_then(|object| object.get(key)).and_then(Value::as_str);
            id.is_some_and(|id| id.starts_with(&self.id))
        };
        let calls = |method: &str| method.to_lowercase().ends_with(&self.method.to_lowercase());
        Some(
            time >= self.since_ns
                && (self.id.is_empty() || is_about("job") || is_about("workflow"))
                && (self.method.is_empty() || line.get("method").and_then(Value::as_str).is_some_and(calls)),
        )
    }
}

/// A cursor of one reader.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    watermark: Arc<Watermark>,
    query: Query,
    /// The open file with its number and how far it is read.
    at: Option<(u64, File, u64)>,
    ended: bool,
}

impl Reader {
    pub(super) fn new(dir: PathBuf, watermark: Arc<Watermark>, query: Query) -> Reader {
        Reader { dir, watermark, query, at: None, ended: false }
    }

    /// The file in which the first wanted line is.
    fn first(&self) -> io::Result<Option<u64>> {
        let all = numbers(&self.dir)?;
        for number in all.iter().rev() {
            let mut piece = vec![0; LONGEST];
            let Ok(file) = File::open(self.dir.join(name(*number))) else { continue };
            let got = file.read_at(&mut piece, 0)?;
            let line = piece[..got].split(|byte| *byte == b'\n').next().unwrap_or_default();
            let begins = serde_json::from_slice::<Value>(line).ok().and_then(|line| line::time_ns(&line));
            if begins.is_some_and(|begins| begins < self.query.since_ns) {
                return Ok(Some(*number));
            }
        }
        Ok(all.first().copied())
    }

    /// Goes on with the file after this one, where there is one.
    fn next_file(&mut self) -> io::Result<Next<Vec<String>>> {
        let now = self.at.as_ref().map_or(0, |(number, _, _)| *number);
        let next = numbers(&self.dir)?.into_iter().find(|number| *number > now);
        if next.is_some() {
            return self.go_to(next);
        }
        if self.query.follow {
            return Ok(Next::Pending);
        }
        self.ended = true;
        Ok(Next::End)
    }

    fn go_to(&mut self, number: Option<u64>) -> io::Result<Next<Vec<String>>> {
        match number {
            None => Ok(Next::End),
            Some(number) => {
                match File::open(self.dir.join(name(number))) {
                    Ok(file) => self.at = Some((number, file, 0)),
                    // It was removed meanwhile: the next look finds another one.
                    Err(why) if why.kind() == io::ErrorKind::NotFound => {}
                    Err(why) => return Err(why),
                }
                Ok(Next::Yield)
            }
        }
    }
}

impl Source for Reader {
    type Item = Vec<String>;
    type Error = io::Error;

    fn watermark(&self) -> &Arc<Watermark> {
        &self.watermark
    }

    fn next(&mut self) -> io::Result<Next<Vec<String>>> {
        if self.ended {
            return Ok(Next::End);
        }
        let Some((_, file, offset)) = &mut self.at else {
            let first = self.first()?;
            return self.go_to(first);
        };
        let mut piece = vec![0; PIECE];
        let got = file.read_at(&mut piece, *offset)?;
        let whole = piece[..got].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole == 0 && got < PIECE {
            return self.next_file();
        }
        // A line that is longer than any of ours is skipped.
        let taken = if whole == 0 { got } else { whole };
        *offset += taken as u64;
        let mut found = Vec::new();
        for bytes in piece[..whole].split(|byte| *byte == b'\n') {
            // A kill may have cut it.
            let Ok(line) = serde_json::from_slice::<Value>(bytes) else { continue };
            match self.query.wants(&line) {
                Some(true) => found.push(String::from_utf8_lossy(bytes).into_owned()),
                Some(false) => {}
                None => {
                    self.ended = true;
                    break;
                }
            }
        }
        Ok(if found.is_empty() { Next::Yield } else { Next::Item(found) })
    }
}
