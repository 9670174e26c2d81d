//! JobService.

use futures_channel::oneshot;
use grpcio::{RpcContext, ServerStreamingSink, UnarySink};
use protobuf::Message;

use super::{Jobs, logs};
use crate::api::bridge;
use crate::api::convert::{reply, request};
use crate::daemon::commands::{Command, JobPage};
use crate::pb::joblet::{
    DataChunk, DeleteAllJobsReq, DeleteAllJobsRes, DeleteJobReq, DeleteJobRes, EmptyRequest, GetJobLogsReq,
    GetJobStatusReq, GetJobStatusRes, Jobs as JobList, RunJobRequest, RunJobResponse, StopJobReq, StopJobRes,
};
use crate::pb::joblet_grpc::JobService;

impl JobService for Jobs {
    fn run_job(&mut self, ctx: RpcContext<'_>, req: RunJobRequest, sink: UnarySink<RunJobResponse>) {
        let claim = self.starts.claim(req.compute_size());
        let command = claim.and_then(|claim| {
            let (spec, uploads) = request::run(req, &self.rules)?;
            Ok((claim, move |answer| Command::Run { spec, uploads, answer }))
        });
        let (claim, command) = match command {
            Ok((claim, command)) => (Some(claim), Ok(command)),
            Err(refusal) => (None, Err(refusal)),
        };
        bridge::reply(&ctx, sink, bridge::ask(&self.door, command), |job| {
            drop(claim);
            reply::run(job)
        });
    }

    fn get_job_status(
        &mut self,
        ctx: RpcContext<'_>,
        req: GetJobStatusReq,
        sink: UnarySink<GetJobStatusRes>,
    ) {
        let command = request::job(&req.uuid).map(|job| move |answer| Command::Status { job, answer });
        let rules = self.rules.clone();
        bridge::reply(&ctx, sink, bridge::ask(&self.door, command), move |job| reply::status(job, &rules));
    }

    fn stop_job(&mut self, ctx: RpcContext<'_>, req: StopJobReq, sink: UnarySink<StopJobRes>) {
        let command = request::job(&req.uuid).map(|job| move |answer| Command::Stop { job, answer });
        bridge::reply(&ctx, sink, bridge::ask(&self.door, command), |job| reply::stop(&job));
    }

    fn delete_job(&mut self, ctx: RpcContext<'_>, req: DeleteJobReq, sink: UnarySink<DeleteJobRes>) {
        let command = request::job(&req.uuid).map(|job| move |answer| Command::Delete { job, answer });
        bridge::reply(&ctx, sink, bridge::ask(&self.door, command), reply::delete);
    }

    fn delete_all_jobs(
        &mut self,
        ctx: RpcContext<'_>,
        _: DeleteAllJobsReq,
        sink: UnarySink<DeleteAllJobsRes>,
    ) {
        let command = Ok(|answer| Command::DeleteAll { answer });
        bridge::reply(&ctx, sink, bridge::ask(&self.door, command), reply::delete_all);
    }

    fn list_jobs(&mut self, ctx: RpcContext<'_>, req: EmptyRequest, sink: UnarySink<JobList>) {
        let asked = match request::page(&req) {
            Ok(Some(page)) => bridge::ask(&self.door, Ok(move |answer| Command::List { page, answer })),
            Ok(None) => Ok(empty_page()),
            Err(refusal) => bridge::ask(&self.door, Err::<fn(_) -> Command, _>(refusal)),
        };
        let (rules, bytes) = (self.rules.clone(), self.page_bytes);
        bridge::reply(&ctx, sink, asked, move |page| reply::page(page, &rules, bytes));
    }

    fn get_job_logs(
        &mut self,
        ctx: RpcContext<'_>,
        req: GetJobLogsReq,
        sink: ServerStreamingSink<DataChunk>,
    ) {
        let command = request::logs(&req).map(|job| move |answer| Command::Logs { job, answer });
        let asked = bridge::ask(&self.door, command);
        ctx.spawn(logs::follow(self.logs.clone(), asked, sink));
    }
}

/// The answer about jobs that cannot exist: the loop is not asked.
fn empty_page<E>() -> oneshot::Receiver<Result<JobPage, E>> {
    let (answer, asked) = oneshot::channel();
    // Fails only without a receiver, and `asked` is right here.
    let _ = answer.send(Ok(JobPage::default()));
    asked
}
