//! History beside peers that harm it: writers of nonsense, too few descriptors, a stopped or second process, deletions.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use joblet::pb::persist::DeleteJobRequest;
use joblet::persist::frame::{Files, Frame, Reached};
use joblet::persist::link::Link;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit, prlimit};

use super::history::{has_jq, logs, queries, stored, until_complete};
use super::history_faults::{check, flood, numbers};
use crate::helper::daemon::{JOBLET, Node, PERSIST};
use crate::helper::wait::{holds, within};
use crate::helper::{TestDaemon, eventually, gate, soak};

fn connect(d: &TestDaemon) -> UnixStream {
    UnixStream::connect(d.dir().join("run/persist-ipc.sock")).unwrap()
}

/// Waits until the other side closes the connection.
fn until_closed(mut socket: UnixStream) {
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut rest = Vec::new();
    match socket.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(why) => assert_eq!(why.kind(), std::io::ErrorKind::ConnectionReset, "{why}"),
    }
}

/// The bytes of one message of each kind that a foreign writer may send.
fn messages(job: &str) -> Vec<u8> {
    let job = joblet::job::JobId::parse(job).unwrap();
    let reached = Reached { rows: u64::MAX, sample_bytes: u64::MAX };
    let content = b"foreign".to_vec();
    let stream = joblet::output::Stream::Stdout;
    [
        Frame::Hello { boot_id: "b".into(), instance: "i".into() },
        Frame::Log { version: 1, job, stream, time_ns: 1, sequence: 1, content },
        Frame::Other,
        Frame::Rows { job, reached },
        Frame::EndOfJob { job, reached, ended_ns: i64::MIN },
    ]
    .iter()
    .flat_map(Frame::encode)
    .collect()
}

