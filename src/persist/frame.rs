//! The messages of the write socket, and their form on the wire: `protos/ipc.proto`.

use protobuf::{EnumOrUnknown, Message};

use super::PersistError;
use crate::job::JobId;
use crate::output::Stream;
use crate::pb::ipc::{self, IPCMessage, MessageType};
use crate::pb::persist::{LogLine, Metric, StreamType};

/// The version of the messages that are ours; version 1 has LOG and METRIC alone.
pub const VERSION: u32 = 2;
/// The feature of HELLO: descriptors instead of bytes.
pub const SPOOL_FD: &str = "spool-fd";
/// Bytes of the length before a message.
const LENGTH: usize = 4;

/// One message of the write socket.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// The first message of either side.
    Hello {
        /// Tells this boot of the host from others.
        boot_id: String,
        /// Tells this process from an earlier one.
        instance: String,
    },
    /// The files of a job's output; their descriptors come beside it.
    Spool {
        /// The job whose files they are.
        job: JobId,
        /// How far they have come.
        reached: Reached,
        /// Rows up to this sequence are gone from them.
        released: u64,
        /// When the job was accepted, ns since the epoch.
        created_ns: i64,
        /// Which files these are.
        files: Files,
    },
    /// How far the files of a job have come.
    Rows {
        /// The job whose files they are.
        job: JobId,
        /// How far they have come.
        reached: Reached,
    },
    /// Nothing follows for a job.
    EndOfJob {
        /// The job that has ended.
        job: JobId,
        /// All that there is.
        reached: Reached,
        /// The job's end, ns since the epoch.
        ended_ns: i64,
    },
    /// The part of a job that is durable.
    Ack {
        /// The job that it is about.
        job: JobId,
        /// Rows up to this sequence, and bytes of samples, are durable.
        reached: Reached,
        /// The news of the job beside this.
        note: Note,
    },
    /// A job is to be in the local files.
    Fetch {
        /// The job that somebody wants to read.
        job: JobId,
        /// When it was accepted, ns since the epoch.
        created_ns: i64,
        /// The job's end, ns since the epoch; 0: it is not known.
        ended_ns: i64,
    },
    /// A job is in the local files, if anybody has it.
    Fetched {
        /// The job that somebody wants to read.
        job: JobId,
        /// Why it could not be copied, in words.
        failure: Option<String>,
    },
    /// Everything of a job is to go.
    DeleteJob {
        /// The job that nobody wants any more.
        job: JobId,
    },
    /// A piece of output, as other writers send it.
    Log {
        /// The version that the writer speaks.
        version: u32,
        /// The job that wrote it.
        job: JobId,
        /// The stream that it wrote to.
        stream: Stream,
        /// When, ns since the epoch.
        time_ns: i64,
        /// Its place in the job's output.
        sequence: u64,
        /// The bytes of output.
        content: Vec<u8>,
    },
    /// A sample, as other writers send it.
    Metric {
        /// The version that the writer speaks.
        version: u32,
        /// The job that was sampled.
        job: JobId,
        /// The sample with its time.
        metric: Box<Metric>,
    },
    /// A message of a type that is not known here, or for a job whose id is none.
    Other,
}

/// How far a job's output and samples have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reached {
    /// Rows of the index, which is the highest sequence.
    pub rows: u64,
    /// Bytes of whole lines in the file of samples.
    pub sample_bytes: u64,
}

/// The news of an ACK beside its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Note {
    /// Nothing beside the numbers.
    #[default]
    Progress,
    /// All of the job is durable, its end included.
    Complete,
    /// Nothing is left of the job.
    Deleted,
    /// There is no room for the job's descriptors now.
    Busy,
}

/// The files of a spool, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Files(u32);

impl Files {
    /// The index of rows. It is always there.
    pub const INDEX: Files = Files(1);
    /// The bytes of standard output.
    pub const STDOUT: Files = Files(2);
    /// The bytes of standard error.
    pub const STDERR: Files = Files(4);
    /// The lines of samples.
    pub const SAMPLES: Files = Files(8);

    /// Both sets together.
    pub fn with(self, other: Files) -> Files {
        Files(self.0 | other.0)
    }

    /// Whether these files are in the set.
    pub fn has(self, other: Files) -> bool {
        self.0 & other.0 == other.0
    }

    /// The number of files.
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }
}

