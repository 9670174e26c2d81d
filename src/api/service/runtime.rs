//! The handlers of RuntimeService.

use grpcio::{ClientStreamingSink, DuplexSink, RequestStream, RpcContext, RpcStatusCode};

use super::{Jobs, build, import, install};
use crate::api::bridge;
use crate::api::convert::build::validated;
use crate::api::convert::install::{from_files, from_registry};
use crate::api::convert::runtime;
use crate::api::limits::Kind;
use crate::daemon::command::Command;
use crate::pb::joblet::{
    BuildRuntimeProgress, BuildRuntimeRequest, EmptyRequest, ImportRuntimeRequest, ImportRuntimeResponse,
    InstallRuntimeFromLocalRequest, InstallRuntimeRequest, InstallRuntimeResponse, RuntimeInfoReq,
    RuntimeInfoRes, RuntimeInstallationChunk, RuntimeRemoveReq, RuntimeRemoveRes, RuntimeTestReq,
    RuntimeTestRes, RuntimesRes, ValidateRuntimeSpecRequest, ValidateRuntimeSpecResponse,
    ValidateRuntimeYAMLRequest, ValidateRuntimeYAMLResponse,
};
use crate::pb::joblet_grpc::RuntimeService;

impl RuntimeService for Jobs {
    fn list_runtimes(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<EmptyRequest>,
        sink: ClientStreamingSink<RuntimesRes>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Look), req, sink, move |_| {
            (bridge::ask(&commands, Ok(|answer| Command::ListRuntimes { answer })), runtime::list)
        });
    }

    fn get_runtime_info(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<RuntimeInfoReq>,
        sink: ClientStreamingSink<RuntimeInfoRes>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::serve(&ctx, call_limits.acquire(&ctx, Kind::Look), req, sink, move |req| {
            let command = runtime::named(&req.runtime);
            let command = command.map(|runtime| move |answer| Command::GetRuntime { runtime, answer });
            let asked = bridge::ask(&commands, command);
            async {
                match bridge::answered(asked).await {
                    Ok(view) => Ok(runtime::shown(Some(view))),
                    // Clients know one that is not there by `found`.
                    Err(why) if why.code() == RpcStatusCode::NOT_FOUND => Ok(runtime::shown(None)),
                    Err(why) => Err(why),
                }
            }
        });
    }

    fn test_runtime(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<RuntimeTestReq>,
        sink: ClientStreamingSink<RuntimeTestRes>,
    ) {
        let Jobs { commands, call_limits, rules, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Call), req, sink, move |req| {
            let command = runtime::test(&req.runtime, &rules);
            let command = command.map(|spec| move |answer| Command::TestRuntime { spec, answer });
            (bridge::ask(&commands, command), runtime::tested)
        });
    }

    fn validate_runtime_spec(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<ValidateRuntimeSpecRequest>,
        sink: ClientStreamingSink<ValidateRuntimeSpecResponse>,
    ) {
        let Jobs { call_limits, .. } = self.clone();
        bridge::serve(&ctx, call_limits.acquire(&ctx, Kind::Look), req, sink, move |req| async move {
            Ok(runtime::spelling(&req.runtimeSpec))
        });
    }

    fn remove_runtime(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<RuntimeRemoveReq>,
        sink: ClientStreamingSink<RuntimeRemoveRes>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Call), req, sink, move |req| {
            let command = runtime::removal(&req.runtime);
            let command =
                command.map(|(runtime, all)| move |answer| Command::RemoveRuntime { runtime, all, answer });
            (bridge::ask(&commands, command), runtime::removed)
        });
    }

    fn import_runtime(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<ImportRuntimeRequest>,
        sink: ClientStreamingSink<ImportRuntimeResponse>,
    ) {
        import::serve(self, &ctx, req, sink);
    }

    fn install_runtime_from_local(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<InstallRuntimeFromLocalRequest>,
        sink: ClientStreamingSink<InstallRuntimeResponse>,
    ) {
        install::serve(self, &ctx, req, sink, from_files);
    }

    fn streaming_install_runtime_from_local(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<InstallRuntimeFromLocalRequest>,
        sink: DuplexSink<RuntimeInstallationChunk>,
    ) {
        install::stream(self, &ctx, req, sink, from_files);
    }

    fn install_runtime_from_github(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<InstallRuntimeRequest>,
        sink: ClientStreamingSink<InstallRuntimeResponse>,
    ) {
        install::serve(self, &ctx, req, sink, from_registry);
    }

    fn streaming_install_runtime_from_github(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<InstallRuntimeRequest>,
        sink: DuplexSink<RuntimeInstallationChunk>,
    ) {
        install::stream(self, &ctx, req, sink, from_registry);
    }

    fn build_runtime(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<BuildRuntimeRequest>,
        sink: DuplexSink<BuildRuntimeProgress>,
    ) {
        build::stream(self, &ctx, req, sink);
    }

    fn validate_runtime_y_a_m_l(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<ValidateRuntimeYAMLRequest>,
        sink: ClientStreamingSink<ValidateRuntimeYAMLResponse>,
    ) {
        let Jobs { call_limits, .. } = self.clone();
        bridge::serve(&ctx, call_limits.acquire(&ctx, Kind::Look), req, sink, move |req| async move {
            Ok(validated(&req.yaml_content))
        });
    }
}
