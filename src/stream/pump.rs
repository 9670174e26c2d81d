//! The thread that moves items from all sources into the queues of their streams.
//!
//! Events drive it: a stream was opened or closed, a watermark has moved, a stream has room again. Such a stream gets a
//! turn: it is *advanced*, which moves items from its [`Source`] into its queue until the queue is full (its reader
//! wakes the pump through the stream's waker), the source is pending (its [`Watermark`] wakes the pump), or the slice
//! of its client is over. Reading blocks on the disk at worst, never on a client. A source that ends at a time of day is
//! called again at that time.
//!
//! Clients take turns ([`turns`](super::turns)): each has a slice of [`SLICE`], in which its own streams take turns. A line that a
//! client waits for is thus delayed by one slice of each other client that reads at that moment, however many streams
//! those have. All events that have come are noted before each slice.
//!
//! The queue of events has no bound of its own. Its content is bounded: for each stream at most one "ready", one
//! "open" and one "closed", for each listener one "moved", and at most [`STREAMS`] streams.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use futures_channel::{mpsc, oneshot};
use futures_util::Stream as _;

use super::source::{Next, Source};
use super::turns::Turns;
use super::watermark::{Listener, Watermark};

/// Items in a stream's queue beside one: none. An item may have 16 KiB, and thousands of clients that do not read have
/// as many queues.
const QUEUED: usize = 0;
/// Time of one client before the others have theirs. A step of a source may exceed it, by a read of the disk at most.
const SLICE: Duration = Duration::from_millis(1);
/// Events that are noted between two slices, so that events alone never keep streams from their turns.
const EVENTS: usize = 1024;
/// Most streams at one time. Each has one item in its queue and the open files of its source.
pub const STREAMS: usize = 4096;
/// Longest time between two checks whether the clients of open streams may go on reading.
const RECHECK: Duration = Duration::from_secs(30);

/// An element of a stream's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queued<T, E> {
    /// An item of the source.
    Item(T),
    /// The end of the stream, always its last element: a queue that ends without it has lost its pump.
    End(Result<(), E>),
}

/// The reason why a stream was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// As many streams are open as may be.
    #[error("too many streams: {STREAMS} are open already; try again")]
    TooMany,
    /// The pump has been shut down.
    #[error("all streams have been shut down")]
    Closed,
}

/// The check whether a stream's client may go on reading; an error ends the stream.
pub type Recheck<E> = Box<dyn Fn() -> Result<(), E> + Send>;

/// The identity of a watermark that some stream keeps alive.
type Key = usize;

/// The number that tells the clients of streams apart, whatever it is made of. Streams of one client share its slices.
pub type Client = u64;

enum Event<E> {
    Open(u64, Box<OpenStream<E>>),
    Ready(u64),
    Moved(Key),
    Closed(u64),
    /// Time has passed: [`PumpThread::wait`] finds out what is due.
    Timeout,
    /// It is the turn of a client.
    Slice,
    Recheck,
    Shutdown(E),
}

/// The handle of the pump thread. `E` is the value that ends a stream early.
pub struct Pump<E> {
    events: Sender<Event<E>>,
    /// The next stream's number; numbers are never used twice.
    next: Arc<AtomicU64>,
    /// Streams that the pump has not forgotten yet.
    streams: Arc<AtomicUsize>,
}

impl<E> Clone for Pump<E> {
    fn clone(&self) -> Self {
        Pump { events: self.events.clone(), next: self.next.clone(), streams: self.streams.clone() }
    }
}

impl<E> fmt::Debug for Pump<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pump({} streams)", self.streams())
    }
}

impl<E> Pump<E> {
    /// Streams that are open, or whose end the pump has not noticed yet.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }
}

