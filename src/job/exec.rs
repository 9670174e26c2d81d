//! A command that runs in a running job beside its payload: its request and its end. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::exit::{Ending, StopCause, Witnesses, verdict};
use super::exit_file::ExitFile;
use super::{JobId, Secret, Status};

/// The identity of a command. The threads that collect output know it and the job's own by the same type.
pub type ExecId = JobId;

/// Commands of one job that may run, or whose output is still open, at one time: joblet-init has so many places.
pub const MOST_OPEN: usize = crate::init_abi::order::PLACES;
/// Ended commands of one job that are kept; beyond that the oldest goes, with its output.
pub const MOST_ENDED: usize = 64;

/// A command that a client asks for, already checked.
#[derive(Debug, Clone, Default)]
pub struct ExecSpec {
    /// The program, by PATH unless it has a slash.
    pub command: String,
    /// Its arguments, without the program.
    pub args: Vec<String>,
    /// Variables beside the job's own plain ones, over which they win.
    pub environment: Vec<(String, String)>,
    /// Variables whose values no reply shows and no file has.
    pub secrets: Vec<(String, Secret)>,
    /// Its working directory; `None`: the job's.
    pub work_dir: Option<String>,
    /// How long it may run; `None`: as long as the job.
    pub timeout: Option<Duration>,
    /// Whether its standard input comes from a client; else it is empty.
    pub stdin: bool,
}

/// A command as clients see it.
#[derive(Debug, Clone)]
pub struct ExecView {
    /// The job in which it runs.
    pub job: JobId,
    /// The identity of the command.
    pub id: ExecId,
    /// Its number among the commands of the job, from 1.
    pub number: u32,
    /// The program that it runs.
    pub command: String,
    /// Its arguments, without the program.
    pub args: Vec<String>,
    /// Its start, ns since the epoch.
    pub started_ns: i64,
    /// Its end, ns since the epoch, and how it came.
    pub end: Option<(i64, ExecEnd)>,
    /// Chunks of its output that can be read.
    pub rows: u64,
}

/// The end of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecEnd {
    /// Its own, as a payload has one.
    Own(Ending),
    /// The job ended, and the command with it.
    WithJob,
}

/// The facts about a command that is gone.
#[derive(Debug, Clone, Default)]
pub struct ExecWitnesses {
    /// Its exit file, where joblet-init wrote it.
    pub record: Option<ExitFile>,
    /// Whether its timeout was over before it ended.
    pub timed_out: bool,
    /// The time that it may run.
    pub timeout: Option<Duration>,
    /// The end of the job's payload, ns since the epoch.
    pub job_ended_ns: Option<i64>,
    /// Whether the job is over.
    pub job_is_over: bool,
    /// The program, for the sentence.
    pub command: String,
    /// Its working directory.
    pub work_dir: String,
}

const SIGKILL: i32 = 9;

impl ExecEnd {
    /// The verdict: the end of the job wins over a kill without a record, or after the end of the payload; then the timeout,
    /// then what the record says.
    pub fn of(w: &ExecWitnesses) -> ExecEnd {
        let killed = w.record.is_none_or(|record| record.wait_status & 0x7f == SIGKILL);
        let is_late = match (w.record, w.job_ended_ns) {
            (Some(record), Some(ended_ns)) => record.ended_ns >= ended_ns,
            (None, _) => w.job_is_over,
            (Some(_), None) => false,
        };
        if killed && is_late {
            return ExecEnd::WithJob;
        }
        ExecEnd::Own(verdict(&Witnesses {
            stopped: w.timed_out.then_some(StopCause::Timeout),
            record: w.record,
            timeout: w.timeout.map(super::units::format_duration).unwrap_or_default(),
            command: w.command.clone(),
            work_dir: w.work_dir.clone(),
            init_end: "joblet-init took no note of the command".to_owned(),
            ..Witnesses::default()
        }))
    }

    /// COMPLETED or FAILED; STOPPED after a timeout and with the job.
    pub fn status(&self) -> Status {
        match self {
            ExecEnd::Own(ending) => ending.status,
            ExecEnd::WithJob => Status::Stopped,
        }
    }

    /// The word for the reason.
    pub fn reason(&self) -> &'static str {
        match self {
            ExecEnd::Own(ending) => ending.reason.as_str(),
            ExecEnd::WithJob => "job_ended",
        }
    }

    /// The exit code; -1 where it returned none.
    pub fn code(&self) -> i32 {
        match self {
            ExecEnd::Own(ending) => ending.code,
            ExecEnd::WithJob => -1,
        }
    }

    /// The signal that ended it, 0 for none.
    pub fn signal(&self) -> i32 {
        match self {
            ExecEnd::Own(ending) => ending.signal,
            ExecEnd::WithJob => 0,
        }
    }

    /// The end in one sentence; empty where the code says all.
    pub fn message(&self) -> &str {
        match self {
            ExecEnd::Own(ending) => &ending.message,
            ExecEnd::WithJob => "the job ended, and the command with it",
        }
    }
}

/// Whether a command that ended then had run longer than its timeout.
pub fn ran_too_long(record: &ExitFile, timeout: Option<Duration>) -> bool {
    let ran = Duration::from_nanos(record.ended_ns.saturating_sub(record.started_ns).max(0).unsigned_abs());
    timeout.is_some_and(|timeout| ran >= timeout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::ExitReason;
    use crate::job::exit_file::Begun;

    fn ended(wait_status: i32, ended_ns: i64) -> ExecWitnesses {
        let record = ExitFile { wait_status, started_ns: 1, ended_ns, ..ExitFile::default() };
        ExecWitnesses { record: Some(record), ..ExecWitnesses::default() }
    }

    fn own(w: &ExecWitnesses) -> (ExitReason, i32) {
        match ExecEnd::of(w) {
            ExecEnd::Own(ending) => (ending.reason, ending.code),
            ExecEnd::WithJob => panic!("{w:?}"),
        }
    }

    #[test]
    fn command_has_its_own_code_and_its_own_signal() {
        assert_eq!(own(&ended(3 << 8, 5)), (ExitReason::Exited, 3));
        assert_eq!(own(&ended(SIGKILL, 5)), (ExitReason::Signaled, 137));
        let timed_out = ExecWitnesses { timed_out: true, ..ended(15, 5) };
        assert_eq!(own(&timed_out).0, ExitReason::Timeout);
        assert_eq!(own(&ExecWitnesses::default()).0, ExitReason::Lost);
        let mut missing = ended(127 << 8, 5);
        missing.record = missing.record.map(|record| ExitFile { begun: Begun::NotExecuted, ..record });
        assert_eq!(own(&missing), (ExitReason::StartFailed, 127));
    }

    #[test]
    fn command_killed_behind_the_payload_ended_with_its_job() {
        let late = ExecWitnesses { job_ended_ns: Some(4), ..ended(SIGKILL, 5) };
        assert_eq!(ExecEnd::of(&late), ExecEnd::WithJob);
        let early = ExecWitnesses { job_ended_ns: Some(6), ..ended(SIGKILL, 5) };
        assert_eq!(own(&early).0, ExitReason::Signaled);
        let returned = ExecWitnesses { job_ended_ns: Some(4), ..ended(0, 5) };
        assert_eq!(own(&returned).0, ExitReason::Exited);
        let unseen = ExecWitnesses { job_is_over: true, ..ExecWitnesses::default() };
        assert_eq!(ExecEnd::of(&unseen), ExecEnd::WithJob);
    }
}
