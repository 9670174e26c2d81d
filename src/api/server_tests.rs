//! A real server and real clients on the loopback interface; only the loop is a stand-in.

use std::thread;
use std::time::Instant;

use crossbeam_channel::bounded;
use grpcio::{CallOption, Channel, ChannelCredentialsBuilder, CompressionAlgorithms, Error, RpcStatusCode};
use mio::{Events, Poll, Token, Waker};
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use rustix::pipe::{PipeFlags, pipe_with};

use super::*;
use crate::daemon::command::{Command, CommandError, GpuBoard, Installer, LogSource, QUEUE};
use crate::job::limits::CoreSet;
use crate::job::{JobId, Secret};
use crate::output::spool::CHUNK;
use crate::output::{SpoolWriter, Stream, Watermark};
use crate::pb::joblet::*;
use crate::pb::joblet_grpc::*;
use crate::sys::mailbox::mailbox;
use crate::upload::StoreLimits;

const YEAR: i64 = 4_000_000_000;

/// A grace period so long that no shutdown uses it up on a busy machine, unless a call remains open.
const GRACE: Duration = Duration::from_secs(20);

/// A CA with the certificates of one node.
struct Authority(X509, PKey<Private>);

fn certificate(unit: &str, ca: Option<&Authority>, not_after: i64) -> (X509, PKey<Private>) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_nid(Nid::ORGANIZATIONALUNITNAME, unit).unwrap();
    let name = name.build();
    let mut cert = X509::builder().unwrap();
    cert.set_version(2).unwrap();
    cert.set_serial_number(&Asn1Integer::from_bn(&BigNum::from_u32(7).unwrap()).unwrap()).unwrap();
    cert.set_subject_name(&name).unwrap();
    cert.set_issuer_name(ca.map_or(&name, |ca| ca.0.subject_name())).unwrap();
    cert.set_pubkey(&key).unwrap();
    cert.set_not_before(&Asn1Time::from_unix(1_000_000).unwrap()).unwrap();
    cert.set_not_after(&Asn1Time::from_unix(not_after).unwrap()).unwrap();
    if ca.is_none() {
        cert.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    }
    let names = SubjectAlternativeName::new().ip("127.0.0.1").build(&cert.x509v3_context(None, None));
    cert.append_extension(names.unwrap()).unwrap();
    if ca.is_some() {
        let usage = ExtendedKeyUsage::new().client_auth().server_auth().build();
        cert.append_extension(usage.unwrap()).unwrap();
    }
    cert.sign(ca.map_or(&key, |ca| &ca.1), MessageDigest::sha256()).unwrap();
    (cert.build(), key)
}

fn pem(pair: &(X509, PKey<Private>)) -> (String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(pair.0.to_pem().unwrap()), text(pair.1.private_key_to_pem_pkcs8().unwrap()))
}

/// A server with a stand-in for the loop: every job is unknown, except that any output can be followed.
struct Bench {
    ca: Authority,
    server: Option<Server>,
    port: u16,
    /// Receives for each call that will not be answered.
    held: Receiver<()>,
    watermark: Arc<Watermark>,
    dir: tempfile::TempDir,
}

fn config(ca: &Authority) -> DaemonConfig {
    let (server_cert, server_key) = pem(&certificate("server", Some(ca), YEAR));
    let mut config = DaemonConfig::default();
    config.server.address = "127.0.0.1".into();
    config.server.port = 0;
    config.security.server_cert = server_cert;
    config.security.server_key = Secret::new(server_key);
    config.security.ca_cert = String::from_utf8(ca.0.to_pem().unwrap()).unwrap();
    config
}

/// A store of uploads that takes none.
fn store(dir: &std::path::Path) -> Arc<Store> {
    let limits = StoreLimits { total: 0, client: 0, lifetime: Duration::from_secs(1) };
    Store::open(dir.to_owned(), limits).unwrap()
}

