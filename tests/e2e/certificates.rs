//! Certificates while the daemon runs: issued, revoked and replaced, and the effects of a reload.

use crate::helper::certificates::{Authority, Identity, Recipe};
use crate::helper::daemon::Node;
use crate::helper::programs::source;
use crate::helper::rnx::{Output, Running};
use crate::helper::wait::{self, holds};
use crate::helper::{TestDaemon, eventually};
use futures_executor::block_on;
use futures_util::SinkExt;
use grpcio::{
    CallOption, Client, ClientCStreamReceiver, ClientCStreamSender, Marshaller, Method, MethodType,
    RpcStatusCode, WriteFlags,
};
use joblet::pb::joblet::{EmptyRequest, RunJobRequest, RunJobResponse};
use joblet::pb::joblet_grpc::JobServiceClient;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A script that prints a line now and then until the job is stopped.
const TICKER: &str = "while :; do echo tick; sleep 0.05; done";

/// The longest time from a reload to the end of a revoked client's open stream.
const CUT: Duration = Duration::from_secs(2);

fn list_jobs(client: &JobServiceClient) -> Result<(), (RpcStatusCode, String)> {
    let option = CallOption::default().timeout(Duration::from_secs(20));
    match client.list_jobs_opt(&EmptyRequest::new(), option) {
        Ok(_) => Ok(()),
        Err(grpcio::Error::RpcFailure(status)) => Err((status.code(), status.message().to_owned())),
        Err(other) => panic!("{other}"),
    }
}

/// Issues an administrator's certificate with `joblet certs issue`.
fn issue(d: &TestDaemon, name: &str) -> Identity {
    d.joblet(["certs", "issue", "--dir", ".", "--role", "admin", "--name", name]).ok();
    let read = |part: &str| fs::read(d.dir().join(format!("certs/{name}-{part}.pem"))).unwrap();
    Identity { cert: read("cert"), key: read("key") }
}

/// `rnx` with the files that [`issue`] has written.
fn rnx_as(d: &TestDaemon, name: &str, args: &[&str]) -> Running {
    let server = format!("--server=localhost:{}", d.port());
    let [cert, key] = ["cert", "key"].map(|part| format!("--{part}=certs/{name}-{part}.pem"));
    let all = [&server, &cert, &key, "--ca=certs/ca-cert.pem"].into_iter().chain(args.iter().copied());
    Running::start(&mut d.rnx_command(all))
}

fn revoke(d: &TestDaemon, name: &str) -> Output {
    d.joblet(["certs", "revoke", "--dir", ".", &format!("certs/{name}-cert.pem")])
}

/// Writes PEM texts into the configuration.
fn put(d: &TestDaemon, texts: &[(&str, &[u8])]) {
    for (key, text) in texts {
        d.set(&format!("security.{key}"), String::from_utf8_lossy(text).into_owned());
    }
}

#[test]
fn revoked_client_is_refused_and_only_its_streams_are_cut() {
    let d = TestDaemon::start();
    let id = d.submit(["sh", "-c", TICKER]);
    let ann = issue(&d, "ann");
    let (_, ca) = d.identity("default");
    let on_open_connection = JobServiceClient::new(d.channel(&ann, &ca));
    list_jobs(&on_open_connection).unwrap();
    let quiet = readers(&d, &id);
    let mut hers = rnx_as(&d, "ann", &["job", "log", &id]);
    let mut others = d.rnx_spawn(["job", "log", &id]);
    eventually("both followers are connected", || holds(readers(&d, &id) == quiet + 2));
    eventually("both have read something", || holds(hers.printed() > 0 && others.printed() > 0));

    revoke(&d, "ann").ok();
    list_jobs(&on_open_connection).expect("not before the reload");
    d.reload();
    assert!(wait::within(CUT, || holds(hers.is_over())).is_some(), "her stream goes on");
    let out = hers.finish();
    assert_eq!(out.code, 3, "{}", out.stderr);
    assert!(out.stderr.contains("the client certificate was revoked at "), "{}", out.stderr);
    assert!(out.text().contains("tick\n"), "she read until then");
    let (code, text) = list_jobs(&on_open_connection).unwrap_err();
    assert_eq!(code, RpcStatusCode::UNAUTHENTICATED);
    assert!(
        text.starts_with("failed to extract client role: the client certificate was revoked at "),
        "{text}"
    );
    let out = rnx_as(&d, "ann", &["job", "list"]).finish();
    assert_eq!(out.code, 3, "a new connection: {}", out.stderr);

    assert!(!others.is_over(), "a stream of somebody else was dropped");
    d.rnx(["job", "stop", &id]).ok();
    assert!(others.finish().text().contains("tick\n"));
    for line in [
        "[INFO] configuration reloaded | ",
        "revoked=1",
        "[WARN] stream cut | ",
        "[ERROR] request refused | ",
    ] {
        d.until_logged(line);
    }
}

