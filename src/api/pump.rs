//! The thread that feeds all log streams.
//!
//! It is driven by events: a stream was opened or closed, a job has news, a stream has room again. A stream is
//! then *advanced*: chunks go from its cursor into its queue until the queue is full (gRPC wakes us through the
//! stream's waker), there is nothing more (the job's [`Progress`](crate::output::Progress) tells), or its turn
//! is over. Reading blocks on the disk at worst, never on a client.
//!
//! The queue of events has no bound of its own. What is in it is bounded: at most one "room" for each stream,
//! two "news" for each job, one "opened" and one "closed" for each stream, and [`STREAMS`] streams.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use futures_channel::{mpsc, oneshot};
use futures_util::Stream as _;
use grpcio::{RpcStatus, RpcStatusCode};

use super::access::Pass;
use super::convert::reply;
use super::{ApiError, status};
use crate::daemon::commands::{CommandError, LogSource};
use crate::diag::{Level, event, limited};
use crate::job::JobId;
use crate::output::progress::Tell;
use crate::output::{OutputError, SpoolReader};
use crate::pb::joblet::DataChunk;

/// What a stream's queue holds besides one chunk: nothing. A chunk has at most the 64 KiB that the collector
/// takes at a time, and thousands of clients that do not read have as many queues.
const QUEUED: usize = 0;
/// Chunks of one stream before it is the others' turn.
const TURN: usize = 64;
/// Streams at one time: each has three files open and one chunk in its queue.
const STREAMS: usize = 4096;
/// Longest time from one look at the certificates of open streams to the next.
const AGAIN: Duration = Duration::from_secs(30);

/// What goes through a stream's queue.
pub(super) enum Item {
    /// Output.
    Chunk(DataChunk),
    /// The end, and always the last item: a queue that ends without it lost its pump.
    End(RpcStatus),
}

/// The pump's ends of a stream.
type Ends = (mpsc::Sender<Item>, oneshot::Sender<()>);

enum Event {
    Open(u64, LogSource, Pass, Ends),
    Ready(u64),
    News(JobId),
    Closed(u64),
    Judge,
    Shutdown,
}

/// The way to the pump.
#[derive(Clone)]
pub struct LogPump {
    events: Sender<Event>,
    /// The next stream's number; numbers are never used twice.
    next: Arc<AtomicU64>,
    /// Streams that the pump has not forgotten yet.
    streams: Arc<AtomicUsize>,
}

impl fmt::Debug for LogPump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogPump({} streams)", self.streams.load(Ordering::Relaxed))
    }
}

impl LogPump {
    /// Starts the thread. The second value is for the [`Progress`](crate::output::Progress) of every job.
    ///
    /// # Errors
    /// No thread.
    pub fn start() -> Result<(LogPump, Tell), ApiError> {
        let (events, inbox) = crossbeam_channel::unbounded();
        let pump = LogPump { events, next: Arc::default(), streams: Arc::default() };
        let desk = Desk {
            events: pump.events.clone(),
            count: pump.streams.clone(),
            streams: HashMap::new(),
            cut: HashMap::new(),
            dry: HashMap::new(),
            judge_at: Instant::now(),
        };
        let spawned = thread::Builder::new().name("log-pump".into()).spawn(move || desk.run(&inbox));
        spawned.map_err(ApiError::StartPump)?;
        let events = pump.events.clone();
        let tell: Tell = Arc::new(move |job| {
            // Nobody listens after the shutdown.
            let _ = events.send(Event::News(job));
        });
        Ok((pump, tell))
    }

    /// Opens a stream from the job's first byte on.
    ///
    /// # Errors
    /// Too many streams, or the daemon is shutting down.
    pub(super) fn open(&self, source: LogSource, pass: Pass) -> Result<LogStream, RpcStatus> {
        if self.streams.fetch_add(1, Ordering::SeqCst) >= STREAMS {
            self.streams.fetch_sub(1, Ordering::SeqCst);
            let text = format!("too many log streams: {STREAMS} are open already; try again");
            return Err(status::new(RpcStatusCode::RESOURCE_EXHAUSTED, &text));
        }
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let (sender, items) = mpsc::channel(QUEUED);
        let (axe, cut) = oneshot::channel();
        let stream = LogStream { items, cut, id, events: self.events.clone() };
        match self.events.send(Event::Open(id, source, pass, (sender, axe))) {
            Ok(()) => Ok(stream),
            Err(_) => Err(gone()),
        }
    }

