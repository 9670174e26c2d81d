//! Queues between threads of unlike priority.
//!
//! A lock-free queue has a thread spin while another one is half-way through putting something in or taking it out.
//! Where the spinning thread has a real-time policy and the other one was pushed off the same processor by it, it spins
//! for good (until the kernel's real-time throttling, most of a second later). So the ends of such a queue take turns
//! by a lock, for which a thread sleeps.

use std::sync::{Arc, Mutex, PoisonError};

/// One end of a queue that is used in turns with its other ends.
#[derive(Debug, Clone)]
pub struct Turn<T> {
    end: T,
    turn: Arc<Mutex<()>>,
}

impl<T> Turn<T> {
    /// Uses this end while nobody uses another. `what` must not wait.
    pub fn take<R>(&self, what: impl FnOnce(&T) -> R) -> R {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        what(&self.end)
    }
}

/// Has both ends of a queue, and their clones, used in turns.
pub fn in_turns<S, R>((sender, receiver): (S, R)) -> (Turn<S>, Turn<R>) {
    let turn = Arc::new(Mutex::new(()));
    (Turn { end: sender, turn: turn.clone() }, Turn { end: receiver, turn })
}
