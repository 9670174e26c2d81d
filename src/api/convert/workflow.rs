//! The messages of workflows.

use std::collections::BTreeSet;
use std::sync::Arc;

use protobuf::{Message, MessageField};

use super::request::{invalid, network, page_bounds, repeated, uploads};
use super::{Refusal, Rules, upload};
use crate::daemon::command::{
    Defaults, Draft, NewWorkflow, NodeRecord, NodeView, WorkflowPage, WorkflowQuery, WorkflowView,
};
use crate::job::limits::MemoryMib;
use crate::job::{ClientId, JobRef, NetworkMode, Secret, spec, units};
use crate::pb::joblet::{
    ArrayProgress, CancelWorkflowResponse, GetWorkflowJobsResponse, GetWorkflowStatusResponse,
    ListWorkflowsRequest, ListWorkflowsResponse, RunWorkflowRequest, RunWorkflowResponse, Timestamp,
    WorkflowInfo, WorkflowJob,
};
use crate::sys::clock::now_ns;
use crate::upload::{ClientKey, Store, Upload};
use crate::workflow::{self, Place, Workflow, WorkflowError};

/// The status in the reply to RunWorkflow, which existing clients look for.
const STARTED: &str = "STARTED";
/// The id of a job that was not started.
const NO_JOB: &str = "0";
/// Most bytes of the tag and length before an entry of a list.
const ENTRY: u64 = 6;

/// Checks a request to run a workflow, and stores its files. It reads all of the file and waits for the disk: on a thread
/// of its own.
///
/// # Errors
/// The first rule that is broken, with its place in the file; a bound; or the disk.
pub(in crate::api) fn prepare(
    request: RunWorkflowRequest,
    rules: &Rules,
    store: &Store,
    client: (ClientId, Option<ClientKey>),
) -> Result<NewWorkflow, Refusal> {
    spec::check_request_id(&request.request_id)?;
    let text = text_of(&request, rules)?;
    let plan = workflow::parse(&text).map_err(refused)?;
    check(&plan, rules)?;
    let inline = uploads(request.workflowFiles, rules)?;
    let stored = upload::find(&request.upload_handles, store, client.1.as_ref())?;
    let mut paths = paths_of(&inline);
    for ahead in &stored.found {
        let entries = ahead.paths().map_err(Refusal::Upload)?;
        paths.extend(entries.into_iter().map(|(path, _)| plain(&path).to_vec()));
    }
    if stored.missing.is_none() {
        check_uploads(&plan, &paths)?;
    }
    let claims = match client.1 {
        _ if inline.is_empty() => Vec::new(),
        None => return invalid("the client has no certificate".to_owned()),
        Some(key) => store.keep(key, inline).map_err(|e| Refusal::Exhausted(e.to_string()))?,
    };
    let (yaml, has_secrets) =
        if plan.has_secrets() { workflow::masked(&text) } else { (text.clone(), false) };
    let plan = Arc::new(plan);
    // Here and not on the loop: it takes as long as the file has jobs.
    let draft = Draft::new(plan.clone(), now_ns());
    Ok(NewWorkflow {
        plan,
        draft,
        yaml,
        secret: has_secrets.then(|| Secret::new(text)),
        defaults: defaults(rules),
        client: client.0,
        request_id: request.request_id,
        claims,
        stored,
    })
}

/// The file of a request.
fn text_of(request: &RunWorkflowRequest, rules: &Rules) -> Result<String, Refusal> {
    if request.yamlContent.is_empty() {
        return invalid(match request.workflow.as_str() {
            "" => "workflow is required".to_owned(),
            path => format!(
                "workflow \"{}\": the daemon reads no workflow files of its own host; send the text in yamlContent, as \
                 `rnx workflow run FILE` does",
                repeated(path)
            ),
        });
    }
    let (bytes, most) = (request.yamlContent.len() as u64, rules.workflow.max_bytes);
    if bytes > most {
        return invalid(format!("the workflow file has {bytes} bytes, workflow.maxBytes allows {most}"));
    }
    Ok(request.yamlContent.clone())
}

fn refused(error: WorkflowError) -> Refusal {
    Refusal::Invalid(crate::job::InvalidField::new(format!("workflow validation failed: {error}")))
}

fn wrong<T>(at: Place, job: &str, why: impl std::fmt::Display) -> Result<T, Refusal> {
    invalid(format!("workflow validation failed: {at}: job '{job}': {why}"))
}

