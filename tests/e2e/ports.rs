//! Ports of jobs, reached from outside: forwarded by a client, and published on the host.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use futures_executor::block_on;
use futures_util::{SinkExt, StreamExt};
use grpcio::{CallOption, ClientDuplexReceiver, ClientDuplexSender, RpcStatusCode, WriteFlags};
use joblet::pb::joblet::{ForwardOpen, ForwardReq, ForwardRes, forward_req, forward_res};
use joblet::pb::joblet_grpc::SessionServiceClient;

use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::gate;
use crate::helper::skip::is_root;
use crate::helper::soak;
use crate::helper::wait::{PATIENCE, eventually, holds};

/// A server in a job: 7001 sends everything back, 7002 answers with the digest of everything, 7003 sends 4 MiB, ends its
/// side, and prints the digest of what it still gets; 7004 accepts and never reads.
const SERVER: &str = r"
import hashlib, os, socket, threading, time
held = []
def echo(c):
    while data := c.recv(65536): c.sendall(data)
def digest(c):
    seen = hashlib.sha256()
    while data := c.recv(65536): seen.update(data)
    return seen.hexdigest()
def source(c):
    c.sendall(bytes(range(256)) * 16384)
    c.shutdown(socket.SHUT_WR)
    print('late', digest(c), flush=True)
def listen(port):
    s = socket.socket()
    s.bind(('127.0.0.1', port))
    s.listen(200)
    return s
def serve(s, act):
    while True:
        c, _ = s.accept()
        held.append(c)
        threading.Thread(target=act, args=(c,), daemon=True).start()
def closing(act):
    def run(c):
        act(c)
        c.shutdown(socket.SHUT_WR)
    return run
acts = {7001: closing(echo), 7002: closing(lambda c: c.sendall(digest(c).encode())), 7003: source, 7004: lambda c: None}
for s, act in [(listen(port), act) for port, act in acts.items()]:
    threading.Thread(target=serve, args=(s, act), daemon=True).start()
print('ready', flush=True)
while not os.path.exists('/work/go'): time.sleep(0.02)
os._exit(0)
";

/// Starts the server, whose ports listen when this returns.
fn server(d: &TestDaemon, flags: &[&str]) -> String {
    let id = d.submit(flags.iter().copied().chain(["python3", "-c", SERVER]));
    eventually("the server listens", || {
        holds(d.rnx(["job", "log", "--no-follow", &id]).text().contains("ready"))
    });
    id
}

/// A running `rnx job port-forward`.
struct Forwarded {
    child: Child,
    port: u16,
}

impl Forwarded {
    fn start(d: &TestDaemon, id: &str, port: u16) -> Forwarded {
        let mut command = d.rnx_command(["--json", "job", "port-forward", id, &format!("0:{port}")]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (said["address"].as_str(), said["job_port"].as_u64()),
            (Some("127.0.0.1"), Some(port.into()))
        );
        Forwarded { child, port: said["port"].as_u64().unwrap() as u16 }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Waits until it has ended by itself: its exit code, and its last words.
    fn ended(mut self) -> (i32, String) {
        let status = eventually("port-forward ends", || self.child.try_wait().unwrap());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code().unwrap_or(-1), said)
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes that no shift or gap leaves equal.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8).collect()
}

/// Sends bytes and this side's end, and returns everything that comes.
fn exchange(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    let mut reader = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        let answer = scope.spawn(move || {
            let mut answer = Vec::new();
            reader.read_to_end(&mut answer).unwrap();
            answer
        });
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        answer.join().unwrap()
    })
}

fn sha256(bytes: &[u8]) -> String {
    openssl::sha::sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn speaks(forwarded: &Forwarded) -> bool {
    exchange(forwarded.connect(), b"hello") == b"hello"
}

#[test]
fn forwarded_bytes_arrive_both_ways_and_ends_too() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let id = server(&d, &["--network", "none"]);
    let [echo, digest, source] = [7001, 7002, 7003].map(|port| Forwarded::start(&d, &id, port));
    let sent = pattern(soak::rounds(3, 1024) << 20);
    assert!(exchange(echo.connect(), &sent) == sent, "not the same bytes came back");
    assert_eq!(exchange(echo.connect(), b""), b"", "an end alone");
    assert_eq!(String::from_utf8(exchange(digest.connect(), &sent)).unwrap(), sha256(&sent));
    // The job ends its side first, and still hears.
    let mut late = source.connect();
    let mut all = Vec::new();
    late.read_to_end(&mut all).unwrap();
    let expected: Vec<u8> = (0..=255).cycle().take(4 << 20).collect();
    assert!(all == expected, "{} bytes", all.len());
    late.write_all(b"still here").unwrap();
    drop(late);
    let words = format!("late {}", sha256(b"still here"));
    eventually("the job has heard the rest", || {
        holds(d.rnx(["job", "log", "--no-follow", &id]).text().contains(&words))
    });
    // With the job its connections end, and the command.
    let mut open = echo.connect();
    open.write_all(b"x").unwrap();
    let mut byte = [0];
    open.read_exact(&mut byte).unwrap();
    gate::open(&id, "go");
    assert_eq!(open.read(&mut byte).unwrap(), 0, "the end of the job is the end of its connections");
    let (code, said) = echo.ended();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("has ended (COMPLETED)"), "{said}");
    d.until_logged("connection to a port of a job");
    drop((digest, source));
    d.stop();
}

