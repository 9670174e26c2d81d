//! The queue of large starts, in which clients take turns: a client with a thousand of them delays another client's by
//! one, not by a thousand.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The side that adds. The queue ends for its reader when this is dropped.
#[derive(Debug)]
pub(super) struct Sender<C, T>(Arc<Queue<C, T>>);

/// The side that takes, until the sender is gone and the queue empty.
#[derive(Debug)]
pub(in crate::daemon) struct Receiver<C, T>(Arc<Queue<C, T>>);

#[derive(Debug)]
struct Queue<C, T> {
    waiting: Mutex<Waiting<C, T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Waiting<C, T> {
    /// Clients that have something here, each once, in the order of their turns.
    clients: VecDeque<C>,
    of_client: HashMap<C, VecDeque<T>>,
    count: usize,
    limit: usize,
    is_closed: bool,
}

/// A queue of at most `limit` entries.
pub(super) fn queue<C: Copy + Eq + Hash, T>(limit: usize) -> (Sender<C, T>, Receiver<C, T>) {
    let waiting =
        Waiting { clients: VecDeque::new(), of_client: HashMap::new(), count: 0, limit, is_closed: false };
    let queue = Arc::new(Queue { waiting: Mutex::new(waiting), changed: Condvar::new() });
    (Sender(queue.clone()), Receiver(queue))
}

impl<C, T> Queue<C, T> {
    fn lock(&self) -> MutexGuard<'_, Waiting<C, T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Copy + Eq + Hash, T> Waiting<C, T> {
    fn take(&mut self) -> Option<T> {
        let client = self.clients.pop_front()?;
        let of_client = self.of_client.get_mut(&client)?;
        let next = of_client.pop_front();
        if of_client.is_empty() {
            self.of_client.remove(&client);
        } else {
            self.clients.push_back(client);
        }
        self.count -= usize::from(next.is_some());
        next
    }
}

impl<C: Copy + Eq + Hash, T> Sender<C, T> {
    /// Puts an entry behind the others of its client.
    ///
    /// # Errors
    /// The queue is full; the entry is handed back.
    pub(super) fn send(&self, client: C, entry: T) -> Result<(), T> {
        let mut waiting = self.0.lock();
        if waiting.count >= waiting.limit {
            return Err(entry);
        }
        waiting.count += 1;
        let of_client = waiting.of_client.entry(client).or_default();
        of_client.push_back(entry);
        if of_client.len() == 1 {
            waiting.clients.push_back(client);
        }
        drop(waiting);
        self.0.changed.notify_one();
        Ok(())
    }
}

impl<C, T> Drop for Sender<C, T> {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl<C: Copy + Eq + Hash, T> Iterator for Receiver<C, T> {
    type Item = T;

    /// Waits for the next entry. `None` when the sender is gone and nothing is left.
    fn next(&mut self) -> Option<T> {
        let mut waiting = self.0.lock();
        loop {
            let next = waiting.take();
            if next.is_some() || waiting.is_closed {
                return next;
            }
            waiting = self.0.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_take_turns_and_the_rest_comes_after_the_sender() {
        let (sender, receiver) = queue(100);
        (0..5).for_each(|n| sender.send("greedy", n).unwrap());
        sender.send("other", 10).unwrap();
        sender.send("third", 20).unwrap();
        sender.send("other", 11).unwrap();
        drop(sender);
        assert_eq!(receiver.collect::<Vec<_>>(), [0, 10, 20, 1, 11, 2, 3, 4]);
    }

    #[test]
    fn client_that_came_back_waits_behind_the_others() {
        let (sender, mut receiver) = queue(100);
        sender.send("a", 1).unwrap();
        assert_eq!(receiver.next(), Some(1));
        sender.send("b", 2).unwrap();
        sender.send("a", 3).unwrap();
        assert_eq!((receiver.next(), receiver.next()), (Some(2), Some(3)));
        assert!(receiver.0.lock().of_client.is_empty(), "a client without entries is forgotten");
    }

    #[test]
    fn full_queue_hands_the_entry_back() {
        let (sender, mut receiver) = queue(1);
        sender.send("a", 1).unwrap();
        assert_eq!(sender.send("b", 2), Err(2));
        receiver.next();
        sender.send("b", 2).unwrap();
    }

    #[test]
    fn reader_wakes_for_an_entry_and_for_the_end() {
        let (sender, mut receiver) = queue("a".len());
        let reader = std::thread::spawn(move || (receiver.next(), receiver.next()));
        sender.send("a", 1).unwrap();
        drop(sender);
        assert_eq!(reader.join().unwrap(), (Some(1), None));
    }
}
