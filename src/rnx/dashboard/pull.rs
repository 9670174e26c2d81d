//! The next message of a gRPC stream, or a turn for its reader where none comes: without a runtime nothing else wakes a
//! thread that waits for a message.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use grpcio::ClientSStreamReceiver;

/// One turn of a stream.
pub(super) enum Pulled<M> {
    Message(M),
    /// Nothing in that time.
    Quiet,
    /// It is over, perhaps with a failure.
    End(Option<grpcio::Error>),
}

/// A stream that is read by one thread.
pub(super) struct Pull<M> {
    stream: ClientSStreamReceiver<M>,
    failure: Option<grpcio::Error>,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl<M> Pull<M> {
    /// Reads this stream. Dropping it ends the call.
    pub(super) fn new(stream: ClientSStreamReceiver<M>) -> Self {
        Pull { stream, failure: None }
    }

    /// Waits for so long for a message.
    pub(super) fn next(&mut self, patience: Duration) -> Pulled<M> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let until = Instant::now() + patience;
        loop {
            match self.stream.poll_next_unpin(&mut Context::from_waker(&waker)) {
                Poll::Ready(Some(Ok(message))) => return Pulled::Message(message),
                // The status overtakes messages that have arrived: they are still read.
                Poll::Ready(Some(Err(why))) if self.failure.is_none() => self.failure = Some(why),
                Poll::Ready(_) => return Pulled::End(self.failure.take()),
                Poll::Pending => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Pulled::Quiet;
                    }
                    // A wake between the question and here is kept for the next park.
                    thread::park_timeout(left);
                }
            }
        }
    }
}