#[test]
fn readers_and_listeners_that_stop_delay_nobody_else() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let id = server(&d, &[]);
    let [echo, source, silent] = [7001, 7003, 7004].map(|port| Forwarded::start(&d, &id, port));
    let mut stuck = silent.connect();
    stuck.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let chunk = pattern(1 << 20);
    let sent: usize = std::iter::from_fn(|| stuck.write(&chunk).ok()).sum();
    assert!(sent < 64 << 20, "{sent} bytes were taken for a job that reads none");
    let mut slow = source.connect();
    let mut byte = [0];
    for _ in 0..3 {
        slow.read_exact(&mut byte).unwrap();
        assert!(speaks(&echo));
    }
    let other = server(&d, &[]);
    assert!(speaks(&Forwarded::start(&d, &other, 7001)), "another job's connections");
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), (4 << 20) - 3);
    drop((stuck, slow));
    for id in [&id, &other] {
        gate::open(id, "go");
        d.until_status(id, "COMPLETED");
    }
    drop((echo, source, silent));
    d.stop();
}

type Stream = (ClientDuplexSender<ForwardReq>, ClientDuplexReceiver<ForwardRes>);

/// The API as a role of `rnx-config.yml`.
fn sessions(d: &TestDaemon, node: &str) -> SessionServiceClient {
    let (identity, ca) = d.identity(node);
    SessionServiceClient::new(d.channel(&identity, &ca))
}

fn request(message: forward_req::Message) -> ForwardReq {
    ForwardReq { message: Some(message), ..ForwardReq::default() }
}

fn to_port(id: &str, port: u32) -> ForwardReq {
    request(forward_req::Message::Open(ForwardOpen { uuid: id.into(), port, ..ForwardOpen::default() }))
}

/// Sends a first message; the call and its open connection, or the refusal.
fn first(client: &SessionServiceClient, message: ForwardReq) -> Result<Stream, (RpcStatusCode, String)> {
    let (mut sender, mut receiver) = client.forward_opt(CallOption::default().timeout(PATIENCE)).unwrap();
    let _ = block_on(sender.send((message, WriteFlags::default())));
    match block_on(receiver.next()).unwrap() {
        Ok(answer) => {
            assert!(matches!(answer.message, Some(forward_res::Message::Opened(true))), "{answer:?}");
            Ok((sender, receiver))
        }
        Err(grpcio::Error::RpcFailure(status)) => Err((status.code(), status.message().to_owned())),
        Err(why) => panic!("{why}"),
    }
}

