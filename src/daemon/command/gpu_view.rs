//! The GPUs of the node as a reply shows them.

use crate::gpu::{Board, Seen};
use crate::job::GpuStrategy;

/// The GPUs of the node.
#[derive(Debug, Clone)]
pub struct GpusView {
    /// All that the driver told, by their numbers, and those that were lost. Without measurements.
    pub gpus: Vec<Seen>,
    /// The version of the driver, where it is known.
    pub driver: Option<String>,
    /// Why no job can have any; `None`: jobs can.
    pub disabled: Option<String>,
    /// The order in which free ones are given.
    pub strategy: GpuStrategy,
    /// Sentences about GPUs that are there and cannot be given.
    pub notes: Vec<String>,
    /// Where measurements are.
    pub board: Board,
}

impl GpusView {
    /// The GPUs with what was measured of them last.
    pub fn measured(&self) -> Vec<Seen> {
        let mut gpus = self.gpus.clone();
        for (gpu, on_board) in gpus.iter_mut().zip(self.board.all()) {
            gpu.measured = on_board.measured;
        }
        gpus
    }
}
