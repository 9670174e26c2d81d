//! Authentication of clients, and the methods that each role may call.

use crate::helper::TestDaemon;
use crate::helper::certificates::{Authority, Identity, Recipe, self_signed};
use grpcio::{CallOption, Client, Marshaller, Method, MethodType, RpcStatusCode};
use joblet::pb::joblet_grpc::ALL_METHODS;
use std::time::Duration;

/// The methods that a viewer may call; an administrator may call all. The only other copy of this table is the daemon's.
const VIEWER: &[&str] = &[
    "/joblet.JobService/GetJobStatus",
    "/joblet.JobService/ListJobs",
    "/joblet.JobService/GetJobLogs",
    "/joblet.JobService/GetJobMetrics",
    "/joblet.JobService/StreamJobMetrics",
    "/joblet.JobService/GetWorkflowStatus",
    "/joblet.JobService/ListWorkflows",
    "/joblet.JobService/GetWorkflowJobs",
    "/joblet.NetworkService/ListNetworks",
    "/joblet.NetworkService/GetNetwork",
    "/joblet.NetworkService/GetDenials",
    "/joblet.VolumeService/ListVolumes",
    "/joblet.VolumeService/GetVolume",
    "/joblet.GpuService/ListGpus",
    "/joblet.SessionService/GetExec",
    "/joblet.SessionService/ListExecs",
    "/joblet.MonitoringService/GetSystemStatus",
    "/joblet.MonitoringService/StreamSystemMetrics",
    "/joblet.RuntimeService/ListRuntimes",
    "/joblet.RuntimeService/GetRuntimeInfo",
    "/joblet.RuntimeService/ValidateRuntimeSpec",
    "/joblet.RuntimeService/ValidateRuntimeYAML",
];

/// All messages here are empty, and an empty message has no bytes.
fn put(_: &Vec<u8>, _: &mut grpcio::GrpcSlice) -> grpcio::Result<()> {
    Ok(())
}

fn take(_: grpcio::MessageReader) -> grpcio::Result<Vec<u8>> {
    Ok(Vec::new())
}

/// Calls a method with an empty message and returns the status of its first answer. A stream that has begun is not waited
/// for: some never end.
fn call(client: &Client, name: &'static str) -> (RpcStatusCode, String) {
    let method: Method<Vec<u8>, Vec<u8>> = Method {
        ty: MethodType::ServerStreaming,
        name,
        req_mar: Marshaller { ser: put, de: take },
        resp_mar: Marshaller { ser: put, de: take },
    };
    let options = CallOption::default().timeout(Duration::from_secs(20));
    let mut answers = client.server_streaming(&method, &Vec::new(), options).unwrap();
    match futures_executor::block_on(futures_util::StreamExt::next(&mut answers)) {
        None | Some(Ok(_)) => (RpcStatusCode::OK, String::new()),
        Some(Err(grpcio::Error::RpcFailure(status) | grpcio::Error::RpcFinished(Some(status)))) => {
            (status.code(), status.message().to_owned())
        }
        Some(Err(other)) => panic!("{name}: {other}"),
    }
}

pub(super) fn list_jobs_as(d: &TestDaemon, identity: &Identity) -> (RpcStatusCode, String) {
    let (_, ca) = d.identity("default");
    call(&Client::new(d.channel(identity, &ca)), "/joblet.JobService/ListJobs")
}

#[test]
fn every_call_is_judged_by_the_role() {
    let d = TestDaemon::start();
    assert!(ALL_METHODS.len() > 30, "every service is in the table");
    let (admin, ca) = d.identity("default");
    let (viewer, _) = d.identity("viewer");
    let (admin, viewer) = (Client::new(d.channel(&admin, &ca)), Client::new(d.channel(&viewer, &ca)));
    for name in VIEWER {
        assert!(ALL_METHODS.contains(name), "{name} does not exist");
    }
    for name in ALL_METHODS {
        // The persist process offers its services on a socket of its own.
        if name.starts_with("/persist.") {
            assert_eq!(call(&admin, name).0, RpcStatusCode::UNIMPLEMENTED, "{name}");
            continue;
        }
        let (code, message) = call(&viewer, name);
        if VIEWER.contains(name) {
            assert_ne!(code, RpcStatusCode::PERMISSION_DENIED, "viewer {name}: {message}");
        } else {
            assert_eq!(code, RpcStatusCode::PERMISSION_DENIED, "viewer {name}: {message}");
            assert!(
                message.starts_with("role viewer is not allowed to perform operation "),
                "{name}: {message}"
            );
        }
        let (code, message) = call(&admin, name);
        assert_ne!(code, RpcStatusCode::PERMISSION_DENIED, "admin {name}: {message}");
    }
    let (code, message) = call(&viewer, "/joblet.JobService/RunJob");
    assert_eq!(
        (code, message.as_str()),
        (RpcStatusCode::PERMISSION_DENIED, "role viewer is not allowed to perform operation run_job")
    );
}