#[test]
fn new_server_certificate_is_used_and_no_stream_is_dropped() {
    let d = TestDaemon::start();
    let id = d.submit(["sh", "-c", TICKER]);
    let quiet = readers(&d, &id);
    let mut follower = d.rnx_spawn(["job", "log", &id]);
    let client = d.client("default");
    list_jobs(&client).unwrap();
    eventually("the follower is connected", || holds(readers(&d, &id) == quiet + 1));
    let before = served(&d);
    d.joblet(["certs", "issue", "--dir", ".", "--server", "--name", "next", "--host", "127.0.0.1"]).ok();
    let read = |part: &str| fs::read(d.dir().join(format!("certs/next-{part}.pem"))).unwrap();
    put(&d, &[("serverCert", &read("cert")), ("serverKey", &read("key"))]);
    let told = d.reload();
    assert!(told.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{told}");
    let after = served(&d);
    assert_ne!(before, after);
    let shown = d.joblet(["certs", "show", "--json", "certs/next-cert.pem"]).json();
    assert_eq!(shown[0]["fingerprint"], after.as_str(), "the new one is served");
    list_jobs(&client).expect("the open connection goes on");
    d.rnx(["job", "list"]).ok();
    assert!(!follower.is_over(), "the stream was dropped");
    d.rnx(["job", "stop", &id]).ok();
    assert_eq!(follower.finish().code, 0);
}

/// The number of the daemon's descriptors for the index of this job's spool: one for each stream, besides its own.
fn readers(d: &TestDaemon, id: &str) -> usize {
    let index = d.dir().join("spool").join(id).join("index");
    let open = fs::read_dir(format!("/proc/{}/fd", d.pid())).unwrap().flatten();
    open.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == index)).count()
}

/// The output of `openssl s_client` for a connection that ends at once.
fn s_client(d: &TestDaemon, identity: &Identity, ca: &[u8], flags: &[&str]) -> String {
    write_identity(d, identity, ca);
    let out = Running::start(&mut s_client_command(d, flags)).finish();
    out.text() + &out.stderr
}

fn write_identity(d: &TestDaemon, identity: &Identity, ca: &[u8]) {
    for (name, bytes) in [("c.pem", &identity.cert[..]), ("k.pem", &identity.key), ("a.pem", ca)] {
        fs::write(d.dir().join(name), bytes).unwrap();
    }
}

/// The command `openssl s_client` with the identity that was written last.
fn s_client_command(d: &TestDaemon, flags: &[&str]) -> Command {
    let address = format!("127.0.0.1:{}", d.port());
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address, "-servername", "localhost", "-alpn", "h2"]);
    command.args(["-cert", "c.pem", "-key", "k.pem", "-CAfile", "a.pem"]).args(flags).current_dir(d.dir());
    command
}

/// The SHA-256 of the certificate that a new connection gets.
fn served(d: &TestDaemon) -> String {
    let (identity, ca) = d.identity("default");
    let text = s_client(d, &identity, &ca, &["-showcerts"]);
    let pem = text.split("-----BEGIN").nth(1).unwrap_or_else(|| panic!("no certificate in: {text}"));
    let cert = openssl::x509::X509::from_pem(format!("-----BEGIN{pem}").as_bytes()).unwrap();
    let digest = cert.digest(openssl::hash::MessageDigest::sha256()).unwrap();
    digest.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":")
}

