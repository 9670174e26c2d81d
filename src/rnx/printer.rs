//! A job's bytes to our own stdout and stderr: as they are into pipes and files, made harmless on a terminal
//! (see [`terminal`](super::terminal)).

use std::io::{self, IsTerminal};

use super::error::Result;
use super::out::{Out, bytes};
use super::terminal::Filter;
use crate::pb::joblet::{DataChunk, OutputStream};

/// Where a job's stderr goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// Both streams to stdout, in the order in which they were written.
    Merged,
    /// Each to its own.
    Apart,
}

/// Prints one job's output.
#[derive(Debug)]
pub(crate) struct Printer {
    out: Out,
    stdout: Sink,
    stderr: Sink,
    stamps: Option<Stamps>,
    /// The stream that wrote last: both may be on one terminal, and then its line is the open one.
    last_is_stderr: bool,
}

#[derive(Debug)]
struct Sink {
    to_stderr: bool,
    filter: Option<Filter>,
}

impl Printer {
    /// `raw`: print the bytes as they are, also on a terminal.
    pub(crate) fn new(out: Out, streams: Streams, raw: bool) -> Self {
        let to_stderr = streams == Streams::Apart;
        let safe = |terminal: bool| (terminal && !raw).then(Filter::default);
        let err_terminal = if to_stderr { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        Printer {
            out,
            stdout: Sink { to_stderr: false, filter: safe(io::stdout().is_terminal()) },
            stderr: Sink { to_stderr, filter: safe(err_terminal) },
            stamps: None,
            last_is_stderr: false,
        }
    }

    /// From now on each line has the time in front at which its beginning was written, and nothing may go back over
    /// it.
    pub(crate) fn stamp_lines(&mut self) {
        self.stamps = Some(Stamps::default());
        for sink in [&mut self.stdout, &mut self.stderr] {
            sink.filter = sink.filter.take().map(|_| Filter::strict());
        }
    }

    /// Prints one chunk.
    pub(crate) fn chunk(&mut self, chunk: &DataChunk) -> Result<()> {
        if chunk.lost_bytes > 0 {
            self.break_line()?;
            self.out.note(&format!("rnx: {} bytes of output are missing here", chunk.lost_bytes));
        }
        let is_stderr = chunk.stream.enum_value_or_default() == OutputStream::OUTPUT_STREAM_STDERR;
        self.last_is_stderr = is_stderr;
        let sink = if is_stderr { &mut self.stderr } else { &mut self.stdout };
        match &mut self.stamps {
            Some(stamps) => sink.write(&stamps.stamped(is_stderr, chunk)),
            None => sink.write(&chunk.payload),
        }
    }

    /// Prints what a filter still holds back.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.stdout.finish()?;
        self.stderr.finish()
    }

    /// Ends a line on the terminal that the job has left open, so that a line of ours gets one of its own.
    pub(crate) fn break_line(&mut self) -> Result<()> {
        let sink = if self.last_is_stderr { &mut self.stderr } else { &mut self.stdout };
        match &sink.filter {
            Some(filter) if filter.is_line_open() => sink.write(b"\n"),
            _ => Ok(()),
        }
    }
}

/// The stream whose line is open, if one is. Lines of two streams are not mixed: where the other stream continues,
/// the line is broken off, and its rest is a line of its own.
#[derive(Debug, Default)]
struct Stamps {
    open: Option<bool>,
}

impl Stamps {
    fn stamped(&mut self, is_stderr: bool, chunk: &DataChunk) -> Vec<u8> {
        let time = jiff::Timestamp::from_nanosecond(chunk.timestamp_ns.into()).unwrap_or_default();
        let mut shown = Vec::with_capacity(chunk.payload.len() + 64);
        for line in chunk.payload.split_inclusive(|b| *b == b'\n') {
            if self.open.is_some_and(|of_stderr| of_stderr != is_stderr) {
                shown.push(b'\n');
                self.open = None;
            }
            if self.open.is_none() {
                shown.extend_from_slice(format!("{time:.9} ").as_bytes());
            }
            shown.extend_from_slice(line);
            self.open = (!line.ends_with(b"\n")).then_some(is_stderr);
        }
        shown
    }
}

impl Sink {
    fn write(&mut self, payload: &[u8]) -> Result<()> {
        match &mut self.filter {
            Some(filter) => {
                let shown = filter.push(payload);
                self.put(&shown)
            }
            None => self.put(payload),
        }
    }

    fn finish(&mut self) -> Result<()> {
        let rest = self.filter.as_mut().map(Filter::finish).unwrap_or_default();
        self.put(&rest)
    }

    fn put(&self, shown: &[u8]) -> Result<()> {
        match self.to_stderr {
            _ if shown.is_empty() => Ok(()),
            true => bytes(&mut io::stderr().lock(), shown),
            false => bytes(&mut io::stdout().lock(), shown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_time_and_two_streams_are_not_mixed() {
        let mut stamps = Stamps::default();
        let mut shown = |second: i64, is_stderr: bool, text: &str| {
            let time = 1_705_314_600_000_000_042 + second * 1_000_000_000;
            let chunk = DataChunk { payload: text.into(), timestamp_ns: time, ..Default::default() };
            String::from_utf8(stamps.stamped(is_stderr, &chunk)).unwrap().replace("2024-01-15T10:30:0", "")
        };
        assert_eq!(shown(0, false, "a\nb"), "0.000000042Z a\n0.000000042Z b");
        assert_eq!(shown(1, false, "c\n"), "c\n");
        assert_eq!(shown(2, false, "open"), "2.000000042Z open");
        assert_eq!(shown(3, true, "err\n"), "\n3.000000042Z err\n");
        assert_eq!(shown(4, false, "rest\n\n"), "4.000000042Z rest\n4.000000042Z \n");
        assert_eq!(shown(5, true, ""), "");
    }
}
