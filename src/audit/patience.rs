//! The wait of a call for its line.
//!
//! A thread of gRPC that puts a call aside is woken for it by an alarm of C-core and another poll, which takes longer than a line. So
//! it waits for the line itself, for a moment. A disk that is slow costs it one moment each [`REST`], and calls that need no line
//! that much.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// The longest wait of a thread.
const MOMENT: Duration = Duration::from_millis(1);
/// The time during which no thread waits, after one has waited in vain.
const REST: Duration = Duration::from_secs(1);

/// Whether threads wait themselves.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// When they do again, nanoseconds since [`BEGIN`].
    rests_until_ns: AtomicU64,
}

/// The beginning of our clock.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Patience {
    /// The value of a future: the thread waits a moment for it, then other calls go on meanwhile.
    pub(super) async fn answer<F: Future + Unpin>(&self, mut future: F) -> F::Output {
        if since_begin(Instant::now()) >= self.rests_until_ns.load(Ordering::Relaxed) {
            match wait(&mut future, MOMENT) {
                Some(value) => return value,
                None => {
                    self.rests_until_ns.store(since_begin(Instant::now() + REST), Ordering::Relaxed);
                }
            }
        }
        future.await
    }
}

fn since_begin(at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(*BEGIN).as_nanos()).unwrap_or(u64::MAX)
}

/// Waits on this thread, so long at most.
fn wait<F: Future + Unpin>(future: &mut F, bound: Duration) -> Option<F::Output> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let until = Instant::now() + bound;
    loop {
        if let Poll::Ready(value) = Pin::new(&mut *future).poll(&mut context) {
            return Some(value);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use futures_channel::oneshot;
    use futures_executor::block_on;

    use super::*;

    #[test]
    fn answer_comes_whether_or_not_the_thread_waits_for_it() {
        let patience = Patience::default();
        let (tell, quick) = oneshot::channel();
        tell.send(1).unwrap();
        assert_eq!(block_on(patience.answer(quick)), Ok(1));
        assert_eq!(patience.rests_until_ns.load(Ordering::Relaxed), 0);
        // The value comes when the thread has given up.
        let (tell, slow) = oneshot::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while patience.rests_until_ns.load(Ordering::Relaxed) == 0 {
                    thread::yield_now();
                }
                tell.send(2).unwrap();
            });
            assert_eq!(block_on(patience.answer(slow)), Ok(2));
        });
    }

    #[test]
    fn slow_line_is_waited_for_a_moment_and_no_longer() {
        let (_tell, mut never) = oneshot::channel::<()>();
        let before = Instant::now();
        assert!(wait(&mut never, MOMENT).is_none());
        assert!(before.elapsed() >= MOMENT);
    }
}