    /// Ends the streams of clients that are not trusted any more.
    pub(super) fn judge_again(&self) {
        // Without a thread there are no streams.
        let _ = self.events.send(Event::Judge);
    }

    /// Ends every stream with UNAVAILABLE, then the thread.
    pub(super) fn shut_down(&self) {
        let _ = self.events.send(Event::Shutdown);
    }
}

/// What a stream hears when the pump is gone.
pub(super) fn gone() -> RpcStatus {
    status::of_command(&CommandError::ShuttingDown)
}

/// The reading end of a stream. However it goes (sent, refused, client gone, call cancelled), the pump hears.
pub(super) struct LogStream {
    items: mpsc::Receiver<Item>,
    /// Ready when the pump has waited long enough for the stream to end.
    cut: oneshot::Receiver<()>,
    id: u64,
    events: Sender<Event>,
}

impl LogStream {
    /// The next item, as [`futures_util::Stream::poll_next`].
    pub(super) fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        Pin::new(&mut self.items).poll_next(cx)
    }

    /// Ready when the call is to be cancelled, whatever is still to be sent.
    pub(super) fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match Pin::new(&mut self.cut).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            // A stream that the pump has forgotten has its last item.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Closed(self.id));
    }
}

/// Says that a stream has room, once until it is heard.
struct Room {
    id: u64,
    told: AtomicBool,
    events: Sender<Event>,
}

impl Room {
    fn tell(&self) {
        if !self.told.swap(true, Ordering::SeqCst) {
            let _ = self.events.send(Event::Ready(self.id));
        }
    }
}

impl Wake for Room {
    fn wake(self: Arc<Self>) {
        self.tell();
    }
}

struct Stream {
    source: LogSource,
    pass: Pass,
    /// Opened with the first row: before it the spool may not exist.
    reader: Option<SpoolReader>,
    queue: mpsc::Sender<Item>,
    axe: oneshot::Sender<()>,
    room: Arc<Room>,
}

/// What is left to do for a stream after its turn.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Its queue is full: room will wake it.
    Full,
    /// It has everything: news of the job will wake it.
    Dry,
    /// It has more, and the others come first.
    Again,
    /// It has its last item, or no client any more.
    Forget,
}

impl Stream {
    fn advance(&mut self) -> Next {
        let waker = Waker::from(self.room.clone());
        let mut cx = Context::from_waker(&waker);
        for _ in 0..TURN {
            match self.queue.poll_ready(&mut cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Next::Forget,
                Poll::Pending => return Next::Full,
            }
            let item = match self.next() {
                Ok(Some(chunk)) => Item::Chunk(chunk),
                Ok(None) => match self.source.progress.look() {
                    // Rows may have come since they were looked at; the end is final.
                    (rows, _) if rows > self.position() => continue,
                    (_, true) => Item::End(RpcStatus::ok()),
                    (_, false) => return Next::Dry,
                },
                Err(why) => Item::End(unreadable(self.source.id, &why)),
            };
            let last = matches!(item, Item::End(_));
            if self.queue.start_send(item).is_err() || last {
                return Next::Forget;
            }
        }
        Next::Again
    }

    fn position(&self) -> u64 {
        self.reader.as_ref().map_or(0, SpoolReader::position)
    }

    fn next(&mut self) -> Result<Option<DataChunk>, OutputError> {
        let (rows, _) = self.source.progress.look();
        if rows <= self.position() {
            return Ok(None);
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => self.reader.insert(SpoolReader::open(&self.source.dir)?),
        };
        Ok(reader.next(rows)?.map(reply::chunk))
    }

    /// Sends the end although the queue may be full: every sender has a place of its own, also a clone.
    fn end(&self, status: RpcStatus) {
        let _ = self.queue.clone().start_send(Item::End(status));
    }
}

/// The end of a stream whose spool cannot be read. One that was deleted meanwhile is no trouble of the node's.
fn unreadable(job: JobId, why: &OutputError) -> RpcStatus {
    if let OutputError::Read { source, .. } = why
        && source.kind() == std::io::ErrorKind::NotFound
    {
        return status::of_command(&CommandError::NotFound(job.to_string()));
    }
    limited!(Level::Error, "cannot read a job's output", jobId = job, error = why);
    status::new(RpcStatusCode::INTERNAL, &why.to_string())
}

