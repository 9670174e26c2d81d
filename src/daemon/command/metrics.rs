//! StreamJobMetrics: where a job's samples are read.

use super::fetch::answer_when_here;
use super::request::{Answer, CommandError, SampleSource};
use crate::daemon::core::Core;
use crate::job::{JobId, JobRef};
use crate::stream::Watermark;

pub(super) fn handle(core: &mut Core, wanted: &JobRef, answer: Answer<SampleSource>) {
    let source = |id, watermark, is_known| SampleSource {
        id,
        dir: core.node.spool.join(JobId::to_string(&id)),
        is_known,
        history: core.streams.stores().samples_of(id),
        watermark,
    };
    let found = match (core.jobs.find(wanted), wanted) {
        (Ok(job), _) => Ok(source(job.id, job.usage.samples.clone(), true)),
        // The reader finds out, on a thread that may wait for the disk.
        (Err(CommandError::NotFound(_)), JobRef::Exact(id)) if core.streams.stores().has_samples() => {
            let watermark = Watermark::new();
            watermark.end();
            Ok(source(*id, watermark, false))
        }
        (Err(why), _) => Err(why),
    };
    answer_when_here(core, found, answer, |source| (source.id, source.dir.clone()));
}
