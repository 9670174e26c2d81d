//! The handlers of GpuService.

use grpcio::{ClientStreamingSink, RequestStream, RpcContext};

use super::Jobs;
use crate::api::bridge;
use crate::api::convert::gpu;
use crate::api::limits::Kind;
use crate::daemon::command::Command;
use crate::pb::joblet::{EmptyRequest, Gpus, ResetGpuStateReq};
use crate::pb::joblet_grpc::GpuService;

impl GpuService for Jobs {
    fn list_gpus(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<EmptyRequest>,
        sink: ClientStreamingSink<Gpus>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Look), req, sink, move |_| {
            (bridge::ask(&commands, Ok(|answer| Command::ListGpus { answer })), gpu::list)
        });
    }

    fn reset_gpu_state(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<ResetGpuStateReq>,
        sink: ClientStreamingSink<Gpus>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Call), req, sink, move |req| {
            let command = gpu::named(req).map(|gpu| move |answer| Command::ResetGpu { gpu, answer });
            (bridge::ask(&commands, command), gpu::list)
        });
    }
}