impl<E: Clone + Send + 'static> Pump<E> {
    /// Starts the thread under this name.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn start(name: &str) -> io::Result<Self> {
        let (events, inbox) = crossbeam_channel::unbounded();
        let pump = Pump { events, next: Arc::default(), streams: Arc::default() };
        let pump_thread = PumpThread {
            count: pump.streams.clone(),
            streams: HashMap::new(),
            ending: HashMap::new(),
            idle: HashMap::new(),
            turns: Turns::default(),
            events: 0,
            recheck_at: Instant::now(),
            alarms: BTreeSet::new(),
        };
        thread::Builder::new().name(name.into()).spawn(move || pump_thread.run(&inbox))?;
        Ok(pump)
    }

    /// Opens a stream of this source's items for a client, as long as `recheck` lets it read.
    ///
    /// # Errors
    /// Too many streams are open, or the pump has been shut down.
    pub fn open<S: Source<Error = E>>(
        &self,
        client: Client,
        source: S,
        recheck: Recheck<E>,
    ) -> Result<StreamReader<S::Item, E>, OpenError> {
        if self.streams.fetch_add(1, Ordering::SeqCst) >= STREAMS {
            self.streams.fetch_sub(1, Ordering::SeqCst);
            return Err(OpenError::TooMany);
        }
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let (queue, items) = mpsc::channel(QUEUED);
        let (cancel, canceled) = oneshot::channel();
        let reader = StreamReader { items, canceled, id, events: self.events.clone() };
        let room = Arc::new(Room { id, pending: AtomicBool::new(false), events: self.events.clone() });
        let stream = OpenStream {
            client,
            has_turn: false,
            watermark: source.watermark().clone(),
            recheck,
            cancel,
            room,
            wake_at: source.wake_at(),
            flow: Box::new(Flow { source, queue }),
        };
        match self.events.send(Event::Open(id, Box::new(stream))) {
            Ok(()) => Ok(reader),
            Err(_) => Err(OpenError::Closed),
        }
    }

    /// Ends the streams of clients that may not go on reading.
    pub fn recheck(&self) {
        // Without a thread there are no streams.
        let _ = self.events.send(Event::Recheck);
    }

    /// Ends every stream with `why`, then the thread.
    pub fn shut_down(&self, why: E) {
        let _ = self.events.send(Event::Shutdown(why));
    }
}

/// The reading end of a stream. However it goes (sent, refused, client gone, call canceled), the pump notices.
pub struct StreamReader<T, E> {
    items: mpsc::Receiver<Queued<T, E>>,
    /// Ready when the pump has waited long enough for the stream to end.
    canceled: oneshot::Receiver<()>,
    id: u64,
    events: Sender<Event<E>>,
}

impl<T, E> StreamReader<T, E> {
    /// The next element, as [`futures_util::Stream::poll_next`].
    pub fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Queued<T, E>>> {
        Pin::new(&mut self.items).poll_next(cx)
    }

    /// Ready when the caller must give the stream up, whatever is still to be sent.
    pub fn poll_canceled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match Pin::new(&mut self.canceled).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            // A stream that the pump has forgotten has its last element.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl<T, E> Drop for StreamReader<T, E> {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Closed(self.id));
    }
}

impl<T, E> fmt::Debug for StreamReader<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamReader({})", self.id)
    }
}

/// Wakes the pump for a stream that has room, once until the stream is advanced.
struct Room<E> {
    id: u64,
    pending: AtomicBool,
    events: Sender<Event<E>>,
}

impl<E> Room<E> {
    fn notify(&self) {
        if !self.pending.swap(true, Ordering::SeqCst) {
            let _ = self.events.send(Event::Ready(self.id));
        }
    }
}

impl<E: Send + 'static> Wake for Room<E> {
    fn wake(self: Arc<Self>) {
        self.notify();
    }
}

/// The pump's end of a stream.
struct OpenStream<E> {
    client: Client,
    /// Whether it stands among the streams that have something to do.
    has_turn: bool,
    watermark: Arc<Watermark>,
    recheck: Recheck<E>,
    cancel: oneshot::Sender<()>,
    room: Arc<Room<E>>,
    /// The time at which to advance it although its watermark has not moved.
    wake_at: Option<SystemTime>,
    flow: Box<dyn Advance<E>>,
}

/// The state of a stream after its turn.
#[derive(Debug, PartialEq, Eq)]
enum AfterTurn {
    /// Its queue is full: its reader wakes it.
    Full,
    /// It has read everything: its watermark wakes it.
    Idle,
    /// It has more, and its client's time is over.
    Again,
    /// It has its last element, or its reader is gone.
    Done,
}

