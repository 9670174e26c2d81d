use std::net::TcpListener;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt, StreamExt};
use grpcio::{
    CertificateRequestType, ClientStreamingSink, DuplexSink, RequestStream, RpcContext, RpcStatus,
    ServerBuilder, ServerCredentialsBuilder, WriteFlags,
};

use super::*;
use crate::certs::authority::{Authority, Role};
use crate::pb::joblet::{EmptyRequest, GetJobStatusReq, GetJobStatusRes, Jobs};
use crate::pb::joblet_grpc::{JobService, create_job_service};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn targets_are_addresses_in_c_cores_spelling() {
    assert_eq!(spell(&resolve("127.0.0.1", 50051).unwrap()), "ipv4:127.0.0.1:50051");
    assert_eq!(spell(&resolve("::1", 1).unwrap()), "ipv6:%5B::1%5D:1");
    assert_eq!(spell(&addresses(1)), "ipv6:%5B::1%5D:1,%5B::ffff:127.0.0.1%5D:1");
}

#[test]
fn connection_refusals_become_helpful_error_texts() {
    let said = |m: &str| {
        let text =
            format!("failed to connect to all addresses; last error: UNAVAILABLE: ipv4:1.2.3.4:1: {m}");
        unavailable("h:1", &text).to_string()
    };
    assert!(
        said("Failed to connect to remote host: Connection refused").ends_with("h:1: connection refused")
    );
    assert!(said("Socket closed").contains("does not accept the client certificate"));
    let ssl = "Ssl handshake failed: SSL_ERROR_SSL: error:0A000086:SSL routines::certificate verify failed";
    assert!(said(ssl).contains("not signed by our CA"));
    assert!(said("Peer name joblet is not in peer certificate").contains("the name \"joblet\""));
    assert!(said("something new").ends_with("something new"));
    assert_eq!(unavailable("h:1", "server shutting down").to_string(), "server shutting down");
    assert!(unavailable("h:1", "Socket closed").to_string().contains("broke"));
}

/// What `localhost` is on most hosts.
fn addresses(port: u16) -> Vec<SocketAddr> {
    ["[::1]", "127.0.0.1"].map(|ip| format!("{ip}:{port}").parse().unwrap()).into()
}

/// A server that knows one job, `job`; another one's stream breaks after its output.
#[derive(Clone)]
struct Toy;

impl JobService for Toy {
    fn list_jobs(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<EmptyRequest>,
        sink: ClientStreamingSink<Jobs>,
    ) {
        ctx.spawn(async move {
            drop(sink.success(Jobs::default()).await);
            drop(req);
        });
    }

    fn get_job_status(
        &mut self,
        ctx: RpcContext<'_>,
        mut stream: RequestStream<GetJobStatusReq>,
        sink: ClientStreamingSink<GetJobStatusRes>,
    ) {
        ctx.spawn(async move {
            let req = stream.next().await.unwrap().unwrap();
            let told = match req.uuid.as_str() {
                "job" => sink.success(GetJobStatusRes { uuid: req.uuid, ..Default::default() }).await,
                // Never answered.
                "slow" => return std::mem::forget((sink, stream)),
                _ => {
                    let text = format!("job not found: {}", req.uuid);
                    sink.fail(RpcStatus::with_message(RpcStatusCode::NOT_FOUND, text)).await
                }
            };
            drop(told);
        });
    }

