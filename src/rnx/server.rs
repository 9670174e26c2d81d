//! One channel to one server, and the meaning of its refusals.
//!
//! The channel is opened with the first call and is not waited for: a dead server answers at once with
//! UNAVAILABLE, one that swallows packets after [`CONNECT_DEADLINE`]. The name that the server's certificate
//! must carry is always `joblet`, for every address that reaches it: the CA is private to the installation
//! and signs servers only under that name, so an address may be an IP, a tunnel or a port forward.
//! C-core reports TLS refusals in words of its own ("Socket closed"); this file gives the true reason.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use futures_channel::mpsc::UnboundedReceiver;
use futures_util::future::{Either, select, select_all};
use futures_util::stream::SelectAll;
use futures_util::{SinkExt, StreamExt};
use grpcio::{
    CallOption, Channel, ChannelBuilder, ChannelCredentialsBuilder, ClientCStreamSender,
    ClientDuplexReceiver, ClientDuplexSender, ClientSStreamReceiver, ConnectivityState, EnvBuilder,
    RpcStatusCode,
};

use super::certificate;
use super::connect::Settings;
use super::error::{Error, Result, code_name};
use crate::pb::joblet::{
    AttachReq, AttachRes, AuditLines, AuditQuery, BuildRuntimeProgress, BuildRuntimeRequest, DataChunk,
    FilesMessage, ForwardReq, ForwardRes, GetJobLogsReq, ImportRuntimeRequest, ImportRuntimeResponse,
    InstallRuntimeFromLocalRequest, InstallRuntimeRequest, JobMetricsRequest, JobMetricsSample,
    RuntimeInstallationChunk, StreamMetricsReq, SystemMetricsRes, UploadRequest, UploadStatus,
};
use crate::pb::joblet_grpc::{
    AuditServiceClient, GpuServiceClient, JobServiceClient, MonitoringServiceClient, NetworkServiceClient,
    RuntimeServiceClient, SessionServiceClient, UploadServiceClient, VolumeServiceClient,
};

/// The name in every server certificate.
const SERVER_NAME: &str = "joblet";
/// Longest time for TCP and TLS together. A node with busy processors takes seconds for that (5 were too few at a load
/// of 40 on two cores); C-core alone would try for 20.
const CONNECT_DEADLINE: Duration = Duration::from_secs(15);
/// The longest pause between two tries to reach a server that is waited for.
const RECONNECT: Duration = Duration::from_secs(2);
/// How long a stream may be silent before the connection is probed, and how long the probe may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// Above every reply that a server's configuration can allow.
const MAX_REPLY: i32 = i32::MAX;

/// A server with a channel to it.
pub(crate) struct Server {
    address: String,
    channel: Channel,
    jobs: JobServiceClient,
    /// The settings whose certificate is checked when no connection is possible.
    own: Option<Settings>,
}

impl Server {
    /// Prepares the channel; nothing is sent yet.
    pub(crate) fn open(settings: &Settings) -> Result<Self> {
        let target = spell(&resolve(&settings.host, settings.port)?);
        Ok(Self::open_target(settings, &target, CONNECT_DEADLINE))
    }

    fn open_target(settings: &Settings, target: &str, deadline: Duration) -> Self {
        // C-core writes its own errors to stderr unless its lines go to `log`, which rnx does not print.
        log::set_max_level(log::LevelFilter::Error);
        grpcio::redirect_log();
        let env = Arc::new(EnvBuilder::new().cq_count(1).name_prefix("rnx-grpc").build());
        let credentials = ChannelCredentialsBuilder::new()
            .root_cert(settings.ca.clone().into_bytes())
            .cert(settings.cert.clone().into_bytes(), settings.key.expose().as_bytes().to_vec())
            .build();
        let channel = ChannelBuilder::new(env)
            .set_credentials(credentials)
            .override_ssl_target(SERVER_NAME)
            .enable_http_proxy(false)
            .enable_retry(false)
            .keepalive_time(KEEPALIVE.0)
            .keepalive_timeout(KEEPALIVE.1)
            .max_receive_message_len(MAX_REPLY)
            .raw_cfg_int(c"grpc.min_reconnect_backoff_ms".into(), deadline.as_millis() as i32)
            .raw_cfg_int(c"grpc.max_reconnect_backoff_ms".into(), RECONNECT.as_millis() as i32)
            .connect(target);
        let address = if settings.host.contains(':') {
            format!("[{}]:{}", settings.host, settings.port)
        } else {
            format!("{}:{}", settings.host, settings.port)
        };
        Server { address, jobs: JobServiceClient::new(channel.clone()), channel, own: None }
    }

