//! Output and samples of writers that send them as bytes, in LOG and METRIC messages.
//!
//! Nothing can be read again here, so what such a writer sends waits in memory until it is durable, and its connection is
//! not read while too much waits. A writer of version 2 counts its output and hears how much is durable; what it sends
//! again is stored once. A writer of version 1 hears nothing: its output gets the next free sequence, and what cannot be
//! stored is lost and counted.

use std::collections::HashMap;

use mio::Token;

use super::PersistError;
use super::frame::Frame;
use super::jobs::End;
use super::query::nanoseconds;
use super::store::{Batch, JobStage, Kind, Packer, StoreError};
use crate::job::JobId;
use crate::metrics::Sample;
use crate::metrics::sample::{Cpu, Io, Memory, Network, Packets, Traffic, VERSION};
use crate::output::Stream;
use crate::output::spool::{Row, Span};
use crate::pb::persist::{Metric, MetricData};

/// Most bytes of one record.
const LONGEST: usize = 64 << 10;
/// Bytes that may wait before their connections are not read any more.
const WAITING: u64 = 16 << 20;
/// Jobs that may be written at once.
const JOBS: usize = 1000;

/// One message of such a writer.
#[derive(Debug)]
pub(super) struct Piece {
    /// The job that it is about.
    pub(super) job: JobId,
    /// Whether its writer hears what is durable.
    pub(super) is_acknowledged: bool,
    /// Its number in its series; 0: its writer does not count.
    sequence: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Output { stream: Stream, time_ns: i64, bytes: Vec<u8> },
    Sample(Vec<u8>),
    End(End),
}

impl Piece {
    /// The piece in a message of such a writer.
    ///
    /// # Errors
    /// It is none, or too long to be one record.
    pub(super) fn of(frame: Frame) -> Result<Piece, PersistError> {
        match frame {
            Frame::Log { version, job, stream, time_ns, sequence, content } => {
                let counts = version >= super::frame::VERSION;
                if counts && content.len() > LONGEST {
                    let why = format!("output of {} bytes; a message has at most {LONGEST}", content.len());
                    return Err(PersistError::Frame(why));
                }
                let sequence = if counts { sequence } else { 0 };
                let content = Content::Output { stream, time_ns, bytes: content };
                Ok(Piece { job, is_acknowledged: counts, sequence, content })
            }
            Frame::Metric { version, job, metric } => {
                let counts = version >= super::frame::VERSION;
                let sequence = if counts { metric.sequence } else { 0 };
                let line = serde_json::to_vec(&sample(&metric));
                let line = line.map_err(|why| PersistError::Frame(why.to_string()))?;
                Ok(Piece { job, is_acknowledged: counts, sequence, content: Content::Sample(line) })
            }
            _ => Err(PersistError::Frame("no output and no sample".into())),
        }
    }

    /// The end of a job.
    pub(super) fn end(job: JobId, end: End) -> Piece {
        Piece { job, is_acknowledged: true, sequence: 0, content: Content::End(end) }
    }

    /// Bytes in memory, about.
    pub(super) fn size(&self) -> u64 {
        let bytes = match &self.content {
            Content::Output { bytes, .. } | Content::Sample(bytes) => bytes.len(),
            Content::End(_) => 0,
        };
        bytes as u64 + 64
    }
}

/// The numbers of a sample that other writers know, in our form.
fn sample(metric: &Metric) -> Sample {
    let data = metric.data.as_ref();
    let large = |number: i64| u64::try_from(number).unwrap_or(0);
    let disk = data.and_then(|data| data.disk_io.as_ref()).map(|disk| Traffic {
        read_bytes: large(disk.read_bytes),
        write_bytes: large(disk.write_bytes),
        read_ops: large(disk.read_ops),
        write_ops: large(disk.write_ops),
        ..Traffic::default()
    });
    let network = data.and_then(|data| data.network_io.as_ref()).map(|network| Packets {
        rx_bytes: large(network.rx_bytes),
        tx_bytes: large(network.tx_bytes),
        rx_packets: large(network.rx_packets),
        tx_packets: large(network.tx_packets),
        ..Packets::default()
    });
    let cpu = |data: &MetricData| Cpu { usage_percent: percent(data.cpu_usage), ..Cpu::default() };
    let memory = |data: &MetricData| Memory { current: large(data.memory_usage), ..Memory::default() };
    Sample {
        version: VERSION,
        time_ns: nanoseconds(metric.timestamp).unwrap_or(0),
        uptime_ns: 0,
        interval_s: 0,
        cpu: data.map(cpu),
        memory: data.map(memory),
        io: disk.map(|total| Io { total, ..Io::default() }),
        network: network.map(|total| Network { total, ..Network::default() }),
        process: None,
        gpu: Vec::new(),
        cgroup_path: String::new(),
        limits: Default::default(),
    }
}

