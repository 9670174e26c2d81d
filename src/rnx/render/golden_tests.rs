//! Every shape of an answer against a file of `tests/golden/rnx/`. `RNX_WRITE_GOLDEN=1` writes the files
//! anew; the diff is then what changes for people and scripts, and is read as such.

use std::path::Path;

use super::super::cli::help;
use super::text::Sent;
use super::{fit, json, metrics, overview, security, table, text};
use crate::pb::joblet::*;

const ID: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
const ID2: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
const ID3: &str = "6ba7b811-9dad-11d1-80b4-00c04fd430c8";
const TIME: &str = "2024-01-15T10:30:00Z";

pub(super) fn golden(name: &str, actual: &str) {
    let path = Path::new("tests/golden/rnx").join(name);
    if std::env::var_os("RNX_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{} differs; RNX_WRITE_GOLDEN=1 writes it anew", path.display());
}

pub(super) fn golden_json(name: &str, value: &impl serde::Serialize) {
    golden(name, &format!("{}\n", serde_json::to_string_pretty(value).unwrap()));
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').filter(|w| !w.is_empty()).map(str::to_string).collect()
}

fn started() -> RunJobResponse {
    RunJobResponse {
        jobUuid: ID.into(),
        status: "INITIALIZING".into(),
        command: "python3".into(),
        args: words("script.py"),
        maxCpu: 50,
        maxMemory: 512,
        startTime: TIME.into(),
        network: "none".into(),
        ..Default::default()
    }
}

fn failed_start() -> RunJobResponse {
    RunJobResponse {
        status: "FAILED".into(),
        command: "no-such-program".into(),
        args: Vec::new(),
        exitCode: 127,
        exit_reason: "start_failed".into(),
        message: "cannot execute \"no-such-program\": No such file or directory".into(),
        endTime: TIME.into(),
        ..started()
    }
}

fn running() -> GetJobStatusRes {
    GetJobStatusRes {
        uuid: ID.into(),
        command: "python3".into(),
        args: words("script.py"),
        status: "RUNNING".into(),
        startTime: TIME.into(),
        maxCPU: 50,
        maxMemory: 512,
        ..Default::default()
    }
}

fn oom() -> GetJobStatusRes {
    GetJobStatusRes {
        status: "FAILED".into(),
        endTime: "2024-01-15T10:30:02Z".into(),
        exitCode: 137,
        exit_reason: "oom".into(),
        signal: 9,
        message: "killed: out of memory (limit 512 MiB, peak 512 MiB)".into(),
        name: "nightly".into(),
        nodeId: "node-1".into(),
        created_time: "2024-01-15T10:29:59Z".into(),
        network: "none".into(),
        user: "job".into(),
        profile: "container".into(),
        cpuCores: "0-1".into(),
        timeout: "1h".into(),
        workDir: "/work/app".into(),
        uploads: words("script.py data/a.csv"),
        environment: [("DEBUG", "1"), ("API_TOKEN", "in the clear"), ("LINES", "a\nb")]
            .map(|(k, v)| (k.into(), v.into()))
            .into(),
        secret_environment: [("DB", "leaked by a careless server")].map(|(k, v)| (k.into(), v.into())).into(),
        peak_memory_bytes: Some(536_870_912),
        cpu_time_usec: Some(1_234_567),
        unenforced_limits: vec!["maxIOBPS is not enforced: no io controller".into()],
        ..running()
    }
}

fn job(uuid: &str, status: &str, time: &str, command: &str) -> Job {
    let mut line = words(command);
    Job {
        uuid: uuid.into(),
        status: status.into(),
        startTime: time.into(),
        command: line.remove(0),
        args: line,
        maxCPU: 100,
        maxMemory: 512,
        network: "none".into(),
        ..Default::default()
    }
}

