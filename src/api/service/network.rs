//! The handlers of NetworkService.

use grpcio::{ClientStreamingSink, RequestStream, RpcContext};

use super::Jobs;
use crate::api::bridge;
use crate::api::convert::{network, reply, request};
use crate::api::limits::{CallPermit, Kind};
use crate::daemon::command::Command;
use crate::pb::joblet::{
    ChangeEgressReq, ChangeEgressRes, CreateNetworkReq, CreateNetworkRes, EmptyRequest, GetDenialsReq,
    GetDenialsRes, GetNetworkReq, GetNetworkRes, Networks as NetworkList, RemoveNetworkReq, RemoveNetworkRes,
};
use crate::pb::joblet_grpc::NetworkService;

impl NetworkService for Jobs {
    fn change_egress(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<ChangeEgressReq>,
        sink: ClientStreamingSink<ChangeEgressRes>,
    ) {
        let Jobs { commands, rules, call_limits, .. } = self.clone();
        let permit = call_limits.acquire(&ctx, Kind::Call);
        let client = permit.as_ref().map(CallPermit::client).unwrap_or_default();
        bridge::reply(&ctx, permit, req, sink, move |req: ChangeEgressReq| {
            let wish = request::change_egress(req, &rules, client);
            let command =
                wish.map(|(job, change)| move |answer| Command::ChangeEgress { job, change, answer });
            (bridge::ask(&commands, command), reply::egress)
        });
    }

    fn get_denials(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<GetDenialsReq>,
        sink: ClientStreamingSink<GetDenialsRes>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Look), req, sink, move |req| {
            let command = request::job(&req.uuid).map(|job| move |answer| Command::Denials { job, answer });
            (bridge::ask(&commands, command), reply::denials)
        });
    }

    fn create_network(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<CreateNetworkReq>,
        sink: ClientStreamingSink<CreateNetworkRes>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Call), req, sink, move |req| {
            let command = network::create(req).map(|(name, cidr, internal)| {
                move |answer| Command::CreateNetwork { name, cidr, internal, answer }
            });
            (bridge::ask(&commands, command), network::created)
        });
    }

    fn list_networks(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<EmptyRequest>,
        sink: ClientStreamingSink<NetworkList>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Look), req, sink, move |_| {
            (bridge::ask(&commands, Ok(|answer| Command::ListNetworks { answer })), network::list)
        });
    }

    fn remove_network(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<RemoveNetworkReq>,
        sink: ClientStreamingSink<RemoveNetworkRes>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Call), req, sink, move |req| {
            let command = network::named(req.name);
            let command = command.map(|name| move |answer| Command::RemoveNetwork { name, answer });
            (bridge::ask(&commands, command), |()| network::removed())
        });
    }

    fn get_network(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<GetNetworkReq>,
        sink: ClientStreamingSink<GetNetworkRes>,
    ) {
        let Jobs { commands, call_limits, .. } = self.clone();
        bridge::reply(&ctx, call_limits.acquire(&ctx, Kind::Look), req, sink, move |req| {
            let command = network::named(req.name);
            let command = command.map(|name| move |answer| Command::GetNetwork { name, answer });
            (bridge::ask(&commands, command), network::shown)
        });
    }
}
