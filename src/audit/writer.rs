//! The thread that writes lines, and the way to it.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use futures_channel::oneshot;
use log::Level;
use mio::{Events, Poll, Token, Waker};

use super::fold::{Fold, Told};
use super::patience::Patience;
use super::trail::Trail;
use super::{AuditError, Entry, Event, OnFull, QUEUE, Query, Reader, SYNC, Settings};
use crate::diag;
use crate::stream::Watermark;
use crate::sys::clock::now_ns;
use crate::sys::mailbox::{Inbox, Mailbox, mailbox};
use crate::sys::thread::schedule_first;

/// Most lines of one write.
const BATCH: usize = 512;
/// How long a thread that is no event loop waits for its line.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a call may not go on.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the audit trail cannot be written: {0}; nothing was changed; make room for audit.directory, or set audit.onFull: continue"
)]
pub struct Unwritten(String);

/// The answer to a line.
type Written = Result<(), Unwritten>;

/// Makes the line of a refusal.
type MakeEntry = Box<dyn FnOnce() -> Entry + Send>;

enum Message {
    /// A call begins when its line is written.
    Request(Box<Entry>, oneshot::Sender<Written>),
    /// The line of something that has happened; its sender goes when it is written, or lost.
    Told(Box<Entry>, Option<oneshot::Sender<Written>>),
    Refused([u8; 32], &'static str, &'static str, MakeEntry),
    /// Writes all that waits, to the disk.
    Flush(Sender<()>),
}

/// The work of the trail so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Lines that were written.
    pub written: u64,
    /// Lines that could not be written.
    pub lost: u64,
}

#[derive(Debug)]
struct Shared {
    queue: Mailbox<Message>,
    patience: Patience,
    settings: Settings,
    watermark: Arc<Watermark>,
    written: AtomicU64,
    lost: AtomicU64,
    /// Lost lines that no line tells of yet.
    untold: AtomicU64,
    /// The beginning of this daemon, which makes the names of its calls its own.
    born_ns: i64,
    calls: AtomicU64,
    /// Why the last line could not be written; empty: it could.
    trouble: Mutex<String>,
}

/// The way to the trail, for every thread; where there is none, it does nothing.
#[derive(Debug, Clone, Default)]
pub struct Audit(Option<Arc<Shared>>);

impl Audit {
    /// Opens the trail and starts its thread.
    ///
    /// # Errors
    /// The directory cannot be used, another daemon has it, or there is no thread.
    pub fn start(settings: Settings) -> Result<Audit, AuditError> {
        let trail = Trail::open(&settings)?;
        let poll = Poll::new().map_err(AuditError::Start)?;
        let waker = Waker::new(poll.registry(), Token(0)).map_err(AuditError::Start)?;
        let (queue, inbox) = mailbox(QUEUE, Arc::new(waker));
        let shared = Arc::new(Shared {
            queue,
            patience: Patience::default(),
            settings,
            watermark: Watermark::new(),
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            untold: AtomicU64::new(0),
            born_ns: now_ns(),
            calls: AtomicU64::new(0),
            trouble: Mutex::default(),
        });
        let (syncs, files) = bounded(1);
        let writer = Writer { trail, shared: shared.clone(), fold: Fold::default(), sync_at: None, syncs };
        start_thread("audit-sync", move || files.into_iter().for_each(sync))?;
        start_thread("audit", move || writer.run(poll, &inbox))?;
        Ok(Audit(Some(shared)))
    }

