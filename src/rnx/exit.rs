//! The exit code of `job run --wait` and `--follow`, of `job wait` and of `workflow run --wait`: the job's own, or the
//! number that docker and coreutils use for the way it ended.

use super::render::is_terminal_status;
use crate::pb::joblet::{GetJobStatusRes, GetWorkflowStatusResponse, WorkflowJob};

/// rnx or the daemon failed; the job did not run, or its code is not known.
pub(crate) const FAILED: i32 = 125;
/// Our stdout could not take the output of a job that succeeded.
pub(crate) const NOT_WRITTEN: i32 = 1;
/// A workflow failed, and no code says how.
const FAILED_IN_PART: i32 = 1;
/// The code of a timeout, as coreutils `timeout` has it.
const TIMEOUT: i32 = 124;
/// 128 + SIGKILL, which the kernel's OOM killer sends.
const OUT_OF_MEMORY: i32 = 137;
/// 128 + SIGXFSZ, which the kernel sends to a process that writes beyond a file's limit.
const OUTPUT_LIMIT: i32 = 153;
/// 128 + SIGTERM, which a stop sends first.
const STOPPED: i32 = 143;

/// The code for a job that has ended.
pub(crate) fn of_job(job: &GetJobStatusRes) -> i32 {
    match job.exit_reason.as_str() {
        "exited" if (0..=255).contains(&job.exitCode) => job.exitCode,
        "signaled" if job.signal > 0 => 128 + job.signal,
        "oom" => OUT_OF_MEMORY,
        "timeout" => TIMEOUT,
        "stopped" => STOPPED,
        "start_failed" => of_failed_start(job.exitCode),
        "output_limit" => OUTPUT_LIMIT,
        "canceled" | "disk_full" | "lost" => FAILED,
        // A server that gives no reason: what is left is the status.
        _ if !is_terminal_status(&job.status) => FAILED,
        _ if job.status == "STOPPED" => STOPPED,
        _ if (0..=255).contains(&job.exitCode) => job.exitCode,
        _ => FAILED,
    }
}

/// The code for a workflow that has ended: that of its job that failed first, 143 where a user canceled it.
pub(crate) fn of_workflow(answer: &GetWorkflowStatusResponse) -> i32 {
    match answer.workflow.status.as_str() {
        "COMPLETED" => 0,
        "CANCELED" => STOPPED,
        "FAILED" => {
            let failed = answer.jobs.iter().filter(|job| matches!(job.status.as_str(), "FAILED" | "STOPPED"));
            let first = failed.min_by_key(|job| job.endTime.as_ref().map_or(i64::MAX, |at| at.seconds));
            match first.map(of_workflow_job) {
                // Elements of an array have codes of their own, which the answer does not have.
                Some(0) | None => FAILED_IN_PART,
                Some(code) => code,
            }
        }
        _ => FAILED,
    }
}

fn of_workflow_job(job: &WorkflowJob) -> i32 {
    of_job(&GetJobStatusRes {
        status: job.status.clone(),
        exit_reason: job.exit_reason.clone(),
        exitCode: job.exitCode,
        ..Default::default()
    })
}

/// The code for a job that never ran: 127 not found, 126 not executable, else a step of the isolation failed.
pub(crate) fn of_failed_start(exit_code: i32) -> i32 {
    if matches!(exit_code, 126 | 127) { exit_code } else { FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(status: &str, reason: &str, code: i32, signal: i32) -> i32 {
        of_job(&GetJobStatusRes {
            status: status.into(),
            exit_reason: reason.into(),
            exitCode: code,
            signal,
            ..Default::default()
        })
    }

    #[test]
    fn every_job_end_has_its_conventional_exit_code() {
        for code in 0..=255 {
            assert_eq!(job(if code == 0 { "COMPLETED" } else { "FAILED" }, "exited", code, 0), code);
        }
        for signal in 1..=64 {
            assert_eq!(job("FAILED", "signaled", 128 + signal, signal), 128 + signal);
        }
        assert_eq!(job("FAILED", "oom", 137, 9), 137);
        assert_eq!(job("STOPPED", "timeout", -1, 0), 124);
        assert_eq!(job("STOPPED", "stopped", -1, 0), 143);
        assert_eq!(job("FAILED", "output_limit", 137, 9), 153);
        assert_eq!(job("FAILED", "disk_full", 137, 9), 125);
        assert_eq!(job("FAILED", "start_failed", 127, 0), 127);
        assert_eq!(job("FAILED", "start_failed", 126, 0), 126);
        assert_eq!(job("FAILED", "start_failed", -1, 0), 125);
        assert_eq!(job("CANCELED", "canceled", 0, 0), 125);
        assert_eq!(job("FAILED", "lost", -1, 0), 125);
    }

    #[test]
    fn workflow_has_the_code_of_the_job_that_failed_first() {
        let job = |status: &str, reason: &str, code, end| WorkflowJob {
            status: status.into(),
            exit_reason: reason.into(),
            exitCode: code,
            endTime: Some(crate::pb::joblet::Timestamp { seconds: end, ..Default::default() }).into(),
            ..Default::default()
        };
        let code = |status: &str, jobs: &[WorkflowJob]| {
            let mut answer = GetWorkflowStatusResponse { jobs: jobs.to_vec(), ..Default::default() };
            answer.workflow.mut_or_insert_default().status = status.into();
            of_workflow(&answer)
        };
        let (late, early) = (job("FAILED", "exited", 3, 9), job("FAILED", "exited", 4, 8));
        let (good, killed) = (job("COMPLETED", "exited", 0, 1), job("FAILED", "signaled", 139, 7));
        assert_eq!(code("FAILED", &[good.clone(), late.clone(), early.clone()]), 4);
        assert_eq!(code("FAILED", &[late, early, killed]), 139);
        assert_eq!(code("FAILED", &[job("FAILED", "oom", 137, 1)]), 137);
        assert_eq!(code("FAILED", &[job("STOPPED", "timeout", -1, 1)]), 124);
        assert_eq!(code("FAILED", &[job("FAILED", "", 0, 0)]), 1);
        assert_eq!((code("COMPLETED", &[good]), code("CANCELED", &[]), code("RUNNING", &[])), (0, 143, 125));
    }

    #[test]
    fn a_server_without_reasons_is_read_by_its_status() {
        assert_eq!(job("COMPLETED", "", 0, 0), 0);
        assert_eq!(job("FAILED", "", 3, 0), 3);
        assert_eq!(job("FAILED", "", -1, 0), 125);
        assert_eq!(job("STOPPED", "", -1, 0), 143);
        assert_eq!(job("RUNNING", "", 0, 0), 125);
        assert_eq!(job("FAILED", "exited", 700, 0), 125);
    }
}