impl Frame {
    /// The message with its length before it.
    pub fn encode(&self) -> Vec<u8> {
        let message = self.message();
        let body = message.write_to_bytes().expect("proto3 messages have no required fields");
        let length = u32::try_from(body.len()).expect("our own messages are small");
        let mut out = Vec::with_capacity(LENGTH + body.len());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&body);
        out
    }

    fn message(&self) -> IPCMessage {
        match self {
            Frame::Hello { boot_id, instance } => {
                let hello = ipc::Hello {
                    version: VERSION,
                    features: vec![SPOOL_FD.to_owned()],
                    boot_id: boot_id.clone(),
                    instance: instance.clone(),
                    ..Default::default()
                };
                about(None, MessageType::MESSAGE_TYPE_HELLO, 0, &hello)
            }
            Frame::Spool { job, reached, released, created_ns, files } => {
                let spool = ipc::Spool {
                    released: *released,
                    sample_bytes: reached.sample_bytes,
                    created_ns: *created_ns,
                    descriptors: files.0,
                    ..Default::default()
                };
                about(Some(job), MessageType::MESSAGE_TYPE_SPOOL, reached.rows, &spool)
            }
            Frame::Rows { job, reached } => {
                let rows = ipc::Rows { sample_bytes: reached.sample_bytes, ..Default::default() };
                about(Some(job), MessageType::MESSAGE_TYPE_ROWS, reached.rows, &rows)
            }
            Frame::EndOfJob { job, reached, ended_ns } => {
                let end = ipc::EndOfJob { sample_bytes: reached.sample_bytes, ..Default::default() };
                let message = about(Some(job), MessageType::MESSAGE_TYPE_END_OF_JOB, reached.rows, &end);
                IPCMessage { timestamp: *ended_ns, ..message }
            }
            Frame::Ack { job, reached, note } => {
                let ack = ipc::Ack {
                    sample_bytes: reached.sample_bytes,
                    complete: *note == Note::Complete,
                    deleted: *note == Note::Deleted,
                    busy: *note == Note::Busy,
                    ..Default::default()
                };
                about(Some(job), MessageType::MESSAGE_TYPE_ACK, reached.rows, &ack)
            }
            Frame::Fetch { job, created_ns, ended_ns } => {
                let fetch = ipc::Fetch { created_ns: *created_ns, ..Default::default() };
                let message = about(Some(job), MessageType::MESSAGE_TYPE_FETCH, 0, &fetch);
                IPCMessage { timestamp: *ended_ns, ..message }
            }
            Frame::Fetched { job, failure } => {
                let failure = failure.clone().unwrap_or_default();
                let fetched = ipc::Fetched { failure, ..Default::default() };
                about(Some(job), MessageType::MESSAGE_TYPE_FETCHED, 0, &fetched)
            }
            Frame::DeleteJob { job } => {
                about(Some(job), MessageType::MESSAGE_TYPE_DELETE_JOB, 0, &ipc::Rows::new())
            }
            Frame::Log { version, job, stream, time_ns, sequence, content } => {
                let line = LogLine {
                    job_id: job.to_string(),
                    stream: EnumOrUnknown::from_i32(i32::from(stream.number())),
                    timestamp: *time_ns,
                    sequence: *sequence,
                    content: content.clone(),
                    ..Default::default()
                };
                let message = about(Some(job), MessageType::MESSAGE_TYPE_LOG, *sequence, &line);
                IPCMessage { version: *version, timestamp: *time_ns, ..message }
            }
            Frame::Metric { version, job, metric } => {
                let message =
                    about(Some(job), MessageType::MESSAGE_TYPE_METRIC, metric.sequence, metric.as_ref());
                IPCMessage { version: *version, timestamp: metric.timestamp, ..message }
            }
            Frame::Other => about(None, MessageType::MESSAGE_TYPE_UNSPECIFIED, 0, &ipc::Rows::new()),
        }
    }

    /// Reads a message without its length.
    ///
    /// # Errors
    /// It is no message, or not what its type says.
    fn decode(body: &[u8]) -> Result<Frame, PersistError> {
        let message = IPCMessage::parse_from_bytes(body).map_err(wrong)?;
        let kind = message.type_.enum_value_or_default();
        if kind == MessageType::MESSAGE_TYPE_HELLO {
            let hello: ipc::Hello = inner(&message)?;
            return Ok(Frame::Hello { boot_id: hello.boot_id, instance: hello.instance });
        }
        let Some(job) = JobId::parse(&message.job_id) else { return Ok(Frame::Other) };
        let reached = |sample_bytes| Reached { rows: message.sequence, sample_bytes };
        Ok(match kind {
            MessageType::MESSAGE_TYPE_SPOOL => {
                let spool: ipc::Spool = inner(&message)?;
                let files = Files(spool.descriptors);
                if !files.has(Files::INDEX) || spool.descriptors > 15 {
                    return Err(PersistError::Frame(
                        "a spool has an index, and at most three files more".into(),
                    ));
                }
                Frame::Spool {
                    job,
                    reached: reached(spool.sample_bytes),
                    released: spool.released,
                    created_ns: spool.created_ns,
                    files,
                }
            }
            MessageType::MESSAGE_TYPE_ROWS => {
                Frame::Rows { job, reached: reached(inner::<ipc::Rows>(&message)?.sample_bytes) }
            }
            MessageType::MESSAGE_TYPE_END_OF_JOB => {
                let reached = reached(inner::<ipc::EndOfJob>(&message)?.sample_bytes);
                Frame::EndOfJob { job, reached, ended_ns: message.timestamp }
            }
            MessageType::MESSAGE_TYPE_ACK => {
                let ack: ipc::Ack = inner(&message)?;
                let note = match ack {
                    _ if ack.deleted => Note::Deleted,
                    _ if ack.complete => Note::Complete,
                    _ if ack.busy => Note::Busy,
                    _ => Note::Progress,
                };
                Frame::Ack { job, reached: reached(ack.sample_bytes), note }
            }
            MessageType::MESSAGE_TYPE_FETCH => {
                let created_ns = inner::<ipc::Fetch>(&message)?.created_ns;
                Frame::Fetch { job, created_ns, ended_ns: message.timestamp }
            }
            MessageType::MESSAGE_TYPE_FETCHED => {
                let failure = inner::<ipc::Fetched>(&message)?.failure;
                Frame::Fetched { job, failure: (!failure.is_empty()).then_some(failure) }
            }
            MessageType::MESSAGE_TYPE_DELETE_JOB => Frame::DeleteJob { job },
            MessageType::MESSAGE_TYPE_LOG => log(job, message.version, inner(&message)?),
            MessageType::MESSAGE_TYPE_METRIC => {
                Frame::Metric { version: message.version, job, metric: Box::new(inner(&message)?) }
            }
            _ => Frame::Other,
        })
    }
}