#[test]
fn a_viewer_looks_and_rnx_says_why_it_may_not_act() {
    let d = TestDaemon::start();
    let id = d.submit(["-s", "TOKEN=hush-hush", "echo", "seen"]);
    d.until_status(&id, "COMPLETED");
    let viewer = |args: &[&str]| d.rnx(["--node=viewer"].iter().chain(args));
    assert!(viewer(&["job", "list"]).ok().contains(&id));
    assert_eq!(viewer(&["job", "log", &id]).ok(), "seen\n");
    let status = viewer(&["job", "status", &id]).ok();
    assert!(status.contains("***") && !status.contains("hush-hush"), "{status}");
    for args in [vec!["job", "stop", &id], vec!["job", "delete", &id], vec!["job", "delete-all"]] {
        let out = viewer(&args);
        assert_eq!(out.code, 4, "{args:?}: {}", out.stderr);
        assert!(out.stderr.contains("role viewer is not allowed to perform operation"), "{}", out.stderr);
    }
    let out = viewer(&["job", "run", "true"]);
    assert_eq!(out.code, 125);
    let json = viewer(&["--json", "job", "stop", &id]).json();
    assert_eq!(json["code"], "PERMISSION_DENIED", "{json}");
}

#[test]
fn certificate_without_exactly_one_known_role_is_denied() {
    let d = TestDaemon::start();
    let authority = d.authority();
    let with = |units: &[&str]| Recipe {
        units: units.iter().map(|u| (*u).to_owned()).collect(),
        ..Recipe::client("x")
    };
    assert_eq!(list_jobs_as(&d, &authority.issue(&with(&["viewer"]))).0, RpcStatusCode::OK, "the control");
    for units in [
        &[][..],
        &["Admin"],
        &["ADMIN"],
        &["admin "],
        &["root"],
        &["admin", "viewer"],
        &["admin", "admin"],
        &["viewer", "admin"],
        &["CA"],
        &["Server"],
    ] {
        let (code, message) = list_jobs_as(&d, &authority.issue(&with(units)));
        assert_eq!(code, RpcStatusCode::PERMISSION_DENIED, "{units:?}: {message}");
    }
}

#[test]
fn client_without_a_valid_certificate_of_the_ca_is_refused() {
    let d = TestDaemon::start();
    let authority = d.authority();
    let good = Recipe::client("admin");
    let (_, ca) = d.identity("default");
    for (what, identity) in [
        ("self-signed", self_signed(&good)),
        ("an impostor of the authority", Authority::impostor_of(&authority).issue(&good)),
        ("expired", authority.issue(&Recipe { days: (-30, -1), ..good.clone() })),
        ("not yet valid", authority.issue(&Recipe { days: (1, 30), ..good.clone() })),
        ("a server's certificate", authority.issue(&Recipe { for_clients: false, ..good.clone() })),
    ] {
        let (code, message) = list_jobs_as(&d, &identity);
        assert_eq!(code, RpcStatusCode::UNAVAILABLE, "{what} came in: {message}");
        // A refused client learns only that it is refused.
        let told = ["Socket closed", "Connection reset by peer", "Broken pipe"];
        assert!(told.iter().any(|t| message.contains(t)), "{what}: {message}");
    }
    for credentials in [Some(without_certificate(&ca)), None] {
        assert_eq!(list_jobs_with(&d, credentials).0, RpcStatusCode::UNAVAILABLE);
    }
    d.run(["true"]).ok();
}

pub(super) fn without_certificate(ca: &[u8]) -> grpcio::ChannelCredentials {
    grpcio::ChannelCredentialsBuilder::new().root_cert(ca.to_vec()).build()
}

