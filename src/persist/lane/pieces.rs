//! The worker's part for jobs whose output comes in pieces.

use crossbeam_channel::bounded;
use log::Level;

use super::Worker;
use super::event::{Item, LaneEvent, Step};
use crate::diag;
use crate::job::JobId;
use crate::persist::foreign::{Piece, Pieces};
use crate::persist::frame::Reached;
use crate::persist::store::{JobStore, StoreError};

impl Worker {
    pub(super) fn take_piece(&mut self, piece: Piece) {
        let (job, size) = (piece.job, piece.size());
        if !self.pieces.contains_key(&job) {
            let opened = self.store.job(job).map(JobStore::split);
            let (stage, files) = match opened {
                Ok(opened) => opened,
                Err(why) => {
                    self.report(LaneEvent::Taken(size));
                    return self.report(match why {
                        StoreError::Deleted => LaneEvent::Dropped(job),
                        why => LaneEvent::Failed { job, why: why.to_string() },
                    });
                }
            };
            self.step(Step::Open(job, Box::new(files), 0));
            self.pieces.insert(job, Pieces::new(stage));
        }
        let Some(pieces) = self.pieces.get_mut(&job) else { return };
        if let Err(why) = pieces.push(piece, &mut self.packer, self.compression.level) {
            diag::limited!(Level::Warn, "a record of another writer is left out", jobId = job, error = why);
        }
    }

    /// One item for each job of which pieces were staged.
    pub(super) fn staged_pieces(&mut self) -> Vec<Item> {
        let (packer, level) = (&mut self.packer, self.compression.level);
        let staged = self.pieces.iter_mut().filter(|(_, pieces)| !pieces.is_empty()).map(|(job, pieces)| {
            let staged = pieces.take(packer, level);
            let reached = Reached { rows: staged.through, sample_bytes: 0 };
            let (batch, end, pieces) = (staged.batch, staged.end, staged.size);
            Item { job: *job, batch, reached, is_recut: false, end, pieces }
        });
        staged.collect()
    }

    /// Forgets a job whose output came in pieces: whoever opens its files next must find them at rest.
    pub(super) fn close_pieces(&mut self, job: JobId) {
        if self.pieces.remove(&job).is_some() {
            let (answer, reached) = bounded(1);
            self.step(Step::Close(job));
            self.step(Step::Reached(answer));
            let _ = reached.recv();
        }
    }
}