/// A source with its queue, whatever its items are.
trait Advance<E>: Send {
    /// Fills the queue until that time; its reader wakes the stream through `cx`.
    fn advance(&mut self, cx: &mut Context<'_>, until: Instant) -> AfterTurn;
    /// Sends the end although the queue may be full.
    fn end(&self, why: E);
}

struct Flow<S: Source> {
    source: S,
    queue: mpsc::Sender<Queued<S::Item, S::Error>>,
}

impl<S: Source> Advance<S::Error> for Flow<S> {
    fn advance(&mut self, cx: &mut Context<'_>, until: Instant) -> AfterTurn {
        loop {
            match self.queue.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return AfterTurn::Done,
                Poll::Pending => return AfterTurn::Full,
            }
            let element = match self.source.next() {
                Ok(Next::Item(item)) => Queued::Item(item),
                Ok(Next::Yield) if Instant::now() < until => continue,
                Ok(Next::Yield) => return AfterTurn::Again,
                Ok(Next::Pending) => return AfterTurn::Idle,
                Ok(Next::End) => Queued::End(Ok(())),
                Err(why) => Queued::End(Err(why)),
            };
            let last = matches!(element, Queued::End(_));
            if self.queue.start_send(element).is_err() || last {
                return AfterTurn::Done;
            }
            if Instant::now() >= until {
                return AfterTurn::Again;
            }
        }
    }

    fn end(&self, why: S::Error) {
        // Every sender has a slot of its own in the queue, also a clone.
        let _ = self.queue.clone().start_send(Queued::End(Err(why)));
    }
}

impl<E: Send + 'static> OpenStream<E> {
    fn advance(&mut self, until: Instant) -> AfterTurn {
        let waker = Waker::from(self.room.clone());
        self.flow.advance(&mut Context::from_waker(&waker), until)
    }

    fn key(&self) -> Key {
        Arc::as_ptr(&self.watermark).addr()
    }

    fn listen(&self) -> Listener {
        let (key, events) = (self.key(), self.room.events.clone());
        self.watermark.listen(Box::new(move || {
            // Nobody receives after the shutdown.
            let _ = events.send(Event::Moved(key));
        }))
    }
}

/// The streams that wait for one watermark.
struct Idle {
    listener: Listener,
    streams: Vec<u64>,
}

struct PumpThread<E> {
    count: Arc<AtomicUsize>,
    streams: HashMap<u64, OpenStream<E>>,
    /// Streams that were ended because their client may not read any more, and whose reader has not gone yet.
    ending: HashMap<u64, oneshot::Sender<()>>,
    /// Streams that wait for their watermark. Streams that wait for their readers are not here: a crowd that does not
    /// read costs nothing when a watermark moves.
    idle: HashMap<Key, Idle>,
    /// Streams that have something to do.
    turns: Turns<Client>,
    /// Events since the last slice.
    events: usize,
    /// The time of the next recheck, if there are streams then.
    recheck_at: Instant,
    /// Times at which streams are to be advanced.
    alarms: BTreeSet<(SystemTime, u64)>,
}