/// The same with other credentials, or without TLS.
pub(super) fn list_jobs_with(
    d: &TestDaemon,
    credentials: Option<grpcio::ChannelCredentials>,
) -> (RpcStatusCode, String) {
    let env = std::sync::Arc::new(grpcio::EnvBuilder::new().cq_count(1).build());
    let mut builder = grpcio::ChannelBuilder::new(env).enable_http_proxy(false);
    if let Some(credentials) = credentials {
        builder = builder.set_credentials(credentials);
    }
    let channel = builder.connect(&format!("localhost:{}", d.port()));
    call(&Client::new(channel), "/joblet.JobService/ListJobs")
}

#[test]
fn certificate_without_client_usage_is_refused_and_logged() {
    let d = TestDaemon::start();
    let bare = d.authority().issue(&Recipe { without_usage: true, ..Recipe::client("admin") });
    let (code, message) = list_jobs_as(&d, &bare);
    assert_eq!(code, RpcStatusCode::UNAUTHENTICATED, "it came in: {message}");
    assert!(message.contains("has no extended key usage clientAuth"), "{message}");
    d.until_logged("[ERROR] request refused | peer=ipv4:127.0.0.1:");
    let line = d.log().lines().find(|line| line.contains("request refused")).unwrap_or_default().to_owned();
    for part in ["subject=\"O=joblet, OU=admin, CN=test-client\"", "ListJobs", "clientAuth"] {
        assert!(line.contains(part), "no {part} in: {line}");
    }
}

#[test]
fn log_distinguishes_refused_handshakes_as_far_as_openssl_does() {
    // The log takes only a few of C-core's lines in ten seconds; at this level there are none yet.
    let d = TestDaemon::with([("logging.level", "ERROR")]);
    let (_, ca) = d.identity("default");
    list_jobs_with(&d, Some(without_certificate(&ca)));
    list_jobs_as(&d, &self_signed(&Recipe::client("admin")));
    list_jobs_with(&d, None);
    for reason in ["peer did not return a certificate", "certificate verify failed", "wrong version number"] {
        crate::helper::eventually(&format!("the log says: {reason}"), || {
            crate::helper::wait::holds(d.log().contains(reason))
        });
    }
}

#[test]
fn an_authority_vouches_only_for_the_names_it_is_constrained_to() {
    let d = TestDaemon::start();
    let constrained = Authority::constrained_to(&d.authority(), "example.org");
    d.set("security.caCert", String::from_utf8(constrained.pem()).unwrap());
    d.set("security.revocationList", serde_yaml::Value::Null);
    d.reload();
    let named = |name| constrained.issue(&Recipe { name: Some(name), ..Recipe::client("admin") });
    let (code, message) = list_jobs_as(&d, &named("ann.example.org"));
    assert_eq!(code, RpcStatusCode::OK, "the control: {message}");
    let (code, message) = list_jobs_as(&d, &named("ann.example.com"));
    assert_eq!(code, RpcStatusCode::UNAVAILABLE, "it came in: {message}");
}

#[test]
fn intermediate_ca_is_trusted_when_sent_along_or_set_as_ca_cert() {
    let d = TestDaemon::start();
    let top = Authority::impostor_of(&d.authority());
    let below = Authority::below(&top);
    let trust = |authority: &Authority| {
        d.set("security.caCert", String::from_utf8(authority.pem()).unwrap());
        d.set("security.revocationList", serde_yaml::Value::Null);
        d.reload();
    };
    let alone = below.issue(&Recipe::client("admin"));
    let shown = Identity { cert: [alone.cert.clone(), below.pem()].concat(), key: alone.key.clone() };
    trust(&top);
    let (code, message) = list_jobs_as(&d, &shown);
    assert_eq!(code, RpcStatusCode::OK, "{message}");
    assert_eq!(list_jobs_as(&d, &alone).0, RpcStatusCode::UNAVAILABLE);
    trust(&below);
    let (code, message) = list_jobs_as(&d, &alone);
    assert_eq!(code, RpcStatusCode::OK, "{message}");
}

#[test]
fn nothing_but_the_services_of_the_contract_answers() {
    let d = TestDaemon::start();
    let client = Client::new(d.channel(&d.identity("default").0, &d.identity("default").1));
    for name in [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.channelz.v1.Channelz/GetTopChannels",
        "/grpc.channelz.v1.Channelz/GetServers",
        "/grpc.lb.v1.LoadReporter/ReportLoad",
        "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus",
        "/joblet.JobService/runjob",
        "/joblet.JobService/RunJob/",
        "/joblet.AdminService/Dump",
        "/debug/pprof",
        "/",
    ] {
        let (code, message) = call(&client, name);
        assert_eq!(code, RpcStatusCode::UNIMPLEMENTED, "{name}: {message}");
        assert_eq!(message, "", "{name} tells something");
    }
}