impl Bench {
    fn new() -> Self {
        let (cert, key) = certificate("ca", None, YEAR);
        let ca = Authority(cert, key);
        let config = config(&ca);
        let mut poll = Poll::new().unwrap();
        let (mailbox, inbox) = mailbox(QUEUE, Arc::new(Waker::new(poll.registry(), Token(0)).unwrap()));
        let sender = CommandSender::new(mailbox);
        let pump = streams::start_pump().unwrap();
        let id = JobId::random();
        let watermark = Watermark::new();
        let of_loop = watermark.clone();
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        let (tell_held, held) = bounded(1);
        thread::spawn(move || {
            let mut unanswered = Vec::new();
            let mut events = Events::with_capacity(4);
            let mut next = || loop {
                match inbox.take() {
                    Some(command) => return command,
                    None => poll.poll(&mut events, None).unwrap(),
                }
            };
            loop {
                match next() {
                    Command::Logs { answer, .. } => {
                        let source = LogSource {
                            id,
                            dir: spool.clone(),
                            history: None,
                            is_known: true,
                            watermark: of_loop.clone(),
                        };
                        let _ = answer.send(Ok(source));
                    }
                    Command::Status { job, answer } => {
                        let _ = answer.send(Err(CommandError::NotFound(job.to_string())));
                    }
                    // Never answered, like a job that does not stop.
                    Command::Stop { answer, .. } => {
                        unanswered.push(answer);
                        tell_held.send(()).unwrap();
                    }
                    _ => {}
                }
            }
        });
        let rules = Rules::new(&config, CoreSet::parse("0").unwrap(), 1024).unwrap();
        let server = Server::start(
            &config,
            (sender, GpuBoard::default()),
            rules,
            (pump, Relay::start().unwrap(), Inputs::start().unwrap()),
            (store(dir.path()), Installer::below(dir.path())),
            (Counts::default(), crate::audit::Audit::default()),
        )
        .unwrap();
        let port = server.port();
        Bench { ca, server: Some(server), port, held, watermark, dir }
    }

    fn channel(&self, unit: &str, compressed: bool) -> Channel {
        let (cert, key) = pem(&certificate(unit, Some(&self.ca), YEAR));
        let credentials = ChannelCredentialsBuilder::new()
            .root_cert(self.ca.0.to_pem().unwrap())
            .cert(cert.into_bytes(), key.into_bytes())
            .build();
        let mut builder = ChannelBuilder::new(Arc::new(EnvBuilder::new().cq_count(1).build()));
        if compressed {
            builder = builder.default_compression_algorithm(CompressionAlgorithms::GRPC_COMPRESS_GZIP);
        }
        builder.set_credentials(credentials).connect(&format!("127.0.0.1:{}", self.port))
    }

    fn jobs(&self, unit: &str) -> JobServiceClient {
        JobServiceClient::new(self.channel(unit, false))
    }

    fn wait_for_streams(&self, count: usize) {
        let pump = &self.server.as_ref().unwrap().pump;
        let start = Instant::now();
        while pump.streams() != count {
            assert!(start.elapsed() < Duration::from_secs(20), "{pump:?}");
            thread::yield_now();
        }
    }

    /// Ends the server and returns the time that this took.
    fn end(&mut self, grace: Duration) -> Duration {
        let start = Instant::now();
        self.server.take().unwrap().finish(grace);
        start.elapsed()
    }
}

fn option() -> CallOption {
    CallOption::default().timeout(Duration::from_secs(20))
}

fn failure<T>(result: grpcio::Result<T>) -> (RpcStatusCode, String) {
    match result {
        Err(Error::RpcFailure(status)) => (status.code(), status.message().to_owned()),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it worked"),
    }
}

fn status_req(uuid: &str) -> GetJobStatusReq {
    GetJobStatusReq { uuid: uuid.into(), ..Default::default() }
}

#[test]
fn calls_are_authorised_checked_and_answered_by_the_loop() {
    let mut bench = Bench::new();
    let viewer = bench.jobs("viewer");
    assert_eq!(
        failure(viewer.get_job_status_opt(&status_req("f47a"), option())),
        (RpcStatusCode::NOT_FOUND, "job not found: f47a".into())
    );
    assert_eq!(
        failure(viewer.run_job_opt(&RunJobRequest::new(), option())),
        (RpcStatusCode::PERMISSION_DENIED, "role viewer is not allowed to perform operation run_job".into())
    );
    let nobody = bench.jobs("gardener");
    assert_eq!(
        failure(nobody.get_job_status_opt(&status_req("f47a"), option())).1,
        "role unknown is not allowed to perform operation get_job_status"
    );
    let admin = bench.channel("admin", false);
    assert_eq!(
        failure(JobServiceClient::new(admin.clone()).run_job_opt(&RunJobRequest::new(), option())),
        (RpcStatusCode::INVALID_ARGUMENT, "command is required".into())
    );
    let unbuilt = BuildRuntimeRequest { yaml_content: "name: a\nfoo: b\n".into(), ..Default::default() };
    let runtimes = RuntimeServiceClient::new(admin);
    let mut stream = runtimes.build_runtime_opt(&unbuilt, option()).unwrap();
    let (code, text) =
        failure(futures_executor::block_on(futures_util::StreamExt::next(&mut stream)).unwrap());
    assert!(code == RpcStatusCode::INVALID_ARGUMENT && text.contains("unknown field `foo`"), "{text}");
    let long = "\u{1f980}".repeat(1 << 20);
    let (code, text) = failure(viewer.get_job_status_opt(&status_req(&long), option()));
    assert_eq!(code, RpcStatusCode::NOT_FOUND, "{text}");
    assert!(bench.end(GRACE) < GRACE);
}