    /// Sets the settings whose certificate is checked when no connection is possible.
    pub(crate) fn with_settings(self, own: Settings) -> Self {
        Server { own: Some(own), ..self }
    }

    /// `host:port` as people write it.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Makes one call with one reply.
    pub(crate) fn ask<T>(
        &self,
        deadline: Duration,
        question: impl FnOnce(&JobServiceClient, CallOption) -> grpcio::Result<T>,
    ) -> Result<T> {
        question(&self.jobs, CallOption::default().timeout(deadline)).map_err(|e| self.explain(e))
    }

    /// The same, but waits for a connection while there is none.
    pub(crate) fn ask_when_there<T>(
        &self,
        deadline: Duration,
        question: impl FnOnce(&JobServiceClient, CallOption) -> grpcio::Result<T>,
    ) -> Result<T> {
        let option = CallOption::default().timeout(deadline).wait_for_ready(true);
        question(&self.jobs, option).map_err(|e| self.explain(e))
    }

    /// The same, of the service that knows the host.
    pub(crate) fn ask_host<T>(
        &self,
        deadline: Duration,
        question: impl FnOnce(&MonitoringServiceClient, CallOption) -> grpcio::Result<T>,
    ) -> Result<T> {
        let client = MonitoringServiceClient::new(self.channel.clone());
        question(&client, CallOption::default().timeout(deadline)).map_err(|e| self.explain(e))
    }

    /// The same, of the service that knows networks.
    pub(crate) fn ask_networks<T>(
        &self,
        deadline: Duration,
        question: impl FnOnce(&NetworkServiceClient, CallOption) -> grpcio::Result<T>,
    ) -> Result<T> {
        let client = NetworkServiceClient::new(self.channel.clone());
        question(&client, CallOption::default().timeout(deadline)).map_err(|e| self.explain(e))
    }

    /// The same, of the service that knows volumes.
    pub(crate) fn ask_volumes<T>(
        &self,
        deadline: Duration,
        question: impl FnOnce(&VolumeServiceClient, CallOption) -> grpcio::Result<T>,
    ) -> Result<T> {
        let client = VolumeServiceClient::new(self.channel.clone());
        question(&client, CallOption::default().timeout(deadline)).map_err(|e| self.explain(e))
    }

    /// The same, of the service that knows GPUs.
    pub(crate) fn ask_gpus<T>(
        &self,
        deadline: Duration,
        question: impl FnOnce(&GpuServiceClient, CallOption) -> grpcio::Result<T>,
    ) -> Result<T> {
        let client = GpuServiceClient::new(self.channel.clone());
        question(&client, CallOption::default().timeout(deadline)).map_err(|e| self.explain(e))
    }

    /// The same, of the service that knows runtimes.
    pub(crate) fn ask_runtimes<T>(
        &self,
        deadline: Duration,
        question: impl FnOnce(&RuntimeServiceClient, CallOption) -> grpcio::Result<T>,
    ) -> Result<T> {
        let client = RuntimeServiceClient::new(self.channel.clone());
        question(&client, CallOption::default().timeout(deadline)).map_err(|e| self.explain(e))
    }

    /// The same, of the service that takes uploads; it waits for a connection while there is none.
    pub(crate) fn ask_uploads<T>(
        &self,
        deadline: Duration,
        question: impl FnOnce(&UploadServiceClient, CallOption) -> grpcio::Result<T>,
    ) -> Result<T> {
        let client = UploadServiceClient::new(self.channel.clone());
        let option = CallOption::default().timeout(deadline).wait_for_ready(true);
        question(&client, option).map_err(|e| self.explain(e))
    }

    /// Makes one call of Upload, whose messages `send` writes, and returns its reply.
    pub(crate) fn upload(
        &self,
        send: impl AsyncFnOnce(&mut ClientCStreamSender<UploadRequest>) -> Result<()>,
    ) -> Result<UploadStatus> {
        let client = UploadServiceClient::new(self.channel.clone());
        let call = client.upload_opt(CallOption::default());
        let (mut sink, reply) = call.map_err(|e| self.explain(e))?;
        futures_executor::block_on(async {
            send(&mut sink).await?;
            // A call that the server has ended cannot be closed; its reply says why.
            let _ = sink.close().await;
            reply.await.map_err(|e| self.explain(e))
        })
    }

