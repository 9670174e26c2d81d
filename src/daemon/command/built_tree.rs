//! The files of a job that has built a runtime, on their way from the job to the build.

use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::daemon::exit_file::read_exit;

/// The /work of a job that has built a runtime. The job is over when this value is gone, and /work with it.
pub struct BuiltTree {
    /// The root of /work.
    pub work: OwnedFd,
    /// The file that says how the job has ended.
    pub(in crate::daemon) exit_file: Arc<File>,
    /// Tells the loop.
    pub(in crate::daemon) taken: Option<Box<dyn FnOnce() + Send>>,
}

impl BuiltTree {
    /// Whether the job has ended well. Touches the disk.
    pub fn is_good(&self) -> bool {
        read_exit(&self.exit_file).is_some_and(|exit| exit.wait_status == 0)
    }
}

impl Drop for BuiltTree {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            taken();
        }
    }
}

impl fmt::Debug for BuiltTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuiltTree({:?})", self.work)
    }
}
