//! The handlers of MonitoringService.

use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;
use grpcio::{ClientStreamingSink, DuplexSink, RequestStream, RpcContext, RpcStatus, RpcStatusCode};

use super::stream;
use crate::api::convert::host;
use crate::api::limits::{CallLimits, Kind};
use crate::api::{StreamPump, bridge, status};
use crate::config::daemon::Monitoring;
use crate::daemon::command::GpuBoard;
use crate::monitor::{Feed, Parts, Sample, Watcher};
use crate::pb::joblet::{EmptyRequest, StreamMetricsReq, SystemMetricsRes, SystemStatusRes};
use crate::pb::joblet_grpc::MonitoringService;
use crate::stream::{Next, Source, Watermark};

/// The host, as clients may see it.
#[derive(Clone)]
pub(in crate::api) struct Host {
    /// `None`: `monitoring.enabled` is false.
    pub(in crate::api) watcher: Option<Watcher>,
    /// The interval of a stream that names none.
    pub(in crate::api) interval: Duration,
    /// The name of the node.
    pub(in crate::api) node: Arc<str>,
    /// The GPUs of the node.
    pub(in crate::api) gpus: GpuBoard,
    pub(in crate::api) pump: StreamPump,
    pub(in crate::api) call_limits: CallLimits,
}

/// Starts the watcher of the host, unless clients may not see it.
pub(in crate::api) fn watcher(settings: &Monitoring) -> std::io::Result<Option<Watcher>> {
    let watched =
        crate::monitor::Settings { files: Default::default(), detects_cloud: settings.cloud_detection };
    settings.enabled.then(|| Watcher::start(watched)).transpose()
}

impl MonitoringService for Host {
    fn get_system_status(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<EmptyRequest>,
        sink: ClientStreamingSink<SystemStatusRes>,
    ) {
        let Host { watcher, node, gpus, call_limits, .. } = self.clone();
        bridge::serve(&ctx, call_limits.acquire(&ctx, Kind::Look), req, sink, move |_| async move {
            let Some(watcher) = watcher else { return Ok(host::hidden()) };
            let (answer, asked) = oneshot::channel();
            let answer = Box::new(move |sample| drop(answer.send(sample)));
            if !watcher.ask(answer) {
                return Err(too_many());
            }
            match asked.await {
                Ok(Ok(sample)) => Ok(host::status(&sample, &node, &gpus)),
                Ok(Err(why)) => Err(unreadable(&why)),
                Err(_) => Err(unreadable("the thread that looks at the host is gone")),
            }
        });
    }

    fn stream_system_metrics(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<StreamMetricsReq>,
        sink: DuplexSink<SystemMetricsRes>,
    ) {
        let Host { watcher, interval, node, gpus, pump, call_limits } = self.clone();
        let permit = call_limits.acquire(&ctx, Kind::Stream);
        let open = move |request: StreamMetricsReq| {
            let watcher = watcher.ok_or_else(|| {
                let text = "this node does not show its host: monitoring.enabled is false";
                status::new(RpcStatusCode::FAILED_PRECONDITION, text)
            })?;
            let (seconds, parts) =
                host::wanted(&request, interval.as_secs()).map_err(|refusal| status::of_refusal(&refusal))?;
            HostStream::open(&watcher, Duration::from_secs(seconds), parts, (node, gpus))
        };
        ctx.spawn(stream::follow_source(pump, permit, req, open, sink));
    }
}

fn too_many() -> RpcStatus {
    status::new(RpcStatusCode::RESOURCE_EXHAUSTED, "too many ask about the host already; try again")
}

fn unreadable(why: &str) -> RpcStatus {
    status::new(RpcStatusCode::INTERNAL, &format!("failed to get system status: {why}"))
}

/// The samples of one stream. A client that reads slowly gets the newest one each time.
struct HostStream {
    feed: Feed,
    watermark: Arc<Watermark>,
    node: Arc<str>,
    gpus: GpuBoard,
}

impl HostStream {
    fn open(
        watcher: &Watcher,
        interval: Duration,
        parts: Parts,
        (node, gpus): (Arc<str>, GpuBoard),
    ) -> Result<Self, RpcStatus> {
        let watermark = Watermark::new();
        let moved = watermark.clone();
        let feed = watcher.follow(interval, parts, Box::new(move || moved.notify())).ok_or_else(too_many)?;
        Ok(HostStream { feed, watermark, node, gpus })
    }
}

impl Source for HostStream {
    type Item = SystemMetricsRes;
    type Error = RpcStatus;

    fn watermark(&self) -> &Arc<Watermark> {
        &self.watermark
    }

    fn next(&mut self) -> Result<Next<SystemMetricsRes>, RpcStatus> {
        let message = |sample: Arc<Sample>| host::metrics(&sample, &self.node, &self.gpus);
        match self.feed.take() {
            None => Ok(Next::Pending),
            Some(Ok(sample)) => Ok(Next::Item(message(sample))),
            Some(Err(why)) => Err(unreadable(&why)),
        }
    }
}