#[test]
fn nonsense_on_the_write_socket_harms_no_job() {
    needs!(has_jq(), "jq is not installed");
    let d = TestDaemon::start();
    let (pid, id) = (d.history(), flood(&d));
    for bytes in [&[0xff; 4][..], &[0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut socket = connect(&d);
        socket.write_all(bytes).unwrap();
        until_closed(socket);
    }
    // The job is one that nobody knows: a root that lies about a known one is believed.
    let all = messages("01234567-89ab-4cde-8f01-23456789abcd");
    for cut in 0..=all.len() {
        let mut socket = connect(&d);
        socket.write_all(&all[..cut]).unwrap();
        // Closed by us, in the middle of a message.
        drop(socket);
    }
    let (pipe, _keep) = UnixStream::pair().unwrap();
    let socket = connect(&d);
    socket.set_nonblocking(true).unwrap();
    let mut link = Link::new(mio::net::UnixStream::from_std(socket.try_clone().unwrap()), 1 << 20);
    let job = joblet::job::JobId::random();
    let reached = Reached { rows: 5, sample_bytes: 5 };
    let spool = Frame::Spool { job, reached, released: 0, created_ns: 1, files: Files::INDEX };
    link.send(&spool, vec![OwnedFd::from(pipe)]).unwrap();
    d.until_logged("no regular file");
    drop(link);
    check(&d, &id);
    assert_eq!(d.history(), pid, "the history process has died");
}

/// A copy of the daemon whose history process is started behind this line of a shell script.
fn limited(node: &Node, line: &str) -> PathBuf {
    let programs = node.dir().join("programs");
    fs::create_dir(&programs).unwrap();
    fs::copy(JOBLET, programs.join("joblet")).unwrap();
    let script = format!("#!/bin/sh\n{line}\nexec {PERSIST} \"$@\"\n");
    fs::write(programs.join("persist"), script).unwrap();
    fs::set_permissions(programs.join("persist"), fs::Permissions::from_mode(0o755)).unwrap();
    programs.join("joblet")
}

#[test]
fn jobs_beyond_the_descriptors_of_history_wait_and_all_arrive() {
    needs!(has_jq(), "jq is not installed");
    let mut node = Node::set_up();
    node.set("joblet.maxConcurrentJobs", 200);
    node.program = limited(&node, "ulimit -n 64");
    let d = node.start();
    let pid = d.history();
    let script = format!("seq 2000; seq 10 >&2; {}; seq 3", gate::wait_for("end"));
    let jobs: Vec<String> = (0..soak::rounds(30, 100)).map(|_| d.submit(["sh", "-c", &script])).collect();
    d.until_logged("no room for the descriptors of a job");
    jobs.iter().for_each(|id| gate::open(id, "end"));
    let want = [numbers(1, 2001), numbers(1, 4)].concat();
    for id in &jobs {
        d.until_status(id, "COMPLETED");
        until_complete(&d, id);
        assert!(stored(&d, id, "stdout") == want, "stdout of {id} differs");
        assert!(stored(&d, id, "stderr") == numbers(1, 11), "stderr of {id} differs");
    }
    assert_eq!(d.history(), pid, "the history process has died");
}

/// Numbers of the descriptors that a process has.
fn descriptors(pid: i32) -> BTreeSet<u64> {
    let names = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().map(|entry| entry.file_name());
    names.map(|name| name.to_str().unwrap().parse().unwrap()).collect()
}

/// The number of files of spools that a process has open.
fn spool_files(pid: i32) -> usize {
    let links = descriptors(pid).into_iter().map(|number| fs::read_link(format!("/proc/{pid}/fd/{number}")));
    links.flatten().filter(|link| link.to_string_lossy().contains("/spool/")).count()
}

/// Leaves a process room for so many more descriptors.
fn leave_room(pid: i32, room: usize) {
    let used = descriptors(pid);
    let most = (0..).filter(|number| !used.contains(number)).nth(room);
    let limit = Rlimit { current: most, maximum: Some(4096) };
    prlimit(rustix::process::Pid::from_raw(pid), Resource::Nofile, limit).unwrap();
}

/// The process believes in the limit that it found at its start, so the kernel drops the descriptors of a spool, whole
/// or in part, and nothing but a flag says so.
#[test]
fn descriptors_that_the_kernel_drops_come_again() {
    needs!(has_jq(), "jq is not installed");
    let script = format!("seq 2000; seq 10 >&2; {}; seq 3", gate::wait_for("end"));
    for room in [0, 2] {
        let d = TestDaemon::start();
        let first = d.submit(["echo", "first"]);
        d.until_status(&first, "COMPLETED");
        until_complete(&d, &first);
        let pid = d.history();
        eventually("it has let the first job go", || holds(spool_files(pid) == 0));
        leave_room(pid, room);
        let id = d.submit(["sh", "-c", &script]);
        d.until_logged("no room for the descriptors of a job");
        eventually("none of them is kept", || holds(spool_files(pid) == 0));
        assert!(!logs(&d, &id).exists(), "stored without its spool");
        leave_room(pid, 1000);
        gate::open(&id, "end");
        d.until_status(&id, "COMPLETED");
        until_complete(&d, &id);
        let want = [numbers(1, 2001), numbers(1, 4)].concat();
        assert!(stored(&d, &id, "stdout") == want, "stdout differs");
        assert!(stored(&d, &id, "stderr") == numbers(1, 11), "stderr differs");
        assert_eq!(d.history(), pid, "the history process has died");
    }
}

#[test]
fn job_whose_history_is_deleted_while_it_runs_goes_on() {
    let d = TestDaemon::with([("joblet.jobSpoolLimit", "1MiB")]);
    let id = flood(&d);
    eventually("something is stored", || holds(logs(&d, &id).join("stdout.log.gz").exists()));
    let delete = DeleteJobRequest { job_id: id.clone(), ..Default::default() };
    assert!(queries(&d).delete_job(&delete).unwrap().success);
    let ended = within(Duration::from_secs(40), || holds(d.status(&id)["status"] == "COMPLETED"));
    assert!(ended.is_some(), "the job waits for ever: {}", d.status(&id));
    let spool = d.dir().join("spool").join(&id);
    eventually("the spool lets it go", || holds(!spool.join("index").exists()));
    assert!(!logs(&d, &id).exists(), "history is back");
    // The same after a start of everything.
    let d = d.crash().start();
    assert!(!logs(&d, &id).exists(), "history is back");
    assert_eq!(d.run(["echo", "next"]).ok(), "next\n");
}

#[test]
fn end_of_the_daemon_stores_what_jobs_have_printed() {
    needs!(has_jq(), "jq is not installed");
    let node = Node::set_up();
    node.set("joblet.onShutdown", "keep");
    node.set("persist.storage.local.commit_delay", "10m");
    let d = node.start();
    let script = format!("seq 20000; {}; echo last", gate::wait_for("end"));
    let id = d.submit(["sh", "-c", &script]);
    let shown = || d.rnx(["job", "log", "--no-follow", &id]).stdout;
    eventually("all of it is in the spool", || holds(shown() == numbers(1, 20_001)));
    let log = d.dir().join("logs").join(&id).join("stdout.log.gz");
    let node = d.leave();
    assert!(log.exists(), "nothing was stored at the end:\n{}", node.log());
    let d = node.start();
    assert!(stored(&d, &id, "stdout") == numbers(1, 20_001), "a part was stored at the end");
    gate::open(&id, "end");
    d.until_status(&id, "COMPLETED");
    until_complete(&d, &id);
    assert!(stored(&d, &id, "stdout") == [numbers(1, 20_001), b"last\n".to_vec()].concat());
}

#[test]
fn next_history_process_waits_for_one_that_outlives_its_daemon() {
    needs!(has_jq(), "jq is not installed");
    let node = Node::set_up();
    node.set("joblet.onShutdown", "keep");
    let d = node.start();
    let id = flood(&d);
    eventually("something is stored", || holds(logs(&d, &id).join("stdout.log.gz").exists()));
    let orphan = Pid::from_raw(d.history());
    kill(orphan, Signal::SIGSTOP).unwrap();
    let dir = d.dir().to_owned();
    let node = d.crash();
    let first = node.log().matches("keeping history").count();
    let log = node.log_path();
    let waker = std::thread::spawn(move || {
        eventually("the next one is started", || {
            holds(
                fs::read_to_string(&log).unwrap().matches("persist service started successfully").count()
                    == 2,
            )
        });
        let text = fs::read_to_string(&log).unwrap();
        // It holds the lock until it goes on.
        assert_eq!(text.matches("keeping history").count(), first, "two at a time");
        kill(orphan, Signal::SIGCONT).unwrap();
    });
    let d = node.start();
    waker.join().unwrap();
    assert_eq!(d.dir(), dir);
    check(&d, &id);
}

#[test]
fn old_history_goes_and_that_of_a_quiet_running_job_stays() {
    let node = Node::set_up();
    node.set("joblet.onShutdown", "keep");
    node.set("persist.storage.retention.cleanup_interval", "1s");
    let d = node.start();
    let old = d.submit(["echo", "old"]);
    d.until_status(&old, "COMPLETED");
    until_complete(&d, &old);
    let quiet = d.submit(["sh", "-c", &format!("echo first; {}; echo last", gate::wait_for("end"))]);
    let file = logs(&d, &quiet).join("stdout.log.gz");
    eventually("it is stored", || holds(file.exists()));
    let node = d.leave();
    let end = node.dir().join("logs").join(&old).join("job.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&end).unwrap()).unwrap();
    json["ended"] = (json["ended"].as_i64().unwrap() - 40 * 86_400_000_000_000).into();
    fs::write(&end, json.to_string()).unwrap();
    let year = std::time::SystemTime::now() - Duration::from_secs(400 * 86_400);
    for entry in fs::read_dir(file.parent().unwrap()).unwrap().flatten() {
        fs::File::open(entry.path()).unwrap().set_modified(year).unwrap();
    }
    fs::File::open(file.parent().unwrap()).unwrap().set_modified(year).unwrap();
    let d = node.start();
    eventually("what is old is gone", || holds(!logs(&d, &old).exists()));
    d.until_logged("deleted old history");
    assert!(d.dir().join("metrics").join(&old).exists(), "samples are kept longer");
    assert!(file.exists(), "the history of a job that runs is gone");
    gate::open(&quiet, "end");
    d.until_status(&quiet, "COMPLETED");
    until_complete(&d, &quiet);
    assert_eq!(d.rnx(["job", "log", "--no-follow", &quiet]).text(), "first\nlast\n");
}
