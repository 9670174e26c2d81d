//! The listening server, from its start to its shutdown.

use std::ffi::CStr;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use grpcio::{ChannelBuilder, EnvBuilder, Environment, ResourceQuota, ServerBuilder, ServerCredentials};

use super::access::{Access, InForce};
use super::auth::Guard;
use super::limits::CallLimits;
use super::service::{self, Host, Jobs, Trail};
use super::{ApiError, Rules, StreamPump, streams, tls};
use crate::audit::Audit;
use crate::config::daemon::{DaemonConfig, Grpc};
use crate::daemon::command::{CommandSender, GpuBoard, Installer};
use crate::diag::{Level, event};
use crate::exporter::Counts;
use crate::forward::Relay;
use crate::input::Inputs;
use crate::upload::Store;

/// The shortest interval of pings for which no client is disconnected: half of the promised ten seconds, because pings
/// arrive unevenly.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Calls that C-core may have ready for us at one time; a slot is free again as soon as the headers of its call have
/// arrived.
const SLOTS: usize = 64;
/// Milliseconds after which a client that has not finished its TLS handshake is disconnected.
const HANDSHAKE_MS: i32 = 5000;
/// The set of compression algorithms with bit 0 only, "not compressed" (grpc_compression_algorithm of
/// compression_types.h).
const IDENTITY_ONLY: i32 = 1;
/// The lowest limit of a reply in bytes: a chunk of output with its frame.
const LEAST_REPLY: u32 = 128 << 10;
/// Most bytes of a page: clients without a setting of their own take messages of up to 4 MiB.
const PAGE: u64 = 7 << 19;
/// The longest wait for calls after they were canceled.
const CANCEL: Duration = Duration::from_secs(1);
/// The longest wait for calls before they are canceled.
const LONGEST_GRACE: Duration = Duration::from_millis(3500);

/// The API of a running daemon. [`Server::begin_shutdown`] and [`Server::finish`] end it.
pub struct Server {
    server: grpcio::Server,
    pump: StreamPump,
    relay: Relay,
    inputs: Inputs,
    access: Access,
    in_force: InForce,
    port: u16,
    /// Receives when the last call is done; set once the shutdown has begun.
    down: Option<Receiver<()>>,
    // Dropped after the server, because its completion queue runs until the last call is gone.
    _env: Arc<Environment>,
}

impl Server {
    /// Binds the configured address and serves. Port 0 selects a free one.
    ///
    /// The caller has blocked signals before, because C-core's threads inherit the mask. C-core's log lines go to `log`
    /// from here on.
    ///
    /// # Errors
    /// A certificate cannot be used, or the address cannot be bound.
    pub fn start(
        config: &DaemonConfig,
        (commands, gpus): (CommandSender, GpuBoard),
        rules: Rules,
        (pump, relay, inputs): (StreamPump, Relay, Inputs),
        (uploads, installer): (Arc<Store>, Installer),
        (counts, audit): (Counts, Audit),
    ) -> Result<Self, ApiError> {
        let (access, in_force) = Access::new(&config.security, pump.clone(), relay.clone())?;
        let credentials = ServerCredentials::with_fetcher(Box::new(access.clone()), tls::CLIENTS);
        grpcio::redirect_log();
        let env = Arc::new(EnvBuilder::new().cq_count(1).name_prefix("grpc").build());
        let page = PAGE.min(u64::from(config.grpc.max_send_msg_size) * 7 / 8);
        let call_limits = CallLimits::new(access.clone(), counts.clone(), audit.clone());
        let jobs = Jobs::new(
            commands,
            rules,
            (pump.clone(), relay.clone(), inputs.clone()),
            call_limits.clone(),
            (uploads, installer),
            page,
            large(&config.grpc),
        );
        let host = Host {
            watcher: service::watcher(&config.monitoring).map_err(ApiError::StartWatcher)?,
            interval: config.monitoring.system_interval,
            node: config.server.node_id.as_str().into(),
            gpus,
            pump: pump.clone(),
            call_limits: call_limits.clone(),
        };
        let trail = Trail { audit: audit.clone(), pump: pump.clone(), call_limits };
        let mut builder = ServerBuilder::new(env.clone())
            .channel_args(settings(env.clone(), &config.grpc).build_args())
            .requests_slot_per_cq(SLOTS)
            .add_checker(Guard(access.clone(), counts, audit));
        for service in service::all(jobs, host, trail) {
            builder = builder.register_service(service);
        }
        let mut server = builder.build().map_err(ApiError::Build)?;
        let address = address(&config.server.address, config.server.port);
        let port = server
            .add_listening_port(address.clone(), credentials)
            .map_err(|_| ApiError::Listen { why: why_not(&address), address })?;
        server.start();
        Ok(Server { server, pump, relay, inputs, access, in_force, port, down: None, _env: env })
    }

