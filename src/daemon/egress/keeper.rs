//! The thread that looks at the router's ledger, tells jobs of it, and removes what jobs leave in the router.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use log::Level;

use crate::daemon::DaemonError;
use crate::daemon::provision::Node;
use crate::diag;
use crate::network::Lease;

/// How often it looks while jobs have a network.
const EVERY: Duration = Duration::from_secs(1);

enum Word {
    Begins,
    Left(Lease),
}

/// The loop's side. Its queue holds no more than there are addresses and starts.
#[derive(Debug)]
pub(in crate::daemon) struct Keeper(Sender<Word>);

impl Keeper {
    /// A job with a network has begun.
    pub(in crate::daemon) fn begin(&self) {
        self.send(Word::Begins);
    }

    /// Has removed from the router what a job left there; its address comes back then.
    pub(in crate::daemon) fn clear(&self, lease: Lease) {
        self.send(Word::Left(lease));
    }

    fn send(&self, word: Word) {
        if self.0.send(word).is_err() {
            diag::limited!(Level::Error, "the thread that keeps egress lists is gone");
        }
    }
}

/// Starts the thread, which ends when the loop's side is gone.
///
/// # Errors
/// No thread.
pub(in crate::daemon) fn start(
    node: Arc<Node>,
    free: impl Fn(Vec<Lease>) + Send + 'static,
) -> Result<(Keeper, JoinHandle<()>), DaemonError> {
    let (words, queue) = unbounded();
    let thread = std::thread::Builder::new().name("egress".into());
    let thread = thread.spawn(move || {
        let mut looked = Instant::now();
        while let Some(left) = next(&queue, node.egress.is_busy()) {
            if looked.elapsed() >= EVERY {
                look(&node);
                looked = Instant::now();
            }
            clear(&node, left, &free);
        }
    });
    let thread = thread.map_err(|source| DaemonError::Thread { name: "egress", source })?;
    Ok((Keeper(words), thread))
}

/// Waits for a word, or, while jobs are watched, for the next look; the addresses that jobs have left. `None`: the end.
fn next(queue: &Receiver<Word>, busy: bool) -> Option<Vec<Lease>> {
    let first = if busy {
        match queue.recv_timeout(EVERY) {
            Err(RecvTimeoutError::Timeout) => return Some(Vec::new()),
            word => word.ok()?,
        }
    } else {
        queue.recv().ok()?
    };
    // Many at once: the sets are read once for all of them.
    let left = |word| if let Word::Left(lease) = word { Some(lease) } else { None };
    Some(std::iter::once(first).chain(queue.try_iter()).filter_map(left).collect())
}

fn look(node: &Node) {
    if !node.egress.is_busy() {
        return;
    }
    if let Err(why) = node.egress.look(&node.wiring) {
        diag::limited!(Level::Warn, "cannot read what jobs were refused", error = why);
    }
    node.egress.tell();
}

/// An address of which something stays is not given to another job: it would have that list.
fn clear(node: &Node, left: Vec<Lease>, free: &impl Fn(Vec<Lease>)) {
    if left.is_empty() {
        return;
    }
    match node.egress.clear(&node.wiring, &left) {
        Ok(()) => free(left),
        Err(why) => diag::limited!(
            Level::Error,
            "cannot remove the egress lists of jobs that are gone; their addresses stay out of use",
            number = left.len(),
            error = why
        ),
    }
}