    /// Whether there is a trail.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A name for a call that no other call has.
    pub fn call(&self) -> String {
        let Some(shared) = &self.0 else { return String::new() };
        format!("{:x}-{}", shared.born_ns, shared.calls.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Has the line of a call written that is about to begin.
    ///
    /// # Errors
    /// It cannot be written, and [`OnFull::Block`] is set: the call must not begin.
    pub async fn request(&self, entry: Entry) -> Written {
        let Some(shared) = &self.0 else { return Ok(()) };
        let (tell, written) = oneshot::channel();
        if shared.send(Message::Request(Box::new(entry), tell)) {
            return shared.patience.answer(written).await.unwrap_or(Ok(()));
        }
        shared.lose(1);
        match shared.settings.on_full {
            OnFull::Block => Err(Unwritten(format!("{QUEUE} lines wait already"))),
            OnFull::Continue => Ok(()),
        }
    }

    /// Has the line of what has happened written, and waits for that. A line that cannot be written is counted.
    pub async fn told(&self, entry: Entry) {
        let Some(shared) = &self.0 else { return };
        let (tell, written) = oneshot::channel();
        match shared.send(Message::Told(Box::new(entry), Some(tell))) {
            true => drop(shared.patience.answer(written).await),
            false => shared.lose(1),
        }
    }

    /// The same without a wait.
    pub fn note(&self, entry: Entry) {
        if let Some(shared) = &self.0
            && !shared.send(Message::Told(Box::new(entry), None))
        {
            shared.lose(1);
        }
    }

    /// Notes a refused call of the client with this key. `entry` makes the line, where it is the first of its kind in a minute.
    pub fn refused(
        &self,
        client: [u8; 32],
        method: &'static str,
        code: &'static str,
        entry: impl FnOnce() -> Entry + Send + 'static,
    ) {
        if let Some(shared) = &self.0
            && !shared.send(Message::Refused(client, method, code, Box::new(entry)))
        {
            shared.lose(1);
        }
    }

    /// Waits, a few seconds at most, until the disk has all lines so far. It blocks.
    pub fn flush(&self) {
        let Some(shared) = &self.0 else { return };
        let (done, flushed) = bounded(1);
        if shared.send(Message::Flush(done)) {
            let _ = flushed.recv_timeout(PATIENCE);
        }
    }

    /// Written and lost lines; `None`: there is no trail.
    pub fn counters(&self) -> Option<Counters> {
        self.0.as_ref().map(|shared| Counters {
            written: shared.written.load(Ordering::Relaxed),
            lost: shared.lost.load(Ordering::Relaxed),
        })
    }

    /// A cursor over the lines that a query asks for; `None`: there is no trail.
    pub fn reader(&self, query: Query) -> Option<Reader> {
        let shared = self.0.as_ref()?;
        Some(Reader::new(shared.settings.directory.clone(), shared.watermark.clone(), query))
    }
}

impl Shared {
    fn send(&self, message: Message) -> bool {
        self.queue.try_send(message).is_ok()
    }

    fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
        self.untold.fetch_add(lines, Ordering::Relaxed);
    }
}

/// Starts a thread before which no ordinary load comes: a call waits for its line. Both threads of the trail are such, because they
/// share a queue without locks ([`crate::sys::mailbox`]).
fn start_thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), AuditError> {
    let work = move || {
        // A tuning. The loop, which asks for the same, says where the host refuses it.
        let _ = schedule_first();
        work();
    };
    std::thread::Builder::new().name(name.into()).spawn(work).map(drop).map_err(AuditError::Start)
}

/// Lines of one write, and who waits for them.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    waiting: Vec<oneshot::Sender<Written>>,
}

impl Batch {
    /// Tells everybody, whether or not they still wait.
    fn answer(self, written: &Written) {
        for sender in self.waiting {
            let _ = sender.send(written.clone());
        }
    }
}

struct Writer {
    trail: Trail,
    shared: Arc<Shared>,
    fold: Fold,
    /// When the disk is to have what was written.
    sync_at: Option<Instant>,
    /// To the thread that waits for the disk, so that no call does.
    syncs: Sender<ToSync>,
}

/// A file to sync, and who waits for that.
type ToSync = (File, Vec<Sender<()>>);

fn sync((file, waiting): ToSync) {
    if let Err(why) = file.sync_data() {
        diag::limited!(Level::Error, "the disk did not take the audit trail", error = why);
    }
    for done in waiting {
        let _ = done.send(());
    }
}

