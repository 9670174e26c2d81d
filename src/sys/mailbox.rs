//! A bounded queue into a thread that sleeps in a mio poll.
//!
//! Any number of threads send; the owner of the poll takes. A send into an empty queue wakes the poll. The queue is a
//! plain one behind a lock, because its ends have unlike priorities: in a lock-free queue a thread spins while another
//! one is half-way through putting something in, and where the spinning thread has a real-time policy and has pushed
//! the other one off their common processor, it spins for good. For a lock it sleeps.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use log::Level;
use mio::Waker;

use crate::diag;

/// The item that could not be sent, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendError<T> {
    /// As many items wait as the mailbox holds.
    Full(T),
    /// The inbox is gone.
    Closed(T),
}

impl<T> SendError<T> {
    /// The item that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Full(item) | SendError::Closed(item) => item,
        }
    }
}

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    // Signalled when an item is taken out of a full queue, and when the inbox goes.
    room: Condvar,
    waker: Arc<Waker>,
    bound: usize,
}

struct Queue<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue<T>>, item: T) {
        let was_empty = queue.items.is_empty();
        queue.items.push_back(item);
        drop(queue);
        if was_empty && let Err(why) = self.waker.wake() {
            diag::limited!(Level::Error, "cannot wake a thread for its mailbox", error = why);
        }
    }
}

/// The sending end, for any number of threads.
pub struct Mailbox<T>(Arc<Shared<T>>);

/// The receiving end. It keeps the waker: a closed eventfd takes its pending wake-up with it.
pub struct Inbox<T>(Arc<Shared<T>>);

/// Makes a mailbox of at most `bound` items, whose inbox is read by the owner of the waker's poll.
pub fn mailbox<T>(bound: usize, waker: Arc<Waker>) -> (Mailbox<T>, Inbox<T>) {
    let queue = Mutex::new(Queue { items: VecDeque::new(), closed: false });
    let shared = Arc::new(Shared { queue, room: Condvar::new(), waker, bound });
    (Mailbox(shared.clone()), Inbox(shared))
}

impl<T> Mailbox<T> {
    /// Sends without waiting.
    ///
    /// # Errors
    /// The mailbox is full, or the inbox is gone.
    pub fn try_send(&self, item: T) -> Result<(), SendError<T>> {
        let queue = self.0.lock();
        if queue.closed {
            return Err(SendError::Closed(item));
        }
        if queue.items.len() >= self.0.bound {
            return Err(SendError::Full(item));
        }
        self.0.push(queue, item);
        Ok(())
    }

    /// Sends, and sleeps while the mailbox is full. Never called by a thread for which the receiver waits.
    ///
    /// # Errors
    /// The inbox is gone.
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        let full = |queue: &mut Queue<T>| !queue.closed && queue.items.len() >= self.0.bound;
        let queue = self.0.room.wait_while(self.0.lock(), full).unwrap_or_else(PoisonError::into_inner);
        if queue.closed {
            return Err(SendError::Closed(item));
        }
        self.0.push(queue, item);
        Ok(())
    }
}

impl<T> Inbox<T> {
    /// The oldest item. After a wake-up it must be called until it returns `None`: only a send into an empty mailbox
    /// wakes again.
    pub fn take(&self) -> Option<T> {
        let mut queue = self.0.lock();
        let was_full = queue.items.len() >= self.0.bound;
        let item = queue.items.pop_front();
        drop(queue);
        if was_full {
            // All of them: the next takes find a mailbox that is not full, and wake nobody.
            self.0.room.notify_all();
        }
        item
    }

    /// Wakes the poll again: for an owner that stopped taking before the mailbox was empty.
    pub fn wake(&self) {
        if let Err(why) = self.0.waker.wake() {
            diag::limited!(Level::Error, "cannot wake a thread for its mailbox", error = why);
        }
    }
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Mailbox(self.0.clone())
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.closed = true;
        // Dropped without the lock: an item may own the other end of a mailbox.
        let items = std::mem::take(&mut queue.items);
        drop(queue);
        self.0.room.notify_all();
        drop(items);
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({} of {})", self.0.lock().items.len(), self.0.bound)
    }
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbox({} of {})", self.0.lock().items.len(), self.0.bound)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll, Token};

    use super::*;

    fn with_poll(bound: usize) -> (Poll, Mailbox<u32>, Inbox<u32>) {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (sender, inbox) = mailbox(bound, waker);
        (poll, sender, inbox)
    }

    fn is_awake(poll: &mut Poll) -> bool {
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        !events.is_empty()
    }

    #[test]
    fn send_into_an_empty_mailbox_wakes_the_poll() {
        let (mut poll, sender, inbox) = with_poll(4);
        assert!(!is_awake(&mut poll));
        sender.try_send(1).unwrap();
        sender.try_send(2).unwrap();
        assert!(is_awake(&mut poll) && !is_awake(&mut poll));
        assert_eq!((inbox.take(), inbox.take(), inbox.take()), (Some(1), Some(2), None));
        sender.try_send(3).unwrap();
        assert!(is_awake(&mut poll));
        inbox.wake();
        assert!(is_awake(&mut poll));
    }

    #[test]
    fn full_mailbox_refuses_try_send() {
        let (_poll, sender, inbox) = with_poll(1);
        sender.try_send(1).unwrap();
        assert_eq!(sender.try_send(2), Err(SendError::Full(2)));
        assert_eq!(inbox.take(), Some(1));
        sender.try_send(2).unwrap();
    }

    #[test]
    fn full_mailbox_holds_send_until_there_is_room() {
        let (_poll, sender, inbox) = with_poll(1);
        sender.try_send(1).unwrap();
        let other = sender.clone();
        let thread = std::thread::spawn(move || other.send(2));
        let mut taken = Vec::new();
        while taken.len() < 2 {
            taken.extend(inbox.take());
        }
        assert_eq!((taken, thread.join().unwrap()), (vec![1, 2], Ok(())));
    }

    #[test]
    fn every_sender_that_waits_finds_room() {
        let (_poll, sender, inbox) = with_poll(2);
        sender.try_send(0).unwrap();
        sender.try_send(1).unwrap();
        let waiting = |item| {
            let other = sender.clone();
            std::thread::spawn(move || other.send(item))
        };
        let threads: Vec<_> = (2..8).map(waiting).collect();
        let mut taken = Vec::new();
        while taken.len() < 8 {
            // Both at once, so that the second take finds a mailbox that is not full.
            taken.extend([inbox.take(), inbox.take()].into_iter().flatten());
        }
        taken.sort_unstable();
        assert_eq!(taken, (0..8).collect::<Vec<_>>());
        assert!(threads.into_iter().all(|thread| thread.join().unwrap().is_ok()));
    }

    #[test]
    fn closed_inbox_refuses_and_frees_waiting_senders() {
        let (_poll, sender, inbox) = with_poll(1);
        sender.try_send(1).unwrap();
        let other = sender.clone();
        let thread = std::thread::spawn(move || other.send(2));
        drop(inbox);
        assert_eq!(thread.join().unwrap(), Err(SendError::Closed(2)));
        assert_eq!(sender.try_send(3), Err(SendError::Closed(3)));
    }
}
