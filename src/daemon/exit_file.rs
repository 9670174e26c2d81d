//! Reading the exit file of a job or of a command in one.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::job::exit_file::{self, ExitFile};

/// The content of an exit file; `None` where PID 1 has not written it.
pub(super) fn read_exit(exit_file: &File) -> Option<ExitFile> {
    let mut block = [0; exit_file::SIZE];
    exit_file.read_exact_at(&mut block, 0).ok().and_then(|()| ExitFile::decode(&block))
}
