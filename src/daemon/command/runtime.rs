//! RuntimeService: what needs more than the owner of runtimes.

use std::collections::HashMap;

use futures_channel::oneshot;

use super::request::{Answer, BuildJob, CommandError, LogSource, StoredFiles};
use super::run;
use super::runtime_view::RuntimesRemoved;
use crate::daemon::core::Core;
use crate::daemon::lifecycle::discard_of_runtime;
use crate::job::runtime::{RuntimeId, RuntimeSpec, Wanted};
use crate::job::{JobSpec, JobView};
use crate::upload::Upload;

/// Has versions removed that no job has, also none that waits for its start or in a workflow.
pub(super) fn remove(core: &mut Core, runtime: RuntimeSpec, all: bool, answer: Answer<RuntimesRemoved>) {
    if core.shutdown.has_begun() {
        let _ = answer.send(Err(CommandError::ShuttingDown));
        return;
    }
    let mut awaited: HashMap<RuntimeId, usize> = HashMap::new();
    for (RuntimeSpec { name, version }, count) in core.workflows.awaited_runtimes() {
        if let Wanted::Exactly(version) = version {
            *awaited.entry(RuntimeId { name, version }).or_default() += count;
        }
    }
    // Warm sandboxes show its files.
    discard_of_runtime(core, &runtime.name);
    core.supply.runtimes().remove(runtime, all, &awaited, answer);
}

/// Runs the interpreter of a runtime as a job of its own. The answer comes with its end.
pub(super) fn test(core: &mut Core, mut spec: JobSpec, answer: Answer<(JobView, String)>) {
    let command = match core.supply.runtimes().test_command(spec.runtime.as_ref()) {
        Ok(command) => command,
        Err(why) => return drop(answer.send(Err(why))),
    };
    let mut words = command.iter().map(|word| (*word).to_owned());
    spec.command = words.next().unwrap_or_default();
    spec.args = words.collect();
    let (starter, mut started) = oneshot::channel();
    match run::handle(core, spec, Vec::new(), StoredFiles::default(), starter) {
        Some(id) => {
            if let Some(job) = core.jobs.get_mut(id) {
                job.waiters.await_output(answer);
            }
        }
        None => {
            let refused = started.try_recv().ok().flatten().and_then(Result::err);
            let _ = answer.send(Err(refused.unwrap_or(CommandError::ShuttingDown)));
        }
    }
}

/// Starts a job that builds a runtime. Its /work is handed out when its last process is gone.
pub(super) fn build(core: &mut Core, spec: JobSpec, files: Vec<Upload>, answer: Answer<BuildJob>) {
    let (starter, mut started) = oneshot::channel();
    let Some(id) = run::handle(core, spec, files, StoredFiles::default(), starter) else {
        let refused = started.try_recv().ok().flatten().and_then(Result::err);
        let _ = answer.send(Err(refused.unwrap_or(CommandError::ShuttingDown)));
        return;
    };
    let (builder, tree) = oneshot::channel();
    let (tester, ended) = oneshot::channel();
    let Some(job) = core.jobs.get_mut(id) else { return };
    job.waiters.await_work(builder);
    job.waiters.await_output(tester);
    let log = LogSource {
        id,
        dir: core.node.spool.join(id.to_string()),
        is_known: true,
        history: core.streams.stores().rows_of(id),
        watermark: job.output.watermark.clone(),
    };
    // One that nobody waits for any more is stopped by whoever asked for it, when that is seen.
    let _ = answer.send(Ok(BuildJob { log, tree, ended }));
}
