//! The handlers of RuntimeService.

use grpcio::{ClientStreamingSink, DuplexSink, RequestStream, RpcContext};

use super::{Jobs, import, install};
use crate::api::convert::install::{from_files, from_registry};
use crate::pb::joblet::{
    ImportRuntimeRequest, ImportRuntimeResponse, InstallRuntimeFromLocalRequest, InstallRuntimeRequest,
    InstallRuntimeResponse, RuntimeInstallationChunk,
};
use crate::pb::joblet_grpc::RuntimeService;

impl RuntimeService for Jobs {
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
}
