//! The near end of a link, as a client's call holds it.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::shared::{Element, LinkError, Shared};

/// The next thing that comes from the job.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Bytes, at most [`CHUNK`](super::CHUNK).
    Data(Vec<u8>),
    /// The job sends nothing more; it may still read.
    HalfClose,
    /// Both sides have ended: the last of all.
    Over,
}

/// News of a call for the thread that carries its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It has taken something, or put something.
    Moved,
    /// It is dropped.
    Gone,
}

/// A call's end of a link. One task at a time polls it. Dropped, it breaks the link off.
pub struct Call {
    link: u64,
    shared: Arc<Shared>,
    notify: Box<dyn Fn(Change) + Send + Sync>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({})", self.link)
    }
}

impl Call {
    pub(super) fn new(
        link: u64,
        shared: Arc<Shared>,
        notify: impl Fn(Change) + Send + Sync + 'static,
    ) -> Self {
        Call { link, shared, notify: Box::new(notify) }
    }

    /// Ready when the job's side is connected.
    ///
    /// # Errors
    /// Why it is not.
    pub fn poll_opened(&self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        let mut state = self.shared.lock();
        match &state.over {
            Some(how) => Poll::Ready(how.clone()),
            None if state.opened => Poll::Ready(Ok(())),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The next thing that the job sends.
    ///
    /// # Errors
    /// The link broke; what the job had sent before has been returned.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Result<Next, LinkError>> {
        let mut state = self.shared.lock();
        let next = match state.outward.take() {
            Element::Chunk(bytes) => Next::Data(bytes),
            Element::End => Next::HalfClose,
            Element::Nothing => match &state.over {
                Some(Ok(())) => return Poll::Ready(Ok(Next::Over)),
                Some(Err(why)) => return Poll::Ready(Err(why.clone())),
                None => {
                    state.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            },
        };
        let is_new = !std::mem::replace(&mut state.notified, true);
        drop(state);
        if is_new {
            (self.notify)(Change::Moved);
        }
        Poll::Ready(Ok(next))
    }

    /// Ready when the job's side has taken what was put before, or takes nothing any more.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.inward.has_room() || state.inward.is_over() || state.over.is_some() {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Sends bytes to the job, at most [`CHUNK`](super::CHUNK), where there is room.
    pub fn put(&self, bytes: Vec<u8>) {
        self.change(|direction| direction.put(bytes));
    }

    /// Sends nothing more to the job.
    pub fn finish(&self) {
        self.change(super::shared::Direction::end);
    }

    fn change(&self, act: impl FnOnce(&mut super::shared::Direction)) {
        let mut state = self.shared.lock();
        act(&mut state.inward);
        let is_new = !std::mem::replace(&mut state.notified, true);
        drop(state);
        if is_new {
            (self.notify)(Change::Moved);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        (self.notify)(Change::Gone);
    }
}
