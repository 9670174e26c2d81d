//! Keys of the configuration have the effects that `vendor-config/joblet-config.yml` gives them.

use crate::helper::TestDaemon;
use crate::helper::daemon::Node;
use serde_yaml::Value;
use std::fs;

fn list(words: &[&str]) -> Value {
    Value::Sequence(words.iter().map(|w| Value::from(*w)).collect())
}

#[test]
fn work_quota_bounds_what_a_job_can_write() {
    let d = TestDaemon::with([("filesystem.workQuota", "1M")]);
    let script = "head -c 3000000 /dev/zero > big 2>/tmp/err; wc -c < big; grep -c 'No space left' /tmp/err";
    let text = d.run(["sh", "-c", script]).ok();
    let mut words = text.split_whitespace();
    let written: u64 = words.next().unwrap().parse().unwrap();
    assert!(written <= 1 << 20, "{text}");
    assert_eq!(words.next(), Some("1"), "{text}");
}

#[test]
fn proc_can_be_cut_down_to_the_jobs_own_processes() {
    let d = TestDaemon::with([("filesystem.proc", "pid")]);
    let text = d.run(["ls", "/proc"]).ok();
    assert!(text.contains("self\n") && !text.contains("cpuinfo") && !text.contains("sys\n"), "{text}");
    let masked = TestDaemon::start().run(["ls", "/proc"]).ok();
    assert!(masked.contains("cpuinfo"), "{masked}");
}

#[test]
fn allowed_mounts_replace_the_list() {
    let d = TestDaemon::with([("filesystem.allowedMounts", list(&["/usr", "/bin", "/lib", "/lib64"]))]);
    assert_eq!(d.run(["sh", "-c", "ls /etc/alternatives >/dev/null 2>&1 || echo absent"]).ok(), "absent\n");
    d.stop();
    let d = TestDaemon::start();
    assert_eq!(d.run(["sh", "-c", "ls /etc/alternatives >/dev/null && echo there"]).ok(), "there\n");
}

#[test]
fn extra_mounts_add_to_the_list_and_stay_up_to_date() {
    let place = tempfile::Builder::new().prefix("joblet-extra.").tempdir_in("/srv").unwrap();
    let dir = place.path().join("dir");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("old"), "old\n").unwrap();
    fs::write(place.path().join("file"), "file\n").unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    let d = TestDaemon::with([("filesystem.extraMounts", list(&[&at("dir"), &at("file"), &at("missing")]))]);
    let missing = format!("cannot show {} (filesystem.extraMounts): there is no such file", at("missing"));
    assert!(d.log().contains(&missing), "{}", d.log());
    let script = format!(
        "cat {}/* {}; ls /etc/alternatives >/dev/null && echo x >{}/old",
        at("dir"),
        at("file"),
        at("dir")
    );
    let out = d.run(["sh", "-c", &script]);
    assert!(out.text() == "old\nfile\n" && out.stderr.contains("Read-only file system"), "{out:?}");
    // A package manager replaces files and adds some; the next job sees both.
    fs::write(dir.join("replaced"), "new\n").unwrap();
    fs::rename(dir.join("replaced"), dir.join("old")).unwrap();
    fs::write(dir.join("other"), "other\n").unwrap();
    assert_eq!(d.run(["sh", "-c", &script]).text(), "new\nother\nfile\n");
}

#[test]
fn limits_of_a_warm_sandbox_bound_its_run_directory() {
    let d = TestDaemon::start();
    let script = "for at in /tmp /run; do head -c 40000000 /dev/zero 2>/dev/null >$at/fill; stat -c %s $at/fill; rm $at/fill; done";
    // The sandbox was created for the default limit, of which half is more. The files hosts and resolv.conf have a page of /run each.
    assert_eq!(d.run(["--max-memory=64", "sh", "-c", script]).ok(), "33554432\n33546240\n");
}

#[test]
fn the_host_network_is_open_where_the_configuration_says_so() {
    let d = TestDaemon::with([("network.allow_host", true)]);
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    let text = d.run(["--network=host", "readlink", "/proc/self/ns/net"]).ok();
    assert_eq!(text.trim(), host.to_str().unwrap());
    let text = d.run(["readlink", "/proc/self/ns/net"]).ok();
    assert_ne!(text.trim(), host.to_str().unwrap(), "the default stays none");
}

