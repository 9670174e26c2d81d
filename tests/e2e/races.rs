//! Two events of one job at once: whichever comes first, the states allow the outcome, and both sides get the same answer.

use crate::helper::daemon::TestDaemon;
use crate::helper::random::Random;
use crate::helper::wait::{eventually, holds, pause};
use crate::helper::{residue, soak};
use futures_util::StreamExt;
use grpcio::{CallOption, RpcStatusCode};
use jiff::{Timestamp, ToSpan};
use joblet::pb::joblet::{
    CancelJobReq, DeleteJobReq, EmptyRequest, FileUpload, GetJobLogsReq, GetJobStatusReq, GetJobStatusRes,
    RunJobRequest, StopJobReq,
};
use joblet::pb::joblet_grpc::JobServiceClient;
use std::time::Duration;

const THREADS: usize = 4;

fn bounded() -> CallOption {
    CallOption::default().timeout(Duration::from_secs(60))
}

fn run(client: &JobServiceClient, script: &str, schedule: String) -> String {
    let args = vec!["-c".into(), script.into()];
    let request = RunJobRequest { command: "sh".into(), args, schedule, ..Default::default() };
    client.run_job_opt(&request, bounded()).unwrap().jobUuid
}

fn status(client: &JobServiceClient, id: &str) -> GetJobStatusRes {
    let request = GetJobStatusReq { uuid: id.to_owned(), ..Default::default() };
    client.get_job_status_opt(&request, bounded()).unwrap()
}

/// The status of the job after its end.
fn over(client: &JobServiceClient, id: &str) -> GetJobStatusRes {
    eventually("the job is over", || {
        let now = status(client, id);
        (!now.exit_reason.is_empty()).then_some(now)
    })
}

fn log(client: &JobServiceClient, id: &str) -> Vec<u8> {
    let request = GetJobLogsReq { uuid: id.to_owned(), ..Default::default() };
    let stream = client.get_job_logs_opt(&request, bounded()).unwrap();
    let chunks: Vec<_> = futures_executor::block_on(stream.map(Result::unwrap).collect());
    chunks.into_iter().flat_map(|chunk| chunk.payload).collect()
}

/// `Ok`: the status in the answer; `Err`: the refusal because of the job's state.
#[track_caller]
fn outcome<T>(reply: grpcio::Result<T>, status: impl Fn(&T) -> String) -> Result<String, String> {
    match reply {
        Ok(reply) => Ok(status(&reply)),
        Err(grpcio::Error::RpcFailure(why)) if why.code() == RpcStatusCode::FAILED_PRECONDITION => {
            Err(why.message().to_owned())
        }
        Err(other) => panic!("neither done nor refused: {other}"),
    }
}

fn stop(client: &JobServiceClient, id: &str) -> Result<String, String> {
    let request = StopJobReq { uuid: id.to_owned(), ..Default::default() };
    outcome(client.stop_job_opt(&request, bounded()), |reply| format!("{} {}", reply.status, reply.exitCode))
}

/// Runs rounds of a race on some threads, each with a client of its own, and prints how many rounds had which outcome.
fn race(d: &TestDaemon, rounds: usize, round: impl Fn(&JobServiceClient, &mut Random) -> bool + Sync) {
    let one = || {
        let (client, mut random) = (d.client("default"), Random::new());
        (0..rounds / THREADS).filter(|_| round(&client, &mut random)).count()
    };
    let first: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!("{first} of {rounds} rounds went the first way, the others the second");
    eventually("nothing runs any more", || holds(residue::payloads_of(&d.uids()).is_empty()));
    d.rnx(["job", "delete-all"]).ok();
}

#[test]
fn a_stop_at_any_moment_of_the_start_ends_the_job_for_good() {
    let d = TestDaemon::start();
    let (client, mut random) = (d.client("default"), Random::new());
    let ids = || -> Vec<String> {
        let jobs = client.list_jobs_opt(&EmptyRequest::new(), bounded()).unwrap().jobs;
        jobs.into_iter().map(|job| job.uuid).collect()
    };
    let mut unstarted = 0;
    let starts = soak::rounds(25, 250);
    for start in 0..starts {
        std::thread::scope(|scope| {
            let other = d.client("default");
            let starter = scope.spawn(move || run(&other, "echo ran; exec sleep 1000", String::new()));
            let id = eventually("the job is accepted", || ids().get(start).cloned());
            pause(Duration::from_micros(random.below(3000)));
            assert_eq!(stop(&client, &id), Ok("STOPPED -1".to_owned()));
            // The caller of RunJob gets an answer too, with the same job.
            assert_eq!(starter.join().unwrap(), id);
            let ended = status(&client, &id);
            assert_eq!((ended.status.as_str(), ended.exit_reason.as_str()), ("STOPPED", "stopped"));
            unstarted += usize::from(log(&client, &id).is_empty());
        });
    }
    println!("{unstarted} of {starts} had not printed anything when they were stopped");
    eventually("nothing runs any more", || holds(residue::payloads_of(&d.uids()).is_empty()));
}