struct Desk {
    events: Sender<Event>,
    count: Arc<AtomicUsize>,
    streams: HashMap<u64, Stream>,
    /// Streams that were told their end for lack of trust, and have not gone yet.
    cut: HashMap<u64, oneshot::Sender<()>>,
    /// Streams that wait for news of a job; news of jobs without an entry are not heard. Streams that wait for
    /// their clients are not here: a crowd that does not read costs nothing when there are news.
    dry: HashMap<JobId, Vec<u64>>,
    /// When to look at certificates next, if there are streams then.
    judge_at: Instant,
}

impl Desk {
    fn run(mut self, inbox: &Receiver<Event>) {
        while let Some(event) = self.wait(inbox) {
            match event {
                Event::Open(id, source, pass, ends) => self.open(id, source, pass, ends),
                Event::Ready(id) => self.advance(id),
                Event::News(job) => self.news(job),
                Event::Closed(id) => {
                    drop(self.forget(id));
                    self.cut.remove(&id);
                    self.count.fetch_sub(1, Ordering::SeqCst);
                }
                Event::Judge => self.judge(),
                Event::Shutdown => break,
            }
        }
        for stream in self.streams.values() {
            stream.end(gone());
        }
    }

    /// The next event; none when nobody can send one any more. Without streams nothing wakes the thread.
    fn wait(&mut self, inbox: &Receiver<Event>) -> Option<Event> {
        if self.streams.is_empty() && self.cut.is_empty() {
            return inbox.recv().ok();
        }
        // Also when events never cease.
        if Instant::now() >= self.judge_at {
            return Some(Event::Judge);
        }
        match inbox.recv_deadline(self.judge_at) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => Some(Event::Judge),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn judge(&mut self) {
        self.judge_at = Instant::now() + AGAIN;
        for (_, axe) in self.cut.drain() {
            let _ = axe.send(()); // gone meanwhile, or its "closed" is on its way
        }
        let judged = self.streams.iter().filter_map(|(id, stream)| Some((*id, stream.pass.check().err()?)));
        for (id, status) in judged.collect::<Vec<_>>() {
            self.cut(id, status);
        }
    }

    /// Ends a stream whose client has lost our trust.
    fn cut(&mut self, id: u64, status: RpcStatus) {
        let Some(stream) = self.forget(id) else { return };
        event!(Level::Warn, "log stream cut", jobId = stream.source.id, why = status.message());
        stream.end(status);
        self.cut.insert(id, stream.axe);
    }

    fn open(&mut self, id: u64, source: LogSource, pass: Pass, (queue, axe): Ends) {
        if self.streams.is_empty() && self.cut.is_empty() {
            self.judge_at = Instant::now() + AGAIN;
        }
        source.progress.watch();
        let room = Arc::new(Room { id, told: AtomicBool::new(false), events: self.events.clone() });
        // Between the check of the call and now there may have been a reload.
        let judged = pass.check();
        self.streams.insert(id, Stream { source, pass, reader: None, queue, axe, room });
        match judged {
            Ok(()) => self.advance(id),
            Err(status) => self.cut(id, status),
        }
    }

    fn news(&mut self, job: JobId) {
        let Some(list) = self.dry.get_mut(&job) else { return };
        let ids = std::mem::take(list);
        // Heard once for all of the job's streams, before any of them looks.
        if let Some(stream) = ids.iter().find_map(|id| self.streams.get(id)) {
            stream.source.progress.heard();
        }
        for id in ids {
            self.advance(id);
        }
        if self.dry.get(&job).is_some_and(Vec::is_empty) {
            self.dry.remove(&job);
        }
    }

    fn advance(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.room.told.store(false, Ordering::SeqCst);
        loop {
            match stream.advance() {
                Next::Full => {}
                Next::Dry => match self.dry.get_mut(&stream.source.id) {
                    Some(list) => list.push(id),
                    // Nobody waited for news, so nobody has heard the last ones: it looks again after that.
                    None => {
                        stream.source.progress.heard();
                        self.dry.insert(stream.source.id, Vec::new());
                        continue;
                    }
                },
                Next::Again => stream.room.tell(),
                Next::Forget => drop(self.forget(id)),
            }
            return;
        }
    }

    fn forget(&mut self, id: u64) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        if let Some(list) = self.dry.get_mut(&stream.source.id) {
            list.retain(|other| *other != id);
            if list.is_empty() {
                self.dry.remove(&stream.source.id);
            }
        }
        Some(stream)
    }
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;
