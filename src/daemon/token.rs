//! Counting by tokens: a thing counts as long as its token lives, so that no path can forget to count it down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many tokens of one kind are alive.
#[derive(Debug, Default)]
pub(super) struct Counter(Arc<AtomicUsize>);

/// One counted thing. It may travel through worker threads and comes back with their answer: dropped there, it would
/// count down before the loop has seen the answer.
#[derive(Debug)]
#[must_use = "the thing counts only as long as its token lives"]
pub(super) struct Token(Arc<AtomicUsize>);

impl Counter {
    /// A token more.
    pub(super) fn token(&self) -> Token {
        self.0.fetch_add(1, Ordering::Relaxed);
        Token(self.0.clone())
    }

    /// Tokens that are alive.
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_token_counts_no_more() {
        let counter = Counter::default();
        let (first, second) = (counter.token(), counter.token());
        drop(first);
        assert_eq!(counter.count(), 1);
        drop(second);
        assert_eq!(counter.count(), 0);
    }
}