#[test]
fn connections_that_are_not_allowed_are_refused_by_name() {
    needs!(is_root(), "needs root");
    let node = Node::set_up();
    node.set("network.allow_host", true);
    let d = node.start();
    let id = server(&d, &[]);
    let admin = sessions(&d, "default");
    let (quiet, mut unopened) = admin.forward_opt(CallOption::default().timeout(PATIENCE)).unwrap();
    for (port, code, words) in [
        (0, RpcStatusCode::INVALID_ARGUMENT, "invalid port 0"),
        (65536, RpcStatusCode::INVALID_ARGUMENT, "invalid port 65536"),
        (7009, RpcStatusCode::FAILED_PRECONDITION, "nothing listens"),
    ] {
        let (seen, said) = first(&admin, to_port(&id, port)).err().unwrap();
        assert!(seen == code && said.contains(words), "{port}: {seen:?} {said}");
    }
    let (code, said) = first(&admin, request(forward_req::Message::Data(b"x".to_vec()))).err().unwrap();
    assert!(code == RpcStatusCode::INVALID_ARGUMENT && said.contains("open"), "{said}");
    let (code, said) = first(&admin, to_port("no-such-job", 7001)).err().unwrap();
    assert_eq!(code, RpcStatusCode::NOT_FOUND, "{said}");
    let (code, _) = first(&sessions(&d, "viewer"), to_port(&id, 7001)).err().unwrap();
    assert_eq!(code, RpcStatusCode::PERMISSION_DENIED);
    let host = d.submit(["--network", "host", "bash", "-c", &gate::wait_for("go")]);
    let (code, said) = first(&admin, to_port(&host, d.port().into())).err().unwrap();
    assert!(code == RpcStatusCode::FAILED_PRECONDITION && said.contains("mode host"), "{said}");
    let out = d.rnx(["job", "port-forward", &host, "80"]);
    assert!(out.exits(6).is_empty() && out.stderr.contains("mode host"), "{}", out.stderr);
    let ended = d.submit(["true"]);
    d.until_status(&ended, "COMPLETED");
    let (code, said) = first(&admin, to_port(&ended, 7001)).err().unwrap();
    assert!(code == RpcStatusCode::FAILED_PRECONDITION && said.contains("not running"), "{said}");
    // Another job has a loopback of its own.
    let out =
        d.run(["bash", "-c", "if exec 3<>/dev/tcp/127.0.0.1/7001; then echo reached; else echo refused; fi"]);
    assert_eq!(out.text().trim(), "refused");
    // Those that were refused above give their places back a moment after their answer.
    let place = || eventually("a place is free", || first(&admin, to_port(&id, 7001)).ok());
    let mut open: Vec<Stream> = (0..64).map(|_| place()).collect();
    let (code, said) = first(&admin, to_port(&id, 7001)).err().unwrap();
    assert!(code == RpcStatusCode::RESOURCE_EXHAUSTED && said.contains("64 connections"), "{said}");
    let other = server(&d, &[]);
    assert!(first(&admin, to_port(&other, 7001)).is_ok(), "another job has places of its own");
    let (mut sender, mut receiver) = open.pop().unwrap();
    let large = request(forward_req::Message::Data(vec![0; (64 << 10) + 1]));
    block_on(sender.send((large, WriteFlags::default()))).unwrap();
    let broken = block_on(receiver.next()).unwrap().unwrap_err().to_string();
    assert!(broken.contains("65537 bytes"), "{broken}");
    drop(place());
    drop(open);
    let late = block_on(unopened.next()).unwrap().unwrap_err().to_string();
    assert!(late.contains("no message within 10 s"), "{late}");
    for id in [&id, &host, &other] {
        gate::open(id, "go");
        d.until_status(id, "COMPLETED");
    }
    drop((sender, receiver, admin, quiet, unopened));
    d.stop();
}

#[test]
fn port_forward_goes_on_after_the_daemon_was_killed() {
    needs!(is_root(), "needs root");
    let node = Node::set_up();
    node.set("joblet.onShutdown", "keep");
    let d = node.start();
    let id = server(&d, &[]);
    let echo = Forwarded::start(&d, &id, 7001);
    assert!(speaks(&echo));
    let mut broken = echo.connect();
    broken.write_all(b"x").unwrap();
    broken.read_exact(&mut [0]).unwrap();
    let d = d.crash().start();
    assert!(!matches!(broken.read(&mut [0]), Ok(1..)), "the connection is gone with the daemon");
    eventually("new connections are carried", || holds(speaks(&echo)));
    gate::open(&id, "go");
    let (code, said) = echo.ended();
    assert!(code == 0 && said.contains("has ended"), "{code}: {said}");
    d.stop();
}

/// A port of the loopback that nobody listens on.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn to_host(address: &str, port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((address, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether the server answers at a port of the host.
fn answers(port: u16) -> bool {
    to_host("127.0.0.1", port).is_ok_and(|stream| exchange(stream, b"hello") == b"hello")
}

