//! The output of a job on its way to our stdout, which may refuse it: a full disk, `/dev/full`.
//!
//! The job goes on without us, so rnx says once that its output was not written, follows it to its end, and ends with the
//! job's code; with [`NOT_WRITTEN`] where that would be success. A reader that went away is
//! another matter: it ends rnx at once, as SIGPIPE would.

use super::error::{Error, Result};
use super::exit::NOT_WRITTEN;
use super::out::Out;
use super::render::short;

/// Whether everything about one job could be written.
#[derive(Debug)]
pub(crate) struct Delivery {
    out: Out,
    uuid: String,
    failed: bool,
}

impl Delivery {
    /// A delivery in which nothing has failed yet.
    pub(crate) fn of(out: Out, uuid: &str) -> Self {
        Delivery { out, uuid: uuid.into(), failed: false }
    }

    /// Writes by `write`, unless an earlier write failed. Errors other than those of our stdout and stderr are returned.
    pub(crate) fn write(&mut self, write: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.failed {
            return Ok(());
        }
        match write() {
            Err(e @ Error::Print(_)) if !e.is_broken_pipe() => {
                self.failed = true;
                let (uuid, id) = (&self.uuid, short(&self.uuid));
                self.out.note(&format!("Error: {e}; job {uuid} goes on, its output: rnx job log {id}"));
                Ok(())
            }
            written => written,
        }
    }

    /// Whether a write failed.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.failed
    }

    /// The exit code of rnx for this code of the job.
    pub(crate) fn exit_code(&self, job: i32) -> i32 {
        if self.failed && job == 0 { NOT_WRITTEN } else { job }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn failed_write_is_the_last_and_spoils_success_only() {
        let mut delivery =
            Delivery::of(Out { json: false, colour: false }, "f47ac10b-58cc-4372-a567-0e02b2c3d479");
        assert_eq!(delivery.exit_code(0), 0);
        assert!(delivery.write(|| Err(Error::Print(ErrorKind::StorageFull.into()))).is_ok());
        assert!(delivery.write(|| panic!("written again")).is_ok());
        assert_eq!((delivery.exit_code(0), delivery.exit_code(3)), (1, 3));
    }

    #[test]
    fn reader_that_left_ends_the_delivery() {
        let mut delivery = Delivery::of(Out { json: false, colour: false }, "");
        let gone = delivery.write(|| Err(Error::Print(ErrorKind::BrokenPipe.into())));
        assert!(gone.is_err_and(|e| e.is_broken_pipe()) && !delivery.is_incomplete());
    }
}
