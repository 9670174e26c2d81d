//! A cursor into a growing thing.

use std::sync::Arc;
use std::time::SystemTime;

use super::Watermark;

/// The answer of a cursor to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next<T> {
    /// The next item.
    Item(T),
    /// Nothing, until the watermark moves or the cursor's time comes.
    Pending,
    /// Nothing yet: call again after the other cursors had their turn.
    Yield,
    /// Nothing any more.
    End,
}

impl<T> Next<T> {
    /// The same answer with its item converted.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Next<U> {
        match self {
            Next::Item(item) => Next::Item(convert(item)),
            Next::Pending => Next::Pending,
            Next::Yield => Next::Yield,
            Next::End => Next::End,
        }
    }
}

/// A cursor of one reader, while the thing grows or afterwards.
pub trait Source: Send + 'static {
    /// The unit in which the reader gets the thing.
    type Item: Send + 'static;
    /// The reason why the thing cannot be read any further.
    type Error: Send + 'static;

    /// The watermark of the thing: when it moves, a pending cursor has more.
    fn watermark(&self) -> &Arc<Watermark>;

    /// The time of day at which a pending cursor must be called again although the watermark has not moved.
    fn wake_at(&self) -> Option<SystemTime> {
        None
    }

    /// The next item. It blocks on the disk at worst, never on a writer or a client.
    ///
    /// # Errors
    /// The thing cannot be read; the reader's stream ends.
    fn next(&mut self) -> Result<Next<Self::Item>, Self::Error>;
}