fn log(job: JobId, version: u32, line: LogLine) -> Frame {
    // Earlier writers have one stream alone, and leave it out.
    let stream = match line.stream.enum_value_or_default() {
        StreamType::STREAM_TYPE_STDERR => Stream::Stderr,
        _ => Stream::Stdout,
    };
    let LogLine { timestamp: time_ns, sequence, content, .. } = line;
    Frame::Log { version, job, stream, time_ns, sequence, content }
}

fn about(job: Option<&JobId>, kind: MessageType, sequence: u64, data: &impl Message) -> IPCMessage {
    IPCMessage {
        version: VERSION,
        type_: kind.into(),
        job_id: job.map(JobId::to_string).unwrap_or_default(),
        sequence,
        data: data.write_to_bytes().expect("proto3 messages have no required fields"),
        ..Default::default()
    }
}

fn inner<M: Message>(message: &IPCMessage) -> Result<M, PersistError> {
    M::parse_from_bytes(&message.data).map_err(wrong)
}

fn wrong(why: protobuf::Error) -> PersistError {
    PersistError::Frame(why.to_string())
}

/// Cuts bytes as they come into messages.
#[derive(Debug)]
pub struct FrameReader {
    bytes: Vec<u8>,
    /// Bytes at the beginning that have become messages.
    done: usize,
    longest: usize,
}

impl FrameReader {
    /// Takes messages of so many bytes at most.
    pub fn new(longest: usize) -> Self {
        FrameReader { bytes: Vec::new(), done: 0, longest }
    }

    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.done));
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message.
    ///
    /// # Errors
    /// A message that is too long, or none. Nothing behind it can be read.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, PersistError> {
        let rest = &self.bytes[self.done..];
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.longest {
            return Err(PersistError::Frame(format!(
                "a message has {length} bytes, and persist.ipc.max_message_size is {}",
                self.longest
            )));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let frame = Frame::decode(body)?;
        self.done += LENGTH + length;
        if self.done == self.bytes.len() {
            self.done = 0;
            // A long message leaves its space behind: it is given back.
            self.bytes.clear();
            self.bytes.shrink_to(64 << 10);
        }
        Ok(Some(frame))
    }

    /// Whether a message has begun and not ended.
    pub fn is_inside(&self) -> bool {
        self.done < self.bytes.len()
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
