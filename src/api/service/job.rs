//! The handlers of JobService.

use futures_channel::oneshot;
use grpcio::{ClientStreamingSink, DuplexSink, RequestStream, RpcContext};
use protobuf::Message;

use super::{Jobs, stream, workflow};
use crate::api::bridge;
use crate::api::convert::{reply, request, upload};
use crate::api::limits::{CallPermit, Kind};
use crate::api::{logs, samples, status};
use crate::daemon::command::{Command, JobPage};
use crate::metrics::SampleQuery;
use crate::output::LogQuery;
use crate::pb::joblet::{
    CancelJobReq, CancelJobRes, CancelWorkflowRequest, CancelWorkflowResponse, DataChunk, DeleteAllJobsReq,
    DeleteAllJobsRes, DeleteJobReq, DeleteJobRes, EmptyRequest, GetJobLogsReq, GetJobStatusReq,
    GetJobStatusRes, GetWorkflowJobsRequest, GetWorkflowJobsResponse, GetWorkflowStatusRequest,
    GetWorkflowStatusResponse, JobMetricsEvent, JobMetricsRequest, JobMetricsSample, Jobs as JobList,
    ListWorkflowsRequest, ListWorkflowsResponse, RunJobRequest, RunJobResponse, RunWorkflowRequest,
    RunWorkflowResponse, StopJobReq, StopJobRes, StreamJobMetricsRequest,
};
use crate::pb::joblet_grpc::JobService;
use crate::sys::clock::now_ns;

impl JobService for Jobs {
    fn run_job(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<RunJobRequest>,
        sink: ClientStreamingSink<RunJobResponse>,
    ) {
        let Jobs { commands, rules, upload_limit, call_limits, store, .. } = self.clone();
        let permit = call_limits.acquire(&ctx, Kind::Call);
        let client = permit.as_ref().map(CallPermit::client).unwrap_or_default();
        let owner = permit.as_ref().ok().map(CallPermit::owner);
        bridge::serve(&ctx, permit, req, sink, async move |mut req: RunJobRequest| {
            // Held until the loop has answered, because the uploads of the request live as long.
            let _upload_permit =
                upload_limit.acquire(req.compute_size()).map_err(|refusal| status::of_refusal(&refusal))?;
            let explain = req.explain;
            let handles = std::mem::take(&mut req.upload_handles);
            let checked = request::run(req, &rules).and_then(|(mut spec, uploads)| {
                spec.client = client;
                let stored = upload::stored(&handles, &store, owner.as_ref(), &mut spec)?;
                Ok((spec, uploads, stored))
            });
            if explain {
                let command = checked.map(|(spec, uploads, stored)| {
                    move |answer| Command::Explain { spec, uploads, stored, answer }
                });
                return Ok(reply::plan(bridge::answered(bridge::ask(&commands, command)).await?));
            }
            let command = checked
                .map(|(spec, uploads, stored)| move |answer| Command::Run { spec, uploads, stored, answer });
            Ok(reply::run(bridge::answered(bridge::ask(&commands, command)).await?))
        });
    }

    fn get_job_status(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<GetJobStatusReq>,
        sink: ClientStreamingSink<GetJobStatusRes>,
    ) {
        let Jobs { commands, rules, call_limits, .. } = self.clone();
        bridge::serve(&ctx, call_limits.acquire(&ctx, Kind::Look), req, sink, async move |req| {
            let job = request::job(&req.uuid);
            if req.security {
                let command = job.map(|job| move |answer| Command::Security { job, answer });
                let (job, layers) = bridge::answered(bridge::ask(&commands, command)).await?;
                return Ok(reply::security(job, layers, &rules));
            }
            let command = job.map(|job| move |answer| Command::Status { job, answer });
            Ok(reply::status(bridge::answered(bridge::ask(&commands, command)).await?, &rules))
        });
    }

