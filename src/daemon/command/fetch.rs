//! Reading a job that has ended waits until its history is in the local files.

use std::path::PathBuf;

use super::request::{Answer, CommandError};
use crate::daemon::core::Core;
use crate::daemon::history::Wanted;
use crate::job::JobId;

/// Answers with a place to read from, for a job that has ended when a store beyond this host has given what it has. The
/// loop goes on meanwhile.
pub(super) fn answer_when_here<T: Send + 'static>(
    core: &Core,
    found: Result<T, CommandError>,
    answer: Answer<T>,
    place: impl FnOnce(&T) -> (JobId, PathBuf),
) {
    let source = match found {
        Ok(source) => source,
        Err(why) => return drop(answer.send(Err(why))),
    };
    let (id, dir) = place(&source);
    let (created_ns, ended_ns) = match core.jobs.get(id) {
        Some(job) if !job.state.is_finished() => return drop(answer.send(Ok(source))),
        Some(job) => (job.times.created_ns, job.times.ended_ns.unwrap_or(job.times.created_ns)),
        None => (0, 0),
    };
    let done = move |fetched: Result<(), String>| {
        let _ = answer.send(fetched.map(|()| source).map_err(CommandError::Unreachable));
    };
    core.streams.history().fetch(Wanted { id, dir, created_ns, ended_ns }, Box::new(done));
}
