//! The thread that has all inputs.
//!
//! The inbox has at most one item of each open call, and an opening and a closing of each input.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use log::Level;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::NODE_BYTES;
use super::error::InputError;
use super::store::{Step, Store};
use crate::diag;
use crate::job::exec::ExecId;
use crate::sys::mailbox::{Inbox, Mailbox, mailbox};

/// Items that may wait: far more than can exist.
const ITEMS: usize = 1 << 16;
/// Items that are taken in, and inputs that have a turn, before the others are looked at.
const AT_ONCE: usize = 64;
/// How long a write waits for memory of the node.
const SHORTAGE: Duration = Duration::from_secs(20);
/// The time between two tries of what nothing wakes.
const AGAIN: Duration = Duration::from_secs(1);
/// The token of the waker. Others are numbers of inputs.
const WAKE: Token = Token(0);

/// Has joblet-init close its copies of an input. Called on the thread of the inputs: it does not wait.
type Finish = Box<dyn Fn() -> io::Result<()> + Send>;

/// The reason for which a client's hold on an input is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Nobody reads it any more.
    Closed,
    /// Another client has it.
    Taken,
    /// The daemon ends; the input goes on with the next one.
    DaemonEnds,
}

enum Item {
    Open(ExecId, Store, Finish),
    Attach { id: ExecId, holder: u64, take_over: bool, over: oneshot::Sender<Over>, answer: Answer<u64> },
    Write { id: ExecId, holder: u64, offset: u64, bytes: Vec<u8>, answer: Answer<u64> },
    End { id: ExecId, holder: u64, offset: u64, answer: Answer<u64> },
    Detach(ExecId, u64),
    Close(ExecId),
    EndCalls,
    Stop,
}

type Answer<T> = oneshot::Sender<Result<T, InputError>>;

/// The handle of the thread.
#[derive(Clone)]
pub struct Inputs {
    items: Mailbox<Item>,
    next: Arc<AtomicU64>,
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inputs")
    }
}

impl Inputs {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses it, or a descriptor.
    pub fn start() -> io::Result<Inputs> {
        let poll = Poll::new()?;
        let (items, inbox) = mailbox(ITEMS, Arc::new(Waker::new(poll.registry(), WAKE)?));
        let mover = Mover::new(poll);
        std::thread::Builder::new().name("inputs".into()).spawn(move || mover.run(&inbox))?;
        Ok(Inputs { items, next: Arc::new(AtomicU64::new(1)) })
    }

    /// Takes in the input of a payload or a command that was started, or taken over. `finish` is called when its program
    /// has everything, or reads no more.
    pub fn open(&self, id: ExecId, store: Store, finish: Finish) {
        let _ = self.send(Item::Open(id, store, finish));
    }

    /// The program of an input has ended.
    pub fn close(&self, id: ExecId) {
        let _ = self.send(Item::Close(id));
    }

    /// Ends the holds of all clients, and refuses new ones.
    pub fn end_calls(&self) {
        let _ = self.send(Item::EndCalls);
    }

    /// Ends the thread; the inputs stay with joblet-init.
    pub fn stop(&self) {
        let _ = self.send(Item::Stop);
    }

    /// Holds an input for a client: how it is written, bytes that it has accepted so far, and what tells that the hold is
    /// over.
    ///
    /// # Errors
    /// There is none, or another client holds it and `take_over` is not set.
    pub async fn attach(
        &self,
        id: ExecId,
        take_over: bool,
    ) -> Result<(Attachment, u64, oneshot::Receiver<Over>), InputError> {
        let holder = self.next.fetch_add(1, Ordering::SeqCst);
        let (over, is_over) = oneshot::channel();
        // Made before the answer: whoever stops waiting lets go.
        let attachment = Attachment { inputs: self.clone(), id, holder };
        let accepted = self.ask(|answer| Item::Attach { id, holder, take_over, over, answer }).await?;
        Ok((attachment, accepted, is_over))
    }