/// The rules of this node, which the file alone cannot break.
fn check(plan: &Workflow, rules: &Rules) -> Result<(), Refusal> {
    let (elements, most) = (plan.elements(), rules.workflow.max_jobs as usize);
    if elements > most {
        return invalid(format!("the workflow has {elements} jobs, workflow.maxJobs allows {most}"));
    }
    for job in &plan.jobs {
        let (at, name) = (job.at, job.name.as_str());
        let has_command = job.runtime.is_none() || !job.command.is_empty();
        if has_command && let Err(why) = spec::check_command(&job.command, &job.args, rules.validate_commands)
        {
            return wrong(at, name, why);
        }
        if let Some(memory) = job.resources.memory
            && let Err(why) = MemoryMib::new(memory.mib().into(), rules.max_memory_mib)
        {
            return wrong(at, name, why);
        }
        if let Some(cores) = job.resources.cores.as_ref().filter(|cores| !cores.is_subset_of(&rules.cores)) {
            return wrong(
                at,
                name,
                format!("cpu_cores {cores}: jobs on this node can use cores {}", rules.cores),
            );
        }
        if let (Some(wanted), Some(bound)) = (job.timeout, rules.job_timeout)
            && wanted > bound
        {
            let bound = units::format_duration(bound);
            return wrong(
                at,
                name,
                format!("timeout: joblet.jobTimeout of this node allows at most {bound}"),
            );
        }
        let lacking =
            |why: Refusal| Refusal::Missing(format!("workflow validation failed: {at}: job '{name}': {why}"));
        let network = network(job.network.as_deref().unwrap_or_default(), rules).map_err(lacking)?;
        check_reach(job, &network, rules).map_err(lacking)?;
        rules.check_profile(job.profile).map_err(lacking)?;
    }
    Ok(())
}

/// Checks the wishes of a job for its network: the network has them, and the node allows them.
fn check_reach(job: &workflow::WorkflowJob, network: &NetworkMode, rules: &Rules) -> Result<(), Refusal> {
    job.reach.check(network)?;
    job.reach.rate.within(rules.net_rate)?;
    if let Some(list) = &job.reach.egress {
        rules.check_egress(list)?;
    }
    rules.check_publish(&job.reach.publish)
}

fn defaults(rules: &Rules) -> Defaults {
    let (limits, user, network) = rules.usual();
    let (timeout, egress, rate) = (rules.job_timeout, rules.egress.clone(), rules.net_rate);
    Defaults { limits, user, network, timeout, egress, rate, runtimes: Default::default() }
}

fn plain(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"./").unwrap_or(path)
}

fn paths_of(uploads: &[Upload]) -> BTreeSet<Vec<u8>> {
    uploads.iter().map(|upload| plain(&upload.path).to_vec()).collect()
}

/// Every file that a job names has come.
fn check_uploads(plan: &Workflow, paths: &BTreeSet<Vec<u8>>) -> Result<(), Refusal> {
    for job in &plan.jobs {
        for name in &job.uploads {
            let wanted = plain(name.as_bytes());
            let wanted = wanted.strip_suffix(b"/").unwrap_or(wanted).to_vec();
            let below = [wanted.as_slice(), b"/"].concat();
            let has_below =
                || paths.range(below.clone()..).next().is_some_and(|path| path.starts_with(&below));
            if !paths.contains(&wanted) && !has_below() {
                let name = repeated(name);
                return wrong(
                    job.at,
                    &job.name,
                    format!("uploads: \"{name}\" was not sent with the workflow"),
                );
            }
        }
    }
    Ok(())
}

/// The workflow that a request names.
///
/// # Errors
/// No id, a prefix that is too short, or a text that is longer than any id.
pub(in crate::api) fn id(text: &str) -> Result<JobRef, Refusal> {
    match text.trim() {
        "" => invalid("workflowUuid is required".to_owned()),
        text if text.len() > 64 => Ok(JobRef::Unknown(repeated(text))),
        text => JobRef::parse(text).or_else(|_| {
            invalid(format!(
                "workflow id prefix \"{}\" is too short: give at least 4 characters",
                repeated(text)
            ))
        }),
    }
}

/// The wanted part of the list.
///
/// # Errors
/// A negative limit, or an unknown token.
pub(in crate::api) fn query(request: &ListWorkflowsRequest) -> Result<WorkflowQuery, Refusal> {
    let (limit, after) = page_bounds(request.limit, &request.page_token)?;
    Ok(WorkflowQuery { with_ended: request.includeCompleted, limit, after })
}

/// The reply to RunWorkflow.
pub(in crate::api) fn run(view: &WorkflowView) -> RunWorkflowResponse {
    RunWorkflowResponse {
        workflowUuid: view.id.to_string(),
        status: STARTED.to_owned(),
        ..RunWorkflowResponse::default()
    }
}

/// The reply to CancelWorkflow.
pub(in crate::api) fn cancel(view: &WorkflowView) -> CancelWorkflowResponse {
    CancelWorkflowResponse {
        workflowUuid: view.id.to_string(),
        status: view.status.as_str().to_owned(),
        ..CancelWorkflowResponse::default()
    }
}