#[test]
fn job_canceled_at_its_start_time_never_ran_or_ran_to_its_end() {
    let d = TestDaemon::start();
    race(&d, soak::rounds(240, 5000), |client, random| {
        let id = run(client, "echo ran", (Timestamp::now() + 30.milliseconds()).to_string());
        pause(Duration::from_micros(random.below(40_000)));
        let request = CancelJobReq { uuid: id.clone(), ..Default::default() };
        let canceled = outcome(client.cancel_job_opt(&request, bounded()), |reply| reply.status.clone());
        let ended = over(client, &id);
        let told = (ended.status.as_str(), ended.exit_reason.as_str());
        match &canceled {
            Ok(status) => {
                assert_eq!((status.as_str(), told), ("CANCELED", ("CANCELED", "canceled")));
                assert_eq!((ended.startTime.as_str(), log(client, &id)), ("", vec![]), "it ran nevertheless");
            }
            Err(why) => {
                assert!(why.starts_with("Job is not scheduled: "), "{why}");
                assert_eq!((told, log(client, &id)), (("COMPLETED", "exited"), b"ran\n".to_vec()));
            }
        }
        canceled.is_ok()
    });
}

#[test]
fn stops_that_meet_the_exit_report_one_outcome_to_all_callers() {
    let d = TestDaemon::start();
    race(&d, soak::rounds(240, 5000), |client, random| {
        let id = run(client, "echo ran; exec sleep 0.01", String::new());
        pause(Duration::from_micros(random.below(20_000)));
        let both = std::thread::scope(|scope| {
            let two = [scope.spawn(|| stop(client, &id)), scope.spawn(|| stop(client, &id))];
            two.map(|stop| stop.join().unwrap())
        });
        let ended = over(client, &id);
        let done: Vec<&String> = both.iter().flatten().collect();
        for refused in both.iter().filter_map(|stop| stop.as_ref().err()) {
            let why = ["job is not running: ", "job is being stopped already: ", "job is ending already: "];
            assert!(why.iter().any(|why| refused.starts_with(why)), "{refused}");
            assert!(refused.contains("RUNNING") != refused.contains("not running"), "{refused}");
        }
        let told = format!("{} {}", ended.status, ended.exitCode);
        match done.as_slice() {
            [] => assert_eq!(told, "COMPLETED 0"),
            [one] => assert_eq!((one.as_str(), told.as_str()), ("STOPPED -1", "STOPPED -1")),
            two => panic!("two stops ended one job: {two:?}"),
        }
        !done.is_empty()
    });
}

#[test]
fn delete_during_a_log_read_removes_the_job_and_ends_the_reader() {
    let d = TestDaemon::start();
    race(&d, soak::rounds(240, 5000), |client, random| {
        let id = run(client, "echo ran; exec sleep 0.01", String::new());
        let request = GetJobLogsReq { uuid: id.clone(), ..Default::default() };
        let mut reader = client.get_job_logs_opt(&request, bounded()).unwrap();
        pause(Duration::from_micros(random.below(20_000)));
        let request = DeleteJobReq { uuid: id.clone(), ..Default::default() };
        let delete = || outcome(client.delete_job_opt(&request, bounded()), |reply| reply.uuid.clone());
        let first = delete();
        if let Err(why) = &first {
            assert_eq!(why, "Cannot delete running job; stop it first");
            over(client, &id);
            assert_eq!(delete(), Ok(id.clone()));
        }
        let mut read = Vec::new();
        while let Some(Ok(chunk)) = futures_executor::block_on(reader.next()) {
            read.extend(chunk.payload);
        }
        assert!(b"ran\n".starts_with(&read), "{read:?}");
        let request = GetJobStatusReq { uuid: id.clone(), ..Default::default() };
        match client.get_job_status_opt(&request, bounded()) {
            Err(grpcio::Error::RpcFailure(why)) if why.code() == RpcStatusCode::NOT_FOUND => {}
            other => panic!("a deleted job is known: {other:?}"),
        }
        first.is_ok()
    });
}

#[test]
fn deleted_job_whose_files_are_being_staged_gets_a_true_answer() {
    let d = TestDaemon::start();
    let client = d.client("default");
    // Large enough that writing them, encrypted and synced, takes longer than the three calls below.
    let files = vec![FileUpload { path: "large".into(), content: vec![7; 100 << 20], ..Default::default() }];
    let schedule = (Timestamp::now() + 1.hour()).to_string();
    let request = RunJobRequest { command: "true".into(), uploads: files, schedule, ..Default::default() };
    let asked = {
        let client = client.clone();
        std::thread::spawn(move || client.run_job_opt(&request, bounded()))
    };
    let id = eventually("the job is in the list", || {
        client.list_jobs(&EmptyRequest::default()).unwrap().jobs.first().map(|job| job.uuid.clone())
    });
    client.cancel_job(&CancelJobReq { uuid: id.clone(), ..Default::default() }).unwrap();
    client.delete_job(&DeleteJobReq { uuid: id.clone(), ..Default::default() }).unwrap();
    // It was accepted, and canceled: not UNAVAILABLE, as if the daemon went away.
    let answer = asked.join().unwrap().unwrap();
    assert_eq!((answer.jobUuid.as_str(), answer.status.as_str()), (id.as_str(), "CANCELED"));
    eventually("its files are gone", || holds(residue::files(&d.dir().join("staged")).is_empty()));
}
