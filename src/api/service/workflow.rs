//! The handlers of workflows, which are calls of JobService.

use futures_channel::oneshot;
use grpcio::{ClientStreamingSink, RequestStream, RpcContext};
use protobuf::Message;

use super::Jobs;
use crate::api::bridge;
use crate::api::convert::{Refusal, workflow};
use crate::api::limits::{CallPermit, Kind};
use crate::api::status;
use crate::daemon::command::{Command, NewWorkflow};
use crate::pb::joblet::{
    CancelWorkflowRequest, CancelWorkflowResponse, GetWorkflowJobsRequest, GetWorkflowJobsResponse,
    GetWorkflowStatusRequest, GetWorkflowStatusResponse, ListWorkflowsRequest, ListWorkflowsResponse,
    RunWorkflowRequest, RunWorkflowResponse,
};

pub(super) fn run(
    jobs: &Jobs,
    ctx: &RpcContext<'_>,
    req: RequestStream<RunWorkflowRequest>,
    sink: ClientStreamingSink<RunWorkflowResponse>,
) {
    let Jobs { commands, rules, upload_limit, call_limits, store, workflow_threads, .. } = jobs.clone();
    let permit = call_limits.acquire(ctx, Kind::Call);
    let client = permit.as_ref().map(CallPermit::client).unwrap_or_default();
    let owner = permit.as_ref().ok().map(CallPermit::owner);
    bridge::serve(ctx, permit, req, sink, async move |req: RunWorkflowRequest| {
        // Held until the loop has answered, because the request lives as long.
        let _upload_permit =
            upload_limit.acquire(req.compute_size()).map_err(|refusal| status::of_refusal(&refusal))?;
        let place = workflow_threads.take().map_err(|e| status::of_store(&e))?;
        // A file of megabytes takes longer to read than other clients should wait, and its uploads wait for the disk.
        let checked = off_thread(move || {
            let _place = place;
            workflow::prepare(req, &rules, &store, (client, owner))
        });
        let command = checked.await.map(|new| {
            let workflow = Box::new(new);
            move |answer| Command::RunWorkflow { workflow, answer }
        });
        Ok(workflow::run(&bridge::answered(bridge::ask(&commands, command)).await?))
    });
}

/// Runs the check of a request on a thread of its own.
async fn off_thread(
    work: impl FnOnce() -> Result<NewWorkflow, Refusal> + Send + 'static,
) -> Result<NewWorkflow, Refusal> {
    let (done, outcome) = oneshot::channel();
    let thread = std::thread::Builder::new().name("workflow".into()).spawn(move || {
        // The call may be gone.
        let _ = done.send(work());
    });
    thread.map_err(|why| Refusal::Exhausted(format!("cannot start a thread: {why}; try again")))?;
    let gone = || Refusal::Exhausted("the workflow was not checked to its end; try again".to_owned());
    outcome.await.unwrap_or_else(|_| Err(gone()))
}

pub(super) fn status(
    jobs: &Jobs,
    ctx: &RpcContext<'_>,
    req: RequestStream<GetWorkflowStatusRequest>,
    sink: ClientStreamingSink<GetWorkflowStatusResponse>,
) {
    let Jobs { commands, call_limits, page_bytes, .. } = jobs.clone();
    bridge::reply(ctx, call_limits.acquire(ctx, Kind::Look), req, sink, move |req| {
        let wanted = workflow::id(&req.workflowUuid);
        let command = wanted.map(|workflow| move |answer| Command::Workflow { workflow, answer });
        (bridge::ask(&commands, command), move |view| workflow::status(view, page_bytes))
    });
}

pub(super) fn jobs(
    jobs: &Jobs,
    ctx: &RpcContext<'_>,
    req: RequestStream<GetWorkflowJobsRequest>,
    sink: ClientStreamingSink<GetWorkflowJobsResponse>,
) {
    let Jobs { commands, call_limits, page_bytes, .. } = jobs.clone();
    bridge::reply(ctx, call_limits.acquire(ctx, Kind::Look), req, sink, move |req| {
        let wanted = workflow::id(&req.workflowUuid);
        let command = wanted.map(|workflow| move |answer| Command::Workflow { workflow, answer });
        (bridge::ask(&commands, command), move |view| workflow::jobs(view, page_bytes))
    });
}

pub(super) fn list(
    jobs: &Jobs,
    ctx: &RpcContext<'_>,
    req: RequestStream<ListWorkflowsRequest>,
    sink: ClientStreamingSink<ListWorkflowsResponse>,
) {
    let Jobs { commands, call_limits, page_bytes, .. } = jobs.clone();
    bridge::reply(ctx, call_limits.acquire(ctx, Kind::Look), req, sink, move |req| {
        let query = workflow::query(&req);
        let command = query.map(|query| move |answer| Command::Workflows { query, answer });
        (bridge::ask(&commands, command), move |page| workflow::page(page, page_bytes))
    });
}

pub(super) fn cancel(
    jobs: &Jobs,
    ctx: &RpcContext<'_>,
    req: RequestStream<CancelWorkflowRequest>,
    sink: ClientStreamingSink<CancelWorkflowResponse>,
) {
    let Jobs { commands, call_limits, .. } = jobs.clone();
    bridge::reply(ctx, call_limits.acquire(ctx, Kind::Call), req, sink, move |req| {
        let wanted = workflow::id(&req.workflowUuid);
        let command = wanted.map(|workflow| move |answer| Command::CancelWorkflow { workflow, answer });
        (bridge::ask(&commands, command), |view| workflow::cancel(&view))
    });
}
