//! Pauses and timeouts of running jobs.

use std::time::Duration;

use super::reply::time;
use super::{Refusal, request};
use crate::daemon::command::PauseState;
use crate::job::JobRef;
use crate::pb::joblet::{JobClockRes, SetJobTimeoutReq};

/// The job whose timeout is to be changed, and the time that it may go on.
///
/// # Errors
/// No such id can be, or the time is none.
pub(in crate::api) fn set_timeout(request: &SetJobTimeoutReq) -> Result<(JobRef, Duration), Refusal> {
    Ok((request::job(&request.uuid)?, request::time_left(&request.timeout)?))
}

/// The reply to FreezeJob, ThawJob and SetJobTimeout.
pub(in crate::api) fn reply(state: PauseState) -> JobClockRes {
    JobClockRes {
        uuid: state.id.to_string(),
        frozen: state.frozen,
        timeout_at: time(state.clock.ends_ns),
        ..JobClockRes::default()
    }
}
