//! The main use: a command runs isolated, and its output and exit code come back.

use crate::helper::programs::{job, source};
use crate::helper::{TestDaemon, eventually, wait::holds};
use std::fs;

#[test]
fn a_command_runs_and_its_output_and_exit_code_come_back() {
    let d = TestDaemon::start();
    assert_eq!(d.run(["echo", "hello world"]).ok(), "hello world\n");
    assert_eq!(d.run(["sh", "-c", "echo before; exit 42"]).exits(42), "before\n");
    assert_eq!(d.rnx(["job", "run", "--wait", "-q", "false"]).code, 1);
}

#[test]
fn the_real_job_of_the_quick_start_analyses_its_log() {
    let d = TestDaemon::start();
    let mut args = vec!["--upload".to_owned(), source("tests/data/analyse.py").display().to_string()];
    args.extend(["--upload".to_owned(), source("docs/examples/access.log").display().to_string()]);
    args.extend(["/usr/bin/python3", "analyse.py", "access.log"].map(str::to_owned));
    let text = d.run(args).ok();
    assert!(text.contains("2000 requests from 133 clients, 41.8 MB, 0 unreadable lines"), "{text}");
}

#[test]
fn a_hostile_job_gets_nothing_of_what_it_tries() {
    let d = TestDaemon::start();
    let text =
        d.run(["--upload", job("hostile.py").to_str().unwrap(), "/usr/bin/python3", "hostile.py"]).ok();
    assert!(text.ends_with("nothing of this worked\n"), "{text}");
}

#[test]
fn arguments_reach_the_job_unchanged() {
    let d = TestDaemon::start();
    let hard =
        ["", " ", "--name", "x", "-h", "--", "a b", "$HOME", "`id`", "'\"", "\n", "*", "ä€😀", "\\", ";&|"];
    let mut args = vec!["--", "printf", "[%s]"];
    args.extend(hard);
    let wanted: String = hard.iter().map(|a| format!("[{a}]")).collect();
    assert_eq!(d.run(args).ok(), wanted);
    assert_eq!(
        d.run(["sh", "-c", "echo \"arg1: $1, arg2: $2\"", "--", "test1", "test2"]).ok(),
        "arg1: test1, arg2: test2\n"
    );
}

#[test]
fn the_answer_to_a_start_has_every_field() {
    let d = TestDaemon::start();
    let out = d.rnx(["job", "run", "--name", "n1", "--max-cpu=50", "--max-memory=256", "sleep", "60"]);
    out.ok();
    assert_eq!(out.field("Command"), "sleep 60");
    assert_eq!(out.field("Status"), "RUNNING");
    assert_eq!((out.field("MaxCPU"), out.field("MaxMemory")), ("50".to_owned(), "256".to_owned()));
    assert!(out.field("Network").starts_with("none"), "{}", out.text());
    let start = out.field("StartTime");
    assert!(start.ends_with('Z') && start.len() == 20, "{start}");
    let status = d.status(&out.id());
    assert_eq!((&status["name"], &status["workDir"]), (&"n1".into(), &"/work".into()));
    assert_eq!(status["maxMemory"], 256);
    d.rnx(["job", "stop", &out.id()]).ok();
}

