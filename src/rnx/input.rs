//! The standard input of a job, or of a command in one, which rnx reads and sends.
//!
//! One thread reads, one sends, and one hears the answers of a call. Bytes that the node has not acknowledged, at most 1 MiB,
//! are kept: after a lost connection the next call begins where the node says. No byte is lost and none comes twice, also
//! when the daemon is killed meanwhile. Only the end of what is read ends the input; the end of rnx does not.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use futures_executor::block_on;
use futures_util::{SinkExt, StreamExt};
use grpcio::{ClientDuplexReceiver, ClientDuplexSender, RpcStatusCode, WriteFlags};

use super::cli::Values;
use super::cli::flag::{Flag, Group, switch, value};
use super::error::{Error, Result};
use super::out::Out;
use super::server::Server;
use super::stdin;
use super::terminal::one_line;
use crate::pb::joblet::{AttachOpen, AttachReq, AttachRes, ExecRef, InputData, attach_req, attach_res};

/// Most bytes of one message, as the server takes them.
const CHUNK: usize = 64 << 10;
/// Most bytes that are sent and not acknowledged.
const WINDOW: usize = 1 << 20;
/// Answers that wait to be looked at; beyond that they stay in the call.
const ANSWERS: usize = 64;
/// The time between two calls where the server is there and takes none.
const AGAIN: Duration = Duration::from_millis(250);
/// A call that fails sooner than this, without one byte acknowledged, counts as one that the server did not serve.
const SHORT: Duration = Duration::from_secs(1);
/// Number of such calls in a row after which rnx gives up.
const TRIES: u32 = 20;

/// The flag for rnx's own standard input.
pub(crate) const INTERACTIVE: Flag = switch(
    "interactive",
    Some('i'),
    Group::Start,
    "Send our standard input to the command, up to its end (else the command has none)",
);
/// The flag for that of a file.
pub(crate) const STDIN: Flag =
    value("stdin", "FILE", Group::Start, "The same with the contents of FILE (- is our standard input)");

/// The opened source of an input.
pub(crate) struct Source(Box<dyn Read + Send>);

/// The source that the flags name, opened; `None`: the command has no input.
///
/// # Errors
/// The file cannot be opened; both flags are given.
pub(crate) fn source(values: &Values) -> Result<Option<Source>> {
    let file = values.last("stdin");
    if file.is_some() && values.is("interactive") {
        return Err(Error::usage("--stdin and --interactive exclude each other"));
    }
    match file.as_deref() {
        None if !values.is("interactive") => Ok(None),
        None | Some("-") => Ok(Some(Source(Box::new(io::stdin())))),
        Some(path) => {
            let opened = File::open(path);
            let failed = |why| Error::Upload(format!("cannot read --stdin {path}: {why}").into());
            Ok(Some(Source(Box::new(opened.map_err(failed)?))))
        }
    }
}

/// Says that the job has nothing of what waits on our stdin; whether something waits there.
pub(crate) fn warn_of_unread(out: Out, quiet: bool) -> bool {
    let unread = stdin::has_data();
    if unread && !quiet {
        out.note("warning: the job does not get standard input; with -i it does, or with --stdin FILE");
    }
    unread
}

/// An input that is being sent.
pub(crate) struct Sending(JoinHandle<Result<()>>);

impl Sending {
    /// Begins to send to a command of a job, or to the job's own where `exec` is empty.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn begin(
        server: &'static Server,
        (uuid, exec): (&str, &str),
        Source(mut from): Source,
    ) -> Result<Sending> {
        let at = ExecRef { uuid: uuid.into(), exec: exec.into(), ..Default::default() };
        let (chunks, read) = bounded(1);
        thread::Builder::new().name("stdin".into()).spawn(move || read_all(&mut from, &chunks))?;
        let input = Input { server, at, read, sent: VecDeque::new(), accepted: 0, end: 0, has_ended: false };
        let sending = move || {
            input.run().inspect_err(|why| {
                let why = one_line(&why.to_string());
                note(&format!("rnx: standard input is not sent any more: {why}"));
            })
        };
        Ok(Sending(thread::Builder::new().name("input".into()).spawn(sending)?))
    }

    /// Waits until the node has all, or the program reads no more.
    ///
    /// # Errors
    /// It could not be sent to its end.
    pub(crate) fn finish(self) -> Result<()> {
        let gone = |_| Error::Follow("the thread that sends standard input is gone".to_owned().into());
        self.0.join().map_err(gone)?
    }
}

