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
}

#[derive(Debug)]
struct Sink {
    to_stderr: bool,
    filter: Option<Filter>,
}

impl Printer {
    /// `raw`: the person has asked for the bytes as they are, also on a terminal.
    pub(crate) fn new(out: Out, streams: Streams, raw: bool) -> Self {
        let to_stderr = streams == Streams::Apart;
        let safe = |terminal: bool| (terminal && !raw).then(Filter::default);
        let err_terminal = if to_stderr { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        Printer {
            out,
            stdout: Sink { to_stderr: false, filter: safe(io::stdout().is_terminal()) },
            stderr: Sink { to_stderr, filter: safe(err_terminal) },
        }
    }

    /// Prints one chunk.
    pub(crate) fn chunk(&mut self, chunk: &DataChunk) -> Result<()> {
        if chunk.lost_bytes > 0 {
            self.out.note(&format!("rnx: {} bytes of output are missing here", chunk.lost_bytes));
        }
        let is_stderr = chunk.stream.enum_value_or_default() == OutputStream::OUTPUT_STREAM_STDERR;
        let sink = if is_stderr { &mut self.stderr } else { &mut self.stdout };
        sink.write(&chunk.payload)
    }

    /// Prints what a filter still holds back.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.stdout.finish()?;
        self.stderr.finish()
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
