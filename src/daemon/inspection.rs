//! Looking at running jobs: a thread reads what stands around them back from the kernel, for `status --security`.
//!
//! A job decides how long that takes: it may have thousands of processes with as many mounts each. So nothing else waits
//! for this thread, neither ends of jobs nor deletions. Each client has a few of these calls under way at most (the API
//! bounds them); beyond [`QUEUE`] they are refused.

use std::fmt;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use log::Level;

use super::DaemonError;
use crate::diag;

/// Looks that may wait.
const QUEUE: usize = 64;

type Look = Box<dyn FnOnce() + Send>;

/// The loop's side: hands looks to the thread.
pub(super) struct Inspection(Sender<Look>);

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inspection({} wait)", self.0.len())
    }
}

impl Inspection {
    /// Starts the thread, which ends when this value is gone and nothing waits.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start() -> Result<(Inspection, JoinHandle<()>), DaemonError> {
        let (looks, queue): (_, Receiver<Look>) = bounded(QUEUE);
        let work = move || queue.into_iter().for_each(|look| look());
        let thread = std::thread::Builder::new().name("inspection".into()).spawn(work);
        let thread = thread.map_err(|source| DaemonError::Thread { name: "inspection", source })?;
        Ok((Inspection(looks), thread))
    }

    /// Has a job looked at. A look beyond the queue is dropped; ask [`Inspection::is_full`] first.
    pub(super) fn run(&self, look: impl FnOnce() + Send + 'static) {
        if self.0.try_send(Box::new(look)).is_err() {
            diag::limited!(Level::Error, "the inspection thread is gone or its queue full");
        }
    }

    /// The reason why no further look is taken now, if there is one.
    pub(super) fn is_full(&self) -> Option<String> {
        let text = || format!("too many requests: {QUEUE} jobs are to be looked at already; try again");
        self.0.is_full().then(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_beyond_the_queue_are_refused() {
        let (inspection, thread) = Inspection::start().unwrap();
        let (begun, under_way) = bounded::<()>(0);
        let (go_on, wait) = bounded::<()>(0);
        inspection.run(move || {
            begun.send(()).unwrap();
            let _ = wait.recv();
        });
        under_way.recv().unwrap();
        (1..QUEUE).for_each(|_| inspection.run(|| {}));
        assert_eq!(inspection.is_full(), None);
        inspection.run(|| {});
        assert!(inspection.is_full().is_some_and(|why| why.contains("64 jobs are to be looked at")));
        drop(go_on);
        drop(inspection);
        thread.join().unwrap();
    }
}
