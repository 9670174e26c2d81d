//! GetJobLogs: where a job's output is read.

use super::request::{Answer, LogSource};
use crate::daemon::core::Core;
use crate::job::JobRef;

pub(super) fn handle(core: &mut Core, wanted: &JobRef, answer: Answer<LogSource>) {
    let source = core.jobs.find(wanted).map(|job| LogSource {
        id: job.id,
        dir: core.node.spool.join(job.id.to_string()),
        watermark: job.output.watermark.clone(),
    });
    let _ = answer.send(source);
}
