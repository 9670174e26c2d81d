//! Promises before a crash hold after it: the daemon never forgets an acknowledged job, a repeated request is one job, and
//! no process runs without a record.

use crate::helper::daemon::{JOBLET, Node, TestDaemon};
use crate::helper::random::Random;
use crate::helper::rnx::Running;
use crate::helper::wait::{eventually, holds, pause};
use crate::helper::{residue, soak};
use grpcio::CallOption;
use joblet::pb::joblet::{EmptyRequest, GetJobStatusReq, Job, RunJobRequest, StopJobReq};
use joblet::pb::joblet_grpc::JobServiceClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::Duration;

/// Requests that are under way at each crash.
const REQUESTS: usize = 8;

fn bounded() -> CallOption {
    CallOption::default().timeout(Duration::from_secs(20))
}

/// A request; jobs of even numbers end at once, the others do not.
fn request(id: &str, number: usize) -> RunJobRequest {
    let script = if number.is_multiple_of(2) { "echo ran" } else { "echo ran; exec sleep 1000" };
    RunJobRequest {
        name: id.to_owned(),
        command: "sh".into(),
        args: vec!["-c".into(), script.into()],
        request_id: id.to_owned(),
        ..Default::default()
    }
}

/// All jobs by name. Two jobs of one name fail the test.
#[track_caller]
fn by_name(client: &JobServiceClient) -> HashMap<String, Job> {
    let mut found = HashMap::new();
    for job in client.list_jobs_opt(&EmptyRequest::new(), bounded()).unwrap().jobs {
        if let Some(other) = found.insert(job.name.clone(), job) {
            panic!("two jobs of one request: {other:?} and {:?}", found[&other.name]);
        }
    }
    found
}

/// Kills the daemon while requests are in progress; returns the node and the acknowledged ids.
fn crash_amid(d: TestDaemon, requests: &[RunJobRequest], random: &mut Random) -> (Node, Vec<Option<String>>) {
    let client = d.client("default");
    let begin = Barrier::new(requests.len() + 1);
    std::thread::scope(|scope| {
        let ask = |request| {
            let (client, begin) = (client.clone(), &begin);
            scope.spawn(move || {
                begin.wait();
                client.run_job_opt(request, bounded()).ok().map(|reply| reply.jobUuid)
            })
        };
        let asked: Vec<_> = requests.iter().map(ask).collect();
        begin.wait();
        pause(Duration::from_micros(random.below(150_000)));
        let node = d.crash();
        (node, asked.into_iter().map(|asked| asked.join().unwrap()).collect())
    })
}

/// The status of a job after its start: it runs, or is over.
fn settled(client: &JobServiceClient, id: &str) -> String {
    let request = GetJobStatusReq { uuid: id.to_owned(), ..Default::default() };
    eventually("the job runs or is over", || {
        let status = client.get_job_status_opt(&request, bounded()).unwrap().status;
        (status != "INITIALIZING").then_some(status)
    })
}

fn check(d: &TestDaemon, number: usize, request: &RunJobRequest, acknowledged: Option<&String>) -> String {
    let client = d.client("default");
    let again = client.run_job_opt(request, bounded());
    let job = by_name(&client).remove(&request.name).expect("a request that came twice left a job");
    let id = job.uuid;
    if let Ok(again) = &again {
        assert_eq!(again.jobUuid, id);
    }
    assert!(acknowledged.is_none_or(|first| *first == id), "{acknowledged:?} was acknowledged, not {id}");
    let ends_at_once = number.is_multiple_of(2);
    let log = |id: &str| d.rnx(["job", "log", "--no-follow", id]).text();
    if ends_at_once {
        eventually("it is over", || holds(settled(&client, &id) != "RUNNING"));
    }
    let status = settled(&client, &id);
    match status.as_str() {
        "COMPLETED" if ends_at_once => assert_eq!(log(&id), "ran\n"),
        "RUNNING" if !ends_at_once => eventually("it ran", || holds(log(&id) == "ran\n")),
        // The daemon was killed in the middle of the start: the job never ran.
        "FAILED" => {
            let told = d.status(&id);
            assert!(acknowledged.is_none(), "an acknowledged job is gone: {told}");
            let reason = told["exit_reason"].as_str().unwrap();
            assert!(matches!(reason, "lost" | "start_failed"), "{told}");
            assert_eq!(log(&id), "", "{told}");
        }
        other => panic!("{other}: {}", d.status(&id)),
    }
    if status == "RUNNING" {
        let request = StopJobReq { uuid: id.clone(), ..Default::default() };
        assert_eq!(client.stop_job_opt(&request, bounded()).unwrap().status, "STOPPED");
    }
    id
}

