use std::sync::Arc;

use super::*;
use crate::config::daemon::DaemonConfig;
use crate::job::limits::{CoreSet, CpuPercent, MemoryMib};
use crate::job::{Ending, ExitReason, JobClock, JobId, JobSpec, Secret, Status, User};

fn rules() -> Rules {
    let mut config = DaemonConfig::default();
    config.server.node_id = "node-7".into();
    Rules::new(&config, CoreSet::parse("0").unwrap(), 1024).unwrap()
}

fn view() -> JobView {
    let spec = JobSpec {
        name: "nightly".into(),
        command: "sh".into(),
        args: vec!["-c".into(), String::new()],
        limits: Limits {
            cpu: Some(CpuPercent::new(250).unwrap()),
            memory: Some(MemoryMib::new(64, 1024).unwrap()),
            io: None,
            cores: Some(CoreSet::parse("0-1").unwrap()),
            pids: 10,
        },
        environment: vec![("A".into(), "1".into()), ("API_KEY".into(), "visible".into())],
        secrets: vec![("TOKEN".into(), Secret::new("leaked too"))],
        upload_paths: vec!["f".into()],
        user: User::Job,
        timeout: Some(Duration::from_secs(3600)),
        not_before_ns: Some(1_000_000_000_999_999_999),
        ..JobSpec::bare()
    };
    JobView {
        id: JobId::random(),
        spec: Arc::new(spec),
        status: Status::Failed,
        created_ns: 1_000_000_000_999_999_999,
        started_ns: Some(1_000_000_001_000_000_000),
        ended_ns: Some(1_000_000_002_000_000_000),
        ending: Some(Ending {
            status: Status::Failed,
            reason: ExitReason::Oom,
            code: 137,
            signal: 9,
            message: "killed: out of memory".into(),
        }),
        peak_memory_bytes: Some(67_108_864),
        cpu_time_usec: Some(5),
        clock: JobClock {
            timeout: Some(Duration::from_secs(3600)),
            ends_ns: None,
            paused_ns: Some(1_000_000_001_500_000_000),
        },
        egress: None,
        denials: 7,
        unenforced: vec!["memory".into()],
        gpus: vec![GpuLease { index: 2, uuid: "GPU-2".into(), minor: 5, lost: None }],
        ports: vec![Published::parse("8080:80").unwrap()],
        queue_position: 3,
        wait_reason: "waits".into(),
        address: "172.20.0.2/16".into(),
        note: String::new(),
        dependencies: vec!["build".into()],
    }
}

fn many(count: u64) -> JobPage {
    JobPage { jobs: (1..=count).map(|serial| (serial, view())).collect(), next: None }
}

#[test]
fn a_status_shows_everything_and_no_secret() {
    let shown = status(view(), &rules());
    let again = job(view(), &rules());
    assert_eq!((shown.name.as_str(), shown.command.as_str(), shown.args.len()), ("nightly", "sh", 2));
    assert_eq!((shown.maxCPU, shown.maxMemory, shown.maxIOBPS), (250, 64, 0));
    assert_eq!((shown.cpuCores.as_str(), shown.status.as_str()), ("0-1", "FAILED"));
    assert_eq!(shown.created_time, "2001-09-09T01:46:40Z");
    assert_eq!([&shown.scheduledTime, &again.scheduledTime], ["2001-09-09T01:46:40Z"; 2], "whole seconds");
    assert_eq!(shown.startTime, "2001-09-09T01:46:41Z");
    assert_eq!(shown.endTime, "2001-09-09T01:46:42Z");
    assert_eq!((shown.exitCode, shown.signal, shown.exit_reason.as_str()), (137, 9, "oom"));
    assert_eq!(shown.message, "killed: out of memory");
    assert_eq!((shown.peak_memory_bytes, shown.cpu_time_usec), (Some(67_108_864), Some(5)));
    assert_eq!((shown.network.as_str(), shown.workDir.as_str()), ("none", "/work"));
    assert_eq!(shown.user, "job");
    assert_eq!((shown.nodeId.as_str(), shown.timeout.as_str()), ("node-7", "1h0m0s"));
    assert_eq!((shown.frozen_since.as_str(), shown.timeout_at.as_str()), ("2001-09-09T01:46:41Z", ""));
    assert_eq!((shown.uploads, shown.unenforced_limits), (vec!["f".to_owned()], vec!["memory".to_owned()]));
    assert_eq!([&shown.wait_reason, &again.wait_reason], ["waits"; 2]);
    assert_eq!(shown.dependencies, ["build"]);
    for (plain, secret) in
        [(&shown.environment, &shown.secret_environment), (&again.environment, &again.secret_environment)]
    {
        assert_eq!((plain["A"].as_str(), plain["API_KEY"].as_str()), ("1", "visible"));
        assert_eq!(secret["TOKEN"], MASK);
    }
    assert_eq!(
        (again.nodeId.as_str(), again.exit_reason.as_str(), again.network.as_str()),
        ("node-7", "oom", "none")
    );
}

