//! `/metrics`: what the page says of a node, to a plain client, to promtool and to a Prometheus of Debian.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::helper::certificates::{Authority, Identity, Recipe, self_signed};
use crate::helper::daemon::{JOBLET, Node, TestDaemon};
use crate::helper::packages::unpacked;
use crate::helper::rnx;
use crate::helper::wait::{eventually, holds};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use serde_yaml::Value;

/// A node with the endpoint, and where that is.
fn node(per_job: bool) -> (TestDaemon, SocketAddr) {
    let d = TestDaemon::with([
        ("metrics.listen", Value::from("127.0.0.1:0")),
        ("metrics.perJob", per_job.into()),
        ("metrics.perJobMax", 1.into()),
    ]);
    let log = d.log();
    let address = log.split("serving metrics | address=").nth(1).unwrap_or_else(|| panic!("{log}"));
    let address = address.split_whitespace().next().unwrap().parse().unwrap();
    (d, address)
}

/// Sends bytes, and reads the whole answer.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    // A refusal may come before all is sent.
    let _ = connection.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = connection.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

pub(super) fn page(address: SocketAddr) -> String {
    ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// The value of a series.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not in {page}")).parse().unwrap()
}

#[test]
fn page_counts_what_jobs_and_calls_did() {
    let (d, address) = node(true);
    assert_eq!(d.run(["sh", "-c", "printf 12345; exit 3"]).code, 3);
    assert_eq!(d.run(["true"]).code, 0);
    let id = d.submit(["--name", "watched", "sleep", "1000"]);
    let text = page(address);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{text}");
    for (series, expected) in [
        ("joblet_jobs{status=\"RUNNING\"}", 1.0),
        ("joblet_jobs{status=\"COMPLETED\"}", 1.0),
        ("joblet_jobs{status=\"FAILED\"}", 1.0),
        ("joblet_jobs_ended_total{reason=\"exited\"}", 2.0),
        ("joblet_output_bytes_total", 5.0),
        ("joblet_output_dropped_bytes_total", 0.0),
        ("joblet_grpc_calls_total{method=\"joblet.JobService/RunJob\",code=\"OK\"}", 3.0),
        ("joblet_job_start_seconds_count{phase=\"exec\"}", 3.0),
        ("joblet_job_start_seconds_count{phase=\"configure\"}", 3.0),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
    for (series, expected) in [
        ("joblet_history_up", 1.0),
        ("joblet_history_gaps_total", 0.0),
        ("joblet_audit_lost_lines_total", 0.0),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
    assert!(value(&text, "joblet_audit_lines_total") >= 7.0, "two of each call and one of the start");
    let spool =
        [value(&text, "joblet_budget_used_bytes{budget=\"spool\"}"), value(&text, "joblet_spool_bytes")];
    assert_eq!(spool[0], spool[1]);
    assert!(value(&text, "joblet_budget_limit_bytes{budget=\"queue\"}") > 1e6);
    assert!(value(&text, "joblet_event_loop_turn_seconds_count") > 3.0);
    let open = fs::read_dir(format!("/proc/{}/fd", d.pid())).unwrap().count() as f64;
    let shown = value(&text, "process_open_fds");
    assert!((shown - open).abs() <= 8.0 && value(&text, "process_threads") > 5.0, "{shown} of {open}");
    assert!(
        text.contains(&format!("joblet_job_start_time_seconds{{job=\"{id}\",name=\"watched\"}} 1")),
        "{text}"
    );
    assert!(d.rnx(["job", "status", "00000000"]).code != 0);
    let text = page(address);
    let missing = "joblet_grpc_calls_total{method=\"joblet.JobService/GetJobStatus\",code=\"NOT_FOUND\"}";
    assert_eq!(value(&text, missing), 1.0);
    assert!(text.lines().count() < 500, "{}", text.lines().count());
    let more = d.submit(["sleep", "1000"]);
    let text = page(address);
    assert_eq!(text.lines().filter(|line| line.starts_with("joblet_job_output_rows{")).count(), 1, "{text}");
    d.rnx(["job", "stop", &more]).ok();
    d.rnx(["job", "stop", &id]).ok();
    eventually("the job has no series any more", || holds(!page(address).contains(&id)));
}

#[test]
fn wrong_requests_are_refused_and_silent_readers_stop_nobody() {
    let (_d, address) = node(false);
    for (request, answer) in [
        ("GET / HTTP/1.1\r\n\r\n", "404 "),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405 "),
        ("\0\0\r\n\r\n", "400 "),
        (&format!("GET /metrics HTTP/1.1\r\nx: {}", "y".repeat(8 << 10)), "431 "),
    ] {
        let said = ask(address, request);
        assert!(said.starts_with(&format!("HTTP/1.1 {answer}")), "{said}");
    }
    let _silent: Vec<TcpStream> = (0..6).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert!(page(address).contains("joblet_build_info"));
    let open = ask(address, "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n");
    assert!(
        open.contains("Content-Type: application/openmetrics-text") && open.ends_with("# EOF\n"),
        "{open}"
    );
}

#[test]
fn addresses_that_others_reach_are_refused() {
    for (listen, why) in [("0.0.0.0:9100", "can be reached by others"), ("here", "no address with a port")] {
        let node = Node::set_up();
        node.set("metrics.listen", listen);
        let mut command = Command::new(JOBLET);
        let command = command.arg("--check-config").arg("--config").arg(node.config()).env_clear();
        let said = rnx::Running::start(command).finish();
        assert!(said.code != 0 && said.stderr.contains(why), "{said:?}");
    }
}

/// The answer to a client with this certificate, or why there is none.
fn ask_by_tls(address: SocketAddr, identity: Option<&Identity>, ca: &[u8]) -> Result<String, String> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.cert_store_mut().add_cert(X509::from_pem(ca).unwrap()).unwrap();
    if let Some(identity) = identity {
        builder.set_certificate(&X509::from_pem(&identity.cert).unwrap()).unwrap();
        builder.set_private_key(&PKey::private_key_from_pem(&identity.key).unwrap()).unwrap();
    }
    let connection = TcpStream::connect(address).unwrap();
    let mut stream = builder.build().connect("joblet", connection).map_err(|why| why.to_string())?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").map_err(|why| why.to_string())?;
    let mut answer = String::new();
    // TLS 1.3 tells a refused certificate with the first byte of the answer.
    stream.read_to_string(&mut answer).map_err(|why| why.to_string())?;
    Ok(answer)
}

/// A node with the endpoint behind TLS, and where that is.
fn node_with_tls() -> (TestDaemon, SocketAddr) {
    let d = TestDaemon::with([("metrics.listen", Value::from("0.0.0.0:0")), ("metrics.tls", true.into())]);
    let log = d.log();
    let port = log.split("serving metrics | address=0.0.0.0:").nth(1).unwrap();
    let port: u16 = port.split_whitespace().next().unwrap().parse().unwrap();
    (d, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// The digest of the certificate that the endpoint shows a client.
fn shown_certificate(address: SocketAddr, identity: &Identity) -> Vec<u8> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_certificate(&X509::from_pem(&identity.cert).unwrap()).unwrap();
    builder.set_private_key(&PKey::private_key_from_pem(&identity.key).unwrap()).unwrap();
    let stream = builder.build().connect("joblet", TcpStream::connect(address).unwrap()).unwrap();
    stream.ssl().peer_certificate().unwrap().digest(MessageDigest::sha256()).unwrap().to_vec()
}

#[test]
fn reload_changes_certificates_and_clients_of_the_endpoint() {
    let (d, address) = node_with_tls();
    let (viewer, ca) = d.identity("viewer");
    d.joblet(["certs", "issue", "--dir", ".", "--role", "viewer", "--name", "ann"]).ok();
    let read = |name: &str| fs::read(d.dir().join(format!("certs/{name}.pem"))).unwrap();
    let ann = Identity { cert: read("ann-cert"), key: read("ann-key") };
    let answer = |identity| ask_by_tls(address, Some(identity), &ca);
    assert!(answer(&ann).unwrap().starts_with("HTTP/1.1 200 "));
    d.joblet(["certs", "revoke", "--dir", ".", "certs/ann-cert.pem"]).ok();
    assert!(answer(&ann).unwrap().starts_with("HTTP/1.1 200 "), "not before the reload");
    d.reload();
    match answer(&ann) {
        Ok(text) => assert!(text.starts_with("HTTP/1.1 403 ") && text.contains("was revoked at"), "{text}"),
        Err(why) => panic!("a refusal has its reason: {why}"),
    }
    assert!(answer(&viewer).unwrap().starts_with("HTTP/1.1 200 "), "others are as before");
    let before = shown_certificate(address, &viewer);
    d.joblet(["certs", "issue", "--dir", ".", "--server", "--name", "next", "--host", "127.0.0.1"]).ok();
    for (key, name) in [("serverCert", "next-cert"), ("serverKey", "next-key")] {
        d.set(&format!("security.{key}"), String::from_utf8(read(name)).unwrap());
    }
    assert_eq!(shown_certificate(address, &viewer), before);
    d.reload();
    let next = X509::from_pem(&read("next-cert")).unwrap().digest(MessageDigest::sha256()).unwrap();
    assert_eq!(shown_certificate(address, &viewer), next.to_vec());
    assert!(answer(&viewer).unwrap().starts_with("HTTP/1.1 200 "));
    // The node trusts another authority, and clients of that one alone.
    let other = Authority::impostor_of(&d.authority());
    d.set("security.caCert", String::from_utf8(other.pem()).unwrap());
    d.set("security.revocationList", Value::Null);
    d.reload();
    assert!(!answer(&viewer).is_ok_and(|text| text.contains("joblet_build_info")), "of the old authority");
    assert!(answer(&other.issue(&Recipe::client("viewer"))).unwrap().starts_with("HTTP/1.1 200 "));
}

#[test]
fn endpoint_by_tls_answers_clients_of_the_nodes_own_ca_alone() {
    let (d, address) = node_with_tls();
    let (viewer, ca) = d.identity("viewer");
    let text = ask_by_tls(address, Some(&viewer), &ca).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK") && text.contains("joblet_build_info"), "{text}");
    let nobody = d.authority().issue(&Recipe::client("nobody"));
    let text = ask_by_tls(address, Some(&nobody), &ca).unwrap();
    assert!(text.starts_with("HTTP/1.1 403 ") && text.contains("no role"), "{text}");
    assert!(ask_by_tls(address, None, &ca).is_err(), "without a certificate");
    let stranger = self_signed(&Recipe::client("viewer"));
    assert!(ask_by_tls(address, Some(&stranger), &ca).is_err(), "of another CA");
    assert!(!page(address).contains("joblet_build_info"), "without TLS");
}

/// A program that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn prometheus(tree: &Path, dir: &Path, target: SocketAddr) -> (Running, SocketAddr) {
    let own = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: joblet\n    static_configs: [{{targets: ['{target}']}}]\n"
    );
    fs::write(dir.join("prometheus.yml"), config).unwrap();
    let mut command = Command::new(tree.join("usr/bin/prometheus"));
    command.arg(format!("--config.file={}", dir.join("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()));
    command.arg(format!("--web.listen-address={own}"));
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    (Running(child), own)
}

#[test]
fn promtool_finds_nothing_and_a_prometheus_scrapes_the_node() {
    let tree = match unpacked(&["prometheus"]) {
        Ok(tree) => tree,
        Err(why) => skip!(why),
    };
    let (d, address) = node(true);
    assert_eq!(d.run(["true"]).code, 0);
    let _id = d.submit(["sleep", "1000"]);
    let text = page(address);
    let (_, text) = text.split_once("\r\n\r\n").unwrap();
    let mut promtool = Command::new(tree.join("usr/bin/promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.is_empty(), "{said}");
    let (_running, own) = prometheus(&tree, d.dir(), address);
    let query = "GET /api/v1/query?query=joblet_jobs%7Bstatus%3D%22RUNNING%22%7D HTTP/1.0\r\n\r\n";
    eventually("prometheus has the number of running jobs", || {
        let Ok(mut connection) = TcpStream::connect(own) else { return holds(false) };
        connection.write_all(query.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = connection.read_to_string(&mut answer);
        holds(answer.contains("\"status\":\"RUNNING\"") && answer.contains(",\"1\"]"))
    });
}
