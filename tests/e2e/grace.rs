//! The time between TERM and KILL: of the node, of a job, of a stop.

use crate::helper::daemon::Node;
use crate::helper::{TestDaemon, eventually, wait::holds};
use futures_util::{StreamExt, stream::FuturesUnordered};
use grpcio::{CallOption, Client, RpcStatusCode};
use joblet::pb::joblet::StopJobReq;
use joblet::pb::joblet_grpc::METHOD_JOB_SERVICE_STOP_JOB;
use std::time::{Duration, Instant};

/// On TERM it writes a line, works for a second, and writes another one.
const SLOW_END: &str =
    "trap 'echo asked; sleep 1; echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
/// It only notes that TERM came.
const STUBBORN: &str = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done";

/// Starts a job with these flags, and waits until its trap is set.
fn ready(d: &TestDaemon, flags: &[&str], script: &str) -> String {
    let id = d.submit(flags.iter().copied().chain(["sh", "-c", script]));
    until_printed(d, &id, "ready");
    id
}

fn until_printed(d: &TestDaemon, id: &str, line: &str) {
    eventually(&format!("the job prints {line}"), || {
        holds(d.rnx(["job", "log", "--no-follow", id]).text().lines().any(|l| l == line))
    });
}

#[test]
fn stop_grace_of_a_job_or_of_a_stop_lets_it_save_its_work() {
    let d = TestDaemon::start();
    let none = ready(&d, &[], SLOW_END);
    let own = ready(&d, &["--stop-grace=1m"], SLOW_END);
    let given = ready(&d, &[], SLOW_END);
    for (id, flags, saves) in
        [(&none, &[][..], false), (&own, &[], true), (&given, &["--stop-grace=1m"], true)]
    {
        let out = d.rnx(["job", "stop"].iter().chain(flags).copied().chain([id.as_str()]));
        assert_eq!(out.field("Status"), "STOPPED");
        let log = d.rnx(["job", "log", id]).ok();
        assert!(log.contains("asked\n"), "{log}");
        assert_eq!(log.contains("saved\n"), saves, "{log}");
    }
}

#[test]
fn a_timeout_gives_the_jobs_own_stop_grace() {
    let d = TestDaemon::start();
    let out = d.run(["--timeout=1s", "--stop-grace=1m", "sh", "-c", SLOW_END]);
    assert_eq!(out.code, 124, "{}", out.stderr);
    assert_eq!(out.text(), "ready\nasked\nsaved\n");
}

#[test]
fn second_stop_with_a_grace_ends_a_longer_one_sooner() {
    let d = TestDaemon::start();
    let id = ready(&d, &["--stop-grace=5m"], STUBBORN);
    let first = d.rnx_spawn(["job", "stop", &id]);
    until_printed(&d, &id, "asked");
    let again = d.rnx(["job", "stop", &id]);
    assert_eq!(again.code, 6, "{}", again.stderr);
    // Longer than the first: nothing changes, and it waits too.
    let longer = d.rnx_spawn(["job", "stop", "--stop-grace=5m", &id]);
    let before = Instant::now();
    assert_eq!(d.rnx(["job", "stop", "--stop-grace=0s", &id]).field("Status"), "STOPPED");
    assert!(before.elapsed() < Duration::from_secs(60), "it waited for the first one");
    assert_eq!(first.finish().field("Status"), "STOPPED");
    // Its call may have come when the job was over already.
    let longer = longer.finish();
    assert!(longer.code == 6 || longer.field("Status") == "STOPPED", "{}", longer.text());
}

