//! Sentences of the documentation of persistence that no other test proves: what an administrator sees and does. The table
//! of all of them is in `tests/README.md`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use joblet::pb::persist::PingRequest;

use super::history::{has_jq, logs, queries, stored, until_complete};
use crate::helper::daemon::{JOBLET, Node};
use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually, residue};

/// Runs a command of the documentation, with this directory in the place of `/opt/joblet`.
#[track_caller]
fn shell(dir: &Path, script: &str) -> String {
    let script = script.replace("/opt/joblet", dir.to_str().unwrap());
    let out = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn finished(d: &TestDaemon, script: &str) -> String {
    let id = d.submit(["sh", "-c", script]);
    d.until_status(&id, "COMPLETED");
    until_complete(d, &id);
    id
}

#[test]
fn commands_of_the_documentation_work_on_the_history_of_a_node() {
    needs!(has_jq(), "jq is not installed");
    let d = TestDaemon::start();
    let first = finished(&d, "echo first; echo ERROR >&2");
    // The process and its sockets, as the documentation looks for them.
    assert!(residue::children_of(d.pid()).contains(&d.history()));
    assert_eq!(shell(d.dir(), &format!("ps -o comm= -p {}", d.history())).trim(), "persist");
    for socket in ["persist-ipc.sock", "persist-grpc.sock"] {
        assert!(shell(d.dir(), &format!("ls -la /opt/joblet/run/{socket}")).starts_with("srw-------"));
    }
    assert!(shell(d.dir(), &format!("zcat /opt/joblet/logs/{first}/stderr.log.gz")).contains("\"stream\":2"));
    let samples = format!("zcat /opt/joblet/metrics/{first}/metrics.jsonl.gz | jq -r .job_id | sort -u");
    assert_eq!(shell(d.dir(), &samples).trim(), first);
    // Files are open only while they are written.
    let open = format!("ls -l /proc/{}/fd | grep -c /opt/joblet/logs || true", d.history());
    assert_eq!(shell(d.dir(), &open).trim(), "0");
    // Modes and owners that an administrator may choose; what is written later is private all the same.
    for change in ["chmod -R 755", "chmod 700", "chown -R nobody"] {
        shell(d.dir(), &format!("{change} /opt/joblet/logs /opt/joblet/metrics"));
        let id = finished(&d, "echo more");
        assert_eq!(stored(&d, &id, "stdout"), b"more\n", "{change}");
        let mode = fs::metadata(logs(&d, &id)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{change}");
        assert_eq!(d.rnx(["job", "log", "--no-follow", "--stream=stdout", &first]).text(), "first\n");
    }
    // A clean-up by age: old directories go, and their jobs have a log that is empty.
    shell(d.dir(), &format!("touch -d '-30 days' /opt/joblet/logs/{first}"));
    shell(d.dir(), "find /opt/joblet/logs -type d -mtime +7 -exec rm -rf {} \\; 2>/dev/null || true");
    assert!(!logs(&d, &first).exists());
    let out = d.rnx(["job", "log", "--no-follow", &first]);
    assert!(out.code == 0 && out.stdout.is_empty(), "{}: {}", out.code, out.stderr);
    let next = finished(&d, "echo next");
    assert_eq!(d.rnx(["job", "log", "--no-follow", &next]).text(), "next\n");
}

#[test]
fn history_process_takes_its_settings_from_the_daemons_file() {
    let node = Node::set_up();
    let own = node.dir().join("own");
    for (key, value) in [
        ("logging.level", "DEBUG"),
        ("logging.format", "json"),
        ("persist.storage.base_dir", own.to_str().unwrap()),
        ("persist.storage.type", "local"),
        ("persist.storage.local.logs.format", "jsonl.gz"),
        ("persist.storage.local.logs.directory", own.join("elsewhere").to_str().unwrap()),
    ] {
        node.set(key, value);
    }
    let d = node.start();
    let id = d.submit(["echo", "kept"]);
    d.until_status(&id, "COMPLETED");
    eventually("it is stored", || holds(own.join("elsewhere").join(&id).join("job.json").exists()));
    assert!(own.join("metrics").join(&id).exists(), "metrics are below base_dir");
    assert_eq!(d.rnx(["job", "log", "--no-follow", &id]).text(), "kept\n");
    d.until_logged("[persist] keeping history");
    let log = d.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("[persist] ")).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.starts_with('{')), "{lines:?}");
    // Its numbers, by the query socket and for people.
    let pulse = queries(&d).ping(&PingRequest::new()).unwrap();
    assert!(pulse.healthy && pulse.figures["records"] >= 1, "{pulse:?}");
    assert_eq!((pulse.figures["failures"], pulse.figures["waiting_bytes"]), (0, 0));
    let doctor = d.joblet(["doctor", "--json", "--config", d.config().to_str().unwrap()]);
    let found: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let work = found.as_array().unwrap().iter().find(|line| line["check"] == "history.work");
    let work = work.unwrap_or_else(|| panic!("no line about its work in {found}"));
    assert!(work["status"] == "ok" && work["seen"].as_str().unwrap().contains("records"), "{work}");
}

#[test]
fn section_persist_counts_for_nothing_while_history_is_off() {
    let node = Node::set_up();
    node.set("ipc.enabled", false);
    // Values that would be refused.
    node.set("persist.storage.type", "s3");
    let d = node.start();
    let comm = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    assert!(!residue::children_of(d.pid()).iter().any(|pid| comm(pid).trim() == "persist"));
    for socket in ["persist-ipc.sock", "persist-grpc.sock"] {
        assert!(!d.dir().join("run").join(socket).exists(), "{socket}");
    }
    let id = d.submit(["echo", "live"]);
    d.until_status(&id, "COMPLETED");
    assert!(!logs(&d, &id).exists());
    // Switched on, with a section that is right; then the process is there.
    let node = d.leave();
    node.set("ipc.enabled", true);
    node.set("persist.storage.type", "local");
    let d = node.start();
    d.until_logged("persist service started successfully");
    assert!(d.dir().join("run/persist-grpc.sock").exists());
    finished(&d, "echo kept");
}

#[test]
fn both_paths_of_the_documentation_are_searched() {
    let node = Node::set_up();
    for path in ["joblet-config.yml", "config/joblet-config.yml"] {
        node.set("server.nodeId", path.replace('/', "-"));
        // In a mount namespace of its own, in which /opt is empty.
        let script = "mount -t tmpfs none /opt && mkdir -p /opt/joblet/config && cp -p \"$0\" /opt/joblet/\"$1\" \
                      && cd / && exec \"$2\" --check-config";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
        let out = command.arg(node.config()).arg(path).arg(JOBLET).env_clear().output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{path}: {said}{}", String::from_utf8_lossy(&out.stderr));
        assert!(said.contains(&path.replace('/', "-")), "{path}: {said}");
    }
}