#[test]
fn published_port_belongs_to_its_job_until_the_end() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let (port, other_port) = (free_port(), free_port());
    let publish = [format!("{port}:7001"), format!("127.0.0.2:{port}:7002"), format!("{other_port}:7009")];
    let flags: Vec<&str> = publish.iter().flat_map(|text| ["--publish", text]).collect();
    let plan =
        d.rnx(["job", "run", "--explain"].into_iter().chain(flags.iter().copied()).chain(["true"])).ok();
    assert!(
        plan.contains(&format!("listen on 127.0.0.1:{port} of the host for port 7001 of the job")),
        "{plan}"
    );
    let id = server(&d, &flags);
    assert!(answers(port));
    let sent = pattern(2 << 20);
    assert!(exchange(to_host("127.0.0.1", port).unwrap(), &sent) == sent, "not the same bytes came back");
    let digest = exchange(to_host("127.0.0.2", port).unwrap(), &sent);
    assert_eq!(String::from_utf8(digest).unwrap(), sha256(&sent));
    assert!(to_host("127.0.0.3", port).is_err(), "only the addresses that were named");
    let nobody = to_host("127.0.0.1", other_port).unwrap().read(&mut [0]);
    assert!(nobody.is_err(), "nobody listens there: {nobody:?}");
    let ports = d.status(&id)["ports"].clone();
    assert_eq!(ports[0], format!("127.0.0.1:{port}:7001"), "{ports}");
    let layers = d.rnx(["job", "status", "--security", &id]).ok();
    assert!(layers.contains(&format!("published 127.0.0.1:{port}")), "{layers}");
    // Another job may not have it, on any address.
    for taken in [format!("{port}:80"), format!("127.0.0.2:{port}:80")] {
        let out = d.rnx(["job", "run", "--publish", &taken, "true"]);
        out.exits(125);
        assert!(out.stderr.contains(&format!("published by job {id}")), "{}", out.stderr);
    }
    let own = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = format!("{}:80", own.local_addr().unwrap().port());
    let out = d.rnx(["job", "run", "--publish", &taken, "true"]);
    assert!(out.code == 125 && out.stderr.contains("is in use already"), "{}", out.stderr);
    for (wrong, words) in [
        ("0.0.0.0:8080:80", "network.publish.addresses"),
        ("80:80", "network.publish.ports"),
        ("8080", "invalid publish"),
        ("8080:0", "invalid publish"),
        ("8080:65536", "invalid publish"),
    ] {
        let out = d.rnx(["job", "run", "--publish", wrong, "true"]);
        assert!(out.code == 125 && out.stderr.contains(words), "{wrong}: {}", out.stderr);
    }
    let mut open = to_host("127.0.0.1", port).unwrap();
    open.write_all(b"x").unwrap();
    open.read_exact(&mut [0]).unwrap();
    gate::open(&id, "go");
    d.until_status(&id, "COMPLETED");
    assert_eq!(open.read(&mut [0]).unwrap(), 0, "the end of the job is the end of its connections");
    assert!(to_host("127.0.0.1", port).is_err(), "the port is free");
    assert!(d.status(&id).get("ports").is_none_or(|ports| ports.as_array().is_none_or(Vec::is_empty)));
    // At once for the next one.
    let next = server(&d, &["--publish", &publish[0]]);
    assert!(answers(port));
    d.rnx(["job", "stop", &next]).ok();
    assert!(to_host("127.0.0.1", port).is_err());
    d.stop();
}

#[test]
fn published_port_outlives_a_killed_daemon() {
    needs!(is_root(), "needs root");
    let node = Node::set_up();
    node.set("joblet.onShutdown", "keep");
    node.set("network.publish.addresses", vec!["0.0.0.0/0"]);
    let d = node.start();
    let (port, all) = (free_port(), free_port());
    let (one, other) = (format!("{port}:7001"), format!("0.0.0.0:{all}:7001"));
    let id = server(&d, &["--publish", &one, "--publish", &other]);
    assert!(answers(port) && to_host("127.0.0.9", all).is_ok_and(|stream| exchange(stream, b"a") == b"a"));
    let mut open = to_host("127.0.0.1", port).unwrap();
    open.write_all(b"x").unwrap();
    open.read_exact(&mut [0]).unwrap();
    let node = d.crash();
    assert!(!matches!(open.read(&mut [0]), Ok(1..)), "its connections are gone with the daemon");
    // A connection of before does not keep the port from being listened on.
    let d = node.start();
    assert!(answers(port), "{}", d.log());
    assert_eq!(d.status(&id)["ports"][0], format!("127.0.0.1:{port}:7001"));
    let node = d.leave();
    assert!(to_host("127.0.0.1", port).is_err());
    // Somebody else is quicker.
    let thief = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let d = node.start();
    d.until_logged("a published port of a running job is lost");
    assert_eq!(d.status(&id)["ports"].as_array().unwrap().len(), 1);
    drop(thief);
    gate::open(&id, "go");
    d.until_status(&id, "COMPLETED");
    assert!(to_host("127.0.0.1", all).is_err());
    d.stop();
}

#[test]
fn waiting_job_gets_its_ports_when_it_starts() {
    needs!(is_root(), "needs root");
    let node = Node::set_up();
    node.set("joblet.maxConcurrentJobs", 1);
    let d = node.start();
    let publish = format!("{}:7001", free_port());
    let first = server(&d, &["--publish", &publish]);
    let second = d.submit(["--publish", &publish, "python3", "-c", SERVER]);
    assert!(d.status(&second)["ports"].as_array().is_none_or(Vec::is_empty));
    gate::open(&first, "go");
    d.until_status(&first, "COMPLETED");
    d.until_status(&second, "RUNNING");
    assert_eq!(d.status(&second)["ports"][0], format!("127.0.0.1:{publish}"));
    d.rnx(["job", "stop", &second]).ok();
    d.stop();
}
