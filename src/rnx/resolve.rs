//! Resolves a word to a job or a workflow: its id, the beginning of its id, its name, or `@last`.
//!
//! The server knows ids of jobs and their beginnings; names and `@last` are looked up in its list. A word that could
//! be the beginning of an id is one if a job has it, else it is a name. Workflows are few, and their list knows everything:
//! the beginning of a name does as well, if no other has it.

use grpcio::RpcStatusCode;

use super::cli::Invocation;
use super::command::{QUERY, workflow_list};
use super::error::{Error, Result};
use super::render::short;
use super::server::Server;
use super::terminal::one_line;
use super::wanted::Wanted;
use crate::job::id::JobId;
use crate::pb::joblet::{GetJobStatusReq, Job, WorkflowInfo};

/// The word for the newest job that the server lists for us.
const LAST: &str = "@last";
/// Candidates that an error names.
const NAMED: usize = 10;
/// The fewest and the most characters of an id that is not whole.
const PREFIX: std::ops::Range<usize> = 4..36;

/// The whole id of the job that the one operand names.
pub(crate) fn job(server: &Server, invocation: &Invocation) -> Result<String> {
    let text = invocation.operands.first().ok_or_else(|| Error::usage("must specify a job-uuid"))?;
    id_of(server, text)
}

/// The whole ids of the jobs that the operands name, each job once, in their order. Every word is resolved before
/// anything is done: a word that names no job stops a command before it changes another.
pub(crate) fn jobs(server: &Server, invocation: &Invocation) -> Result<Vec<String>> {
    let mut uuids: Vec<String> = Vec::with_capacity(invocation.operands.len());
    for text in &invocation.operands {
        let uuid = id_of(server, text)?;
        if !uuids.contains(&uuid) {
            uuids.push(uuid);
        }
    }
    Ok(uuids)
}

/// The whole id of the job that this word names.
///
/// A whole id is not looked up: the next call finds out whether there is such a job.
pub(crate) fn id_of(server: &Server, text: &str) -> Result<String> {
    if JobId::parse(text).is_some() {
        return Ok(text.to_string());
    }
    let looks_like_id = text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if looks_like_id && PREFIX.contains(&text.len()) {
        let request = GetJobStatusReq { uuid: text.to_string(), ..Default::default() };
        match server.ask(QUERY, |jobs, option| jobs.get_job_status_opt(&request, option)) {
            Err(Error::Call(RpcStatusCode::NOT_FOUND, _)) => {}
            answer => return Ok(answer?.uuid),
        }
    }
    let wanted = if text == LAST { Wanted::default() } else { Wanted::named(text) };
    let jobs = wanted.jobs(|page| server.ask(QUERY, |jobs, option| jobs.list_jobs_opt(page, option)))?;
    match listed(&jobs, text) {
        // Not a name either: the server has the words for an id that was cut too far.
        Err(Error::Call(RpcStatusCode::NOT_FOUND, _)) if looks_like_id && text.len() < PREFIX.start => {
            Ok(text.to_string())
        }
        found => found.map(str::to_string),
    }
}

/// The job in a list, oldest first, that a word names otherwise than by its id.
fn listed<'a>(jobs: &'a [Job], text: &str) -> Result<&'a str> {
    if text == LAST {
        // Among jobs of the same second the last of the list is the newest.
        let newest = jobs.iter().max_by(|a, b| a.created_time.cmp(&b.created_time));
        return newest.map(|job| job.uuid.as_str()).ok_or_else(|| {
            Error::Call(RpcStatusCode::NOT_FOUND, format!("{LAST}: the server has no job yet").into())
        });
    }
    let named: Vec<&Job> = jobs.iter().filter(|job| !job.name.is_empty() && job.name == text).collect();
    match named.as_slice() {
        [one] => Ok(&one.uuid),
        [] => Err(Error::Call(RpcStatusCode::NOT_FOUND, format!("job not found: {}", one_line(text)).into())
            .hint("rnx job list shows ids and names; rnx help jobs: how a job can be named")),
        several => Err(ambiguous(text, several)),
    }
}

/// The newest ones are named, because the user most likely means one of them.
fn ambiguous(text: &str, jobs: &[&Job]) -> Error {
    let candidates = candidates(jobs.iter().rev().map(|job| named(&job.uuid, &job.status)), jobs.len());
    let text = format!("ambiguous job name {}: {} jobs have it: {candidates}", one_line(text), jobs.len());
    Error::Call(RpcStatusCode::INVALID_ARGUMENT, text.into()).hint("give the beginning of an id")
}

/// The whole id of the workflow that this word names. A whole id is not looked up.
pub(crate) fn workflow(server: &Server, text: &str) -> Result<String> {
    if JobId::parse(text).is_some() {
        return Ok(text.to_owned());
    }
    let found = workflow_list::workflows(server, QUERY, true)?;
    listed_workflow(&found, text).map(str::to_owned)
}