    /// Passes every message of an installation from a registry to `each`, until its end.
    pub(crate) fn install_from_registry(
        &self,
        request: &InstallRuntimeRequest,
        each: impl FnMut(&RuntimeInstallationChunk) -> Result<()>,
    ) -> Result<()> {
        let client = RuntimeServiceClient::new(self.channel.clone());
        self.follow(client.streaming_install_runtime_from_github_opt(request, CallOption::default()), each)
    }

    /// The same from files.
    pub(crate) fn install_from_files(
        &self,
        request: &InstallRuntimeFromLocalRequest,
        each: impl FnMut(&RuntimeInstallationChunk) -> Result<()>,
    ) -> Result<()> {
        let client = RuntimeServiceClient::new(self.channel.clone());
        self.follow(client.streaming_install_runtime_from_local_opt(request, CallOption::default()), each)
    }

    /// Passes every message of a build to `each`, until its end.
    pub(crate) fn build_runtime(
        &self,
        request: &BuildRuntimeRequest,
        each: impl FnMut(&BuildRuntimeProgress) -> Result<()>,
    ) -> Result<()> {
        let client = RuntimeServiceClient::new(self.channel.clone());
        self.follow(client.build_runtime_opt(request, CallOption::default()), each)
    }

    /// Makes one call of ImportRuntime, whose messages `send` writes, and returns its reply.
    pub(crate) fn import_runtime(
        &self,
        send: impl AsyncFnOnce(&mut ClientCStreamSender<ImportRuntimeRequest>) -> Result<()>,
    ) -> Result<ImportRuntimeResponse> {
        let client = RuntimeServiceClient::new(self.channel.clone());
        let call = client.import_runtime_opt(CallOption::default());
        let (mut sink, reply) = call.map_err(|e| self.explain(e))?;
        futures_executor::block_on(async {
            send(&mut sink).await?;
            // A call that the server has ended cannot be closed; its reply says why.
            let _ = sink.close().await;
            reply.await.map_err(|e| self.explain(e))
        })
    }

    /// The same, of the service for work in running jobs.
    pub(crate) fn ask_sessions<T>(
        &self,
        deadline: Duration,
        question: impl FnOnce(&SessionServiceClient, CallOption) -> grpcio::Result<T>,
    ) -> Result<T> {
        let client = SessionServiceClient::new(self.channel.clone());
        question(&client, CallOption::default().timeout(deadline)).map_err(|e| self.explain(e))
    }

    /// Begins a connection to a port of a job.
    pub(crate) fn forward(
        &self,
    ) -> Result<(ClientDuplexSender<ForwardReq>, ClientDuplexReceiver<ForwardRes>)> {
        let client = SessionServiceClient::new(self.channel.clone());
        client.forward_opt(CallOption::default().wait_for_ready(true)).map_err(|e| self.explain(e))
    }

    /// Begins to send the standard input of a job, or of a command in one.
    pub(crate) fn attach(&self) -> Result<(ClientDuplexSender<AttachReq>, ClientDuplexReceiver<AttachRes>)> {
        let client = SessionServiceClient::new(self.channel.clone());
        client.attach_opt(CallOption::default().wait_for_ready(true)).map_err(|e| self.explain(e))
    }

    /// Begins a copy of files, into the node or out of it.
    pub(crate) fn copy_files(
        &self,
        writes: bool,
    ) -> Result<(ClientDuplexSender<FilesMessage>, ClientDuplexReceiver<FilesMessage>)> {
        let client = VolumeServiceClient::new(self.channel.clone());
        let option = CallOption::default();
        let call = if writes { client.write_files_opt(option) } else { client.read_files_opt(option) };
        call.map_err(|e| self.explain(e))
    }

    /// Begins the wanted output of a job, for a reader that takes the messages itself.
    pub(crate) fn open_output(&self, wanted: &GetJobLogsReq) -> Result<ClientSStreamReceiver<DataChunk>> {
        self.jobs.get_job_logs_opt(wanted, CallOption::default()).map_err(|e| self.explain(e))
    }

    /// The same with the samples of a job.
    pub(crate) fn open_samples(
        &self,
        request: &JobMetricsRequest,
    ) -> Result<ClientSStreamReceiver<JobMetricsSample>> {
        self.jobs.get_job_metrics_opt(request, CallOption::default()).map_err(|e| self.explain(e))
    }

    /// The same with the samples of the host.
    pub(crate) fn open_host_samples(
        &self,
        request: &StreamMetricsReq,
    ) -> Result<ClientSStreamReceiver<SystemMetricsRes>> {
        let client = MonitoringServiceClient::new(self.channel.clone());
        client.stream_system_metrics_opt(request, CallOption::default()).map_err(|e| self.explain(e))
    }