#[test]
fn defaults_and_bounds_of_jobs_come_from_the_configuration() {
    let node = Node::set_up();
    node.set("joblet.defaultMemoryLimit", 64);
    node.set("joblet.defaultCpuLimit", 30);
    node.set("joblet.maxMemoryLimit", 100);
    node.set("joblet.validateCommands", false);
    // Only a job that sleeps takes longer.
    node.set("joblet.jobTimeout", "5s");
    node.set("server.nodeId", "node-of-this-test");
    let d = node.start();
    let id = d.submit(["true"]);
    d.until_status(&id, "COMPLETED");
    let status = d.status(&id);
    assert_eq!((&status["maxMemory"], &status["maxCPU"]), (&64.into(), &30.into()));
    assert_eq!(status["nodeId"], "node-of-this-test");
    let out = d.rnx(["job", "run", "--max-memory=200", "true"]);
    assert_eq!(out.code, 125);
    assert!(out.stderr.contains("job creation failed: maxMemory exceeds system limits"), "{}", out.stderr);
    assert_eq!(d.run(["no;such"]).code, 127, "the command is only a name now");
    assert_eq!(d.run(["sleep", "1000"]).code, 124);
}

#[test]
fn an_upload_above_the_message_limit_is_refused() {
    let d = TestDaemon::with([("grpc.maxRecvMsgSize", 100_000)]);
    fs::write(d.dir().join("big"), vec![7; 1_000_000]).unwrap();
    let out = d.rnx(["job", "run", "--upload=big", "true"]);
    assert_eq!(out.code, 125);
    assert!(!out.stderr.is_empty());
    d.run(["true"]).ok();
}

#[test]
fn log_follows_the_configured_level_and_format() {
    let d = TestDaemon::with([("logging.format", "json")]);
    d.run(["true"]).ok();
    d.until_logged("job started successfully");
    // The text behind the last newline is still being written.
    let log = d.log();
    for line in log.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok_and(|v| v.is_object()), "{line}");
    }
    let d = TestDaemon::with([("logging.level", "ERROR")]);
    d.run(["true"]).ok();
    assert_eq!(d.log(), "");
}

#[test]
fn the_environment_overrides_what_it_is_documented_to() {
    let d = Node::set_up().start_with(|command| {
        command.env("JOBLET_NODE_ID", "from-the-environment").env("JOBLET_MAX_JOBS", "1");
    });
    let id = d.submit(["sleep", "1000"]);
    assert_eq!(d.status(&id)["nodeId"], "from-the-environment");
    let waits = d.submit(["true"]);
    assert_eq!(d.status(&waits)["status"], "INITIALIZING");
    d.rnx(["job", "stop", &id]).ok();
    d.until_status(&waits, "COMPLETED");
}

/// Twelve jobs, more than there are warm sandboxes.
#[test]
fn network_namespace_is_reused_only_if_no_socket_is_left_in_it() {
    let d = TestDaemon::with([("network.reuseNamespaces", true)]);
    let traffic = "import socket
lo = [line.split() for line in open('/proc/net/dev') if 'lo:' in line][0]
tw = [line.split() for line in open('/proc/net/sockstat') if line.startswith('TCP:')][0]
print(lo[1], tw[tw.index('tw') + 1])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(b'x' * 100, ('127.0.0.1', 9))";
    let waits = "import socket
server = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(server.getsockname())
server.accept()[0].close()
client.close()";
    let (mut bytes, mut waiting) = (Vec::new(), Vec::new());
    for round in 0..24 {
        let text = d.run(["python3", "-c", traffic]).ok();
        let (received, in_time_wait) = text.trim().split_once(' ').unwrap();
        bytes.push(received.parse::<u64>().unwrap());
        waiting.push(in_time_wait.to_owned());
        if round % 3 == 0 {
            d.run(["python3", "-c", waits]).ok();
        }
    }
    assert_eq!(bytes[0], 0, "the first one is new");
    assert!(bytes.iter().any(|bytes| *bytes > 0), "one was used again: {bytes:?}");
    assert!(waiting.iter().all(|waiting| waiting == "0"), "none with a socket was: {waiting:?}");
}