fn note(text: &str) {
    Out { json: false, colour: false }.note(text);
}

/// A piece of what is read; empty: its end.
type Chunk = Vec<u8>;

fn read_all(from: &mut dyn Read, chunks: &Sender<Chunk>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(read) => read,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(why) => {
                note(&format!("rnx: cannot read standard input, it ends here: {why}"));
                0
            }
        };
        let chunk = buffer.get(..read).unwrap_or_default().to_vec();
        if chunks.send(chunk).is_err() || read == 0 {
            return;
        }
    }
}

/// An answer of the server, or the end of a call.
enum Heard {
    Message(attach_res::Message),
    Over(Option<Error>),
}

/// How a call ended.
enum Ended {
    /// Nothing more is to be sent.
    Done,
    /// Another client has the input.
    Taken,
}

struct Input {
    server: &'static Server,
    at: ExecRef,
    read: Receiver<Chunk>,
    /// Chunks that were read and are not acknowledged, with their offsets.
    sent: VecDeque<(u64, Chunk)>,
    /// Bytes that the node has acknowledged.
    accepted: u64,
    /// Bytes that were read.
    end: u64,
    /// Whether that was all.
    has_ended: bool,
}

impl Input {
    fn run(mut self) -> Result<()> {
        let (mut take_over, mut broken) = (false, 0);
        loop {
            let (asked, before) = (Instant::now(), self.accepted);
            let why = match self.call(take_over) {
                Ok(Ended::Done) => return Ok(()),
                Ok(Ended::Taken) => {
                    return Err(Error::Follow("another client has taken it over".to_owned().into()));
                }
                Err(why) => why,
            };
            if why.is_call_with("it has no open standard input") || why.is_call_with("job is not running") {
                // Its end is known to whoever follows it.
                return Ok(());
            }
            if why.is_call_with("job has not started") {
                pause();
                continue;
            }
            let served = asked.elapsed() >= SHORT || self.accepted > before;
            broken = if served { 0 } else { broken + 1 };
            if !why.is_unreachable() || broken > TRIES {
                return Err(why);
            }
            // The server may know of us what we do not know of it.
            take_over = true;
            if broken > 0 {
                pause();
            }
        }
    }

    /// One call, to the end of the input or of the connection.
    fn call(&mut self, take_over: bool) -> Result<Ended> {
        let (to_job, from_job) = self.server.attach()?;
        let mut to_job = Way { to_job, is_open: true };
        let open =
            AttachOpen { at: Some(self.at.clone()).into(), input: true, take_over, ..Default::default() };
        to_job.put(message(attach_req::Message::Open(open)));
        let (tell, heard) = bounded(ANSWERS);
        let server = self.server;
        let listener = move || listen(server, from_job, &tell);
        thread::Builder::new().name("answers".into()).spawn(listener)?;
        let ended = self.send_all(&mut to_job, &heard);
        match &ended {
            Ok(Ended::Done) => to_job.close(),
            _ => to_job.to_job.cancel(),
        }
        ended
    }