/// The output of `openssl s_client` for a handshake with this identity and these flags.
fn openssl_handshake(d: &TestDaemon, identity: &Identity, ca: &[u8], flags: &[&str]) -> String {
    let dir = d.dir();
    for (name, bytes) in [("c.pem", &identity.cert[..]), ("k.pem", &identity.key), ("a.pem", ca)] {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    let address = format!("127.0.0.1:{}", d.port());
    let mut command = std::process::Command::new("openssl");
    command.args([
        "s_client",
        "-connect",
        &address,
        "-servername",
        "localhost",
        "-brief",
        "-verify_return_error",
    ]);
    command.args(["-cert", "c.pem", "-key", "k.pem", "-CAfile", "a.pem"]).args(flags);
    crate::helper::rnx::Running::start(command.current_dir(dir)).finish().stderr
}

#[test]
fn weak_certificates_are_refused() {
    let d = TestDaemon::start();
    let authority = d.authority();
    let (_, ca) = d.identity("default");
    let good = Recipe::client("admin");
    // With TLS 1.2 the server's refusal comes within the handshake. The client itself must not be the side that refuses.
    let flags = ["-tls1_2", "-cipher", "ALL:@SECLEVEL=0"];
    let text = openssl_handshake(&d, &authority.issue(&good), &ca, &flags);
    assert!(text.contains("CONNECTION ESTABLISHED"), "the control: {text}");
    for weak in [Recipe { sha1: true, ..good.clone() }, Recipe { rsa_bits: Some(1024), ..good }] {
        let text = openssl_handshake(&d, &authority.issue(&weak), &ca, &flags);
        let by_server = text.contains("alert") || text.contains("unexpected eof");
        assert!(!text.contains("CONNECTION ESTABLISHED") && by_server, "{weak:?}: {text}");
    }
}

#[test]
fn old_tls_and_old_ciphers_are_refused() {
    let d = TestDaemon::start();
    let (identity, ca) = d.identity("default");
    let handshake = |flags: &[&str]| openssl_handshake(&d, &identity, &ca, flags);
    for good in ["-tls1_2", "-tls1_3"] {
        let text = handshake(&[good]);
        assert!(
            text.contains("CONNECTION ESTABLISHED") && text.contains("Verification: OK"),
            "{good}: {text}"
        );
    }
    for bad in [
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..],
        &["-tls1", "-cipher", "ALL:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "AES128-SHA"],
    ] {
        let text = handshake(bad);
        assert!(!text.contains("CONNECTION ESTABLISHED"), "{bad:?}: {text}");
    }
}

#[test]
fn rnx_explains_what_is_wrong_with_its_own_certificate() {
    let d = TestDaemon::start();
    let expired = d.authority().issue(&Recipe { days: (-30, -1), ..Recipe::client("admin") });
    std::fs::write(d.dir().join("old.pem"), &expired.cert).unwrap();
    std::fs::write(d.dir().join("old.key"), &expired.key).unwrap();
    let server = format!("--server=localhost:{}", d.port());
    let out =
        d.rnx([&server[..], "--cert=old.pem", "--key=old.key", "--ca=certs/ca-cert.pem", "job", "list"]);
    assert_eq!(out.code, 3);
    assert!(out.stderr.contains("certificate verify failed: certificate has expired"), "{}", out.stderr);
    std::fs::write(d.dir().join("junk.pem"), "no certificate").unwrap();
    for (cert, key, why) in [
        (
            "--cert=certs/client-cert.pem",
            "--key=old.key",
            "the private key does not belong to the certificate",
        ),
        ("--cert=junk.pem", "--key=old.key", "cannot read the certificate: it is not valid PEM"),
        ("--cert=old.pem", "--key=junk.pem", "cannot read the private key: it is not valid PEM"),
    ] {
        let out = d.rnx([&server[..], cert, key, "--ca=certs/ca-cert.pem", "job", "list"]);
        assert_eq!((out.code, out.stderr.contains(why)), (3, true), "{}", out.stderr);
    }
    let out = d.rnx([
        "--server=localhost:1",
        "--cert=certs/client-cert.pem",
        "--key=certs/client-key.pem",
        "--ca=certs/ca-cert.pem",
        "job",
        "list",
    ]);
    assert_eq!(out.code, 3, "{}", out.stderr);
    assert!(out.stderr.contains("localhost:1"), "{}", out.stderr);
}