fn seed_list() -> Vec<Job> {
    vec![
        Job {
            exit_reason: "exited".into(),
            endTime: "2024-01-15T10:30:01Z".into(),
            ..job(ID, "COMPLETED", TIME, "echo hello")
        },
        Job {
            name: "trainer".into(),
            nodeId: "node-1".into(),
            ..job(ID2, "RUNNING", "2024-01-15T10:35:00Z", "python3 script.py")
        },
        Job {
            exitCode: 127,
            exit_reason: "start_failed".into(),
            ..job(ID3, "FAILED", "2024-01-15T10:40:00Z", "invalid-command")
        },
    ]
}

/// Jobs that have not started yet.
fn waiting_list() -> Vec<Job> {
    vec![
        Job {
            scheduledTime: "2024-01-15T12:30:00Z".into(),
            wait_reason: "waits for its time".into(),
            ..job(ID, "SCHEDULED", "", "backup --all")
        },
        Job {
            queue_position: 3,
            wait_reason: "waits for a place: joblet.maxConcurrentJobs are running".into(),
            ..job(ID2, "INITIALIZING", "", "echo (waiting)")
        },
    ]
}

/// Names of jobs that try to deceive the reader of a list.
fn hostile_list() -> Vec<Job> {
    let mut hidden = job(ID, "RUNNING", TIME, "sh");
    hidden.args = vec!["-c".into(), format!("true\n{ID2} COMPLETED StartTime: {TIME} Command: backup")];
    hidden.name = "\x1b]0;owned\x07\u{202e}gpj.exe".into();
    let queued =
        Job { name: "x".repeat(30), ..job(ID2, "INITIALIZING", "", &format!("echo {}", "long ".repeat(40))) };
    vec![hidden, queued]
}

#[test]
fn run_prints_the_lines_of_the_reference_first() {
    golden("run.txt", &text::started(&started(), Sent::default(), false));
    let more = RunJobResponse {
        status: "INITIALIZING".into(),
        queue_position: 3,
        wait_reason: "waits for a place: joblet.maxConcurrentJobs are running".into(),
        unenforced_limits: vec!["maxMemory 512 MB is not enforced: no memory controller".into()],
        ..started()
    };
    golden("run-additions.txt", &text::started(&more, Sent { files: 3, env: 2, secrets: 1 }, false));
    let later = RunJobResponse {
        status: "SCHEDULED".into(),
        startTime: String::new(),
        scheduledTime: "2024-01-15T12:30:00Z".into(),
        ..started()
    };
    golden("run-scheduled.txt", &text::started(&later, Sent::default(), false));
    golden("run-failed.txt", &text::started(&failed_start(), Sent::default(), false));
}

#[test]
fn status_prints_the_lines_of_the_reference_first() {
    golden("status.txt", &text::status(&running(), false, false));
    golden("status-oom.txt", &text::status(&oom(), false, false));
}

fn layers() -> Vec<SecurityLayer> {
    let layer = |layer: &str, expected: &str, seen: &str, ok| SecurityLayer {
        layer: layer.into(),
        expected: expected.into(),
        seen: seen.into(),
        ok,
        ..Default::default()
    };
    let memory = layer("memory.max", "maxMemory 64 MB", "not enforced: no memory controller", false);
    vec![
        layer("namespace.pid", "not the host's, pid:[4026531836]", "pid:[4026532184]", true),
        layer("seccomp", "mode 2 (filter), 1 filter or more", "mode 0, 0 filters", false),
        layer("mount /a\x1b[2J", "ro,nosuid,nodev, private", "ro,nosuid,nodev,relatime", true),
        SecurityLayer { unenforced: true, ..memory },
    ]
}

#[test]
fn layers_are_shown_with_what_was_promised_and_what_is() {
    golden("status-security.txt", &security::table(&layers(), false));
    golden_json("status-security.json", &layers().iter().map(security::row).collect::<Vec<_>>());
    assert!(security::table(&layers(), true).contains("\x1b[31mNOT OK\x1b[0m"));
    assert_eq!(
        layers().iter().filter(|layer| security::is_broken(layer)).count(),
        1,
        "unenforced is not broken"
    );
}