    /// Passes every chunk of the wanted output of a job to `each`, until the server ends the stream, which it
    /// does when the job has ended.
    pub(crate) fn output(
        &self,
        wanted: &GetJobLogsReq,
        each: impl FnMut(&DataChunk) -> Result<()>,
    ) -> Result<()> {
        self.follow(self.jobs.get_job_logs_opt(wanted, CallOption::default()), each)
    }

    /// The same with the samples of a job.
    pub(crate) fn samples(
        &self,
        request: &JobMetricsRequest,
        each: impl FnMut(&JobMetricsSample) -> Result<()>,
    ) -> Result<()> {
        self.follow(self.jobs.get_job_metrics_opt(request, CallOption::default()), each)
    }

    /// Samples of many jobs at once, of each from its request on. A job whose samples end, or cannot be read, has no more of
    /// them. Returns when no more requests can come.
    pub(crate) fn samples_of(
        &self,
        mut wanted: UnboundedReceiver<JobMetricsRequest>,
        mut each: impl FnMut(JobMetricsSample),
    ) {
        let mut all = SelectAll::new();
        futures_executor::block_on(async {
            loop {
                let request = match all.is_empty() {
                    true => wanted.next().await,
                    false => match select(wanted.next(), all.next()).await {
                        Either::Left((request, _)) => request,
                        Either::Right((sample, _)) => {
                            sample.and_then(grpcio::Result::ok).into_iter().for_each(&mut each);
                            continue;
                        }
                    },
                };
                let Some(request) = request else { return };
                if let Ok(samples) = self.jobs.get_job_metrics_opt(&request, CallOption::default()) {
                    all.push(samples);
                }
            }
        });
    }

    /// The same with the samples of the host.
    pub(crate) fn host_samples(
        &self,
        request: &StreamMetricsReq,
        each: impl FnMut(&SystemMetricsRes) -> Result<()>,
    ) -> Result<()> {
        let client = MonitoringServiceClient::new(self.channel.clone());
        self.follow(client.stream_system_metrics_opt(request, CallOption::default()), each)
    }

    /// The same with lines of the audit trail.
    pub(crate) fn audit(
        &self,
        query: &AuditQuery,
        each: impl FnMut(&AuditLines) -> Result<()>,
    ) -> Result<()> {
        let client = AuditServiceClient::new(self.channel.clone());
        self.follow(client.get_audit_opt(query, CallOption::default()), each)
    }

    fn follow<M>(
        &self,
        call: grpcio::Result<ClientSStreamReceiver<M>>,
        mut each: impl FnMut(&M) -> Result<()>,
    ) -> Result<()> {
        let mut stream = call.map_err(|e| self.explain(e))?;
        let mut failure = None;
        let printed: Result<()> = futures_executor::block_on(async {
            while let Some(message) = stream.next().await {
                match message {
                    Ok(message) => each(&message)?,
                    // The status overtakes messages that have arrived: they are still read.
                    Err(e) if failure.is_none() => failure = Some(e),
                    Err(_) => break,
                }
            }
            Ok(())
        });
        printed?;
        failure.map_or(Ok(()), |e| Err(self.explain(e)))
    }

    /// Waits until the output of one of these jobs has ended, which it does when the job has, or until
    /// `bound` is over (DEADLINE_EXCEEDED); returns that job.
    pub(crate) fn first_end(&self, uuids: &[&str], bound: Option<Duration>) -> Result<usize> {
        let option = || bound.map_or_else(CallOption::default, |b| CallOption::default().timeout(b));
        let mut ends = Vec::with_capacity(uuids.len());
        for uuid in uuids {
            // None of the output, only its end.
            let request = GetJobLogsReq { uuid: (*uuid).into(), from_seq: u64::MAX, ..Default::default() };
            let mut stream = self.jobs.get_job_logs_opt(&request, option()).map_err(|e| self.explain(e))?;
            ends.push(Box::pin(async move {
                while let Some(chunk) = stream.next().await {
                    chunk?;
                }
                Ok(())
            }));
        }
        let (ended, at, _) = futures_executor::block_on(select_all(ends));
        ended.map(|()| at).map_err(|e| self.explain(e))
    }

