//! The reasons for which a sandbox cannot be created, with advice where the host lacks something.

use std::io;

use rustix::io::Errno;

/// A step of a sandbox, or its preparation, that failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The template root could not be built; nothing can run.
    #[error("cannot prepare the root of jobs: {doing}: {source}; joblet needs root and kernel 5.15 or later")]
    Template {
        /// The step that failed, in words.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// `filesystem.workBackend: disk` without project quotas.
    #[error(
        "filesystem.workBackend: disk cannot be used: {path} has no project quotas: {why}; mount its file system \
         with the option prjquota (an ext4 needs tune2fs -O quota,project before), or choose workBackend: tmpfs"
    )]
    NoQuota {
        /// The directory `<dataDir>/work`.
        path: std::path::PathBuf,
        /// The finding of the probe.
        why: String,
    },
    /// The configured ids cannot be used.
    #[error(
        "process.subidBase {base} with process.subidCount {count} cannot be used: {why}; choose another range"
    )]
    IdRange {
        /// The first id of the range.
        base: u32,
        /// The number of ids.
        count: u32,
        /// The reason against the range.
        why: String,
    },
    /// A lease's user namespace could not be made.
    #[error(
        "failed to create isolated environment: user namespace of id {id}: {doing}: {source}{}",
        shortage(source)
    )]
    UserNamespace {
        /// The step that failed, in words.
        doing: &'static str,
        /// The host id of the lease.
        id: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Something the child needs could not be made.
    #[error("failed to create isolated environment: {doing}: {source}{}", shortage(source))]
    Prepare {
        /// The object in preparation, in words.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A root with the host's paths beneath was to be written.
    #[error(
        "failed to create isolated environment: the root has the host's files, which no job writes; choose a runtime with \
         base: none, or run without writable"
    )]
    NotWritable,
    /// The child did not come back from a step of its plan and was killed.
    #[error("failed to create isolated environment: {step}: it does not return, the job was killed")]
    Stuck {
        /// The step, in words.
        step: String,
    },
    /// The child stopped at a step of its plan.
    #[error("failed to create isolated environment: {step}: {source}")]
    Step {
        /// The step, in words.
        step: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl SandboxError {
    /// Whether the node has too little of something to start a job now, rather than a fault: processes, descriptors, memory.
    pub fn is_shortage(&self) -> bool {
        matches!(self, SandboxError::UserNamespace { source, .. } | SandboxError::Prepare { source, .. }
            if !shortage(source).is_empty())
    }
}

/// The advice where clone(2) or a call that makes descriptors lacks something; empty for other answers.
fn shortage(why: &io::Error) -> &'static str {
    match why.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::AGAIN) => {
            "; a limit of processes is reached: end jobs, or raise pids.max of the daemon's group or of the jobs' \
             (TasksMax= of joblet.service and joblet-jobs.service)"
        }
        Some(Errno::MFILE) => "; the daemon's open files are used up: raise LimitNOFILE of the unit",
        Some(Errno::NFILE) => "; the host's open files are used up (fs.file-max)",
        Some(Errno::NOMEM) => "; the host has no memory for it",
        _ => "",
    }
}

/// Names the object in preparation when `result` failed.
pub(super) fn preparing<T>(result: Result<T, impl Into<io::Error>>, what: &str) -> Result<T, SandboxError> {
    result.map_err(|e| SandboxError::Prepare { doing: what.to_owned(), source: e.into() })
}