#[test]
fn lists_have_the_line_of_the_reference_and_two_tables() {
    let style = table::Style { wide: false, colour: false, cut: true };
    golden("list.txt", &text::list(&seed_list(), false));
    golden("list-table.txt", &table::table(&seed_list(), style));
    golden("list-wide.txt", &table::table(&seed_list(), table::Style { wide: true, ..style }));
    golden("list-waiting.txt", &text::list(&waiting_list(), false));
    golden("list-waiting-wide.txt", &table::table(&waiting_list(), table::Style { wide: true, ..style }));
    golden("list-hostile.txt", &text::list(&hostile_list(), false));
    golden("list-hostile-table.txt", &table::table(&hostile_list(), style));
    assert_eq!(text::list(&[], false), "No jobs found\n");
    assert_eq!(table::table(&[], style), "No jobs found\n");
}

#[test]
fn stop_cancel_wait_delete_and_log_print_the_reference_lines() {
    let stop = StopJobRes {
        uuid: ID.into(),
        status: "STOPPED".into(),
        endTime: "2024-01-15T10:45:00Z".into(),
        exitCode: -1,
        ..Default::default()
    };
    golden("stop.txt", &text::stopped(&stop, false));
    golden_json("stop.json", &json::stopped(&stop));
    let cancel = CancelJobRes { uuid: ID.into(), status: "CANCELED".into(), ..Default::default() };
    golden("cancel.txt", &text::canceled(&cancel, "2024-01-15T10:45:00Z", false));
    golden_json("cancel.json", &json::canceled(&cancel, "2024-01-15T10:45:00Z"));
    let done = GetJobStatusRes { status: "COMPLETED".into(), ..running() };
    golden("wait.txt", &(text::waited(&done, false) + &text::waited(&oom(), false)));
    golden("delete.txt", &text::deleted(ID));
    let deleted = DeleteJobRes {
        uuid: ID.into(),
        success: true,
        message: "Job deleted successfully".into(),
        ..Default::default()
    };
    golden_json("delete.json", &json::deleted(&deleted));
    let all = DeleteAllJobsRes {
        success: true,
        message: "Successfully deleted 15 jobs, skipped 3 running/scheduled jobs".into(),
        deleted_count: 15,
        skipped_count: 3,
        ..Default::default()
    };
    golden("delete-all.txt", &text::deleted_all(&all));
    golden_json("delete-all.json", &json::deleted_all(&all));
    golden("log.txt", &format!("{}\n", text::log_heading(ID)));
}

#[test]
fn json_keeps_its_keys() {
    golden_json("run.json", &json::started(&started(), Sent { files: 3, env: 2, secrets: 1 }));
    golden_json("run-failed.json", &json::started(&failed_start(), Sent::default()));
    golden_json("status.json", &json::shown(&running()));
    golden_json("status-oom.json", &json::shown(&oom()));
    golden_json("list.json", &seed_list().iter().map(json::listed).collect::<Vec<_>>());
    let mut waited = started();
    json::merge_end(&mut waited, &oom());
    golden_json("run-wait.json", &json::started(&waited, Sent::default()));
    let chunk = |payload: &[u8], stream: OutputStream, lost_bytes: u64| DataChunk {
        payload: payload.to_vec(),
        stream: stream.into(),
        seq: 7,
        timestamp_ns: 1_705_314_600_000_000_042,
        lost_bytes,
        ..Default::default()
    };
    let chunks = [
        chunk("grüße\n".as_bytes(), OutputStream::OUTPUT_STREAM_STDOUT, 0),
        chunk(b"\xff\x00", OutputStream::OUTPUT_STREAM_STDERR, 0),
        chunk(b"", OutputStream::OUTPUT_STREAM_STDOUT, 4096),
        DataChunk { payload: b"from an older server".to_vec(), ..Default::default() },
    ];
    golden_json("log.json", &chunks.iter().map(json::chunk).collect::<Vec<_>>());
}