    async fn ask<T>(&self, item: impl FnOnce(Answer<T>) -> Item) -> Result<T, InputError> {
        let (answer, asked) = oneshot::channel();
        self.send(item(answer))?;
        asked.await.unwrap_or(Err(InputError::Closed))
    }

    fn send(&self, item: Item) -> Result<(), InputError> {
        // It is full only if the thread is stuck, and then nothing is moved anyway.
        self.items.try_send(item).map_err(|_| InputError::Closed)
    }
}

/// A client's hold on an input. Dropped, it lets go; the input goes on.
#[derive(Debug)]
pub struct Attachment {
    inputs: Inputs,
    id: ExecId,
    holder: u64,
}

impl Attachment {
    /// Sends bytes, at most [`CHUNK`](super::CHUNK), that stand at this offset; those that were accepted before are passed over. Returns
    /// when all are accepted, which may be as long as the program does not read: how many the input has then.
    ///
    /// # Errors
    /// They leave a gap, or are not accepted any more.
    pub async fn write(&self, offset: u64, bytes: Vec<u8>) -> Result<u64, InputError> {
        let Attachment { inputs, id, holder } = self;
        inputs.ask(|answer| Item::Write { id: *id, holder: *holder, offset, bytes, answer }).await
    }

    /// Ends the input behind this offset.
    ///
    /// # Errors
    /// As [`Attachment::write`].
    pub async fn end(&self, offset: u64) -> Result<u64, InputError> {
        let Attachment { inputs, id, holder } = self;
        inputs.ask(|answer| Item::End { id: *id, holder: *holder, offset, answer }).await
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let _ = self.inputs.send(Item::Detach(self.id, self.holder));
    }
}

/// A write of which something is not accepted yet.
struct Waiting {
    bytes: Vec<u8>,
    taken: usize,
    answer: Answer<u64>,
    /// Since when the node lacks memory for it.
    short_since: Option<Instant>,
}

struct Input {
    token: usize,
    store: Store,
    finish: Finish,
    holder: Option<(u64, oneshot::Sender<Over>)>,
    waiting: Option<Waiting>,
    /// Whether only joblet-init has to let go.
    is_over: bool,
}

impl Input {
    /// Takes nothing more: its program reads no more, or has everything.
    fn over(&mut self, how: Over) {
        self.is_over = true;
        self.let_go(how, &InputError::NotOpen);
    }

    /// Ends the client's hold.
    fn let_go(&mut self, how: Over, why: &InputError) {
        if let Some(Waiting { answer, .. }) = self.waiting.take() {
            let _ = answer.send(Err(why.clone()));
        }
        if let Some((_, over)) = self.holder.take() {
            let _ = over.send(how);
        }
    }

    /// Takes in what there is room for; whether the node has no memory for it.
    fn fill(&mut self, free: u64, now: Instant) -> bool {
        let Some(waiting) = &mut self.waiting else { return false };
        let rest = waiting.bytes.get(waiting.taken..).unwrap_or_default();
        let outcome = match self.store.accept(rest, free) {
            Ok(taken) => {
                waiting.taken += taken;
                let is_short = taken < rest.len() && taken as u64 == free;
                if is_short && now.duration_since(*waiting.short_since.get_or_insert(now)) < SHORTAGE {
                    return true;
                }
                if is_short {
                    Err(InputError::NodeFull)
                } else if waiting.taken < waiting.bytes.len() {
                    waiting.short_since = None;
                    return false;
                } else {
                    Ok(self.store.accepted())
                }
            }
            Err(why) => Err(InputError::Store(Arc::new(why))),
        };
        if let Some(Waiting { answer, .. }) = self.waiting.take() {
            let _ = answer.send(outcome);
        }
        false
    }
}

struct Mover {
    poll: Poll,
    next: usize,
    inputs: BTreeMap<ExecId, Input>,
    tokens: BTreeMap<usize, ExecId>,
    /// Inputs that have something to do.
    turns: VecDeque<ExecId>,
    /// The same, so that none has two turns.
    waiting: HashSet<ExecId>,
    /// Bytes of memory of all.
    held: u64,
    /// Inputs that are looked at again because nothing wakes them.
    again: HashSet<ExecId>,
    /// Whether no client may hold an input any more.
    closed: bool,
}