#[test]
fn uploads_are_in_work_with_modes_and_the_next_job_sees_none() {
    let d = TestDaemon::start();
    let dir = d.dir().join("tree");
    fs::create_dir_all(dir.join("deep/er")).unwrap();
    fs::write(dir.join("deep/er/leaf.txt"), "leaf").unwrap();
    fs::write(dir.join("empty"), "").unwrap();
    fs::write(d.dir().join("run.sh"), "#!/bin/sh\ncat deep/er/leaf.txt; find . -type f | sort\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(d.dir().join("run.sh"), mode).unwrap();
    let text = d.run(["--upload=run.sh", "--upload-dir=tree", "./run.sh"]).ok();
    assert_eq!(text, "leaf./deep/er/leaf.txt\n./empty\n./run.sh\n");
    let uploads = &d.rnx(["job", "list", "--json"]).json()[0]["uuid"];
    let status = d.status(uploads.as_str().unwrap());
    let mut names: Vec<&str> =
        status["uploads"].as_array().unwrap().iter().filter_map(|n| n.as_str()).collect();
    names.sort_unstable();
    for name in ["deep/er/leaf.txt", "empty", "run.sh"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(d.run(["ls", "-A", "/work"]).ok(), "");
}

#[test]
fn the_working_directory_can_be_chosen_and_is_made_below_work() {
    let d = TestDaemon::start();
    assert_eq!(d.run(["pwd"]).ok(), "/work\n");
    assert_eq!(d.run(["--workdir=/work/a/b", "pwd"]).ok(), "/work/a/b\n");
    assert_eq!(d.run(["--workdir=a/b", "pwd"]).ok(), "/work/a/b\n");
    assert_eq!(d.run(["--workdir=/tmp", "pwd"]).ok(), "/tmp\n");
}

#[test]
fn limits_not_enforced_by_this_host_are_named_in_the_status() {
    needs!(!crate::helper::skip::has_cgroup_controller("memory"), "this host enforces the limits");
    let d = TestDaemon::start();
    let id = d.submit(["--max-memory=64", "--max-cpu=50", "true"]);
    d.until_status(&id, "COMPLETED");
    let named = d.status(&id)["unenforcedLimits"].to_string();
    assert!(named.contains("memory") && named.contains("cpu"), "{named}");
}

#[test]
fn a_strict_node_refuses_a_job_whose_limit_it_cannot_enforce() {
    // Controllers that the configuration leaves out are no fault of the host, so that the daemon starts.
    let node = crate::helper::daemon::Node::set_up();
    node.set("cgroup.enforcement", "strict");
    node.set("cgroup.enableControllers", serde_yaml::Value::Sequence(Vec::new()));
    let d = node.start();
    let out = d.rnx(["job", "run", "--max-memory=64", "true"]);
    assert_eq!(out.code, 125, "{} {}", out.text(), out.stderr);
    assert!(
        out.stderr.contains("cgroup setup failed") && out.stderr.contains("is not enforced"),
        "{}",
        out.stderr
    );
    let jobs = d.rnx(["job", "list", "--json"]).json();
    assert_eq!((&jobs[0]["status"], &jobs[0]["exit_code"]), (&"FAILED".into(), &(-1).into()));
}

#[test]
fn wrong_values_are_refused_with_the_name_of_the_field() {
    let d = TestDaemon::start();
    for (flags, word) in [
        (vec!["--max-cpu=-1"], "cpu"),
        (vec!["--max-cpu=1000000000"], "cpu"),
        (vec!["--max-memory=-5"], "memory"),
        (vec!["--max-memory=99999999"], "memory"),
        (vec!["--max-iobps=-1"], "iobps"),
        (vec!["--cpu-cores=3-1"], "cores"),
        (vec!["--cpu-cores=a"], "cores"),
        (vec!["--cpu-cores=0-99999"], "cores"),
        (vec!["--timeout=soon"], "timeout"),
        (vec!["--workdir=/proc/self/fd/3"], "work"),
        (vec!["--network=nowhere"], "network"),
        (vec!["--network=host"], "network"),
    ] {
        let mut args = vec!["job", "run"];
        args.extend(&flags);
        args.push("true");
        let out = d.rnx(args);
        assert!([2, 125].contains(&out.code), "{flags:?} was taken: {} {}", out.code, out.text());
        assert!(out.stderr.to_lowercase().contains(word), "{flags:?}: {}", out.stderr);
    }
    let out = d.rnx(["job", "run", "sh;id"]);
    assert!(out.stderr.contains("command contains dangerous characters"), "{}", out.stderr);
    assert_eq!(d.rnx(["job", "list", "--json"]).text().trim(), "[]", "nothing of it may become a job");
}

#[test]
fn the_list_pages_and_every_job_appears_once() {
    let d = TestDaemon::start();
    let ids: Vec<String> = (0..7).map(|_| d.submit(["true"])).collect();
    eventually("all jobs are over", || holds(!d.rnx(["job", "list", "--json"]).text().contains("RUNNING")));
    let client = d.client("default");
    let mut request = joblet::pb::joblet::EmptyRequest { limit: 3, ..Default::default() };
    let mut seen = Vec::new();
    let mut pages = 0;
    loop {
        let page = client.list_jobs(&request).unwrap();
        seen.extend(page.jobs.iter().map(|j| j.uuid.clone()));
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!((seen, pages), (ids, 3));
}

#[test]
fn jobs_over_the_limit_wait_and_jobs_over_the_queue_are_refused() {
    let d = TestDaemon::with([("joblet.maxConcurrentJobs", 2), ("joblet.maxQueuedJobs", 1)]);
    let running = [d.submit(["sleep", "1000"]), d.submit(["sleep", "1000"])];
    let waits = d.submit(["true"]);
    let status = d.status(&waits);
    assert_eq!(
        (&status["status"], &status["queuePosition"]),
        (&"INITIALIZING".into(), &1.into()),
        "{status}"
    );
    let out = d.rnx(["job", "run", "true"]);
    assert_eq!(out.code, 125);
    assert!(out.stderr.contains("1 wait already (joblet.maxQueuedJobs)"), "{}", out.stderr);
    d.rnx(["job", "stop", &running[0]]).ok();
    d.until_status(&waits, "COMPLETED");
    d.run(["true"]).ok();
    d.rnx(["job", "stop", &running[1]]).ok();
}

#[test]
fn rnx_accepts_short_commands_json_and_every_way_to_connect() {
    let d = TestDaemon::start();
    let id = d.rnx(["run", "-q", "--wait", "echo", "hello"]).id();
    assert!(d.rnx(["list"]).ok().contains(&id));
    assert!(d.rnx(["status", &id]).ok().contains("Status: COMPLETED"));
    assert_eq!(d.rnx(["log", &id]).ok(), "hello\n");
    let nodes = d.rnx(["nodes"]).ok();
    assert!(
        nodes.contains("default") && nodes.contains("viewer") && !nodes.contains("PRIVATE KEY"),
        "{nodes}"
    );
    let version = d.rnx(["version"]).ok();
    assert!(version.starts_with(concat!("rnx ", env!("CARGO_PKG_VERSION"))), "{version}");
    // Failures are JSON too, before or behind the command.
    for args in [["--json", "job", "status", "abcdabcd"], ["job", "status", "abcdabcd", "--json"]] {
        let out = d.rnx(args);
        assert_eq!(out.code, 5);
        assert_eq!(out.json()["code"], "NOT_FOUND");
        assert_eq!(out.json()["message"], "job not found: abcdabcd");
    }
    // A connection by flags, by environment, and by another node of the file.
    let server = format!("localhost:{}", d.port());
    let certs = |name: &str| d.dir().join("certs").join(name).display().to_string();
    let (cert, key, ca) = (certs("client-cert.pem"), certs("client-key.pem"), certs("ca-cert.pem"));
    let flags = ["--server", &server, "--cert", &cert, "--key", &key, "--ca", &ca, "job", "list"];
    let mut by_flags = std::process::Command::new(crate::helper::daemon::RNX);
    by_flags.env_clear().env("HOME", "/nowhere").args(flags);
    assert!(crate::helper::rnx::Running::start(&mut by_flags).finish().ok().contains(&id));
    let mut by_environment = std::process::Command::new(crate::helper::daemon::RNX);
    by_environment.env_clear().env("HOME", "/nowhere").args(["job", "list"]);
    by_environment.env("JOBLET_SERVER", &server).env("JOBLET_CERT_PATH", &cert);
    by_environment.env("JOBLET_KEY_PATH", &key).env("JOBLET_CA_PATH", &ca);
    assert!(crate::helper::rnx::Running::start(&mut by_environment).finish().ok().contains(&id));
    let mut as_viewer = d.rnx_command(["job", "delete", &id]);
    assert_eq!(crate::helper::rnx::Running::start(as_viewer.env("RNX_NODE", "viewer")).finish().code, 4);
}