#[test]
fn secret_that_a_server_leaks_is_not_printed() {
    for shown in [text::status(&oom(), false, false), serde_json::to_string(&json::shown(&oom())).unwrap()] {
        assert!(!shown.contains("careless") && shown.contains("***"), "{shown}");
    }
    assert!(!text::status(&oom(), false, false).contains("in the clear"));
    let all = text::status(&oom(), false, true);
    assert!(all.contains("API_TOKEN=in the clear") && all.contains("DB=*** (secret)"), "{all}");
}

#[test]
fn end_summary_is_one_line_unless_the_job_exited_by_itself() {
    let end = |reason: &str, status: &str, message: &str| {
        text::end_summary(&GetJobStatusRes {
            exit_reason: reason.into(),
            status: status.into(),
            message: message.into(),
            ..running()
        })
    };
    let cases = [
        ("stopped", "STOPPED", "", "rnx: job f47ac10b was stopped"),
        ("stopped", "STOPPED", "daemon shut down", "rnx: job f47ac10b was stopped: daemon shut down"),
        (
            "timeout",
            "STOPPED",
            "ran longer than its timeout of 30s",
            "rnx: job f47ac10b ran longer than its timeout of 30s",
        ),
        ("oom", "FAILED", "", "rnx: job f47ac10b killed: out of memory (limit 512 MiB)"),
        ("start_failed", "FAILED", "no", "rnx: job f47ac10b failed to start: no"),
        ("output_limit", "FAILED", "", "rnx: job f47ac10b killed: it wrote more output than it may"),
        ("disk_full", "FAILED", "killed: disk full", "rnx: job f47ac10b killed: disk full"),
        ("canceled", "CANCELED", "", "rnx: job f47ac10b was canceled before it started"),
        ("lost", "FAILED", "no exit record", "rnx: job f47ac10b is lost: no exit record"),
        ("exited", "FAILED", "/work is full", "rnx: job f47ac10b exited with 0: /work is full"),
        ("", "RUNNING", "", "rnx: job f47ac10b is still RUNNING"),
        ("", "STOPPED", "", "rnx: job f47ac10b was stopped"),
    ];
    for (reason, status, message, line) in cases {
        let told = end(reason, status, message);
        assert_eq!(told.as_deref(), Some(line), "{reason} {status}");
    }
    let killed =
        GetJobStatusRes { exit_reason: "signaled".into(), signal: 9, status: "FAILED".into(), ..running() };
    assert_eq!(text::end_summary(&killed).unwrap(), "rnx: job f47ac10b killed by signal 9 (SIGKILL)");
    let full = GetJobStatusRes { message: "killed by signal 9; its /tmp was full".into(), ..killed };
    assert_eq!(
        text::end_summary(&full).unwrap(),
        "rnx: job f47ac10b killed by signal 9 (SIGKILL); its /tmp was full"
    );
    assert_eq!(
        text::end_summary(&oom()).unwrap(),
        "rnx: job f47ac10b killed: out of memory (limit 512 MiB, peak 512 MiB)"
    );
    assert_eq!(end("exited", "FAILED", ""), None);
    assert_eq!(end("", "COMPLETED", ""), None);
}

#[test]
fn job_that_exited_is_summed_up_in_one_line() {
    let ended = GetJobStatusRes {
        status: "FAILED".into(),
        exitCode: 3,
        endTime: "2024-01-15T10:31:05Z".into(),
        peak_memory_bytes: Some((310 << 20) - 5),
        ..running()
    };
    let measured = Some(std::time::Duration::from_millis(23_710));
    assert_eq!(text::exit_summary(&ended, measured), "exit 3 in 23.7 s, peak 310 of 512 MiB");
    assert_eq!(text::exit_summary(&ended, None), "exit 3 in 1m05s, peak 310 of 512 MiB");
    let bare = GetJobStatusRes { peak_memory_bytes: None, startTime: String::new(), ..ended.clone() };
    assert_eq!(text::exit_summary(&bare, None), "exit 3");
    assert_eq!(
        text::exit_summary(&GetJobStatusRes { maxMemory: 0, ..ended }, None),
        "exit 3 in 1m05s, peak 310 MiB"
    );
    assert_eq!(
        text::next_steps(&started()),
        "Output: rnx job log f47ac10b   Wait for its end: rnx job wait f47ac10b"
    );
    let later = RunJobResponse { status: "SCHEDULED".into(), ..started() };
    assert!(text::next_steps(&later).ends_with("   Cancel it: rnx job cancel f47ac10b"));
}

