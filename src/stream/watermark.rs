//! How far a growing thing has come: its writer publishes it, any number of readers look and listen.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Called when a watermark has moved, on the thread that moved it. It must not block, and it must neither add nor drop
/// a listener of the same watermark.
pub type Notify = Box<dyn Fn() + Send + Sync>;

/// The place that a growing thing has reached, in a unit of its own (rows, bytes), and whether it has ended.
#[derive(Default)]
pub struct Watermark {
    reached: AtomicU64,
    ended: AtomicBool,
    // Held while listeners are notified. The loop takes it too, so nothing here waits while it is held.
    listeners: Mutex<Vec<Arc<Subscriber>>>,
}

struct Subscriber {
    notify: Notify,
    /// Whether a notification is under way that was not acknowledged yet.
    pending: AtomicBool,
}

impl Watermark {
    /// The watermark of a thing that is still empty.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Lets readers read up to this place.
    pub fn publish(&self, reached: u64) {
        self.reached.store(reached, Ordering::SeqCst);
        self.notify();
    }

    /// Ends the thing, which is complete: readers end when they have read all of it.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.notify();
    }

    /// The place up to which readers may read, and whether the thing has ended. A listener looks after
    /// [`Listener::acknowledge`].
    pub fn look(&self) -> (u64, bool) {
        // INVARIANT: the end is read first, so that everything published before it is seen.
        let ended = self.ended.load(Ordering::SeqCst);
        (self.reached.load(Ordering::SeqCst), ended)
    }

    /// Adds a listener, which is notified of every later move until it is dropped. It looks once after this call: it
    /// is not notified of earlier moves.
    pub fn listen(self: &Arc<Self>, notify: Notify) -> Listener {
        let subscriber = Arc::new(Subscriber { notify, pending: AtomicBool::new(false) });
        self.subscribers().push(subscriber.clone());
        Listener { watermark: self.clone(), subscriber }
    }

    /// Notifies the listeners of a change that readers find elsewhere, and that was made before this call.
    pub fn notify(&self) {
        for subscriber in self.subscribers().iter() {
            if !subscriber.pending.swap(true, Ordering::SeqCst) {
                (subscriber.notify)();
            }
        }
    }

    fn subscribers(&self) -> MutexGuard<'_, Vec<Arc<Subscriber>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reached, ended) = self.look();
        write!(f, "Watermark({reached}, ended {ended})")
    }
}

/// A listener of one watermark; dropping it ends the notifications.
pub struct Listener {
    watermark: Arc<Watermark>,
    subscriber: Arc<Subscriber>,
}

impl Listener {
    /// Takes note of the notification, so that the next move sends another one. Until then the listener gets no
    /// second one, which bounds its queue.
    pub fn acknowledge(&self) {
        self.subscriber.pending.store(false, Ordering::SeqCst);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.watermark.subscribers().retain(|other| !Arc::ptr_eq(other, &self.subscriber));
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({:?})", self.watermark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn counted(watermark: &Arc<Watermark>) -> (Listener, impl Fn() -> usize) {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        let listener = watermark.listen(Box::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        }));
        (listener, move || count.load(Ordering::SeqCst))
    }

    #[test]
    fn watermark_notifies_once_until_acknowledged_while_watched() {
        let watermark = Watermark::new();
        watermark.publish(1);
        let (listener, count) = counted(&watermark);
        assert_eq!(count(), 0);
        watermark.publish(2);
        watermark.publish(3);
        assert_eq!(count(), 1);
        listener.acknowledge();
        watermark.end();
        assert_eq!(count(), 2);
        assert_eq!(watermark.look(), (3, true));
    }

    #[test]
    fn listeners_are_notified_each_by_itself_until_dropped() {
        let watermark = Watermark::new();
        let (first, first_count) = counted(&watermark);
        let (second, second_count) = counted(&watermark);
        watermark.publish(1);
        first.acknowledge();
        watermark.publish(2);
        assert_eq!((first_count(), second_count()), (2, 1));
        first.acknowledge();
        drop(first);
        second.acknowledge();
        watermark.end();
        assert_eq!((first_count(), second_count()), (2, 2));
        drop(second);
        assert!(watermark.subscribers().is_empty());
    }
}