impl<E: Clone + Send + 'static> PumpThread<E> {
    fn run(mut self, inbox: &Receiver<Event<E>>) {
        while let Some(event) = self.wait(inbox) {
            match event {
                Event::Open(id, stream) => self.open(id, *stream),
                Event::Ready(id) => self.give_turn(id),
                Event::Moved(key) => self.wake_idle(key),
                Event::Slice => self.slice(),
                Event::Closed(id) => {
                    drop(self.forget(id));
                    self.ending.remove(&id);
                    self.count.fetch_sub(1, Ordering::SeqCst);
                }
                Event::Timeout => {}
                Event::Recheck => self.recheck(),
                Event::Shutdown(why) => {
                    self.streams.values().for_each(|stream| stream.flow.end(why.clone()));
                    return;
                }
            }
        }
    }

    /// The next event; none when nobody can send one any more. Without streams nothing wakes the thread.
    fn wait(&mut self, inbox: &Receiver<Event<E>>) -> Option<Event<E>> {
        if self.streams.is_empty() && self.ending.is_empty() {
            return inbox.recv().ok();
        }
        // Before the inbox, because events may never cease.
        if Instant::now() >= self.recheck_at {
            return Some(Event::Recheck);
        }
        // The time of day may be set: no wait is longer than that for the next recheck.
        let alarm = self.alarms.first().copied();
        let to_alarm = alarm.map(|(at, _)| at.duration_since(SystemTime::now()).unwrap_or_default());
        if let (Some(Duration::ZERO), Some((at, id))) = (to_alarm, alarm) {
            self.alarms.remove(&(at, id));
            return Some(Event::Ready(id));
        }
        if !self.turns.is_empty() {
            self.events += 1;
            let event = if self.events > EVENTS { None } else { inbox.try_recv().ok() };
            // A stream has a sender too, so the inbox is not closed.
            return Some(event.unwrap_or(Event::Slice));
        }
        let wake_at = to_alarm.map_or(self.recheck_at, |wait| self.recheck_at.min(Instant::now() + wait));
        match inbox.recv_deadline(wake_at) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => Some(Event::Timeout),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn recheck(&mut self) {
        self.recheck_at = Instant::now() + RECHECK;
        for (_, cancel) in self.ending.drain() {
            let _ = cancel.send(()); // gone meanwhile, or its "closed" is on its way
        }
        let refused = self.streams.iter().filter_map(|(id, stream)| Some((*id, (stream.recheck)().err()?)));
        for (id, why) in refused.collect::<Vec<_>>() {
            self.end(id, why);
        }
    }

    /// Ends a stream whose client may not read any more.
    fn end(&mut self, id: u64, why: E) {
        let Some(stream) = self.forget(id) else { return };
        stream.flow.end(why);
        self.ending.insert(id, stream.cancel);
    }

    fn open(&mut self, id: u64, stream: OpenStream<E>) {
        if self.streams.is_empty() && self.ending.is_empty() {
            self.recheck_at = Instant::now() + RECHECK;
        }
        // The client may have lost its permission since the caller opened the stream.
        let permitted = (stream.recheck)();
        self.alarms.extend(stream.wake_at.map(|at| (at, id)));
        self.streams.insert(id, stream);
        match permitted {
            Ok(()) => self.give_turn(id),
            Err(why) => self.end(id, why),
        }
    }

    /// Notes that a stream has something to do.
    fn give_turn(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if !std::mem::replace(&mut stream.has_turn, true) {
            self.turns.add(stream.client, id);
        }
    }

    /// Advances streams of the client whose turn it is.
    fn slice(&mut self) {
        self.events = 0;
        if self.turns.begin_slice().is_none() {
            return;
        }
        let until = Instant::now() + SLICE;
        while Instant::now() < until
            && let Some(id) = self.turns.next_stream()
        {
            self.advance(id, until);
        }
        self.turns.end_slice();
    }

    /// Gives a turn to the streams that wait for a watermark, which has moved.
    fn wake_idle(&mut self, key: Key) {
        let Some(idle) = self.idle.get_mut(&key) else { return };
        let ids = std::mem::take(&mut idle.streams);
        // Once for all these streams, before any of them looks at the watermark.
        idle.listener.acknowledge();
        if ids.is_empty() {
            // It moved again before any of them came back: until then it need not tell us.
            self.idle.remove(&key);
        }
        for id in ids {
            self.give_turn(id);
        }
    }

    fn advance(&mut self, id: u64, until: Instant) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.has_turn = false;
        stream.room.pending.store(false, Ordering::SeqCst);
        loop {
            match stream.advance(until) {
                AfterTurn::Full => {}
                AfterTurn::Idle => match self.idle.get_mut(&stream.key()) {
                    Some(idle) => idle.streams.push(id),
                    // Nobody listened, so the watermark may have moved since the source looked: it looks again.
                    None => {
                        let idle = Idle { listener: stream.listen(), streams: Vec::new() };
                        self.idle.insert(stream.key(), idle);
                        continue;
                    }
                },
                AfterTurn::Again => self.give_turn(id),
                AfterTurn::Done => drop(self.forget(id)),
            }
            return;
        }
    }

    fn forget(&mut self, id: u64) -> Option<OpenStream<E>> {
        let stream = self.streams.remove(&id)?;
        if let Some(at) = stream.wake_at {
            self.alarms.remove(&(at, id));
        }
        if let Some(idle) = self.idle.get_mut(&stream.key()) {
            idle.streams.retain(|other| *other != id);
            if idle.streams.is_empty() {
                self.idle.remove(&stream.key());
            }
        }
        Some(stream)
    }
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;