#[test]
fn a_list_of_jobs_that_cannot_exist_is_empty() {
    let mut bench = Bench::new();
    let request = EmptyRequest { statuses: vec!["PENDING".into()], ..Default::default() };
    let list = bench.jobs("viewer").list_jobs_opt(&request, option()).unwrap();
    assert!(list.jobs.is_empty() && list.next_page_token.is_empty());
    bench.end(Duration::from_secs(2));
}

#[test]
fn a_compressed_request_is_refused_unread() {
    let mut bench = Bench::new();
    let client = JobServiceClient::new(bench.channel("viewer", true));
    // A message that is too small to gain from compression is sent as it is.
    let (code, text) = failure(client.get_job_status_opt(&status_req(&"x".repeat(1 << 20)), option()));
    assert_eq!(code, RpcStatusCode::UNIMPLEMENTED, "{text}");
    bench.end(Duration::from_secs(2));
}

#[test]
fn followers_end_with_the_job_and_with_the_daemon() {
    let mut bench = Bench::new();
    let follow = |client: &JobServiceClient| {
        let request = GetJobLogsReq { uuid: "f47a".into(), ..Default::default() };
        let mut stream = client.get_job_logs_opt(&request, option()).unwrap();
        thread::spawn(move || futures_executor::block_on(futures_util::StreamExt::next(&mut stream)))
    };
    let (one, two) = (bench.jobs("viewer"), bench.jobs("admin"));
    let (first, second) = (follow(&one), follow(&two));
    bench.wait_for_streams(2);
    bench.server.as_mut().unwrap().begin_shutdown();
    for follower in [first, second] {
        let status = failure(follower.join().unwrap().unwrap());
        assert_eq!(status.0, RpcStatusCode::UNAVAILABLE, "{}", status.1);
    }
    assert!(bench.end(GRACE) < GRACE);

    let mut bench = Bench::new();
    let client = bench.jobs("viewer");
    let follower = follow(&client);
    bench.wait_for_streams(1);
    bench.watermark.end();
    assert!(follower.join().unwrap().is_none());
    bench.end(Duration::from_secs(2));
}

#[test]
fn flood_arrives_whole_and_in_order_beside_an_unread_stream() {
    let mut bench = Bench::new();
    let request = GetJobLogsReq { uuid: "f47a".into(), ..Default::default() };
    let lazy = bench.jobs("viewer");
    let _unread = lazy.get_job_logs_opt(&request, option()).unwrap();
    let eager = bench.jobs("viewer");
    let mut stream = eager.get_job_logs_opt(&request, option()).unwrap();
    let watermark = bench.watermark.clone();
    let mut writer = SpoolWriter::create(&bench.dir.path().join("spool")).unwrap();
    let job = thread::spawn(move || {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        for i in 0..1000_u32 {
            let bytes = vec![i as u8; 1 + (i as usize * 7919) % CHUNK];
            assert_eq!(rustix::io::write(&write, &bytes).unwrap(), bytes.len());
            writer.splice_from(&read, Stream::Stderr, 65_536, i64::from(i)).unwrap();
            watermark.publish(writer.rows());
        }
        watermark.end();
    });
    for i in 0..1000_u32 {
        let chunk = futures_executor::block_on(futures_util::StreamExt::next(&mut stream)).unwrap().unwrap();
        assert_eq!((chunk.seq, chunk.timestamp_ns), (u64::from(i) + 1, i64::from(i)));
        assert_eq!(chunk.stream, OutputStream::OUTPUT_STREAM_STDERR.into());
        assert!(chunk.payload == vec![i as u8; 1 + (i as usize * 7919) % CHUNK], "chunk {i}");
    }
    assert!(futures_executor::block_on(futures_util::StreamExt::next(&mut stream)).is_none());
    job.join().unwrap();
    // A client that never reads delays the shutdown by the grace period and no longer.
    assert!(bench.end(Duration::from_millis(200)) < Duration::from_secs(3));
}

