//! The list of jobs as all readers of it have it: asked for at most once a second, however many tabs are open, and less
//! often where the node takes long for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::command::QUERY;
use super::super::error::{Error, Result};
use super::super::render::{command_line, text};
use super::super::server::Server;
use super::super::wanted::Wanted;
use crate::pb::joblet::{GetJobStatusRes, Job};

/// Most jobs of the list, the newest.
pub(super) const MOST: usize = 10_000;
/// Longest command line in the list, characters; the job's own page has all of it.
const COMMAND: usize = 200;
/// The shortest time between two questions.
const PAUSE: Duration = Duration::from_secs(1);
/// So many times as long as the node took for the last answer, it is left alone.
const REST: u32 = 20;

/// One row of the list.
#[derive(Debug, Serialize)]
struct Row<'a> {
    uuid: &'a str,
    name: &'a str,
    status: &'a str,
    command: String,
    created_time: &'a str,
    start_time: &'a str,
    end_time: &'a str,
    scheduled_time: &'a str,
    exit_reason: &'a str,
    /// Why it ended, or what it waits for, in plain words.
    why: String,
    workflow_uuid: &'a str,
    runtime: &'a str,
}

/// The rows of one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// The order of the node: oldest first.
    pub(super) order: Vec<Arc<str>>,
    /// JSON of each row by its id.
    pub(super) rows: HashMap<Arc<str>, Arc<str>>,
}

/// The change from one moment to another.
#[derive(Debug)]
pub(super) struct Change {
    /// JSON of new rows and changed ones, oldest first.
    pub(super) jobs: Vec<Arc<str>>,
    /// Ids of jobs that are not there any more.
    pub(super) gone: Vec<String>,
}

impl Snapshot {
    fn of(jobs: &[Job]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for job in jobs {
            let id: Arc<str> = job.uuid.as_str().into();
            // Texts always have a form.
            let row = serde_json::to_string(&row(job)).unwrap_or_default();
            snapshot.order.push(id.clone());
            snapshot.rows.insert(id, row.into());
        }
        snapshot
    }

    /// The change since an earlier snapshot.
    pub(super) fn since(&self, before: &Snapshot) -> Change {
        let changed = self.order.iter().filter(|id| self.rows.get(*id) != before.rows.get(*id));
        Change {
            jobs: changed.filter_map(|id| self.rows.get(id).cloned()).collect(),
            gone: before
                .order
                .iter()
                .filter(|id| !self.rows.contains_key(*id))
                .map(ToString::to_string)
                .collect(),
        }
    }
}

fn row(job: &Job) -> Row<'_> {
    let command = command_line(&job.command, &job.args);
    let cut = command.char_indices().nth(COMMAND).map(|(at, _)| format!("{}...", &command[..at]));
    Row {
        uuid: &job.uuid,
        name: &job.name,
        status: &job.status,
        command: cut.unwrap_or(command),
        created_time: &job.created_time,
        start_time: &job.startTime,
        end_time: &job.endTime,
        scheduled_time: &job.scheduledTime,
        exit_reason: &job.exit_reason,
        why: why(&ending(job)),
        workflow_uuid: &job.workflowUuid,
        runtime: &job.runtime,
    }
}

/// The part of a job's status that says how it ended.
fn ending(job: &Job) -> GetJobStatusRes {
    GetJobStatusRes {
        uuid: job.uuid.clone(),
        status: job.status.clone(),
        startTime: job.startTime.clone(),
        endTime: job.endTime.clone(),
        exitCode: job.exitCode,
        exit_reason: job.exit_reason.clone(),
        signal: job.signal,
        message: job.message.clone(),
        maxMemory: job.maxMemory,
        peak_memory_bytes: job.peak_memory_bytes,
        wait_reason: job.wait_reason.clone(),
        queue_position: job.queue_position,
        ..Default::default()
    }
}

/// Why a job ended, or what it waits for, in plain words; empty for one that runs.
pub(super) fn why(job: &GetJobStatusRes) -> String {
    if job.queue_position > 0 {
        return format!("place {} in the queue: {}", job.queue_position, job.wait_reason);
    }
    if matches!(job.status.as_str(), "COMPLETED" | "FAILED" | "STOPPED" | "CANCELED") {
        return match text::end_words(job) {
            Some(words) => words,
            None => text::exit_summary(job, None),
        };
    }
    job.wait_reason.clone()
}

/// The newest snapshot, and when it may be replaced.
#[derive(Debug, Default)]
pub(super) struct JobTable(Mutex<Option<(Instant, Arc<Snapshot>)>>);

impl JobTable {
    /// The list of now, or of a moment ago. Readers that come during a question wait for its answer.
    pub(super) fn latest(&self, server: &Server) -> Result<Arc<Snapshot>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((until, snapshot)) = &*kept
            && Instant::now() < *until
        {
            return Ok(snapshot.clone());
        }
        let asked = Instant::now();
        let page = |request: &_| -> std::result::Result<_, Error> {
            server.ask(QUERY, |jobs, option| jobs.list_jobs_opt(request, option))
        };
        let snapshot = Arc::new(Snapshot::of(&Wanted::newest(MOST).jobs(page)?));
        let rest = PAUSE.max(asked.elapsed() * REST);
        *kept = Some((Instant::now() + rest, snapshot.clone()));
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(uuid: &str, status: &str) -> Job {
        Job { uuid: uuid.into(), status: status.into(), command: "true".into(), ..Default::default() }
    }

    fn ids(change: &Change) -> Vec<String> {
        let rows = change.jobs.iter().map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap());
        rows.map(|row| row["uuid"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn change_names_new_changed_and_removed_jobs_only() {
        let before = Snapshot::of(&[job("a", "RUNNING"), job("b", "RUNNING"), job("c", "COMPLETED")]);
        let now = Snapshot::of(&[job("b", "FAILED"), job("c", "COMPLETED"), job("d", "RUNNING")]);
        let change = now.since(&before);
        assert_eq!((ids(&change), change.gone), (vec!["b".into(), "d".into()], vec!["a".into()]));
        let all = now.since(&Snapshot::default());
        assert_eq!((ids(&all).len(), all.gone.len()), (3, 0));
        assert!(now.since(&now).jobs.is_empty());
    }

    #[test]
    fn row_says_in_words_why_a_job_ended_and_cuts_long_commands() {
        let killed = Job {
            exit_reason: "oom".into(),
            maxMemory: 64,
            args: vec!["\u{e9}".repeat(500)],
            ..job("a", "FAILED")
        };
        let shown = row(&killed);
        assert_eq!(shown.why, "killed: out of memory (limit 64 MiB)");
        assert_eq!(shown.command.chars().count(), COMMAND + 3);
        let good = Job { exit_reason: "exited".into(), ..job("b", "COMPLETED") };
        assert_eq!(row(&good).why, "exit 0");
        let waits = Job { queue_position: 2, wait_reason: "no free slot".into(), ..job("c", "SCHEDULED") };
        assert_eq!(row(&waits).why, "place 2 in the queue: no free slot");
        assert_eq!(row(&job("d", "RUNNING")).why, "");
    }
}