/// A fixed point in time after the jobs of the lists.
const NOW: &str = "2024-01-15T12:00:00Z";

#[test]
fn list_on_a_terminal_is_as_wide_as_the_terminal() {
    let mut jobs = seed_list();
    for (job, seconds) in jobs.iter_mut().zip(["05", "06", "07"]) {
        job.created_time = format!("2024-01-15T10:29:{seconds}Z");
    }
    jobs.extend(waiting_list());
    let canceled = Job { name: "\u{4e16}\u{754c}".repeat(12), ..job(ID3, "CANCELED", "", "true") };
    jobs.push(Job { scheduledTime: "2030-01-01T00:00:00Z".into(), ..canceled });
    jobs.extend(hostile_list());
    for columns in [80, 120, 40] {
        let text = overview::overview(&jobs, columns, NOW, false);
        golden(&format!("list-terminal-{columns}.txt"), &text);
        assert!(text.lines().all(|line| fit::width(line) <= columns), "{text}");
    }
    for columns in 0..60 {
        let text = overview::overview(&jobs, columns, NOW, false);
        assert!(text.lines().all(|line| fit::width(line) <= columns), "{columns}: {text}");
    }
    let coloured = overview::overview(&jobs[..1], 80, NOW, true);
    assert!(coloured.contains("\x1b[32mCOMPLETED\x1b[0m"), "{coloured:?}");
    assert_eq!(overview::overview(&[], 80, NOW, false), "No jobs found\n");
}

#[test]
fn ids_are_longer_where_eight_letters_are_not_enough() {
    let twin = format!("{}ffff{}", &ID[..8], &ID[12..]);
    let text = overview::overview(
        &[job(ID, "RUNNING", TIME, "a"), job(&twin, "RUNNING", TIME, "b")],
        80,
        NOW,
        false,
    );
    assert!(text.contains("\nf47ac10b-  ") && text.contains("\nf47ac10bf  "), "{text}");
}

#[test]
fn times_of_jobs_that_never_ran_are_those_that_are_true() {
    let of = |status: &str, reason: &str| {
        text::list(
            &[Job {
                exit_reason: reason.into(),
                created_time: "2024-01-15T10:29:59Z".into(),
                scheduledTime: "2030-01-01T00:00:00Z".into(),
                ..job(ID, status, "", "true")
            }],
            false,
        )
    };
    assert!(of("FAILED", "start_failed").contains(" FAILED StartTime: 2024-01-15T10:29:59Z Command: "));
    assert!(of("CANCELED", "canceled").contains(" CANCELED StartTime: N/A Command: "));
    assert!(of("STOPPED", "stopped").contains(" STOPPED StartTime: N/A Command: "));
    assert!(of("SCHEDULED", "").contains(" SCHEDULED StartTime: 2030-01-01T00:00:00Z Command: "));
}

#[test]
fn network_of_the_host_is_named_as_in_the_reference() {
    let host = RunJobResponse { network: "host".into(), ..started() };
    assert!(text::started(&host, Sent::default(), false).contains("\nNetwork: host (shared with system)\n"));
    let host = GetJobStatusRes { network: "host".into(), ..running() };
    assert!(text::status(&host, false, false).contains("\nNetwork: host (shared with system)\n"));
}