impl Mover {
    fn new(poll: Poll) -> Mover {
        Mover {
            poll,
            next: WAKE.0 + 1,
            inputs: BTreeMap::new(),
            tokens: BTreeMap::new(),
            turns: VecDeque::new(),
            waiting: HashSet::new(),
            held: 0,
            again: HashSet::new(),
            closed: false,
        }
    }

    fn run(mut self, inbox: &Inbox<Item>) {
        let mut events = Events::with_capacity(256);
        loop {
            let timeout = match (self.turns.is_empty(), self.again.is_empty()) {
                (false, _) => Some(Duration::ZERO),
                (true, false) => Some(AGAIN),
                (true, true) => None,
            };
            if let Err(why) = self.poll.poll(&mut events, timeout)
                && why.kind() != io::ErrorKind::Interrupted
            {
                diag::limited!(Level::Error, "the thread of inputs cannot wait", error = why);
            }
            for event in &events {
                self.note(event.token(), event.is_error() || event.is_write_closed());
            }
            for taken in 0.. {
                if taken == AT_ONCE {
                    inbox.wake();
                    break;
                }
                match inbox.take() {
                    Some(Item::Stop) => return,
                    Some(item) => self.handle(item),
                    None => break,
                }
            }
            for id in std::mem::take(&mut self.again) {
                self.give_turn(id);
            }
            for _ in 0..AT_ONCE {
                let Some(id) = self.turns.pop_front() else { break };
                self.waiting.remove(&id);
                self.turn(id);
            }
        }
    }

    fn note(&mut self, token: Token, is_closed: bool) {
        let Some(id) = self.tokens.get(&token.0).copied() else { return };
        if is_closed && let Some(input) = self.inputs.get_mut(&id) {
            input.over(Over::Closed);
        }
        self.give_turn(id);
    }

    fn give_turn(&mut self, id: ExecId) {
        if self.waiting.insert(id) {
            self.turns.push_back(id);
        }
    }

    fn handle(&mut self, item: Item) {
        match item {
            Item::Open(id, store, finish) => self.open(id, store, finish),
            Item::Attach { id, holder, take_over, over, answer } => {
                let _ = answer.send(self.attach(id, (holder, over), take_over));
            }
            Item::Write { id, holder, offset, bytes, answer } => match self.held_by(id, holder) {
                Ok(input) => match rest(offset, bytes, input.store.accepted()) {
                    Ok(bytes) => {
                        input.waiting = Some(Waiting { bytes, taken: 0, answer, short_since: None });
                        self.give_turn(id);
                    }
                    Err(why) => drop(answer.send(Err(why))),
                },
                Err(why) => drop(answer.send(Err(why))),
            },
            Item::End { id, holder, offset, answer } => {
                let ended = self.held_by(id, holder).and_then(|input| end(input, offset));
                self.give_turn(id);
                let _ = answer.send(ended);
            }
            Item::Detach(id, holder) => {
                let input = self.inputs.get_mut(&id);
                if let Some(input) =
                    input.filter(|input| input.holder.as_ref().is_some_and(|(has, _)| *has == holder))
                {
                    (input.holder, input.waiting) = (None, None);
                }
            }
            Item::Close(id) => {
                if let Some(mut input) = self.remove(id) {
                    input.over(Over::Closed);
                }
            }
            Item::EndCalls => {
                self.closed = true;
                for input in self.inputs.values_mut() {
                    input.let_go(Over::DaemonEnds, &InputError::Closed);
                }
            }
            Item::Stop => {}
        }
    }