    fn stop_job(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<StopJobReq>,
        sink: ClientStreamingSink<StopJobRes>,
    ) {
        let Jobs { commands, rules, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Call), req, sink, move |req| {
            let stop = request::stop(&req, &rules);
            let command = stop.map(|(job, grace)| move |answer| Command::Stop { job, grace, answer });
            (bridge::ask(&commands, command), |job| reply::stop(&job))
        });
    }

    fn cancel_job(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<CancelJobReq>,
        sink: ClientStreamingSink<CancelJobRes>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Call), req, sink, move |req| {
            let command = request::job(&req.uuid).map(|job| move |answer| Command::Cancel { job, answer });
            (bridge::ask(&commands, command), |job| reply::cancel(&job))
        });
    }

    fn delete_job(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<DeleteJobReq>,
        sink: ClientStreamingSink<DeleteJobRes>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Call), req, sink, move |req| {
            let command = request::job(&req.uuid).map(|job| move |answer| Command::Delete { job, answer });
            (bridge::ask(&commands, command), reply::delete)
        });
    }

    fn delete_all_jobs(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<DeleteAllJobsReq>,
        sink: ClientStreamingSink<DeleteAllJobsRes>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Call), req, sink, move |_| {
            (bridge::ask(&commands, Ok(|answer| Command::DeleteAll { answer })), reply::delete_all)
        });
    }

    fn list_jobs(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<EmptyRequest>,
        sink: ClientStreamingSink<JobList>,
    ) {
        let Jobs { commands, rules, call_limits, page_bytes, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Look), req, sink, move |req| {
            let asked = match request::page(&req) {
                Ok(Some(page)) => bridge::ask(&commands, Ok(move |answer| Command::List { page, answer })),
                Ok(None) => Ok(empty_page()),
                Err(refusal) => bridge::ask(&commands, Err::<fn(_) -> Command, _>(refusal)),
            };
            (asked, move |page| reply::page(page, &rules, page_bytes))
        });
    }

    fn get_job_logs(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<GetJobLogsReq>,
        sink: DuplexSink<DataChunk>,
    ) {
        let Jobs { commands, pump, call_limits, .. } = self.clone();
        let put = move |req: GetJobLogsReq| {
            let (job, query) = match request::logs(&req) {
                Ok((job, query)) => (Ok(job), query),
                Err(refusal) => (Err(refusal), LogQuery::default()),
            };
            let exec = req.exec;
            let command = job.map(|job| move |answer| Command::Logs { job, exec, answer });
            (bridge::ask(&commands, command), |source| logs::stream(source, query))
        };
        ctx.spawn(stream::follow(pump, call_limits.acquire(&ctx, Kind::Stream), req, put, sink));
    }

    fn get_job_metrics(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<JobMetricsRequest>,
        sink: DuplexSink<JobMetricsSample>,
    ) {
        let Jobs { commands, pump, call_limits, .. } = self.clone();
        let put = move |req: JobMetricsRequest| {
            let (job, query) = match request::samples(&req) {
                Ok((job, query)) => (Ok(job), query),
                Err(refusal) => (Err(refusal), SampleQuery::default()),
            };
            let command = job.map(|job| move |answer| Command::Samples { job, answer });
            (bridge::ask(&commands, command), move |source| samples::stream(source, query, now_ns()))
        };
        ctx.spawn(stream::follow(pump, call_limits.acquire(&ctx, Kind::Stream), req, put, sink));
    }

    fn stream_job_metrics(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<StreamJobMetricsRequest>,
        sink: DuplexSink<JobMetricsEvent>,
    ) {
        let Jobs { commands, pump, call_limits, .. } = self.clone();
        let put = move |req: StreamJobMetricsRequest| {
            let job = request::job(&req.job_uuid);
            let command = job.map(|job| move |answer| Command::Samples { job, answer });
            (bridge::ask(&commands, command), move |source| samples::events(source, now_ns()))
        };
        ctx.spawn(stream::follow(pump, call_limits.acquire(&ctx, Kind::Stream), req, put, sink));
    }

    fn run_workflow(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<RunWorkflowRequest>,
        sink: ClientStreamingSink<RunWorkflowResponse>,
    ) {
        workflow::run(self, &ctx, req, sink);
    }

    fn get_workflow_status(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<GetWorkflowStatusRequest>,
        sink: ClientStreamingSink<GetWorkflowStatusResponse>,
    ) {
        workflow::status(self, &ctx, req, sink);
    }

    fn list_workflows(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<ListWorkflowsRequest>,
        sink: ClientStreamingSink<ListWorkflowsResponse>,
    ) {
        workflow::list(self, &ctx, req, sink);
    }

    fn get_workflow_jobs(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<GetWorkflowJobsRequest>,
        sink: ClientStreamingSink<GetWorkflowJobsResponse>,
    ) {
        workflow::jobs(self, &ctx, req, sink);
    }

    fn cancel_workflow(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<CancelWorkflowRequest>,
        sink: ClientStreamingSink<CancelWorkflowResponse>,
    ) {
        workflow::cancel(self, &ctx, req, sink);
    }
}

/// An empty list, for a page that no job can be in: the loop gets no command.
fn empty_page<E>() -> oneshot::Receiver<Result<JobPage, E>> {
    let (answer, asked) = oneshot::channel();
    // Fails only without a receiver, and `asked` is right here.
    let _ = answer.send(Ok(JobPage::default()));
    asked
}