/// The reply to GetWorkflowStatus, of about so many bytes at most.
pub(in crate::api) fn status(view: WorkflowView, bytes: u64) -> GetWorkflowStatusResponse {
    let mut workflow = info(&view);
    workflow.yamlContent = cut(&view.yaml, bytes / 2);
    let room = bytes.saturating_sub(workflow.compute_size());
    GetWorkflowStatusResponse {
        workflow: MessageField::some(workflow),
        jobs: jobs_within(view, room),
        ..GetWorkflowStatusResponse::default()
    }
}

/// The reply to GetWorkflowJobs.
pub(in crate::api) fn jobs(view: WorkflowView, bytes: u64) -> GetWorkflowJobsResponse {
    GetWorkflowJobsResponse { jobs: jobs_within(view, bytes), ..GetWorkflowJobsResponse::default() }
}

/// The reply to ListWorkflows. Files are shown by GetWorkflowStatus alone: a list would have megabytes of them.
pub(in crate::api) fn page(page: WorkflowPage, bytes: u64) -> ListWorkflowsResponse {
    let mut list = ListWorkflowsResponse::default();
    let (mut room, mut last, mut more) = (bytes, None, page.more);
    for (serial, view) in page.workflows {
        let entry = info(&view);
        match room.checked_sub(entry.compute_size() + ENTRY) {
            Some(left) => room = left,
            None => {
                more = true;
                break;
            }
        }
        list.workflows.push(entry);
        last = Some(serial);
    }
    if let Some(serial) = last.filter(|_| more) {
        list.next_page_token = serial.to_string();
    }
    list
}

fn info(view: &WorkflowView) -> WorkflowInfo {
    let [completed, failed, canceled] = view.counts.map(count);
    WorkflowInfo {
        uuid: view.id.to_string(),
        status: view.status.as_str().to_owned(),
        totalJobs: count(view.roster.len()),
        completedJobs: completed,
        failedJobs: failed,
        canceledJobs: canceled,
        createdAt: time(Some(view.created_ns)),
        startedAt: time(view.started_ns),
        completedAt: time(view.ended_ns),
        name: view.name.to_string(),
        message: view.message.clone(),
        ..WorkflowInfo::default()
    }
}

/// The jobs of a workflow. Where they have more than so many bytes, the names of the jobs that each waits for are left out
/// first, then all ids of attempts but the first.
fn jobs_within(view: WorkflowView, bytes: u64) -> Vec<WorkflowJob> {
    let build = |most: usize| -> Vec<WorkflowJob> {
        let named = view.roster.iter().zip(&view.nodes);
        named.map(|(record, node)| job(record, node, &view.roster, most)).collect()
    };
    let size = |jobs: &[WorkflowJob]| jobs.iter().map(|job| job.compute_size() + ENTRY).sum::<u64>();
    let mut jobs = build(usize::MAX);
    for most in [16, 2, 0] {
        if size(&jobs) <= bytes {
            break;
        }
        jobs = build(most);
    }
    jobs
}

fn job(record: &NodeRecord, node: &NodeView, roster: &[NodeRecord], most: usize) -> WorkflowJob {
    let names = record.dependencies.iter().filter_map(|at| roster.get(*at as usize));
    let mut dependencies: Vec<String> = names.take(most).map(|node| node.name.clone()).collect();
    if record.dependencies.len() > most {
        dependencies.push(format!("... and {} more", record.dependencies.len() - most));
    }
    let [total, running, completed, failed, canceled] = node.elements.map(count);
    let array = record.is_array.then(|| ArrayProgress {
        total,
        running,
        completed,
        failed,
        canceled,
        ..ArrayProgress::default()
    });
    WorkflowJob {
        jobUuid: node.job.map_or_else(|| NO_JOB.to_owned(), |id| id.to_string()),
        jobName: record.name.clone(),
        status: node.status.as_str().to_owned(),
        dependencies,
        startTime: time(node.started_ns),
        endTime: time(node.ended_ns),
        exitCode: node.code,
        exit_reason: node.reason.to_owned(),
        message: node.message.chars().take(if most == 0 { 120 } else { 1000 }).collect(),
        attempts: count(node.attempts),
        array: array.into(),
        uuids: node.ids.iter().take(most.max(1)).map(ToString::to_string).collect(),
        ..WorkflowJob::default()
    }
}

/// A file as far as a reply has room for it.
fn cut(yaml: &str, bytes: u64) -> String {
    let most = usize::try_from(bytes).unwrap_or(usize::MAX);
    if yaml.len() <= most {
        return yaml.to_owned();
    }
    let end = (0..=most).rev().find(|at| yaml.is_char_boundary(*at)).unwrap_or(0);
    format!("{}\n# ... cut: the file has {} bytes\n", &yaml[..end], yaml.len())
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A time in whole seconds, as those of jobs are.
fn time(ns: Option<i64>) -> MessageField<Timestamp> {
    let stamp = |ns: i64| Timestamp { seconds: ns.div_euclid(1_000_000_000), ..Timestamp::default() };
    ns.map(stamp).into()
}

#[cfg(test)]
#[path = "workflow_tests.rs"]
mod tests;