    /// The port that clients reach.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The trust in clients, which can be replaced while the server runs.
    pub fn access(&self) -> Access {
        self.access.clone()
    }

    /// The credentials that were in force at the start.
    pub fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// Stops accepting and ends all streams; other calls in flight are still answered. Returns at once.
    pub fn begin_shutdown(&mut self) {
        if self.down.is_some() {
            return;
        }
        let done = self.server.shutdown();
        self.pump.shut_down(streams::gone());
        self.relay.end_calls();
        self.inputs.end_calls();
        let (send_down, down) = bounded(1);
        // The thread grpc-0 completes the future, so another thread has to wait for it.
        let waiter = std::thread::Builder::new().name("grpc-down".into()).spawn(move || {
            let _ = futures_executor::block_on(done);
            let _ = send_down.send(());
        });
        if let Err(why) = waiter {
            event!(Level::Warn, "cannot wait for open calls: they are cancelled", error = why);
        }
        self.down = Some(down);
    }

    /// Waits until all calls are done, for `grace` (3.5 s at most), and then cancels the rest. It blocks for 4.5 s at
    /// most.
    pub fn finish(mut self, grace: Duration) {
        self.begin_shutdown();
        let Some(down) = self.down.take() else { return };
        if down.recv_timeout(grace.min(LONGEST_GRACE)).is_ok() {
            return;
        }
        self.server.cancel_all_calls();
        if down.recv_timeout(CANCEL).is_err() {
            event!(Level::Warn, "calls are left open: they do not end although they were cancelled");
            // C-core aborts the process when a server is destroyed before it is down.
            std::mem::forget(self);
        }
    }
}

fn settings(env: Arc<Environment>, grpc: &Grpc) -> ChannelBuilder {
    let size = |bytes: u32| i32::try_from(bytes).unwrap_or(i32::MAX);
    let quota = usize::try_from(large(grpc)).unwrap_or(usize::MAX);
    let argument = |name: &CStr, value| (name.to_owned(), value);
    let raw = [
        argument(c"grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
        // The limit of a message counts compressed bytes: a megabyte could become a thousand.
        argument(c"grpc.compression_enabled_algorithms_bitset", IDENTITY_ONLY),
        argument(c"grpc.per_message_decompression", 0),
    ];
    let builder = ChannelBuilder::new(env)
        .set_resource_quota(ResourceQuota::new(Some("joblet")).resize_memory(quota))
        .max_receive_message_len(size(grpc.max_recv_msg_size))
        .max_send_message_len(size(grpc.max_send_msg_size.max(LEAST_REPLY)))
        .max_concurrent_stream(size(grpc.max_concurrent_streams))
        .keepalive_time(grpc.keep_alive_time)
        .keepalive_timeout(grpc.keep_alive_timeout)
        .keepalive_permit_without_calls(true)
        .http2_min_recv_ping_interval_without_data(PING_INTERVAL)
        // A second daemon on the same port must fail, and not share the connections.
        .reuse_port(false);
    raw.into_iter().fold(builder, |builder, (name, value)| builder.raw_cfg_int(name, value))
}

/// Bytes of a few of the largest requests together. A client without the right to upload can still send a message before
/// the check sees the call; C-core ends streams that would need more than this.
fn large(grpc: &Grpc) -> u64 {
    (4 * u64::from(grpc.max_recv_msg_size)).max(256 << 20)
}

/// Address and port as C-core and the standard library read them.
fn address(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// The reason why the address cannot be bound. C-core does not report it, so the same bind is tried again here.
fn why_not(address: &str) -> String {
    match TcpListener::bind(address) {
        Err(why) if why.kind() == std::io::ErrorKind::AddrInUse => {
            format!("{why}; is another joblet running? server.port chooses another port")
        }
        Err(why) => format!("{why}; server.address and server.port say where to listen"),
        Ok(_) => "gRPC refused it, or its TLS credentials; its log line says more".to_owned(),
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