    fn get_job_logs(
        &mut self,
        ctx: RpcContext<'_>,
        mut stream: RequestStream<GetJobLogsReq>,
        mut sink: DuplexSink<DataChunk>,
    ) {
        ctx.spawn(async move {
            let req = stream.next().await.unwrap().unwrap();
            for n in 0..100u8 {
                let chunk = DataChunk { payload: vec![n; 1000], ..Default::default() };
                let _ = sink.send((chunk, WriteFlags::default())).await;
            }
            let end = RpcStatus::with_message(RpcStatusCode::UNAVAILABLE, "server shutting down".into());
            let _ = if req.uuid == "job" { sink.close().await } else { sink.fail(end).await };
        });
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn settings(ca: &Authority, port: u16) -> Settings {
    let pair = ca.client("admin", Role::Admin, now()).unwrap();
    Settings {
        host: "localhost".into(),
        port,
        cert: pair.cert,
        key: pair.key,
        ca: ca.pair().unwrap().cert,
        warnings: Vec::new(),
    }
}

/// Starts the toy on a free port of 127.0.0.1. It is never shut down: at the end of the process C-core's
/// threads must not be ending too.
fn toy(ca: &Authority) -> u16 {
    let pair = ca.server(&[], now()).unwrap();
    let credentials = ServerCredentialsBuilder::new()
        .root_cert(
            ca.pair().unwrap().cert.into_bytes(),
            CertificateRequestType::RequestAndRequireClientCertificateAndVerify,
        )
        .add_cert(pair.cert.into_bytes(), pair.key.expose().as_bytes().to_vec())
        .build();
    let env = Arc::new(EnvBuilder::new().cq_count(1).build());
    let mut server = ServerBuilder::new(env).register_service(create_job_service(Toy)).build().unwrap();
    let port = server.add_listening_port("127.0.0.1:0", credentials).unwrap();
    server.start();
    std::mem::forget(server);
    port
}

fn status(server: &Server, uuid: &str, deadline: Duration) -> Result<GetJobStatusRes> {
    let request = GetJobStatusReq { uuid: uuid.into(), ..Default::default() };
    server.ask(deadline, |jobs, option| jobs.get_job_status_opt(&request, option))
}

fn of(uuid: &str) -> GetJobLogsReq {
    GetJobLogsReq { uuid: uuid.into(), ..Default::default() }
}

#[test]
fn a_server_is_reached_by_name_and_its_answers_come_whole() {
    let ca = Authority::create(now()).unwrap();
    let port = toy(&ca);
    // Nobody listens on the first address, and the second is of the other kind.
    let both = Server::open_target(&settings(&ca, port), &spell(&addresses(port)), CONNECT_DEADLINE);
    assert_eq!(status(&both, "job", PATIENCE).unwrap().uuid, "job");
    std::mem::forget(both);
    let server = Server::open(&settings(&ca, port)).unwrap();
    assert_eq!(status(&server, "job", PATIENCE).unwrap().uuid, "job");
    let e = status(&server, "other", PATIENCE).unwrap_err();
    assert_eq!((e.code(), e.to_string().as_str()), ("NOT_FOUND", "job not found: other"));
    let e = status(&server, "slow", Duration::from_millis(50)).unwrap_err();
    assert_eq!(e.code(), "DEADLINE_EXCEEDED");

    for (uuid, end) in [("job", None), ("broken", Some("server shutting down"))] {
        let mut bytes = 0;
        let ended = server.output(&of(uuid), |chunk| {
            bytes += chunk.payload.len();
            Ok(())
        });
        assert_eq!(bytes, 100_000, "{uuid}: the status must not overtake the output");
        assert_eq!(ended.err().map(|e| e.to_string()).as_deref(), end);
    }
    let stopped =
        server.output(&of("job"), |_| Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()));
    assert!(stopped.unwrap_err().is_broken_pipe());
    std::mem::forget(server);
}

#[test]
fn mismatched_certificates_give_distinct_errors() {
    let (ours, theirs) = (Authority::create(now()).unwrap(), Authority::create(now()).unwrap());
    let port = toy(&theirs);
    let said = |settings: &Settings| {
        let server = Server::open(settings).unwrap();
        let e = status(&server, "job", PATIENCE).unwrap_err();
        std::mem::forget(server);
        (e.exit_code(None), e.to_string())
    };
    let mut stranger = settings(&ours, port);
    let (code, text) = said(&stranger);
    assert!(code == 3 && text.contains("is not signed by our CA"), "{text}");
    stranger.ca = theirs.pair().unwrap().cert;
    let (code, text) = said(&stranger);
    assert!(code == 3 && text.contains("does not accept the client certificate"), "{text}");
}

#[test]
fn absent_server_fails_at_once_and_silent_server_fails_soon() {
    let ca = Authority::create(now()).unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let target = format!("ipv4:127.0.0.1:{port}");
    let server = Server::open_target(&settings(&ca, port), &target, Duration::from_millis(200));
    let begun = Instant::now();
    let e = status(&server, "job", PATIENCE).unwrap_err();
    assert!(e.exit_code(None) == 3 && begun.elapsed() < PATIENCE, "{e} after {:?}", begun.elapsed());
    let e = server.output(&of("job"), |_| Ok(())).unwrap_err();
    assert_eq!(e.exit_code(None), 3, "{e}");
    std::mem::forget(server);

    drop(silent);
    let server = Server::open(&settings(&ca, port)).unwrap();
    let e = status(&server, "job", PATIENCE).unwrap_err();
    assert_eq!(
        e.to_string(),
        format!("cannot reach the joblet server at localhost:{port}: connection refused")
    );
    assert_eq!(e.exit_code(None), 3);
    std::mem::forget(server);

    let nowhere = Settings { host: "no-such-host.invalid".into(), ..settings(&ca, port) };
    let e = Server::open(&nowhere).err().unwrap();
    assert!(e.to_string().starts_with("cannot find the address of no-such-host.invalid"), "{e}");
}