    fn open(&mut self, id: ExecId, store: Store, finish: Finish) {
        let token = self.next;
        self.next += 1;
        let watched = self.poll.registry().register(
            &mut SourceFd(&store.pipe().as_raw_fd()),
            Token(token),
            Interest::WRITABLE,
        );
        if let Err(why) = watched {
            // The program reads what it has been given, and no more.
            diag::limited!(Level::Error, "cannot watch the input of a program", id = id, error = why);
            return;
        }
        self.held += store.held();
        self.tokens.insert(token, id);
        self.inputs.insert(id, Input { token, store, finish, holder: None, waiting: None, is_over: false });
        self.give_turn(id);
    }

    fn attach(
        &mut self,
        id: ExecId,
        holder: (u64, oneshot::Sender<Over>),
        take_over: bool,
    ) -> Result<u64, InputError> {
        if self.closed {
            return Err(InputError::Closed);
        }
        let input = self.inputs.get_mut(&id).filter(|input| !input.is_over).ok_or(InputError::NotOpen)?;
        if input.store.is_ended().unwrap_or(true) {
            return Err(InputError::NotOpen);
        }
        if input.holder.is_some() && !take_over {
            return Err(InputError::Held);
        }
        input.let_go(Over::Taken, &InputError::Taken);
        input.holder = Some(holder);
        Ok(input.store.accepted())
    }

    /// The input that a client holds, without a write that waits: a client has one at a time.
    fn held_by(&mut self, id: ExecId, holder: u64) -> Result<&mut Input, InputError> {
        let input = self.inputs.get_mut(&id).filter(|input| !input.is_over).ok_or(InputError::NotOpen)?;
        match &input.holder {
            Some((has, _)) if *has == holder && input.waiting.is_none() => Ok(input),
            _ => Err(InputError::Taken),
        }
    }

    fn turn(&mut self, id: ExecId) {
        let free = NODE_BYTES.saturating_sub(self.held);
        let Some(input) = self.inputs.get_mut(&id) else { return };
        if input.is_over {
            return self.finish(id);
        }
        let before = input.store.held();
        let is_short = input.fill(free, Instant::now());
        let step = input.store.step();
        self.held = (self.held + input.store.held()).saturating_sub(before);
        if is_short {
            self.again.insert(id);
        }
        match step {
            Ok(Step::Moved(_)) => self.give_turn(id),
            Ok(Step::Full) => {}
            Ok(Step::Empty) => {
                let has_all = |input: &Input| {
                    if input.store.is_ended()? { input.store.is_empty() } else { Ok(false) }
                };
                match has_all(input) {
                    Ok(false) => {}
                    // Whatever cannot be asked is over too.
                    Ok(true) | Err(_) => {
                        input.over(Over::Closed);
                        self.finish(id);
                    }
                }
            }
            Ok(Step::Closed) => {
                input.over(Over::Closed);
                self.finish(id);
            }
            Err(why) => {
                diag::limited!(Level::Error, "cannot move the input of a program", id = id, error = why);
                input.over(Over::Closed);
                self.finish(id);
            }
        }
    }

    /// Has joblet-init let go, and lets go too.
    fn finish(&mut self, id: ExecId) {
        let Some(input) = self.inputs.get(&id) else { return };
        match (input.finish)() {
            Ok(()) => drop(self.remove(id)),
            Err(why) => {
                diag::limited!(
                    Level::Warn,
                    "cannot end the input of a program, trying again",
                    id = id,
                    error = why
                );
                self.again.insert(id);
            }
        }
    }

    fn remove(&mut self, id: ExecId) -> Option<Input> {
        let input = self.inputs.remove(&id)?;
        self.tokens.remove(&input.token);
        self.held = self.held.saturating_sub(input.store.held());
        let _ = self.poll.registry().deregister(&mut SourceFd(&input.store.pipe().as_raw_fd()));
        Some(input)
    }
}

/// The part of bytes at an offset that is not accepted yet.
fn rest(offset: u64, mut bytes: Vec<u8>, accepted: u64) -> Result<Vec<u8>, InputError> {
    let known = accepted.checked_sub(offset).ok_or(InputError::Gap { offset, accepted })?;
    let known = usize::try_from(known).map_or(bytes.len(), |known| known.min(bytes.len()));
    bytes.drain(..known);
    Ok(bytes)
}

