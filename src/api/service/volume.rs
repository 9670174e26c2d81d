//! The handlers of VolumeService.

use grpcio::{ClientStreamingSink, DuplexSink, RequestStream, RpcContext};

use super::Jobs;
use super::files::Direction;
use crate::api::bridge;
use crate::api::convert::volume;
use crate::api::limits::Kind;
use crate::daemon::command::Command;
use crate::pb::joblet::{
    CreateVolumeReq, CreateVolumeRes, EmptyRequest, FilesMessage, GetVolumeReq, GetVolumeRes,
    RemoveVolumeReq, RemoveVolumeRes, ResizeVolumeReq, ResizeVolumeRes, Volumes as VolumeList,
};
use crate::pb::joblet_grpc::VolumeService;

impl VolumeService for Jobs {
    fn create_volume(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<CreateVolumeReq>,
        sink: ClientStreamingSink<CreateVolumeRes>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Call), req, sink, move |req| {
            let command = volume::create(&req)
                .map(|(name, kind, bytes)| move |answer| Command::CreateVolume { name, kind, bytes, answer });
            (bridge::ask(&commands, command), volume::created)
        });
    }

    fn list_volumes(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<EmptyRequest>,
        sink: ClientStreamingSink<VolumeList>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Look), req, sink, move |_| {
            (bridge::ask(&commands, Ok(|answer| Command::ListVolumes { answer })), volume::list)
        });
    }

    fn remove_volume(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<RemoveVolumeReq>,
        sink: ClientStreamingSink<RemoveVolumeRes>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Call), req, sink, move |req| {
            let command = volume::named(req.name);
            let command = command.map(|name| move |answer| Command::RemoveVolume { name, answer });
            (bridge::ask(&commands, command), |()| volume::removed())
        });
    }

    fn get_volume(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<GetVolumeReq>,
        sink: ClientStreamingSink<GetVolumeRes>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Look), req, sink, move |req| {
            let command = volume::named(req.name);
            let command = command.map(|name| move |answer| Command::GetVolume { name, answer });
            (bridge::ask(&commands, command), volume::shown)
        });
    }

    fn write_files(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<FilesMessage>,
        sink: DuplexSink<FilesMessage>,
    ) {
        self.copy_files(&ctx, req, sink, Direction::In);
    }

    fn read_files(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<FilesMessage>,
        sink: DuplexSink<FilesMessage>,
    ) {
        self.copy_files(&ctx, req, sink, Direction::Out);
    }

    fn resize_volume(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<ResizeVolumeReq>,
        sink: ClientStreamingSink<ResizeVolumeRes>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Call), req, sink, move |req| {
            let command = volume::resize(req);
            let command =
                command.map(|(name, bytes)| move |answer| Command::ResizeVolume { name, bytes, answer });
            (bridge::ask(&commands, command), volume::resized)
        });
    }
}