#[test]
fn a_running_job_has_no_end() {
    let running = JobView { status: Status::Running, ended_ns: None, ending: None, ..view() };
    let shown = run(running);
    assert_eq!((shown.status.as_str(), shown.endTime.as_str()), ("RUNNING", ""));
    assert_eq!((shown.exitCode, shown.exit_reason.as_str()), (0, ""));
    assert_eq!((shown.command.as_str(), shown.startTime.as_str()), ("sh", "2001-09-09T01:46:41Z"));
    assert_eq!(shown.network, "none");
}

#[test]
fn the_replies_of_stop_and_delete_have_the_documented_words() {
    let view = view();
    let stopped = stop(&view);
    assert_eq!((stopped.uuid, stopped.exitCode), (view.id.to_string(), 137));
    assert_eq!(stopped.endTime, "2001-09-09T01:46:42Z");
    let gone = Removed { id: view.id, history_gone: true };
    assert_eq!(delete(gone).message, "Job deleted successfully");
    let later = "Job deleted successfully; history is deleted when persist is back";
    assert_eq!(delete(Removed { history_gone: false, ..gone }).message, later);
    let all = delete_all(Deleted { deleted: 3, skipped: 1, history_gone: true });
    assert_eq!(all.message, "Successfully deleted 3 jobs, skipped 1 running/scheduled jobs");
    assert_eq!((all.success, all.deleted_count, all.skipped_count), (true, 3, 1));
}

#[test]
fn job_list_is_cut_to_size_and_its_token_follows_the_last_job() {
    let all = page(many(100), &rules(), 1 << 20);
    assert_eq!((all.jobs.len(), all.next_page_token.as_str()), (100, ""));
    for bytes in [1000, 5000, 20_000] {
        let cut = page(many(100), &rules(), bytes);
        assert!(cut.compute_size() <= bytes, "{} of {bytes}", cut.compute_size());
        assert_eq!(cut.next_page_token, cut.jobs.len().to_string());
        assert!(!cut.jobs.is_empty() && cut.jobs.len() < 100);
    }
}

#[test]
fn a_job_that_is_larger_than_a_page_is_a_page() {
    let cut = page(many(3), &rules(), 10);
    assert_eq!((cut.jobs.len(), cut.next_page_token.as_str()), (1, "1"));
    let last = page(many(1), &rules(), 10);
    assert_eq!((last.jobs.len(), last.next_page_token.as_str()), (1, ""));
}

#[test]
fn page_that_the_loop_cut_gets_a_next_page_token() {
    let more = JobPage { next: Some(2), ..many(2) };
    assert_eq!(page(more, &rules(), 1 << 20).next_page_token, "2");
    assert_eq!(page(JobPage::default(), &rules(), 1 << 20), Jobs::default());
    // A filter may find none among the jobs that the loop has looked at.
    let none = page(JobPage { next: Some(9), ..JobPage::default() }, &rules(), 1 << 20);
    assert_eq!((none.jobs.len(), none.next_page_token.as_str()), (0, "9"));
}
