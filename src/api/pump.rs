//! The thread that feeds all streams: of jobs' output, and of their samples.
//!
//! It is driven by events: a stream was opened or closed, a job has news, a stream has room again. A stream is
//! then *advanced*: messages go from its [`Feed`] into its queue until the queue is full (gRPC wakes us through
//! the stream's waker), there is nothing more (the job's [`Watermark`] tells), or its turn is over. Reading
//! blocks on the disk at worst, never on a client. A stream that ends at a time of day is looked at then.
//!
//! The queue of events has no bound of its own. What is in it is bounded: at most one "room" for each stream,
//! two "news" for each job and kind, one "opened" and one "closed" for each stream, and [`STREAMS`] streams.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use futures_channel::{mpsc, oneshot};
use futures_util::Stream as _;
use grpcio::{RpcStatus, RpcStatusCode};

use super::access::Peer;
use super::feed::{Fed, Feed, Kind};
use super::{ApiError, status};
use crate::daemon::command::CommandError;
use crate::diag::{Level, event};
use crate::job::JobId;
use crate::output::Watermark;
use crate::output::watermark::Notify;

/// What a stream's queue holds besides one message: nothing. A chunk has at most the 16 KiB that the collector
/// takes at a time, and thousands of clients that do not read have as many queues.
const QUEUED: usize = 0;
/// Messages of one stream before it is the others' turn.
const TURN: usize = 64;
/// Streams at one time: each has at most three files open and one message in its queue.
const STREAMS: usize = 4096;
/// Longest time from one look at the certificates of open streams to the next.
const AGAIN: Duration = Duration::from_secs(30);

/// What goes through a stream's queue.
pub(super) enum Item<M> {
    /// What the client asked for.
    Message(M),
    /// The end, and always the last item: a queue that ends without it lost its pump.
    End(RpcStatus),
}

/// What news are about.
type Subject = (JobId, Kind);

enum Event {
    Open(u64, Box<Stream>),
    Ready(u64),
    News(Subject),
    Closed(u64),
    /// Time has passed: [`PumpThread::wait`] looks for what that means.
    Alarm,
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
    /// Starts the thread. The second value is for the [`Watermark`] of every job's output.
    ///
    /// # Errors
    /// No thread.
    pub fn start() -> Result<(LogPump, Notify), ApiError> {
        let (events, inbox) = crossbeam_channel::unbounded();
        let pump = LogPump { events, next: Arc::default(), streams: Arc::default() };
        let thread_state = PumpThread {
            count: pump.streams.clone(),
            streams: HashMap::new(),
            cut: HashMap::new(),
            dry: HashMap::new(),
            judge_at: Instant::now(),
            alarms: BTreeSet::new(),
        };
        let spawned = thread::Builder::new().name("log-pump".into()).spawn(move || thread_state.run(&inbox));
        spawned.map_err(ApiError::StartPump)?;
        let tell = pump.tell(Kind::Output);
        Ok((pump, tell))
    }

    /// For the [`Watermark`] of every job's samples.
    pub fn tell_samples(&self) -> Notify {
        self.tell(Kind::Samples)
    }

    fn tell(&self, kind: Kind) -> Notify {
        let events = self.events.clone();
        Arc::new(move |job| {
            // Nobody listens after the shutdown.
            let _ = events.send(Event::News((job, kind)));
        })
    }