fn end(input: &mut Input, offset: u64) -> Result<u64, InputError> {
    let accepted = input.store.accepted();
    if offset != accepted {
        return Err(InputError::Gap { offset, accepted });
    }
    input.store.end().map_err(|why| InputError::Store(Arc::new(why)))?;
    Ok(accepted)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::sync::mpsc;

    use futures_executor::block_on;

    use super::super::CHUNK;
    use super::*;

    fn opened(inputs: &Inputs) -> (ExecId, File, mpsc::Receiver<()>) {
        let (store, stdin) = Store::create().unwrap();
        let (id, (told, finished)) = (ExecId::random(), mpsc::channel());
        inputs.open(id, store, Box::new(move || told.send(()).map_err(io::Error::other)));
        (id, File::from(stdin), finished)
    }

    #[test]
    fn client_waits_while_the_program_does_not_read() {
        let inputs = Inputs::start().unwrap();
        let (id, mut stdin, finished) = opened(&inputs);
        let (attachment, accepted, _over) = block_on(inputs.attach(id, false)).unwrap();
        assert_eq!(accepted, 0);
        let all: Vec<u8> = (0..3_000_000u32).map(|at| (at ^ at >> 8) as u8).collect();
        let sent = all.clone();
        let client = std::thread::spawn(move || {
            let mut offset = 0;
            for chunk in sent.chunks(CHUNK) {
                offset = block_on(attachment.write(offset, chunk.to_vec())).unwrap();
            }
            assert_eq!(block_on(attachment.end(offset)).unwrap(), sent.len() as u64);
        });
        let mut read = Vec::new();
        stdin.read_to_end(&mut read).unwrap();
        client.join().unwrap();
        finished.recv().unwrap();
        assert!(read == all);
        assert!(matches!(block_on(inputs.attach(id, true)), Err(InputError::NotOpen)));
        inputs.stop();
    }

    #[test]
    fn one_client_at_a_time_and_only_without_gaps() {
        let inputs = Inputs::start().unwrap();
        let (id, stdin, finished) = opened(&inputs);
        let (first, _, over) = block_on(inputs.attach(id, false)).unwrap();
        assert_eq!(block_on(first.write(0, b"abc".to_vec())).unwrap(), 3);
        assert!(matches!(block_on(inputs.attach(id, false)), Err(InputError::Held)));
        let (second, accepted, over_too) = block_on(inputs.attach(id, true)).unwrap();
        assert_eq!((accepted, block_on(over)), (3, Ok(Over::Taken)));
        assert!(matches!(block_on(first.write(3, b"x".to_vec())), Err(InputError::Taken)));
        drop(first);
        // Again from before, as after a lost connection.
        assert_eq!(block_on(second.write(1, b"bcd".to_vec())).unwrap(), 4);
        assert_eq!(block_on(second.write(0, b"ab".to_vec())).unwrap(), 4);
        let gap = block_on(second.write(5, b"x".to_vec()));
        assert!(matches!(gap, Err(InputError::Gap { offset: 5, accepted: 4 })));
        assert!(matches!(block_on(second.end(3)), Err(InputError::Gap { .. })));
        drop(stdin);
        assert_eq!(block_on(over_too), Ok(Over::Closed));
        finished.recv().unwrap();
        assert!(matches!(block_on(inputs.attach(ExecId::random(), true)), Err(InputError::NotOpen)));
        inputs.stop();
    }

    #[test]
    fn bytes_that_are_known_are_passed_over() {
        let rest = |offset, bytes: &[u8], accepted| super::rest(offset, bytes.to_vec(), accepted);
        assert_eq!(rest(4, b"ab", 4).unwrap(), b"ab");
        assert_eq!(rest(3, b"ab", 4).unwrap(), b"b");
        assert_eq!(rest(0, b"ab", 4).unwrap(), b"");
        assert!(rest(5, b"ab", 4).is_err());
    }
}
