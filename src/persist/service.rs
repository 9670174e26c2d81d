//! PersistService: history by gRPC, on a Unix socket of the node itself.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_executor::block_on;
use futures_util::{SinkExt, StreamExt};
use grpcio::{
    ChannelBuilder, ClientStreamingSink, DuplexSink, EnvBuilder, RequestStream, RpcContext, RpcStatus,
    RpcStatusCode, ServerBuilder, WriteFlags,
};
use log::Level;
use mio::net::UnixListener;

use super::PersistError;
use super::client::Pulse;
use super::connection::peer_uid;
use super::fetch::Fetcher;
use super::lane::LaneEvent;
use super::query;
use super::store::LocalStore;
use crate::diag;
use crate::job::JobId;
use crate::pb::persist::{
    DeleteJobRequest, DeleteJobResponse, LogLine, Metric, PingRequest, PingResponse, QueryLogsRequest,
    QueryMetricsRequest,
};
use crate::pb::persist_grpc::{PersistService, create_persist_service};
use crate::sys::clock::now_ns;
use crate::sys::mailbox::Mailbox;

/// The gRPC servers, and the connections that they serve. C-core does not tell a call who its peer is, so each kind of
/// peer has a server, whose calls know what they may do.
pub(super) struct QueryServer {
    /// For root and the daemon's own user.
    owners: grpcio::Server,
    /// For members of `persist.server.group`, who may read.
    readers: grpcio::Server,
    /// Numbers of the descriptors that the server has, with the sockets behind them.
    open: Vec<(i32, std::path::PathBuf)>,
    most: usize,
    waits: bool,
}

impl QueryServer {
    /// Starts the server. It accepts nothing by itself.
    ///
    /// # Errors
    /// C-core's refusal.
    pub(super) fn start(
        store: &LocalStore,
        fetcher: Option<Fetcher>,
        asks: Asks,
        most: usize,
    ) -> Result<QueryServer, PersistError> {
        let environment = Arc::new(EnvBuilder::new().cq_count(1).name_prefix("query").build());
        let options = || {
            let options = ChannelBuilder::new(environment.clone());
            let options = options.max_concurrent_stream(i32::try_from(most).unwrap_or(i32::MAX));
            options.max_receive_message_len(1 << 20).max_send_message_len(4 << 20).build_args()
        };
        let start = |may_delete| -> Result<grpcio::Server, PersistError> {
            let queries = Queries {
                store: store.clone(),
                fetcher: fetcher.clone(),
                running: Arc::default(),
                asks: asks.clone(),
                may_delete,
            };
            let builder = ServerBuilder::new(environment.clone()).channel_args(options());
            let server = builder.register_service(create_persist_service(queries)).build();
            let mut server = server.map_err(|why| PersistError::Serve(why.to_string()))?;
            server.start();
            Ok(server)
        };
        let (owners, readers) = (start(true)?, start(false)?);
        Ok(QueryServer { owners, readers, open: Vec::new(), most, waits: false })
    }

    /// Whether somebody waits to be accepted.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// Accepts all connections for which there is a place.
    pub(super) fn accept(&mut self, listener: &UnixListener, owner: u32) {
        self.waits = false;
        loop {
            if self.open.len() >= self.most {
                // The server closes one in silence: the number is another file's then, or free.
                self.open.retain(|(number, socket)| link_of(*number).as_ref() == Some(socket));
            }
            if self.open.len() >= self.most {
                self.waits = true;
                return;
            }
            let socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(why) => {
                    self.waits = true;
                    return diag::limited!(Level::Error, "cannot accept a query connection", error = why);
                }
            };
            let Some(uid) = peer_uid(&socket) else {
                diag::limited!(Level::Warn, "a query connection of nobody was refused", owner = owner);
                continue;
            };
            let number = socket.as_raw_fd();
            if let Some(link) = link_of(number) {
                self.open.retain(|(other, _)| *other != number);
                self.open.push((number, link));
            }
            let server = if uid == 0 || uid == owner { &mut self.owners } else { &mut self.readers };
            crate::sys::grpc::serve(server, OwnedFd::from(socket));
        }
    }

    /// Ends all calls.
    pub(super) fn end(self) {
        for mut server in [self.owners, self.readers] {
            let closed = server.shutdown();
            server.cancel_all_calls();
            let _ = block_on(closed);
        }
    }
}

/// The socket behind a descriptor, such as `socket:[1234]`.
fn link_of(number: i32) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{number}")).ok()
}

/// Hands a question or a deletion to the loop, which calls back.
pub(super) type Asks = Mailbox<LaneEvent>;

/// Queries that run at one time for either kind of peer. Each has a thread, which waits for its client.
const RUNNING: usize = 32;

#[derive(Clone)]
struct Queries {
    store: LocalStore,
    /// Where another store has jobs, too.
    fetcher: Option<Fetcher>,
    running: Arc<AtomicUsize>,
    asks: Asks,
    /// Whether its peers may delete history; all may read it.
    may_delete: bool,
}

