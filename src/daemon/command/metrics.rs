//! StreamJobMetrics: where a job's samples are read.

use super::request::{Answer, SampleSource};
use crate::daemon::core::Core;
use crate::job::JobRef;

pub(super) fn handle(core: &mut Core, wanted: &JobRef, answer: Answer<SampleSource>) {
    let source = core.jobs.find(wanted).map(|job| SampleSource {
        id: job.id,
        dir: core.node.spool.join(job.id.to_string()),
        watermark: job.samples.clone(),
    });
    let _ = answer.send(source);
}