    /// Opens a stream of what this feed has.
    ///
    /// # Errors
    /// Too many streams, or the daemon is shutting down.
    pub(super) fn open<F: Feed>(&self, feed: F, peer: Peer) -> Result<Reading<F::Message>, RpcStatus> {
        if self.streams.fetch_add(1, Ordering::SeqCst) >= STREAMS {
            self.streams.fetch_sub(1, Ordering::SeqCst);
            let text = format!("too many streams: {STREAMS} are open already; try again");
            return Err(status::new(RpcStatusCode::RESOURCE_EXHAUSTED, &text));
        }
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let (queue, items) = mpsc::channel(QUEUED);
        let (cancel, cut) = oneshot::channel();
        let reading = Reading { items, cut, id, events: self.events.clone() };
        let room = Arc::new(Room { id, told: AtomicBool::new(false), events: self.events.clone() });
        let stream = Stream {
            subject: (feed.id(), F::KIND),
            watermark: feed.watermark().clone(),
            peer,
            cancel,
            room,
            until: feed.until(),
            source: Box::new(Filling { feed, queue }),
        };
        match self.events.send(Event::Open(id, Box::new(stream))) {
            Ok(()) => Ok(reading),
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
pub(super) struct Reading<M> {
    items: mpsc::Receiver<Item<M>>,
    /// Ready when the pump has waited long enough for the stream to end.
    cut: oneshot::Receiver<()>,
    id: u64,
    events: Sender<Event>,
}

impl<M> Reading<M> {
    /// The next item, as [`futures_util::Stream::poll_next`].
    pub(super) fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item<M>>> {
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

impl<M> Drop for Reading<M> {
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

/// The pump's end of a stream.
struct Stream {
    subject: Subject,
    watermark: Arc<Watermark>,
    peer: Peer,
    cancel: oneshot::Sender<()>,
    room: Arc<Room>,
    /// When it is to be looked at although there are no news.
    until: Option<SystemTime>,
    source: Box<dyn StreamSource>,
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

/// A feed with its queue, whatever kind of message goes through.
trait StreamSource: Send {
    /// Fills the queue for one turn; who reads it wakes through `cx`.
    fn advance(&mut self, cx: &mut Context<'_>) -> Next;
    /// Sends the end although the queue may be full.
    fn end(&self, status: RpcStatus);
}

struct Filling<F: Feed> {
    feed: F,
    queue: mpsc::Sender<Item<F::Message>>,
}

impl<F: Feed> StreamSource for Filling<F> {
    fn advance(&mut self, cx: &mut Context<'_>) -> Next {
        for _ in 0..TURN {
            match self.queue.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Next::Forget,
                Poll::Pending => return Next::Full,
            }
            let item = match self.feed.next() {
                Ok(Fed::Message(message)) => Item::Message(message),
                Ok(Fed::Again) => continue,
                Ok(Fed::Dry) => return Next::Dry,
                Ok(Fed::End) => Item::End(RpcStatus::ok()),
                Err(status) => Item::End(status),
            };
            let last = matches!(item, Item::End(_));
            if self.queue.start_send(item).is_err() || last {
                return Next::Forget;
            }
        }
        Next::Again
    }

    fn end(&self, status: RpcStatus) {
        // Every sender has a place of its own in the queue, also a clone.
        let _ = self.queue.clone().start_send(Item::End(status));
    }
}

impl Stream {
    fn advance(&mut self) -> Next {
        let waker = Waker::from(self.room.clone());
        self.source.advance(&mut Context::from_waker(&waker))
    }
}

struct PumpThread {
    count: Arc<AtomicUsize>,
    streams: HashMap<u64, Stream>,
    /// Streams that were told their end for lack of trust, and have not gone yet.
    cut: HashMap<u64, oneshot::Sender<()>>,
    /// Streams that wait for news of a job; news of jobs without an entry are not heard. Streams that wait for
    /// their clients are not here: a crowd that does not read costs nothing when there are news.
    dry: HashMap<Subject, Vec<u64>>,
    /// When to look at certificates next, if there are streams then.
    judge_at: Instant,
    /// When streams are to be looked at.
    alarms: BTreeSet<(SystemTime, u64)>,
}

impl PumpThread {
    fn run(mut self, inbox: &Receiver<Event>) {
        while let Some(event) = self.wait(inbox) {
            match event {
                Event::Open(id, stream) => self.open(id, *stream),
                Event::Ready(id) => self.advance(id),
                Event::News(subject) => self.news(subject),
                Event::Closed(id) => {
                    drop(self.forget(id));
                    self.cut.remove(&id);
                    self.count.fetch_sub(1, Ordering::SeqCst);
                }
                Event::Alarm => {}
                Event::Judge => self.judge(),
                Event::Shutdown => break,
            }
        }
        for stream in self.streams.values() {
            stream.source.end(gone());
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
        // A time of day, which may be set: the longest wait is that for the next look at certificates.
        let alarm = self.alarms.first().copied();
        let to_alarm = alarm.map(|(at, _)| at.duration_since(SystemTime::now()).unwrap_or_default());
        if let (Some(Duration::ZERO), Some((at, id))) = (to_alarm, alarm) {
            self.alarms.remove(&(at, id));
            return Some(Event::Ready(id));
        }
        let wake_at = to_alarm.map_or(self.judge_at, |wait| self.judge_at.min(Instant::now() + wait));
        match inbox.recv_deadline(wake_at) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => Some(Event::Alarm),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn judge(&mut self) {
        self.judge_at = Instant::now() + AGAIN;
        for (_, cancel) in self.cut.drain() {
            let _ = cancel.send(()); // gone meanwhile, or its "closed" is on its way
        }
        let judged = self.streams.iter().filter_map(|(id, stream)| Some((*id, stream.peer.check().err()?)));
        for (id, status) in judged.collect::<Vec<_>>() {
            self.cut(id, status);
        }
    }

    /// Ends a stream whose client has lost our trust.
    fn cut(&mut self, id: u64, status: RpcStatus) {
        let Some(stream) = self.forget(id) else { return };
        event!(Level::Warn, "stream cut", jobId = stream.subject.0, why = status.message());
        stream.source.end(status);
        self.cut.insert(id, stream.cancel);
    }

    fn open(&mut self, id: u64, stream: Stream) {
        if self.streams.is_empty() && self.cut.is_empty() {
            self.judge_at = Instant::now() + AGAIN;
        }
        stream.watermark.watch();
        // Between the check of the call and now there may have been a reload.
        let judged = stream.peer.check();
        self.alarms.extend(stream.until.map(|at| (at, id)));
        self.streams.insert(id, stream);
        match judged {
            Ok(()) => self.advance(id),
            Err(status) => self.cut(id, status),
        }
    }

    fn news(&mut self, subject: Subject) {
        let Some(list) = self.dry.get_mut(&subject) else { return };
        let ids = std::mem::take(list);
        // Heard once for all of the job's streams, before any of them looks.
        if let Some(stream) = ids.iter().find_map(|id| self.streams.get(id)) {
            stream.watermark.acknowledged();
        }
        for id in ids {
            self.advance(id);
        }
        if self.dry.get(&subject).is_some_and(Vec::is_empty) {
            self.dry.remove(&subject);
        }
    }

    fn advance(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.room.told.store(false, Ordering::SeqCst);
        loop {
            match stream.advance() {
                Next::Full => {}
                Next::Dry => match self.dry.get_mut(&stream.subject) {
                    Some(list) => list.push(id),
                    // Nobody waited for news, so nobody has heard the last ones: it looks again after that.
                    None => {
                        stream.watermark.acknowledged();
                        self.dry.insert(stream.subject, Vec::new());
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
        if let Some(at) = stream.until {
            self.alarms.remove(&(at, id));
        }
        if let Some(list) = self.dry.get_mut(&stream.subject) {
            list.retain(|other| *other != id);
            if list.is_empty() {
                self.dry.remove(&stream.subject);
            }
        }
        Some(stream)
    }
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;