#[test]
fn a_call_that_is_never_answered_is_cancelled_after_the_grace() {
    let mut bench = Bench::new();
    let client = bench.jobs("admin");
    let request = StopJobReq { uuid: "f47a".into(), ..Default::default() };
    let call = thread::spawn(move || client.stop_job_opt(&request, option()));
    bench.held.recv_timeout(Duration::from_secs(20)).unwrap();
    let took = bench.end(Duration::from_millis(200));
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(call.join().unwrap().is_err());
}

#[test]
fn start_error_names_the_invalid_credential_key_or_address() {
    let (cert, key) = certificate("ca", None, YEAR);
    let ca = Authority(cert, key);
    let good = config(&ca);
    let refusal = |change: &dyn Fn(&mut DaemonConfig)| {
        let mut config = good.clone();
        change(&mut config);
        let poll = Poll::new().unwrap();
        let (mailbox, _inbox) = mailbox(1, Arc::new(Waker::new(poll.registry(), Token(0)).unwrap()));
        let sender = CommandSender::new(mailbox);
        let rules = Rules::new(&config, CoreSet::parse("0").unwrap(), 1024).unwrap();
        let uploads = tempfile::tempdir().unwrap();
        match Server::start(
            &config,
            (sender, GpuBoard::default()),
            rules,
            (streams::start_pump().unwrap(), Relay::start().unwrap(), Inputs::start().unwrap()),
            (store(uploads.path()), Installer::below(uploads.path())),
            (Counts::default(), crate::audit::Audit::default()),
        ) {
            Err(why) => why.to_string(),
            Ok(_) => panic!("it started"),
        }
    };
    let other = pem(&certificate("other", Some(&ca), YEAR));
    let expired = pem(&certificate("old", Some(&ca), 1_600_000_000));
    let encrypted = certificate("e", Some(&ca), YEAR)
        .1
        .private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_128_cbc(), b"secret")
        .unwrap();
    let encrypted = Secret::new(String::from_utf8(encrypted).unwrap());
    for (want, text) in [
        ("security.serverCert: it is no", refusal(&|c| c.security.server_cert = "x".into())),
        ("security.serverKey: it is no", refusal(&|c| c.security.server_key = Secret::new("x"))),
        ("security.serverKey: it is no", refusal(&|c| c.security.server_key = encrypted.clone())),
        ("serverKey: it contains a NUL", refusal(&|c| c.security.server_key = Secret::new("\0"))),
        ("does not belong", refusal(&|c| c.security.server_key = Secret::new(other.1.clone()))),
        ("security.caCert: it is no", refusal(&|c| c.security.ca_cert = String::new())),
        ("security.serverCert: it expired", refusal(&|c| c.security.server_cert = expired.0.clone())),
    ] {
        assert!(text.contains(want), "{text}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = refusal(&|c| c.server.port = port);
    assert!(
        text.starts_with(&format!("cannot listen on 127.0.0.1:{port}: Address already in use")),
        "{text}"
    );
    let text = refusal(&|c| c.server.address = "192.0.2.1".into());
    assert!(text.contains("Cannot assign requested address"), "{text}");
}

#[test]
fn client_that_does_not_finish_its_handshake_is_disconnected() {
    use std::io::Read;
    let mut bench = Bench::new();
    let mut silent = std::net::TcpStream::connect(("127.0.0.1", bench.port)).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let start = Instant::now();
    let end = silent.read(&mut [0; 1]);
    assert!(!matches!(&end, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock), "{end:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
    bench.end(Duration::from_secs(2));
}

#[test]
fn addresses_of_every_family_get_their_port() {
    assert_eq!(address("0.0.0.0", 1), "0.0.0.0:1");
    assert_eq!(address("::", 2), "[::]:2");
    assert_eq!(address("[::1]", 3), "[::1]:3");
    assert_eq!(address("node", 4), "node:4");
}