#[test]
fn stop_grace_above_the_nodes_bound_is_refused_by_name() {
    let d = TestDaemon::with([("joblet.maxStopGrace", "10s")]);
    let out = d.rnx(["job", "run", "--stop-grace=11s", "true"]);
    assert_eq!(out.code, 125);
    let why = "invalid stop_grace \"11s\": at most 10s on this node (joblet.maxStopGrace)";
    assert!(out.stderr.contains(why), "{}", out.stderr);
    let id = ready(&d, &[], STUBBORN);
    let out = d.rnx(["job", "stop", "--stop-grace=11s", &id]);
    assert!(out.code == 2 && out.stderr.contains("invalid grace \"11s\""), "{}", out.stderr);
    let out = d.rnx(["job", "stop", "--stop-grace=soon", &id]);
    assert!(out.code == 2 && out.stderr.contains("--stop-grace"), "{}", out.stderr);
    assert_eq!(d.status(&id)["status"], "RUNNING");
}

#[test]
fn stop_grace_survives_a_crash_of_the_daemon() {
    let node = Node::set_up();
    node.set("joblet.onShutdown", "keep");
    let mut d = node.start();
    let own = ready(&d, &["--stop-grace=5m"], STUBBORN);
    let given = ready(&d, &[], STUBBORN);
    let mut stops: Vec<_> = [&["job", "stop", own.as_str()][..], &["job", "stop", "--stop-grace=5m", &given]]
        .into_iter()
        .map(|args| d.rnx_spawn(args.iter().copied()))
        .collect();
    for id in [&own, &given] {
        until_printed(&d, id, "asked");
    }
    d = d.crash().start();
    stops.iter_mut().for_each(crate::helper::rnx::Running::kill);
    // The next daemon sends TERM again, and leaves them the time: the node's own would be over at once.
    for id in [&own, &given] {
        eventually("TERM comes again", || {
            holds(d.rnx(["job", "log", "--no-follow", id]).text().matches("asked").count() >= 2)
        });
        assert_eq!(d.status(id)["status"], "RUNNING");
        assert_eq!(d.rnx(["job", "stop", "--stop-grace=0s", id]).field("Status"), "STOPPED");
    }
}

#[test]
fn stops_that_wait_are_bounded_for_each_client_and_all_answered() {
    /// Changing calls that one client may have open (docs/security.md).
    const MOST: usize = 512;
    let d = TestDaemon::start();
    let id = ready(&d, &["--stop-grace=5m"], STUBBORN);
    let (identity, ca) = d.identity("default");
    // A connection has fewer calls than a client.
    let connections: Vec<Client> = (0..8).map(|_| Client::new(d.channel(&identity, &ca))).collect();
    let mut connection = connections.iter().cycle();
    let request = |grace: String| StopJobReq { uuid: id.clone(), grace, ..Default::default() };
    let mut stop = |grace: String| {
        let (client, option) = (connection.next().unwrap(), CallOption::default());
        client.unary_call_async(&METHOD_JOB_SERVICE_STOP_JOB, &request(grace), option).unwrap()
    };
    let answers = FuturesUnordered::new();
    answers.push(stop("5m".into()));
    until_printed(&d, &id, "asked");
    for n in 0..MOST + 20 {
        // Most of them end the period a little sooner than the one before.
        answers.push(stop(format!("{}s", 299 - n % 200)));
    }
    let mut answers = answers.map(|answer| match answer {
        Ok(reply) => Ok(reply.status),
        Err(grpcio::Error::RpcFailure(why)) => Err(why.code()),
        Err(why) => panic!("{why}"),
    });
    let mut next = || futures_executor::block_on(answers.next());
    for _ in 0..21 {
        assert_eq!(next(), Some(Err(RpcStatusCode::RESOURCE_EXHAUSTED)));
    }
    let last = d.other_client().stop_job(&request("0s".into())).unwrap();
    assert_eq!(last.status, "STOPPED");
    let others: Vec<_> = std::iter::from_fn(next).collect();
    assert_eq!(others.len(), MOST);
    for answer in others {
        // Its message may have come when the job was ending already.
        assert!(
            [Ok("STOPPED".into()), Err(RpcStatusCode::FAILED_PRECONDITION)].contains(&answer),
            "{answer:?}"
        );
    }
}