/// The workflow in a list, oldest first, that a word names.
fn listed_workflow<'a>(workflows: &'a [WorkflowInfo], text: &str) -> Result<&'a str> {
    let not_found = |text: String| Error::Call(RpcStatusCode::NOT_FOUND, text.into());
    if text == LAST {
        let last = workflows.last().map(|workflow| workflow.uuid.as_str());
        return last.ok_or_else(|| not_found(format!("{LAST}: the server has no workflow yet")));
    }
    let is_cut_id = text.len() >= PREFIX.start;
    let meanings: [&dyn Fn(&WorkflowInfo) -> bool; 3] = [
        &|workflow| is_cut_id && workflow.uuid.starts_with(text),
        &|workflow| workflow.name == text,
        &|workflow| is_cut_id && workflow.name.starts_with(text),
    ];
    for meaning in meanings {
        let fits: Vec<&WorkflowInfo> = workflows.iter().filter(|workflow| meaning(workflow)).collect();
        match fits.as_slice() {
            [] => {}
            [one] => return Ok(&one.uuid),
            several => {
                let word = |workflow: &&WorkflowInfo| named(&workflow.uuid, &workflow.status);
                let candidates = candidates(several.iter().rev().map(word), several.len());
                let text = one_line(text);
                let text =
                    format!("ambiguous workflow {text}: {} workflows fit: {candidates}", several.len());
                let error = Error::Call(RpcStatusCode::INVALID_ARGUMENT, text.into());
                return Err(error.hint("give more of an id; @last is the newest workflow"));
            }
        }
    }
    Err(not_found(format!("workflow not found: {}", one_line(text)))
        .hint("rnx workflow list --all shows ids and names"))
}

/// A job in a list: `f47ac10b (RUNNING)`.
fn named(uuid: &str, status: &str) -> String {
    format!("{} ({})", short(uuid), one_line(status))
}

/// The first of several candidates, and how many there are beside.
fn candidates(words: impl Iterator<Item = String>, count: usize) -> String {
    let mut candidates: Vec<String> = words.take(NAMED).collect();
    if count > NAMED {
        candidates.push(format!("and {} more", count - NAMED));
    }
    candidates.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(uuid: &str, name: &str, created: &str) -> Job {
        Job {
            uuid: uuid.into(),
            name: name.into(),
            created_time: created.into(),
            status: "COMPLETED".into(),
            ..Default::default()
        }
    }

    fn jobs() -> Vec<Job> {
        vec![
            job("11111111-0000", "train", "2026-01-01T00:00:00Z"),
            job("22222222-0000", "", "2026-01-01T00:00:02Z"),
            job("33333333-0000", "clean", "2026-01-01T00:00:02Z"),
            job("44444444-0000", "train", "2026-01-01T00:00:01Z"),
        ]
    }

    #[test]
    fn newest_job_is_created_last_and_on_a_tie_last_in_the_list() {
        assert_eq!(listed(&jobs(), "@last").unwrap(), "33333333-0000");
        let e = listed(&[], "@last").unwrap_err();
        assert_eq!((e.code(), e.to_string().as_str()), ("NOT_FOUND", "@last: the server has no job yet"));
    }

    #[test]
    fn a_name_finds_its_job_unless_several_have_it() {
        assert_eq!(listed(&jobs(), "clean").unwrap(), "33333333-0000");
        let e = listed(&jobs(), "train").unwrap_err();
        assert_eq!(
            e.to_string(),
            "ambiguous job name train: 2 jobs have it: 44444444 (COMPLETED), 11111111 (COMPLETED)"
        );
        assert_eq!(e.exit_code(None), 5);
        for nothing in ["", "lean", "clean ", "CLEAN"] {
            let e = listed(&jobs(), nothing).unwrap_err();
            assert_eq!(e.to_string(), format!("job not found: {nothing}"));
        }
        let crowd: Vec<Job> = (0..25).map(|n| job(&format!("{n:08}-0"), "x", "")).collect();
        assert!(listed(&crowd, "x").unwrap_err().to_string().ends_with("00000015 (COMPLETED), and 15 more"));
    }
    #[test]
    fn workflow_is_found_by_id_name_and_their_beginnings() {
        let workflow = |uuid: &str, name: &str| WorkflowInfo {
            uuid: uuid.into(),
            name: name.into(),
            status: "RUNNING".into(),
            ..Default::default()
        };
        let all = [
            workflow("11111111-0000", "nightly"),
            workflow("11112222-0000", "build"),
            workflow("abcd0000-0000", "build"),
            workflow("33333333-0000", "abcd-report"),
        ];
        for (text, found) in [
            ("11111", "11111111-0000"),
            ("nightly", "11111111-0000"),
            ("nigh", "11111111-0000"),
            ("abcd", "abcd0000-0000"),
            ("abcd-", "33333333-0000"),
            ("@last", "33333333-0000"),
        ] {
            assert_eq!(listed_workflow(&all, text).unwrap(), found, "{text}");
        }
        for (text, why) in [
            ("1111", "ambiguous workflow 1111: 2 workflows fit: 11112222 (RUNNING), 11111111 (RUNNING)"),
            ("build", "ambiguous workflow build: 2 workflows fit: abcd0000 (RUNNING), 11112222 (RUNNING)"),
            ("nig", "workflow not found: nig"),
            ("", "workflow not found: "),
        ] {
            let error = listed_workflow(&all, text).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.exit_code(None)), (why, 5));
        }
        assert_eq!(listed_workflow(&[], "@last").unwrap_err().code(), "NOT_FOUND");
    }
}
