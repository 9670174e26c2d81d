//! The traffic of a job and what it was refused, in its samples, under a real daemon whose host is a namespace of the
//! test's own.

use std::io::Write;
use std::net::TcpListener;

use futures_util::StreamExt;
use joblet::pb::joblet::{JobMetricsRequest, JobMetricsSample, StreamJobMetricsRequest};
use serde_json::Value;

use crate::helper::daemon::TestDaemon;
use crate::helper::gate;
use crate::helper::network::{has_program, host_and_outside, is_run_again, run_again};
use crate::helper::skip::is_root;
use crate::helper::wait::{eventually, holds};

const SENT: u64 = 3 << 20;
const RECEIVED: u64 = 2 << 20;

/// A program that sends, receives, and asks for what it may not have: seven datagrams to a port that is not listed.
const MOVE: &str = r"
import socket, sys
sent, received = int(sys.argv[1]), int(sys.argv[2])
s = socket.create_connection(('8.8.8.8', 8080))
s.sendall(bytes(sent))
s.shutdown(socket.SHUT_WR)
while data := s.recv(65536): received -= len(data)
print('left', received, flush=True)
for n in range(7):
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.connect(('8.8.8.8', 9))
    u.send(b'x')
print('denied', flush=True)
";

/// Takes all of a connection, then sends as much as was agreed.
fn serve(listener: &TcpListener) {
    while let Ok((mut stream, _)) = listener.accept() {
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
        stream.write_all(&vec![1; RECEIVED as usize]).unwrap();
    }
}

/// Has a test of this file run on a host of its own, with the server outside.
fn in_own_network(test: &str, act: impl FnOnce()) {
    if is_run_again() {
        return act();
    }
    let (host, outside) = host_and_outside();
    let served = outside.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    std::thread::spawn(move || serve(&served));
    run_again(&host, "isolated", &format!("e2e::network_metrics::{test}"));
}

fn samples(d: &TestDaemon, id: &str) -> Vec<JobMetricsSample> {
    let request = JobMetricsRequest { uuid: id.to_owned(), ..Default::default() };
    let client = d.client("viewer");
    let stream = client.get_job_metrics(&request).unwrap();
    futures_executor::block_on(stream.map(Result::unwrap).collect())
}

/// Bytes and packets of a wire that has carried this much one way: with headers, and those of the other way's answers.
fn near(bytes: u64, payload: u64, packets: u64) -> bool {
    bytes >= payload && bytes < payload + payload / 4 && packets > payload / 65536 && packets < payload / 100
}

fn moves(d: &TestDaemon, then: &str) -> String {
    let script = format!("python3 -c \"$MOVE\" {SENT} {RECEIVED}; {then}");
    let variable = format!("MOVE={MOVE}");
    let flags = ["--network", "isolated", "--egress", "8.8.8.8:8080", "-e", &variable];
    d.submit(flags.iter().copied().chain(["bash", "-c", &script]))
}

#[test]
fn samples_count_what_a_job_moves_and_what_it_is_refused() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    in_own_network("samples_count_what_a_job_moves_and_what_it_is_refused", || {
        // One sample at the start and one at the end: the last one has everything, also what came just before.
        let mut d = TestDaemon::with([("job_metrics.default_sample_rate", "1m")]);
        let id = moves(&d, "true");
        d.until_status(&id, "COMPLETED");
        assert_eq!(d.rnx(["job", "log", &id]).ok(), "left 0\ndenied\n");
        let all = samples(&d, &id);
        assert!(all[0].network.is_some(), "{:?}", all[0]);
        let last = all.last().unwrap().network.clone().unwrap();
        assert!(near(last.totalTxBytes, SENT, last.totalTxPackets), "{last:?}");
        assert!(near(last.totalRxBytes, RECEIVED, last.totalRxPackets), "{last:?}");
        assert_eq!(last.interfaces.keys().collect::<Vec<_>>(), ["eth0"]);
        let wire = &last.interfaces["eth0"];
        assert_eq!((wire.rxBytes, wire.txBytes), (last.totalRxBytes, last.totalTxBytes));
        assert_eq!((wire.rxDropped, wire.txDropped), (last.totalRxDropped, last.totalTxDropped));
        assert_eq!((last.totalRxErrors, last.totalTxErrors), (0, 0));
        assert_eq!(last.denials, 7, "{last:?}");
        assert_eq!(d.status(&id)["denials"], 7);
        let text = d.rnx(["job", "metrics", &id]).ok();
        let line = text.lines().rev().find(|line| line.starts_with("Network RX: ")).unwrap();
        assert!(!line.contains("n/a") && text.contains("Denials: 7"), "{text}");
        let json = d.rnx(["--json", "job", "metrics", &id]).ok();
        let json: Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
        assert_eq!(json["network"]["totalTxBytes"].as_u64(), Some(last.totalTxBytes));
        assert_eq!(json["network"]["denials"], 7);
        d.keep_descriptors();
        d.stop();
    });
}

#[test]
fn running_job_shows_its_traffic_and_denials_as_they_come() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    in_own_network("running_job_shows_its_traffic_and_denials_as_they_come", || {
        let mut d = TestDaemon::with([("job_metrics.default_sample_rate", "1s")]);
        let id = moves(&d, &gate::wait_for("go"));
        let viewer = d.client("viewer");
        let request = JobMetricsRequest { uuid: id.clone(), ..Default::default() };
        let mut stream = viewer.get_job_metrics(&request).unwrap();
        let mut next = || futures_executor::block_on(stream.next()).map(Result::unwrap);
        eventually("a sample shows all of it", || {
            let sample = next().expect("the job runs");
            let net = sample.network.as_ref()?;
            holds(net.totalTxBytes >= SENT && net.totalRxBytes >= RECEIVED && net.denials == 7)
        });
        let request = StreamJobMetricsRequest { job_uuid: id.clone(), ..Default::default() };
        let mut events = viewer.stream_job_metrics(&request).unwrap();
        let mut event = || futures_executor::block_on(events.next()).map(Result::unwrap);
        eventually("an event shows all of it", || {
            let event = event().expect("the job runs");
            let enough = |seen: Option<i64>, wanted: u64| seen.is_some_and(|seen| seen as u64 >= wanted);
            let moved = enough(event.net_sent_bytes, SENT) && enough(event.net_recv_bytes, RECEIVED);
            holds(moved && event.denials == Some(7))
        });
        gate::open(&id, "go");
        d.until_status(&id, "COMPLETED");
        let last = samples(&d, &id).pop().unwrap();
        assert_eq!(last.network.denials, 7, "{last:?}");
        drop((stream, events, viewer));
        d.keep_descriptors();
        d.stop();
    });
}
