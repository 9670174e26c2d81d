//! The findings of the thread of the GPUs.

use crate::daemon::command::{Answer, GpusView};

/// A finding of the thread.
#[derive(Debug)]
pub(in crate::daemon) enum GpuFact {
    /// The GPU at this place can be given to the next job.
    Clean(usize),
    /// It cannot, because of this; it is looked at again and again.
    HeldBack(usize, String),
    /// It is of no use any more. That is written down.
    Lost(usize, String),
    /// Its loss is forgotten, as whoever waits for this has asked.
    Restored(usize, Answer<GpusView>),
}