impl Writer {
    fn run(mut self, mut poll: Poll, inbox: &Inbox<Message>) {
        let mut events = Events::with_capacity(1);
        loop {
            let due = [self.sync_at, self.fold.due()].into_iter().flatten().min();
            let wait = due.map(|at| at.saturating_duration_since(Instant::now()));
            match poll.poll(&mut events, wait) {
                Err(why) if why.kind() != io::ErrorKind::Interrupted => {
                    diag::event!(Level::Error, "the audit trail has ended", error = why);
                    return;
                }
                _ => {}
            }
            let messages: Vec<Message> = std::iter::from_fn(|| inbox.take()).take(BATCH).collect();
            if messages.len() == BATCH {
                inbox.wake();
            }
            self.turn(messages);
        }
    }

    fn turn(&mut self, messages: Vec<Message>) {
        let now = Instant::now();
        let (mut requests, mut told, mut flushes) = (Batch::default(), Batch::default(), Vec::new());
        for message in messages {
            match message {
                Message::Request(entry, tell) => {
                    requests.entries.push(entry.bounded());
                    requests.waiting.push(tell);
                }
                Message::Told(entry, tell) => {
                    told.entries.push(entry.bounded());
                    told.waiting.extend(tell);
                }
                Message::Refused(client, method, code, entry) => {
                    match self.fold.take((client, method, code), now, entry) {
                        Told::Line(entry) => told.entries.push(*entry),
                        Told::Counted => {}
                        Told::Lost => self.shared.lose(1),
                    }
                }
                Message::Flush(done) => flushes.push(done),
            }
        }
        told.entries.extend(self.fold.over(now, !flushes.is_empty()));
        self.write(told, false);
        self.write(requests, true);
        if self.sync_at.is_some_and(|at| at <= now) || !flushes.is_empty() {
            self.sync(flushes);
        }
    }

    /// Has the newest file synced. A disk that has not taken the one before gets another chance later; who flushes waits.
    fn sync(&mut self, flushes: Vec<Sender<()>>) {
        let again = Some(Instant::now() + SYNC);
        self.sync_at = match self.trail.newest() {
            Ok(file) if !flushes.is_empty() => self.syncs.send((file, flushes)).err().and(again),
            Ok(file) => self.syncs.try_send((file, flushes)).err().and(again),
            Err(why) => {
                diag::limited!(Level::Error, "the audit trail cannot be synced", error = why);
                again
            }
        };
    }

    /// Writes lines, behind one about those that were lost.
    fn write(&mut self, mut batch: Batch, requests: bool) {
        if batch.entries.is_empty() {
            return;
        }
        let lines = batch.entries.len() as u64;
        let untold = self.shared.untold.swap(0, Ordering::Relaxed);
        if untold > 0 {
            let why = self.trouble().clone();
            batch.entries.insert(0, Entry { times: untold, why, ..Entry::new(Event::Gap) });
        }
        let blocks = self.shared.settings.on_full == OnFull::Block;
        match self.trail.append(&batch.entries, now_ns(), requests && blocks) {
            Ok(()) => {
                self.trouble().clear();
                let written = self.shared.written.fetch_add(lines, Ordering::Relaxed) + lines;
                self.sync_at.get_or_insert_with(|| Instant::now() + SYNC);
                batch.answer(&Ok(()));
                self.shared.watermark.publish(written);
            }
            Err(why) => {
                diag::limited!(
                    Level::Error,
                    "the audit trail cannot be written",
                    error = why,
                    remedy = "make room for audit.directory"
                );
                *self.trouble() = why.to_string();
                self.shared.untold.fetch_add(untold, Ordering::Relaxed);
                let refuses = requests && blocks;
                // A call that is refused leaves no gap: nothing was done.
                if !refuses {
                    self.shared.lose(lines);
                }
                batch.answer(&if refuses { Err(Unwritten(why.to_string())) } else { Ok(()) });
            }
        }
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