#[test]
fn certificate_files_are_reloaded_and_their_key_is_checked() {
    let d = TestDaemon::start();
    for (key, file) in [("serverCert", "server-cert"), ("serverKey", "server-key"), ("caCert", "ca-cert")] {
        d.set(&format!("security.{key}"), d.dir().join(format!("certs/{file}.pem")).to_str().unwrap());
    }
    d.reload();
    let (before, certs) = (served(&d), d.dir().join("certs"));
    d.joblet(["certs", "issue", "--dir", ".", "--server", "--name", "next"]).ok();
    fs::rename(certs.join("next-cert.pem"), certs.join("server-cert.pem")).unwrap();
    fs::rename(certs.join("next-key.pem"), certs.join("server-key.pem")).unwrap();
    d.reload();
    let after = served(&d);
    assert_ne!(before, after);
    // A link to a key that others can read counts as such a key.
    fs::rename(certs.join("server-key.pem"), certs.join("real.pem")).unwrap();
    std::os::unix::fs::symlink("real.pem", certs.join("server-key.pem")).unwrap();
    fs::set_permissions(certs.join("real.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    d.reload();
    let why = "server-key.pem holds a private key, but others have access to it (mode 0644)";
    d.until_logged(why);
    assert_eq!(served(&d), after);
}

#[test]
fn replaced_ca_refuses_old_clients_also_on_open_connections() {
    let d = TestDaemon::start();
    let client = d.client("default");
    list_jobs(&client).unwrap();
    let other = Authority::impostor_of(&d.authority());
    let (_, server_ca) = d.identity("default");
    put(&d, &[("caCert", &other.pem())]);
    d.set("security.revocationList", serde_yaml::Value::Null);
    d.reload();
    let (code, text) = list_jobs(&client).unwrap_err();
    assert_eq!(code, RpcStatusCode::UNAUTHENTICATED);
    assert!(text.contains("certificate verify failed: "), "{text}");
    assert_eq!(d.rnx(["job", "list"]).code, 3, "a new connection of the old authority's client");
    let new = other.issue(&Recipe::client("admin"));
    list_jobs(&JobServiceClient::new(d.channel(&new, &server_ca))).unwrap();
    put(&d, &[("caCert", &server_ca)]);
    d.reload();
    list_jobs(&client).expect("and back");
}

#[test]
fn a_reload_that_cannot_be_done_changes_nothing_and_says_why() {
    const FAILED: &str = "[ERROR] reload failed, all stays as it was";
    let d = TestDaemon::start();
    let good = fs::read(d.config()).unwrap();
    let list = d.dir().join("revoked.pem");
    let whole = fs::read(&list).unwrap();
    let stranger = Authority::impostor_of(&d.authority()).issue(&Recipe::client("admin"));
    let errors = || d.log().matches(FAILED).count();
    let mut failures = 0;
    let mut refused = |why: &str, spoil: &dyn Fn()| {
        spoil();
        d.reload();
        failures += 1;
        eventually("the failure is in the log", || holds(errors() == failures));
        let log = d.log();
        assert!(log.lines().rfind(|l| l.contains(FAILED)).is_some_and(|l| l.contains(why)), "{why}: {log}");
        d.rnx(["job", "list"]).ok();
        write(&d.config(), &good, 0o600);
        write(&list, &whole, 0o644);
    };
    refused("security.serverKey: it does not belong to", &|| put(&d, &[("serverKey", &stranger.key)]));
    refused("security.serverCert: it is no certificate", &|| put(&d, &[("serverCert", b"x")]));
    refused("it is cut off", &|| write(&list, &whole[..whole.len() - 40], 0o644));
    refused("holds no X.509 revocation list", &|| write(&list, b"", 0o644));
    refused("others can change it", &|| write(&list, &whole, 0o666));
    refused("No such file", &|| fs::remove_file(&list).unwrap());
    refused("others have access to it", &|| write(&d.config(), &good, 0o644));
    refused("did not find expected", &|| write(&d.config(), b"server: [", 0o600));
    d.reload();
    d.until_logged("[INFO] configuration reloaded");
    assert_eq!(errors(), failures);
}

fn write(path: &Path, bytes: &[u8], mode: u32) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn reload_sets_the_log_level_and_names_keys_that_need_a_restart() {
    let d = TestDaemon::with([("logging.level", "WARN")]);
    d.set("logging.level", "INFO");
    d.set("server.nodeId", "another");
    d.set("joblet.maxConcurrentJobs", 7);
    d.reload();
    d.until_logged("[INFO] configuration reloaded | serverCertUntil=");
    d.until_logged("[WARN] changed keys need a restart | keys=\"server.nodeId, joblet.maxConcurrentJobs\"");
    let log = d.log();
    assert!(!log.contains("server started successfully"), "{log}");
}

/// The message of a daemon that must not start.
fn refusal_to_start(node: &Node) -> String {
    let out = Running::start(&mut node.command()).finish();
    assert_eq!(out.code, 1, "{}", out.stderr);
    out.stderr
}

#[test]
fn node_with_a_readable_or_replaceable_key_does_not_start() {
    let node = Node::set_up();
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o644, 0o640, 0o604, 0o660] {
        chmod(&node.config(), mode);
        let why = refusal_to_start(&node);
        assert!(why.contains("holds a private key, but others have access to it"), "{mode:o}: {why}");
        assert!(why.contains("run: chmod 600 /"), "{why}");
    }
    // A link counts as the file to which it points.
    let (real, config) = (node.dir().join("real.yml"), node.config());
    fs::rename(&config, &real).unwrap();
    std::os::unix::fs::symlink(&real, &config).unwrap();
    chmod(&real, 0o644);
    assert!(refusal_to_start(&node).contains("others have access to it"));
    chmod(&real, 0o600);
    chmod(node.dir(), 0o777);
    assert!(refusal_to_start(&node).contains("everybody can replace it; run: chmod o-w"));
    chmod(node.dir(), 0o700);
    node.start().run(["true"]).ok();
}

#[test]
fn node_with_an_unusable_revocation_list_does_not_start() {
    let node = Node::set_up();
    let list = node.dir().join("revoked.pem");
    let whole = fs::read(&list).unwrap();
    for (text, mode, expected) in [
        (&b""[..], 0o644, "holds no X.509 revocation list"),
        (&whole[..whole.len() / 2], 0o644, "it is cut off"),
        (&whole, 0o646, "others can change it (mode 0646); run: chmod go-w"),
    ] {
        write(&list, text, mode);
        let why = refusal_to_start(&node);
        assert!(why.contains("cannot use security.revocationList") && why.contains(expected), "{why}");
    }
    fs::remove_file(&list).unwrap();
    assert!(refusal_to_start(&node).contains("No such file"));
    write(&list, &whole, 0o644);
    node.start().run(["true"]).ok();
}

/// The bytes that come back on a connection with this session (a file, if it exists). The connection lasts until the server
/// has sent the next session, or has closed it.
fn session(d: &TestDaemon, flags: &[&str], from: &str, to: &str) -> String {
    let (identity, ca) = d.identity("default");
    write_identity(d, &identity, &ca);
    let from: &[&str] = if d.dir().join(from).exists() { &["-sess_in", from] } else { &[] };
    let mut command = s_client_command(d, &[flags, &["-sess_out", to], from].concat());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("a session or the end", || {
        holds(d.dir().join(to).exists() || child.try_wait().unwrap().is_some())
    });
    let out = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
}

#[test]
fn a_session_of_before_a_reload_is_not_taken_up_again() {
    let d = TestDaemon::start();
    for version in ["-tls1_2", "-tls1_3"] {
        let first = format!("first{version}");
        assert!(session(&d, &[version], "none", &first).contains("New, TLSv1."), "{version}");
        let again = session(&d, &[version], &first, &format!("second{version}"));
        assert!(again.contains("Reused, TLSv1."), "{version}, the control: {again}");
        d.reload();
        let after = session(&d, &[version], &first, &format!("third{version}"));
        assert!(after.contains("New, TLSv1.") && !after.contains("Reused"), "{version}: {after}");
    }
}

#[test]
fn a_session_of_a_replaced_authority_opens_nothing() {
    let d = TestDaemon::start();
    assert!(session(&d, &["-tls1_2"], "none", "kept").contains("New, TLSv1.2"));
    put(&d, &[("caCert", &Authority::impostor_of(&d.authority()).pem())]);
    d.set("security.revocationList", serde_yaml::Value::Null);
    d.reload();
    let after = session(&d, &["-tls1_2"], "kept", "next");
    // The server sends an alert, or closes before the client reads it.
    let refused = after.contains("alert") || after.contains("unexpected eof");
    assert!(refused && !after.contains("Reused"), "{after}");
}

#[test]
fn early_data_and_renegotiation_are_refused() {
    let d = TestDaemon::start();
    session(&d, &["-tls1_3"], "none", "kept");
    let text = session(&d, &["-tls1_3", "-early_data", "c.pem"], "kept", "next");
    assert!(text.contains("Reused") && text.contains("Early data was not sent"), "{text}");
    // A line that begins with R makes s_client request a new handshake on the same connection. The test sends it after
    // the server's first frame (SETTINGS: type 4, no flags, stream 0), which would disturb the handshake otherwise.
    let mut command = s_client_command(&d, &["-tls1_2"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut said, mut chunk, mut stdout) = (Vec::new(), [0; 4096], child.stdout.take().unwrap());
    while !said.windows(6).any(|w| w == [4, 0, 0, 0, 0, 0]) {
        let n = stdout.read(&mut chunk).unwrap();
        assert_ne!(n, 0, "{}", String::from_utf8_lossy(&said));
        said.extend(&chunk[..n]);
    }
    child.stdin.as_mut().unwrap().write_all(b"R\n").unwrap();
    let mut text = String::new();
    // s_client ends by itself: the refusal is fatal for it.
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    assert!(text.contains("RENEGOTIATING") && text.contains("no renegotiation"), "{text}");
}

#[test]
fn resumed_session_has_exactly_the_rights_of_its_certificate() {
    let d = TestDaemon::start();
    let mut python = Command::new("/usr/bin/python3");
    python
        .arg("-B")
        .arg(source("tests/clients/session.py"))
        .arg(d.port().to_string())
        .arg(d.dir().join("certs"));
    let found = Running::start(&mut python).finish();
    found.ok();
    for version in ["TLSv1_2", "TLSv1_3"] {
        let got = &found.json()[version];
        assert_eq!((&got[0], &got[1]), (&true.into(), &"0".into()), "{version}: {got}");
        let denied = "7 role viewer is not allowed to perform operation stop_job";
        assert_eq!(got[2], denied, "{version}");
    }
}

#[test]
fn a_call_whose_message_comes_after_the_revocation_is_refused() {
    let d = TestDaemon::start();
    let ann = issue(&d, "ann");
    let (_, ca) = d.identity("default");
    let channel = d.channel(&ann, &ca);
    // Any client may open a call and send its one message later.
    let method: Method<RunJobRequest, RunJobResponse> = Method {
        ty: MethodType::ClientStreaming,
        name: "/joblet.JobService/RunJob",
        req_mar: Marshaller { ser: grpcio::pb_ser, de: grpcio::pb_de },
        resp_mar: Marshaller { ser: grpcio::pb_ser, de: grpcio::pb_de },
    };
    let option = CallOption::default().timeout(Duration::from_secs(20));
    let open = || Client::new(channel.clone()).client_streaming(&method, option.clone()).unwrap();
    let run = RunJobRequest { command: "true".into(), ..RunJobRequest::default() };
    let finish = |(mut sender, receiver): (ClientCStreamSender<_>, ClientCStreamReceiver<RunJobResponse>)| {
        block_on(async {
            // The status may come before the message is sent.
            sender.send((run.clone(), WriteFlags::default())).await?;
            sender.close().await?;
            receiver.await
        })
    };
    finish(open()).expect("the control");
    let opened = open();
    // The answer comes behind the headers of the other call, on the same connection.
    list_jobs(&JobServiceClient::new(channel.clone())).unwrap();
    revoke(&d, "ann").ok();
    d.reload();
    match finish(opened) {
        Err(grpcio::Error::RpcFailure(status) | grpcio::Error::RpcFinished(Some(status))) => {
            assert_eq!(status.code(), RpcStatusCode::UNAUTHENTICATED);
            assert!(status.message().contains("was revoked at"), "{}", status.message());
        }
        other => panic!("{other:?}"),
    }
    let jobs = d.rnx(["--json", "job", "list"]).json();
    assert_eq!(jobs.as_array().map(Vec::len), Some(1), "a job of hers was started: {jobs}");
}

#[test]
fn certs_command_exits_2_on_wrong_words_and_1_on_a_refusal() {
    let d = TestDaemon::start();
    assert!(d.joblet(["certs", "--help"]).ok().contains("joblet certs revoke"));
    for words in [&["certs"][..], &["certs", "renew"], &["certs", "issue", "--dir", "."], &["certs", "show"]]
    {
        let out = d.joblet(words);
        assert_eq!(out.code, 2, "{words:?}: {}", out.stderr);
        assert!(out.stderr.contains("see joblet certs --help"), "{}", out.stderr);
    }
    issue(&d, "ann");
    let out = d.joblet(["certs", "issue", "--dir", ".", "--role", "viewer", "--name", "ann"]);
    assert_eq!(out.code, 1);
    assert!(
        out.stderr.contains("ann-key.pem is there already")
            || out.stderr.contains("ann-cert.pem is there already")
    );
    let shown = d.joblet(["certs", "show", "--dir", ".", "rnx-config.yml", "certs/ann-cert.pem"]).ok();
    for part in
        ["CN=ann, OU=admin, O=joblet", "CN=viewer, OU=viewer, O=joblet", "CN=Joblet CA", "role         admin"]
    {
        assert!(shown.contains(part), "{part} in: {shown}");
    }
    assert!(!shown.contains("PRIVATE") && !shown.contains("problem"), "{shown}");
}

#[test]
fn a_log_file_that_was_moved_away_is_opened_again() {
    let node = Node::set_up();
    let (log, old) = (node.dir().join("joblet.log"), node.dir().join("joblet.log.1"));
    node.set("logging.output", log.to_str().unwrap());
    let d = node.start();
    fs::rename(&log, &old).unwrap();
    d.reload();
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    eventually("the new file has what came after", || holds(read(&log).contains("configuration reloaded")));
    assert!(
        read(&old).contains("server started successfully") && !read(&old).contains("configuration reloaded")
    );
}