#[test]
fn job_in_a_crash_at_start_or_end_is_unstarted_running_or_over() {
    let mut random = Random::new();
    let mut d = TestDaemon::start();
    let mut acknowledged = 0;
    let crashes = soak::rounds(10, 250);
    for crash in 0..crashes {
        let requests: Vec<_> = (0..REQUESTS).map(|n| request(&format!("{crash}-{n}"), n)).collect();
        let (node, ids) = crash_amid(d, &requests, &mut random);
        d = node.start();
        acknowledged += ids.iter().flatten().count();
        for (number, (request, id)) in requests.iter().zip(&ids).enumerate() {
            check(&d, number, request, id.as_ref());
        }
        eventually("nothing runs any more", || holds(residue::payloads_of(&d.uids()).is_empty()));
        d.rnx(["job", "delete-all"]).ok();
    }
    println!("{acknowledged} of {} requests were acknowledged before the crash", crashes * REQUESTS);
    d.stop();
}

#[test]
fn a_client_that_is_killed_and_asks_again_has_started_one_job() {
    let mut random = Random::new();
    let d = TestDaemon::start();
    fs::write(d.dir().join("brought"), vec![b'b'; 300_000]).unwrap();
    let ask = |id: &str| {
        let job = ["job", "run", "-q", "--name", id, "--request-id", id, "--upload", "brought"];
        d.rnx_command(job.into_iter().chain(["sh", "-c", "wc -c < brought"]))
    };
    let clients = soak::rounds(40, 400);
    for number in 0..clients {
        let id = format!("request-{number}");
        let mut client = Running::start(&mut ask(&id));
        pause(Duration::from_micros(random.below(60_000)));
        client.kill();
        drop(client);
        let again = Running::start(&mut ask(&id)).finish();
        again.ok();
        d.until_status(&again.id(), "COMPLETED");
        assert_eq!(d.rnx(["job", "log", &again.id()]).text(), "300000\n");
    }
    assert_eq!(by_name(&d.client("viewer")).len(), clients);
}

#[test]
fn the_same_request_is_the_same_job_however_often_it_comes() {
    let node = Node::set_up();
    let d = node.start();
    let client = d.client("default");
    let twice = request("once", 1);
    let ids: Vec<String> = std::thread::scope(|scope| {
        let ask = |_| scope.spawn(|| client.run_job_opt(&twice, bounded()).unwrap().jobUuid);
        let asked: Vec<_> = (0..20).map(ask).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let d = d.crash().start();
    assert_eq!(d.client("default").run_job_opt(&twice, bounded()).unwrap().jobUuid, ids[0]);
    assert_eq!(by_name(&d.client("viewer")).len(), 1);
    d.rnx(["job", "stop", &ids[0]]).ok();
    assert_eq!(d.client("default").run_job_opt(&twice, bounded()).unwrap().status, "STOPPED");
    d.rnx(["job", "delete", &ids[0]]).ok();
    // The daemon no longer knows the request.
    assert_ne!(d.client("default").run_job_opt(&twice, bounded()).unwrap().jobUuid, ids[0]);
    d.stop();
}

#[test]
fn job_whose_joblet_init_is_killed_is_lost_with_its_processes() {
    let d = TestDaemon::start();
    let script = "sleep 1000 & setsid sleep 1000 & echo there; exec sleep 1000";
    let id = d.submit(["sh", "-c", script]);
    eventually("it has printed", || holds(d.rnx(["job", "log", "--no-follow", &id]).text() == "there\n"));
    let number = |process: &String| process.split(' ').next().and_then(|pid| pid.parse().ok());
    let all = residue::processes_in_cgroup(&id);
    let init = all.iter().find(|process| process.ends_with(" joblet-init")).and_then(number).unwrap();
    kill(Pid::from_raw(init), Signal::SIGKILL).unwrap();
    d.until_status(&id, "FAILED");
    let told = d.status(&id);
    assert_eq!((told["exit_reason"].as_str(), told["exitCode"].as_i64()), (Some("lost"), Some(-1)), "{told}");
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("PID 1 was killed by signal 9"), "{message}");
    assert_eq!(residue::processes_in_cgroup(&id), Vec::<String>::new());
    assert_eq!(d.rnx(["job", "log", &id]).text(), "there\n");
}

#[test]
fn second_daemon_on_a_data_directory_exits_and_harms_nothing() {
    let d = TestDaemon::start();
    let id = d.submit(["sleep", "1000"]);
    let mut second = Command::new(JOBLET);
    second.args(["--foreground", "--config"]).arg(d.config()).env_clear().stdin(Stdio::null());
    let out = Running::start(&mut second).finish();
    assert_ne!(out.code, 0);
    let said = out.text() + &out.stderr;
    assert!(said.contains("another joblet uses this dataDir; stop it, or choose another dataDir"), "{said}");
    assert_eq!(d.status(&id)["status"], "RUNNING");
    d.rnx(["job", "stop", &id]).ok();
}
