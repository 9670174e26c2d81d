//! The members behind the one that a reader has, which a second thread reads meanwhile.
//!
//! A reader that goes from member to member asks for the next few ([`Window::read_on`]). Inflating is most of a search, and
//! members inflate independently: so the thread takes one after the other, and a reader that comes to one that is under
//! way reads the one behind it itself. Neither waits for the other: a reader that has nothing to do for [`PATIENCE`]
//! reads the member in question by itself, too. The thread is nice: where jobs need the processors, readers read alone.
//!
//! All readers of a store share the thread and [`MEMBERS`] members in memory. A reader that finds no room reads alone.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use super::loaded::Loaded;
use super::names::Kind;
use super::sidecar::Row;
use crate::sys::thread::be_nice;

/// Members of all readers that are in memory before their reader comes to them, each of 256 KiB.
const MEMBERS: usize = 24;
/// Members of one reader.
const WINDOW: usize = 3;
/// Members that a reader reads in order before others are read for it: most readers want few.
const IN_ORDER: u32 = 2;
/// How long a reader waits for the thread.
const PATIENCE: Duration = Duration::from_millis(2);

/// The thread, which starts with the first reader that wants it.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// `None` in it: there is no thread.
    queue: OnceLock<Option<Sender<Arc<Slot>>>>,
    members: Arc<AtomicUsize>,
}

/// The place of one member.
#[derive(Debug)]
struct Slot {
    file: Arc<File>,
    inode: u64,
    kind: Kind,
    row: Row,
    state: Mutex<State>,
    done: Condvar,
    _room: Room,
}

#[derive(Debug)]
enum State {
    Waiting,
    /// Somebody reads it, or nobody wants it any more.
    Taken,
    /// `None`: it cannot be read. Its reader will see why.
    Done(Option<Loaded>),
}

/// Room for one member, until it is dropped.
#[derive(Debug)]
struct Room(Arc<AtomicUsize>);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ahead {
    fn room(&self) -> Option<Room> {
        let room = Room(self.members.clone());
        (self.members.fetch_add(1, Ordering::Relaxed) < MEMBERS).then_some(room)
    }

    /// Members that are in memory or wait to be.
    #[cfg(test)]
    pub(super) fn members(&self) -> usize {
        self.members.load(Ordering::Relaxed)
    }

    fn send(&self, slot: &Arc<Slot>) -> bool {
        let queue = self.queue.get_or_init(|| {
            // One processor is the reader's.
            std::thread::available_parallelism().ok().filter(|processors| processors.get() > 1)?;
            let (sender, queue) = bounded::<Arc<Slot>>(MEMBERS);
            let run = move || {
                be_nice();
                for slot in queue {
                    slot.read_if_free();
                }
            };
            std::thread::Builder::new().name("read-ahead".into()).spawn(run).ok()?;
            Some(sender)
        });
        queue.as_ref().is_some_and(|queue| queue.try_send(slot.clone()).is_ok())
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the member unless somebody does; whether it did.
    fn read_if_free(&self) -> bool {
        let mut state = self.lock();
        if !matches!(*state, State::Waiting) {
            return false;
        }
        *state = State::Taken;
        drop(state);
        let loaded = Loaded::read(self.kind, (&self.file, self.inode), self.row).ok();
        *self.lock() = State::Done(loaded);
        self.done.notify_one();
        true
    }

    fn is_done(&self) -> bool {
        matches!(*self.lock(), State::Done(_))
    }

    /// The member, if it is there now.
    fn take(&self) -> Option<Loaded> {
        match &mut *self.lock() {
            State::Done(loaded) => loaded.take(),
            State::Waiting | State::Taken => None,
        }
    }

    /// Waits until the member is there, but not for long.
    fn wait(&self) {
        let is_taken = |state: &mut State| matches!(state, State::Taken);
        let _ = self.done.wait_timeout_while(self.lock(), PATIENCE, is_taken);
    }
}

/// The members that are read for one reader, in their order.
#[derive(Debug, Default)]
pub(super) struct Window {
    slots: VecDeque<Arc<Slot>>,
    /// The end of the member that the reader has, and its file.
    end: (u64, u64),
    /// Members in a row that it has read in order.
    in_order: u32,
}

impl Window {
    /// The member, if it was read ahead. The reader has it next, wherever it comes from.
    pub(super) fn take(&mut self, inode: u64, row: &Row) -> Option<Loaded> {
        let is_next = (inode, row.offset) == self.end;
        self.in_order = if is_next { self.in_order.saturating_add(1) } else { 0 };
        self.end = (inode, row.end());
        if !is_next {
            self.clear();
        }
        let slot = self.slots.pop_front().filter(|slot| slot.inode == inode && slot.row == *row)?;
        let is_busy = !slot.read_if_free();
        if is_busy && !slot.is_done() {
            // The thread has it: meanwhile one behind it.
            self.slots.iter().any(|next| next.read_if_free());
            slot.wait();
        }
        slot.take()
    }

    /// Has members read: `next` finds the one at an offset.
    pub(super) fn read_on(
        &mut self,
        ahead: &Ahead,
        kind: Kind,
        (file, inode): (&Arc<File>, u64),
        next: impl Fn(u64) -> Option<Row>,
    ) {
        while self.in_order >= IN_ORDER && self.slots.len() < WINDOW {
            let offset = self.slots.back().map_or(self.end.1, |slot| slot.row.end());
            let Some((row, room)) = next(offset).and_then(|row| Some((row, ahead.room()?))) else { return };
            let (state, done) = (Mutex::new(State::Waiting), Condvar::new());
            let slot = Arc::new(Slot { file: file.clone(), inode, kind, row, state, done, _room: room });
            if !ahead.send(&slot) {
                return;
            }
            self.slots.push_back(slot);
        }
    }

    /// Gives back what was read.
    pub(super) fn clear(&mut self) {
        for slot in self.slots.drain(..) {
            let mut state = slot.lock();
            if matches!(*state, State::Waiting) {
                *state = State::Taken;
            }
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.clear();
    }
}