/// Counts a query as long as it lives.
struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Queries {
    fn permit(&self) -> Result<Permit, RpcStatus> {
        let permit = Permit(self.running.clone());
        if self.running.fetch_add(1, Ordering::SeqCst) < RUNNING {
            return Ok(permit);
        }
        let text = format!("{RUNNING} queries are running already; try again");
        Err(RpcStatus::with_message(RpcStatusCode::RESOURCE_EXHAUSTED, text))
    }

    /// Has a job in the local store; waits for a remote one.
    fn here(&self) -> impl FnOnce(&str) -> Result<(), RpcStatus> + Send + 'static {
        let fetcher = self.fetcher.clone();
        move |id| {
            let (Some(fetcher), Some(job)) = (fetcher, JobId::parse(id)) else { return Ok(()) };
            let failed = |why| RpcStatus::with_message(RpcStatusCode::UNAVAILABLE, why);
            fetcher.fetch(job).map_err(failed)
        }
    }

    /// Runs a query on a thread of its own, which sends what it finds as fast as the client takes it.
    fn stream<Q, M, S>(
        &self,
        ctx: &RpcContext<'_>,
        mut request: RequestStream<Q>,
        mut sink: DuplexSink<M>,
        search: S,
    ) where
        Q: Send + 'static,
        M: Send + 'static,
        S: FnOnce(&LocalStore, &Q, &mut dyn FnMut(M) -> bool) -> Result<(), RpcStatus> + Send + 'static,
    {
        let queries = self.clone();
        ctx.spawn(async move {
            let asked = request.next().await;
            let Some(Ok(query)) = asked else { return };
            // Not before: a call that asks nothing would hold it.
            let permit = match queries.permit() {
                Ok(permit) => permit,
                Err(status) => return drop(sink.fail(status).await),
            };
            let run = move || {
                // With the request stream the call would be cancelled.
                let (_permit, _request) = (permit, request);
                crate::sys::thread::be_nice();
                let mut send = |message| block_on(sink.send((message, WriteFlags::default()))).is_ok();
                let done = search(&queries.store, &query, &mut send);
                let _ = block_on(async {
                    match done {
                        Ok(()) => sink.close().await,
                        Err(status) => sink.fail(status).await,
                    }
                });
            };
            if let Err(why) = std::thread::Builder::new().name("query".into()).spawn(run) {
                diag::limited!(Level::Error, "cannot start a query", error = why);
            }
        });
    }

    fn delete(
        &self,
        ctx: &RpcContext<'_>,
        mut request: RequestStream<DeleteJobRequest>,
        sink: ClientStreamingSink<DeleteJobResponse>,
    ) {
        if !self.may_delete {
            let text = "only root and the daemon's user delete history here; use rnx job delete".to_owned();
            let status = RpcStatus::with_message(RpcStatusCode::PERMISSION_DENIED, text);
            return ctx.spawn(async move {
                let _request = request;
                let _ = sink.fail(status).await;
            });
        }
        let asks = self.asks.clone();
        ctx.spawn(async move {
            let Some(Ok(request)) = request.next().await else { return };
            let answer =
                |success, message: String| DeleteJobResponse { success, message, ..Default::default() };
            let response = match JobId::parse(&request.job_id) {
                None if request.job_id.is_empty() => answer(false, "Job ID cannot be empty".into()),
                None => answer(false, format!("{:?} is no job id", request.job_id)),
                Some(job) => {
                    let (done, deleted) = futures_channel::oneshot::channel();
                    // The loop takes its mailbox empty at each turn, so it has room.
                    match asks.try_send(LaneEvent::Wanted { job, done }) {
                        Ok(()) if deleted.await.is_ok() => answer(true, "Job deleted successfully".into()),
                        _ => answer(false, "Failed to delete job: the process is ending".into()),
                    }
                }
            };
            let _ = sink.success(response).await;
        });
    }
}

impl PersistService for Queries {
    fn ping(
        &mut self,
        ctx: RpcContext<'_>,
        request: RequestStream<PingRequest>,
        sink: ClientStreamingSink<PingResponse>,
    ) {
        // The loop answers: one that hangs is not healthy.
        let (asked, answer) = futures_channel::oneshot::channel();
        let is_asked = self.asks.try_send(LaneEvent::Asked(asked)).is_ok();
        ctx.spawn(async move {
            // Without the request stream the call would be cancelled before the loop has answered.
            let _request = request;
            let pulse = if is_asked { answer.await.ok() } else { None };
            let _ = match pulse {
                Some(Pulse { healthy, figures }) => {
                    let timestamp = now_ns();
                    sink.success(PingResponse { healthy, timestamp, figures, ..Default::default() }).await
                }
                None => {
                    let text = "the process is ending, or has too much to do".to_owned();
                    sink.fail(RpcStatus::with_message(RpcStatusCode::UNAVAILABLE, text)).await
                }
            };
        });
    }

    fn query_logs(
        &mut self,
        ctx: RpcContext<'_>,
        request: RequestStream<QueryLogsRequest>,
        sink: DuplexSink<LogLine>,
    ) {
        let here = self.here();
        self.stream(&ctx, request, sink, move |store, query: &QueryLogsRequest, send| {
            here(&query.job_id)?;
            query::logs(store, query, send)
        });
    }

    fn query_metrics(
        &mut self,
        ctx: RpcContext<'_>,
        request: RequestStream<QueryMetricsRequest>,
        sink: DuplexSink<Metric>,
    ) {
        let here = self.here();
        self.stream(&ctx, request, sink, move |store, query: &QueryMetricsRequest, send| {
            here(&query.job_id)?;
            query::metrics(store, query, send)
        });
    }

    fn delete_job(
        &mut self,
        ctx: RpcContext<'_>,
        request: RequestStream<DeleteJobRequest>,
        sink: ClientStreamingSink<DeleteJobResponse>,
    ) {
        self.delete(&ctx, request, sink);
    }

    fn delete_job_data(
        &mut self,
        ctx: RpcContext<'_>,
        request: RequestStream<DeleteJobRequest>,
        sink: ClientStreamingSink<DeleteJobResponse>,
    ) {
        self.delete(&ctx, request, sink);
    }
}