    /// The failure of a call in words.
    pub(crate) fn explain(&self, e: grpcio::Error) -> Error {
        let status = match e {
            grpcio::Error::RpcFailure(status) | grpcio::Error::RpcFinished(Some(status)) => status,
            other => {
                let text = format!("the call to {} failed: {other}", self.address);
                return Error::Call(RpcStatusCode::INTERNAL, text.into());
            }
        };
        let connected =
            || self.channel.check_connectivity_state(false) == ConnectivityState::GRPC_CHANNEL_READY;
        let suspect =
            self.own.as_ref().filter(|_| status.code() == RpcStatusCode::UNAVAILABLE || !connected());
        if let Some(Err(e)) = suspect.map(certificate::check) {
            return e;
        }
        match status.code() {
            RpcStatusCode::UNAVAILABLE => unavailable(&self.address, status.message()),
            RpcStatusCode::DEADLINE_EXCEEDED if !connected() => no_answer(&self.address),
            RpcStatusCode::DEADLINE_EXCEEDED => {
                let text = format!("the server at {} did not answer in time", self.address);
                Error::Call(status.code(), text.into())
            }
            code if status.message().is_empty() => {
                let text =
                    format!("the server at {} answered {} without a reason", self.address, code_name(code));
                Error::Call(code, text.into())
            }
            code => Error::Call(code, status.message().to_string().into()),
        }
    }
}

/// Names are resolved here, by the system's own resolver, so that the answer is the one every other program
/// gets and C-core starts no resolver of its own.
fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let found = (host, port).to_socket_addrs().map_err(|e| {
        let text = format!("cannot find the address of {host}: {e}");
        Error::Connect(text.into()).hint("check the name, or give an IP address: --server ADDRESS:PORT")
    })?;
    let found: Vec<SocketAddr> = found.collect();
    if found.is_empty() {
        return Err(Error::Connect(format!("the name {host} has no address").into()));
    }
    Ok(found)
}

/// Addresses in C-core's spelling. One target holds one kind, so where both kinds are there IPv4 travels as
/// mapped IPv6.
fn spell(addresses: &[SocketAddr]) -> String {
    if addresses.iter().all(SocketAddr::is_ipv4) {
        let list: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        return format!("ipv4:{}", list.join(","));
    }
    let list = addresses.iter().map(|a| {
        let ip = match a {
            SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped(),
            SocketAddr::V6(v6) => *v6.ip(),
        };
        format!("%5B{ip}%5D:{}", a.port())
    });
    format!("ipv6:{}", list.collect::<Vec<_>>().join(","))
}

fn no_answer(address: &str) -> Error {
    let text = format!("cannot reach the joblet server at {address}: no answer");
    Error::Connect(text.into())
        .hint("check the address (--server, --node) and firewalls between here and there")
}

/// UNAVAILABLE has many causes; C-core's sentence names the one.
fn unavailable(address: &str, message: &str) -> Error {
    if !message.starts_with("failed to connect to all addresses") {
        return if message.is_empty() || message.starts_with("Socket closed") || message.contains("recvmsg") {
            let text = format!("the connection to the joblet server at {address} broke");
            Error::Connect(text.into()).hint("is it still running? try again")
        } else {
            // The server itself says that it cannot now, for example because it shuts down.
            Error::Call(RpcStatusCode::UNAVAILABLE, message.to_string().into())
        };
    }
    let (why, hint) = if message.contains("Connection refused") {
        (
            "connection refused",
            "is joblet running there, and is this its address? Name another with --server or --node",
        )
    } else if message.contains("certificate verify failed") {
        (
            "its certificate is not signed by our CA",
            "the CA (--ca, or the node's) must be the one that signed the server's certificate",
        )
    } else if message.contains("is not in peer certificate") {
        (
            "its certificate does not carry the name \"joblet\"",
            "make server certificates with `joblet setup`, or add the SAN DNS:joblet",
        )
    } else if message.contains("Socket closed") || message.contains("reset by peer") {
        (
            "it closed the connection, as it does when it does not accept the client certificate",
            "the certificate (--cert, or the node's) must be signed by the server's CA and not be expired",
        )
    } else if message.contains("WRONG_VERSION_NUMBER") || message.contains("wrong version number") {
        ("it does not speak TLS", "is this the address of a joblet server?")
    } else if message.contains("timed out") || message.contains("Timed out") || message.contains("Timeout") {
        return no_answer(address);
    } else {
        return Error::Connect(format!("cannot reach the joblet server at {address}: {message}").into());
    };
    Error::Connect(format!("cannot reach the joblet server at {address}: {why}").into()).hint(hint)
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
