//! The copies of a node, counted: each has a thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most copies at one time.
pub const TRANSFERS: usize = 32;

/// The copies that are under way.
#[derive(Debug, Clone, Default)]
pub struct Transfers(Arc<AtomicUsize>);

/// One copy, counted as long as it lives.
#[derive(Debug)]
pub struct Transfer(Arc<AtomicUsize>);

impl Transfers {
    /// One copy more; `None` beyond [`TRANSFERS`].
    pub fn take(&self) -> Option<Transfer> {
        let before = self.0.fetch_add(1, Ordering::SeqCst);
        let transfer = Transfer(self.0.clone());
        (before < TRANSFERS).then_some(transfer)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_bounded_and_given_back() {
        let transfers = Transfers::default();
        let all: Vec<Transfer> = (0..TRANSFERS).map(|_| transfers.take().unwrap()).collect();
        assert!(transfers.take().is_none());
        drop(all);
        assert!(transfers.take().is_some());
    }
}