#[test]
fn a_job_without_an_end_shows_no_exit_code() {
    for status in ["RUNNING", "SCHEDULED", "INITIALIZING", "CANCELED"] {
        let job = GetJobStatusRes { status: status.into(), ..running() };
        assert!(text::status(&job, false, false).contains("\nExitCode:\n"), "{status}");
        assert!(!text::waited(&job, false).contains("ExitCode"), "{status}");
    }
}

#[test]
fn statuses_are_coloured_only_on_request() {
    assert_eq!(text::status_word("RUNNING", true), "\x1b[33mRUNNING\x1b[0m");
    assert_eq!(text::status_word("\x1b[2J", true), "^[[2J");
    let style = table::Style { wide: false, colour: true, cut: false };
    assert!(
        table::table(&seed_list(), style)
            .contains("\x1b[32mCOMPLETED\x1b[0m  2024-01-15 10:30:00  echo hello")
    );
}

/// A sample with every value that a host with all controllers provides.
fn sample() -> JobMetricsSample {
    let device =
        DeviceIOMetrics { device: "259:0".into(), readBytes: 4096, readOps: 1, ..Default::default() };
    let lo =
        NetworkInterfaceMetrics { interface: "lo".into(), rxBytes: 100, rxPackets: 1, ..Default::default() };
    let cpu = JobCPUMetrics {
        usageUsec: 3000,
        usagePercent: Some(45.2),
        nrPeriods: Some(9),
        throttlePercent: Some(0.0),
        ..Default::default()
    };
    let memory = JobMemoryMetrics {
        current: 256 << 20,
        max: Some(512 << 20),
        peak: Some(300 << 20),
        ..Default::default()
    };
    let io = JobIOMetrics {
        devices: [("259:0".into(), device)].into(),
        totalReadBytes: 4096,
        readBPS: Some(10_485_760.0),
        writeBPS: Some(5_242_880.0),
        ..Default::default()
    };
    let network = JobNetworkMetrics {
        interfaces: [("lo".into(), lo)].into(),
        totalRxBytes: 100,
        rxBPS: Some(1_258_291.2),
        txBPS: Some(838_860.8),
        ..Default::default()
    };
    let process = JobProcessMetrics {
        current: Some(3),
        max: Some(4096),
        threads: Some(3),
        openFDs: Some(12),
        ..Default::default()
    };
    JobMetricsSample {
        jobId: ID.into(),
        timestamp: 1_705_314_601,
        sampleIntervalSeconds: 5,
        cpu: Some(cpu).into(),
        memory: Some(memory).into(),
        io: Some(io).into(),
        network: Some(network).into(),
        process: Some(process).into(),
        cgroupPath: format!("/sys/fs/cgroup/joblet/job-{ID}"),
        limits: Some(JobResourceLimits { cpu: 50, memory: 512 << 20, ..Default::default() }).into(),
        ..Default::default()
    }
}

#[test]
fn metrics_print_the_reference_lines_and_mark_unknown_values() {
    let bare = JobMetricsSample {
        memory: None.into(),
        io: None.into(),
        network: None.into(),
        process: None.into(),
        cpu: Some(JobCPUMetrics { usageUsec: 3000, ..Default::default() }).into(),
        ..sample()
    };
    golden("metrics.txt", &(metrics::text(&sample()) + &metrics::text(&bare)));
    golden("metrics.json", &format!("{}\n{}\n", metrics::json(&sample()), metrics::json(&bare)));
}

#[test]
fn help_matches_its_golden_files() {
    for name in [
        "",
        "job",
        "job run",
        "job status",
        "job list",
        "job log",
        "job metrics",
        "job wait",
        "workflow",
        "workflow run",
        "workflow status",
        "workflow list",
        "workflow cancel",
        "config",
        "jobs",
        "exit-codes",
    ] {
        let file =
            format!("help-{}.txt", if name.is_empty() { "rnx".into() } else { name.replace(' ', "-") });
        golden(&file, &help(&words(name)).unwrap());
    }
}
