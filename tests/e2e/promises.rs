//! Clients start, schedule, stop, cancel and delete jobs at random while the daemon is killed again and again. The answers
//! before a crash hold after it.

use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::network::{has_program, host_and_outside, is_run_again, run_again};
use crate::helper::random::Random;
use crate::helper::skip::is_root;
use crate::helper::wait::{eventually, holds, pause};
use crate::helper::{residue, soak};
use grpcio::{CallOption, RpcStatusCode};
use jiff::{SignedDuration, Timestamp};
use joblet::pb::joblet::{CancelJobReq, DeleteJobReq, GetJobStatusReq, RunJobRequest, StopJobReq};
use joblet::pb::joblet_grpc::JobServiceClient;
use std::time::Duration;

const CLIENTS: u64 = 4;

fn bounded() -> CallOption {
    CallOption::default().timeout(Duration::from_secs(20))
}

/// The knowledge of a client about one of its jobs.
struct Known {
    id: String,
    ends_by_itself: bool,
    // The last answer about the job was RUNNING.
    ran: bool,
    // The status that the job must have; empty: any status of its own course; `None`: it is deleted.
    promised: Option<&'static str>,
    // A request about the job got no answer: the daemon may have executed it.
    doubtful: bool,
}

/// The result of a request: executed, refused, or cut off by the crash.
enum Reply<T> {
    Done(T),
    Refused,
    Crashed,
}

fn reply<T>(of: grpcio::Result<T>) -> Reply<T> {
    use RpcStatusCode as Code;
    match of {
        Ok(reply) => Reply::Done(reply),
        Err(grpcio::Error::RpcFailure(why)) => match why.code() {
            Code::FAILED_PRECONDITION | Code::RESOURCE_EXHAUSTED => Reply::Refused,
            Code::UNAVAILABLE | Code::UNKNOWN | Code::CANCELLED => Reply::Crashed,
            other => panic!("{other:?}: {}", why.message()),
        },
        Err(_) => Reply::Crashed,
    }
}

fn start(client: &JobServiceClient, random: &mut Random) -> Reply<Known> {
    let ends_by_itself = random.below(2) == 0;
    let script = if ends_by_itself { "echo ran" } else { "echo ran; exec sleep 1000" };
    let mut request =
        RunJobRequest { command: "sh".into(), args: vec!["-c".into(), script.into()], ..Default::default() };
    if random.below(3) == 0 {
        let ms = [100, 3_600_000][random.below(2) as usize];
        request.schedule = (Timestamp::now() + SignedDuration::from_millis(ms)).to_string();
    }
    match reply(client.run_job_opt(&request, bounded())) {
        Reply::Done(job) => Reply::Done(Known {
            id: job.jobUuid,
            ends_by_itself,
            ran: job.status == "RUNNING",
            promised: Some(""),
            doubtful: false,
        }),
        Reply::Refused => Reply::Refused,
        Reply::Crashed => Reply::Crashed,
    }
}

/// Sends one request about a job; returns whether the daemon still lives.
fn meddle(client: &JobServiceClient, random: &mut Random, job: &mut Known) -> bool {
    let uuid = job.id.clone();
    let (done, promised) = match random.below(3) {
        0 => {
            let request = StopJobReq { uuid, ..Default::default() };
            (reply(client.stop_job_opt(&request, bounded()).map(drop)), Some("STOPPED"))
        }
        1 => {
            let request = CancelJobReq { uuid, ..Default::default() };
            (reply(client.cancel_job_opt(&request, bounded()).map(drop)), Some("CANCELED"))
        }
        _ => {
            let request = DeleteJobReq { uuid, ..Default::default() };
            (reply(client.delete_job_opt(&request, bounded()).map(drop)), None)
        }
    };
    match done {
        Reply::Done(()) => job.promised = promised,
        Reply::Refused => {}
        Reply::Crashed => job.doubtful = true,
    }
    !matches!(done, Reply::Crashed)
}

/// A client that sends random requests until the daemon is gone.
fn live(client: &JobServiceClient, random: &mut Random) -> Vec<Known> {
    let mut jobs: Vec<Known> = Vec::new();
    loop {
        let known = jobs.len() as u64;
        if known == 0 || random.below(2) == 0 {
            match start(client, random) {
                Reply::Done(job) => jobs.push(job),
                Reply::Refused => {}
                Reply::Crashed => return jobs,
            }
        } else {
            let job = &mut jobs[random.below(known) as usize];
            if job.promised.is_some() && !meddle(client, random, job) {
                return jobs;
            }
        }
    }
}