/// Percent of one core. JSON has neither infinity nor NaN.
fn percent(cores: f64) -> Option<f64> {
    Some(cores * 100.0).filter(|percent| percent.is_finite())
}

/// The stage of one job whose output comes in pieces.
#[derive(Debug)]
pub(super) struct Pieces {
    stage: JobStage,
    /// The last sequence that came.
    through: u64,
    /// Bytes of pieces that are staged.
    size: u64,
    end: Option<End>,
}

/// The staged pieces of one job.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) batch: Batch,
    pub(super) through: u64,
    pub(super) size: u64,
    /// The end, and the number of samples.
    pub(super) end: Option<(End, u64)>,
}

impl Pieces {
    /// Goes on behind what is stored.
    pub(super) fn new(stage: JobStage) -> Pieces {
        let through = stage.last_sequence();
        Pieces { stage, through, size: 0, end: None }
    }

    /// Whether nothing is staged.
    pub(super) fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Stages a piece, unless it is stored already.
    ///
    /// # Errors
    /// It is no record.
    pub(super) fn push(&mut self, piece: Piece, packer: &mut Packer, level: u32) -> Result<(), StoreError> {
        self.size += piece.size();
        match piece.content {
            Content::End(end) => self.end = Some(end),
            Content::Output { .. } if piece.sequence > 0 && piece.sequence <= self.through => {}
            Content::Output { stream, time_ns, bytes } => {
                let own = piece.sequence;
                // One that counts is one record at most.
                for part in bytes.chunks(LONGEST) {
                    let sequence =
                        if own > 0 { own } else { self.stage.last_sequence().max(self.through) + 1 };
                    let offset = self.stage.bytes(Kind::from(stream));
                    let span = Span::Bytes { offset, length: part.len() as u32 };
                    self.stage.stage(&Row { sequence, stream, time_ns, span }, part, packer, level)?;
                    self.through = sequence;
                }
                self.through = self.through.max(own);
            }
            Content::Sample(line) => {
                let number = if piece.sequence > 0 { piece.sequence } else { self.stage.samples() + 1 };
                self.stage.stage_sample(number, &line, packer, level)?;
            }
        }
        Ok(())
    }

    /// Takes what is staged for a commit.
    pub(super) fn take(&mut self, packer: &mut Packer, level: u32) -> Staged {
        let samples = self.stage.samples();
        Staged {
            batch: self.stage.take(self.through, packer, level),
            through: self.through,
            size: std::mem::take(&mut self.size),
            end: self.end.take().map(|end| (end, samples)),
        }
    }
}

/// The jobs of such writers as the loop has them, and how much of them waits to become durable.
#[derive(Debug, Default)]
pub(super) struct Senders {
    jobs: HashMap<JobId, Token>,
    waiting: u64,
    stalled: Vec<Token>,
}

impl Senders {
    /// A connection sends something of a job. `false`: too many jobs are being sent.
    pub(super) fn admit(&mut self, job: JobId, token: Token) -> bool {
        let has_room = self.jobs.contains_key(&job) || self.jobs.len() < JOBS;
        if has_room {
            self.jobs.insert(job, token);
        }
        has_room
    }

    /// Whether a job's output comes in pieces.
    pub(super) fn has(&self, job: JobId) -> bool {
        self.jobs.contains_key(&job)
    }

    /// A job's output comes in pieces no more. `false`: it did not.
    pub(super) fn forget(&mut self, job: JobId) -> bool {
        self.jobs.remove(&job).is_some()
    }

    /// So much waits from now on.
    pub(super) fn sent(&mut self, size: u64) {
        self.waiting += size;
    }

    /// So much waits no more. Returns the connections that may be read again.
    pub(super) fn taken(&mut self, size: u64) -> Vec<Token> {
        self.waiting = self.waiting.saturating_sub(size);
        if self.is_full() { Vec::new() } else { std::mem::take(&mut self.stalled) }
    }

    /// Whether nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting == 0
    }

    fn is_full(&self) -> bool {
        self.waiting >= WAITING
    }

    /// Whether a connection must wait because too much of such writers waits; it is named by [`Senders::taken`] then.
    pub(super) fn stall(&mut self, token: Token) -> bool {
        let stalls = self.is_full() && self.jobs.values().any(|sender| *sender == token);
        if stalls && !self.stalled.contains(&token) {
            self.stalled.push(token);
        }
        stalls
    }

    /// A connection is closed: these jobs were its.
    pub(super) fn close(&mut self, token: Token) -> Vec<JobId> {
        self.stalled.retain(|stalled| *stalled != token);
        self.jobs.extract_if(|_, sender| *sender == token).map(|(job, _)| job).collect()
    }
}