    fn send_all(&mut self, to_job: &mut Way, heard: &Receiver<Heard>) -> Result<Ended> {
        loop {
            match next(heard) {
                Heard::Message(attach_res::Message::Opened(opened)) => {
                    self.acknowledged(opened.input_offset);
                    break;
                }
                Heard::Message(_) => {}
                Heard::Over(why) => return Err(why.unwrap_or_else(ended_early)),
            }
        }
        for (offset, chunk) in &self.sent {
            to_job.put(data(*offset, chunk));
        }
        if self.has_ended {
            to_job.put(message(attach_req::Message::Eof(true)));
        }
        let none = never();
        loop {
            let waiting: usize = self.sent.iter().map(|(_, chunk)| chunk.len()).sum();
            let read = if self.has_ended || waiting >= WINDOW { &none } else { &self.read };
            select! {
                recv(heard) -> answer => match answer.unwrap_or(Heard::Over(None)) {
                    Heard::Message(attach_res::Message::InputAck(accepted)) => self.acknowledged(accepted),
                    Heard::Message(attach_res::Message::InputClosed(_)) => return Ok(Ended::Done),
                    Heard::Message(attach_res::Message::InputTaken(_)) => return Ok(Ended::Taken),
                    Heard::Message(_) => {}
                    // The server ends the call when it has the end of the input.
                    Heard::Over(None) if self.has_ended && self.sent.is_empty() => return Ok(Ended::Done),
                    Heard::Over(why) => return Err(why.unwrap_or_else(ended_early)),
                },
                recv(read) -> chunk => match chunk.unwrap_or_default() {
                    chunk if chunk.is_empty() => {
                        self.has_ended = true;
                        to_job.put(message(attach_req::Message::Eof(true)));
                    }
                    chunk => {
                        to_job.put(data(self.end, &chunk));
                        let offset = self.end;
                        self.end += chunk.len() as u64;
                        self.sent.push_back((offset, chunk));
                    }
                },
            }
        }
    }

    /// Lets go of what the node has.
    fn acknowledged(&mut self, accepted: u64) {
        self.accepted = self.accepted.max(accepted);
        let is_there = |(offset, chunk): &(u64, Chunk)| *offset + chunk.len() as u64 <= accepted;
        while self.sent.front().is_some_and(is_there) {
            self.sent.pop_front();
        }
    }
}

/// Nothing tells when a job starts, or when a server that refuses calls takes them again.
fn pause() {
    let _ = never::<()>().recv_timeout(AGAIN);
}

fn ended_early() -> Error {
    Error::Call(RpcStatusCode::UNAVAILABLE, "the call ended early".to_owned().into())
}

fn next(heard: &Receiver<Heard>) -> Heard {
    heard.recv().unwrap_or(Heard::Over(None))
}

/// Our side of a call. One that the server has ended takes nothing more, and its reader knows why.
struct Way {
    to_job: ClientDuplexSender<AttachReq>,
    /// Whether everything was taken: grpcio panics where something is sent behind a failure.
    is_open: bool,
}

impl Way {
    fn put(&mut self, message: AttachReq) {
        self.is_open = self.is_open && block_on(self.to_job.send((message, WriteFlags::default()))).is_ok();
    }

    fn close(&mut self) {
        if self.is_open {
            let _ = block_on(self.to_job.close());
        }
    }
}

fn listen(server: &Server, mut from_job: ClientDuplexReceiver<AttachRes>, tell: &Sender<Heard>) {
    loop {
        let heard = match block_on(from_job.next()) {
            Some(Ok(AttachRes { message: Some(message), .. })) => Heard::Message(message),
            Some(Ok(_)) => continue,
            Some(Err(why)) => Heard::Over(Some(server.explain(why))),
            None => Heard::Over(None),
        };
        let is_over = matches!(heard, Heard::Over(_));
        if tell.send(heard).is_err() || is_over {
            return;
        }
    }
}

fn message(message: attach_req::Message) -> AttachReq {
    AttachReq { message: Some(message), ..AttachReq::default() }
}

fn data(offset: u64, chunk: &[u8]) -> AttachReq {
    message(attach_req::Message::Data(InputData { offset, data: chunk.to_vec(), ..InputData::default() }))
}