fn check(d: &TestDaemon, client: &JobServiceClient, job: &Known) {
    let request = GetJobStatusReq { uuid: job.id.clone(), ..Default::default() };
    let now = match client.get_job_status_opt(&request, bounded()) {
        Ok(now) => now,
        Err(grpcio::Error::RpcFailure(why)) if why.code() == RpcStatusCode::NOT_FOUND => {
            assert!(job.promised.is_none() || job.doubtful, "job {} is forgotten:\n{}", job.id, d.log());
            return;
        }
        Err(other) => panic!("{other}"),
    };
    let told = format!("{} {}: {}", job.id, now.status, now.message);
    match job.promised {
        None => panic!("a deleted job is back: {told}"),
        Some("") if job.doubtful => {}
        Some("") if now.status == "FAILED" => {
            // The crash interrupted the start. A job that a client saw as RUNNING must not be in this state.
            assert!(!job.ran && matches!(now.exit_reason.as_str(), "lost" | "start_failed"), "{told}");
        }
        Some("") if job.ends_by_itself => {
            let fine = ["SCHEDULED", "INITIALIZING", "RUNNING", "COMPLETED"];
            assert!(fine.contains(&now.status.as_str()), "{told}");
        }
        Some("") => {
            let fine = ["SCHEDULED", "INITIALIZING", "RUNNING"];
            assert!(fine.contains(&now.status.as_str()), "{told}");
        }
        Some(status) => assert_eq!(now.status, status, "{told}"),
    }
}

/// Ends all jobs, so that the next round has free slots.
fn clear(d: &TestDaemon) {
    eventually("all jobs are over", || {
        let jobs = d.rnx(["job", "list", "--json"]).json();
        let live: Vec<(&str, &str)> = jobs
            .as_array()
            .unwrap()
            .iter()
            .map(|job| (job["uuid"].as_str().unwrap(), job["status"].as_str().unwrap()))
            .filter(|(_, status)| ["SCHEDULED", "INITIALIZING", "RUNNING"].contains(status))
            .collect();
        for (id, status) in &live {
            d.rnx(["job", if *status == "SCHEDULED" { "cancel" } else { "stop" }, id]);
        }
        holds(live.is_empty())
    });
    d.rnx(["job", "delete-all"]).ok();
    eventually("nothing runs any more", || holds(residue::payloads_of(&d.uids()).is_empty()));
}

#[test]
fn answers_to_clients_before_a_crash_hold_after_it() {
    answers_hold(soak::rounds(8, 200));
}

/// The next daemon takes the router over, or makes another where no job with a network has outlived the one before.
#[test]
fn answers_about_jobs_with_a_network_hold_after_a_crash_too() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    if is_run_again() {
        return answers_hold(soak::rounds(4, 200));
    }
    let (host, _outside) = host_and_outside();
    run_again(&host, "bridge", "e2e::promises::answers_about_jobs_with_a_network_hold_after_a_crash_too");
}

fn answers_hold(crashes: usize) {
    let node = Node::set_up();
    node.set("joblet.maxConcurrentJobs", 6);
    node.set("joblet.maxQueuedJobs", 30);
    let (mut random, mut d, mut told) = (Random::new(), node.start(), 0);
    for _ in 0..crashes {
        let seeds: Vec<Random> = (0..CLIENTS).map(|_| random.another()).collect();
        let clients: Vec<_> = seeds.into_iter().map(|seed| (d.client("default"), seed)).collect();
        let (node, jobs) = std::thread::scope(|scope| {
            let lives = |(client, mut seed)| scope.spawn(move || live(&client, &mut seed));
            let threads: Vec<_> = clients.into_iter().map(lives).collect();
            pause(Duration::from_micros(200_000 + random.below(600_000)));
            let node = d.crash();
            (node, threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>())
        });
        d = node.start();
        told += jobs.len();
        let client = d.client("default");
        jobs.iter().for_each(|job| check(&d, &client, job));
        clear(&d);
    }
    println!("{told} jobs were known to clients at {crashes} crashes");
    d.stop();
}
