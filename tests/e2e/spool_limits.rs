//! Output beyond the limits: those of one job and of all jobs, and a full disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use joblet::pb::joblet::{DataChunk, GetJobLogsReq, OutputStream, RunJobRequest};

use crate::helper::daemon::Node;
use crate::helper::programs;
use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually};

const MIB: u64 = 1 << 20;

/// A node with these limits for the output of all jobs and of each job. No history takes any of it.
fn node(all: &str, job: &str, policy: &str) -> TestDaemon {
    let keys = [("joblet.spoolLimit", all), ("joblet.jobSpoolLimit", job), ("joblet.spoolPolicy", policy)];
    let d = TestDaemon::with(keys);
    d.hold_history();
    d
}

/// Starts a job that writes this many numbers of eight bytes to each of these descriptors at once.
fn flood(d: &TestDaemon, numbers: u64, descriptors: &[u8]) -> String {
    let program = programs::c("flood").display().to_string();
    let each = descriptors.iter().map(|fd| format!("./flood {numbers} >&{fd} & "));
    d.submit(["--upload", &program, "sh", "-c", &format!("{}wait", each.collect::<String>())])
}

fn numbers(count: u64) -> Vec<u8> {
    (0..count).flat_map(u64::to_le_bytes).collect()
}

/// All chunks of a finished job's log.
fn chunks(d: &TestDaemon, id: &str) -> Vec<DataChunk> {
    let request = GetJobLogsReq { uuid: id.to_owned(), ..Default::default() };
    let client = d.client("default");
    let stream = client.get_job_logs(&request).unwrap();
    futures_executor::block_on(stream.map(Result::unwrap).collect())
}

/// The bytes and the number of lost bytes of one stream.
fn of(chunks: &[DataChunk], stream: OutputStream) -> (Vec<u8>, u64) {
    let mine: Vec<&DataChunk> = chunks.iter().filter(|c| c.stream == stream.into()).collect();
    (mine.iter().flat_map(|c| c.payload.clone()).collect(), mine.iter().map(|c| c.lost_bytes).sum())
}

fn until_it_waits(d: &TestDaemon, id: &str, key: &str) {
    eventually("the job's status says what it waits for", || {
        holds(d.status(id)["waitReason"].as_str().is_some_and(|why| why.contains(key)))
    });
    assert_eq!(d.status(id)["status"], "RUNNING");
}

fn spooled(d: &TestDaemon, id: &str) -> u64 {
    let size = |name| fs::metadata(d.dir().join("spool").join(id).join(name)).unwrap().len();
    ["stdout", "stderr", "index"].map(size).iter().sum()
}

#[test]
fn a_job_at_its_limit_waits_and_says_so_and_others_go_on() {
    let d = node("8MiB", "1MiB", "block");
    let id = flood(&d, 400_000, &[1]);
    until_it_waits(&d, &id, "joblet.jobSpoolLimit");
    assert_eq!(d.run(["echo", "beside it"]).ok(), "beside it\n");
    let kept = spooled(&d, &id);
    assert!((MIB - 128..=MIB).contains(&kept), "{kept} bytes");
    d.until_logged("output of a job waits");
    d.rnx(["job", "stop", &id]).ok();
    let status = d.status(&id);
    assert_eq!((status["status"].as_str(), status["waitReason"].as_str()), (Some("STOPPED"), Some("")));
    // The bytes in the pipe are not lost.
    let (bytes, lost) = of(&chunks(&d, &id), OutputStream::OUTPUT_STREAM_STDOUT);
    assert!(bytes.len() as u64 > kept - 2048 && lost == 0, "{} bytes", bytes.len());
    assert!(numbers(400_000).starts_with(&bytes), "bytes differ");
}

#[test]
fn jobs_at_the_limit_of_all_go_on_when_another_has_ended() {
    let d = node("4MiB", "4MiB", "block");
    let first = d.submit(["sh", "-c", "head -c 1500000 /dev/zero; exec sleep 1000"]);
    eventually("the first has written", || holds(spooled(&d, &first) > 1_500_000));
    let second = flood(&d, 125_000, &[1, 2]);
    until_it_waits(&d, &second, "joblet.spoolLimit");
    d.rnx(["job", "stop", &first]).ok();
    d.until_status(&second, "COMPLETED");
    let got = chunks(&d, &second);
    for stream in [OutputStream::OUTPUT_STREAM_STDOUT, OutputStream::OUTPUT_STREAM_STDERR] {
        assert!(of(&got, stream) == (numbers(125_000), 0), "{stream:?} differs");
    }
}

#[test]
fn open_stream_says_when_a_job_waits_and_when_it_goes_on() {
    let d = node("4MiB", "4MiB", "block");
    let first = d.submit(["sh", "-c", "head -c 1500000 /dev/zero; exec sleep 1000"]);
    eventually("the first has written", || holds(spooled(&d, &first) > 1_500_000));
    let second = flood(&d, 125_000, &[1, 2]);
    let request = GetJobLogsReq { uuid: second.clone(), ..Default::default() };
    let client = d.client("default");
    let option = grpcio::CallOption::default().timeout(Duration::from_secs(60));
    let mut stream = client.get_job_logs_opt(&request, option).unwrap();
    let mut got: Vec<DataChunk> = Vec::new();
    let mut next = || futures_executor::block_on(stream.next()).map(Result::unwrap);
    let waits = loop {
        match next().expect("the job waits before it ends") {
            chunk if chunk.wait_reason.is_empty() => got.push(chunk),
            chunk => break chunk,
        }
    };
    assert!(waits.wait_reason.contains("joblet.spoolLimit"), "{waits:?}");
    assert_eq!((waits.payload.len(), waits.seq), (0, got.last().unwrap().seq));
    assert_eq!(d.status(&second)["status"], "RUNNING");
    d.rnx(["job", "stop", &first]).ok();
    got.extend(std::iter::from_fn(&mut next));
    assert_eq!(got.last().unwrap().wait_reason, "");
    for stream in [OutputStream::OUTPUT_STREAM_STDOUT, OutputStream::OUTPUT_STREAM_STDERR] {
        assert!(of(&got, stream) == (numbers(125_000), 0), "{stream:?} differs");
    }
}

#[test]
fn follower_learns_why_a_job_waits_and_how_to_end_it() {
    let d = node("8MiB", "1MiB", "block");
    let id = flood(&d, u64::MAX, &[1]);
    let notes = d.dir().join("notes");
    let mut follower = d.rnx_command(["job", "log", &id]);
    follower.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&notes).unwrap());
    let mut follower = follower.spawn().unwrap();
    eventually("the follower says why the job waits", || {
        let said = fs::read_to_string(&notes).unwrap();
        holds(said.contains("joblet.jobSpoolLimit") && said.contains(&format!("rnx job stop {}", &id[..8])))
    });
    assert_eq!(d.status(&id)["status"], "RUNNING");
    d.rnx(["job", "stop", &id]).ok();
    assert!(follower.wait().unwrap().success());
}

#[test]
fn floods_neither_silence_nor_end_a_quiet_job() {
    for policy in ["block", "drop", "kill"] {
        let d = node("8MiB", "2MiB", policy);
        let floods: Vec<String> = (0..4).map(|_| flood(&d, u64::MAX, &[1])).collect();
        for id in &floods {
            match policy {
                "block" => until_it_waits(&d, id, "Limit"),
                "drop" => eventually("it loses output", || holds(spooled(&d, id) > MIB / 2)),
                _ => d.until_status(id, "FAILED"),
            }
        }
        let out = d.run(["sh", "-c", "head -c 70000 /dev/zero | tr '\\0' x; echo done >&2"]);
        assert_eq!((out.ok().len(), out.stderr.trim()), (70_000, "done"), "{policy}");
        for id in floods.iter().filter(|_| policy != "kill") {
            d.rnx(["job", "stop", id]).ok();
        }
    }
}

#[test]
fn floods_of_one_client_leave_room_for_another_client() {
    let d = node("64MiB", "64MiB", "block");
    let floods: Vec<String> = (0..6).map(|_| flood(&d, u64::MAX, &[1])).collect();
    for id in &floods {
        until_it_waits(&d, id, "joblet.spoolLimit");
    }
    // More than the reserve of a job, and more than the share of one among seven.
    let command = |script: &str| RunJobRequest {
        command: "sh".into(),
        args: vec!["-c".into(), script.into()],
        ..Default::default()
    };
    let wanted = 7_000_000;
    let other = d.other_client();
    let id = other.run_job(&command(&format!("head -c {wanted} /dev/zero"))).unwrap().jobUuid;
    d.until_status(&id, "COMPLETED");
    let kept = of(&chunks(&d, &id), OutputStream::OUTPUT_STREAM_STDOUT);
    assert_eq!((kept.0.len(), kept.1), (wanted, 0));
    for id in &floods {
        assert_eq!(d.status(id)["status"], "RUNNING");
        d.rnx(["job", "stop", id]).ok();
    }
}

#[test]
fn output_over_the_limit_is_dropped_counted_and_shown_in_place() {
    let d = node("8MiB", "1MiB", "drop");
    let id = flood(&d, 400_000, &[1, 2]);
    d.until_status(&id, "COMPLETED");
    assert!(spooled(&d, &id) <= MIB + 4096, "{} bytes", spooled(&d, &id));
    let got = chunks(&d, &id);
    for stream in [OutputStream::OUTPUT_STREAM_STDOUT, OutputStream::OUTPUT_STREAM_STDERR] {
        let (bytes, lost) = of(&got, stream);
        assert!(numbers(400_000).starts_with(&bytes), "{stream:?}: bytes differ");
        assert_eq!(bytes.len() as u64 + lost, 3_200_000, "{stream:?}");
        assert!(lost > 2_000_000, "{stream:?}: {lost}");
    }
    assert!(got.iter().all(|c| c.payload.is_empty() == (c.lost_bytes > 0)));
    assert!(got.iter().filter(|c| c.lost_bytes > 0).count() < 32, "a gap is no flood of rows");
    let shown = d.rnx(["job", "log", &id]);
    assert!(shown.stderr.contains("bytes of output are missing here"), "{}", shown.stderr);
    d.until_logged("output of a job is thrown away");
}

#[test]
fn a_job_is_ended_for_its_output_where_the_policy_is_to_kill() {
    let d = node("8MiB", "1MiB", "kill");
    let id = flood(&d, u64::MAX, &[1]);
    d.until_status(&id, "FAILED");
    let status = d.status(&id);
    assert_eq!(
        (status["exitReason"].as_str(), status["exitCode"].as_i64()),
        (Some("output_limit"), Some(153))
    );
    let message = status["message"].as_str().unwrap();
    assert_eq!(message, "wrote more output than joblet.jobSpoolLimit allows (1MiB)");
    let (bytes, lost) = of(&chunks(&d, &id), OutputStream::OUTPUT_STREAM_STDOUT);
    assert!(lost == 0 && bytes.len() as u64 > MIB - 8192, "{} bytes", bytes.len());
    assert!(numbers(1_000_000).starts_with(&bytes), "bytes differ");
}

/// A separate file system of the test, mounted over a directory of the node.
pub(super) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(super) fn mount(node: &Node, directory: &str, size: &str) -> SmallDisk {
        let place = node.dir().join(directory);
        fs::create_dir_all(&place).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("mode=0700,size={size}"), "joblet-test"], &place);
        SmallDisk(place)
    }

    pub(super) fn grow(&self, size: &str) {
        mount(&["-o", &format!("remount,size={size}")], &self.0);
    }

    /// Mounts it anew with this option. `false`: it is busy.
    pub(super) fn remount(&self, option: &str) -> bool {
        let mut command = Command::new("mount");
        command.args(["-o", &format!("remount,{option}")]).arg(&self.0).stderr(Stdio::null());
        command.status().unwrap().success()
    }
}

fn mount(args: &[&str], at: &Path) {
    assert!(Command::new("mount").args(args).arg(at).status().unwrap().success(), "mount {args:?}");
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the daemon may have files open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_job_waits_while_the_disk_is_full_and_goes_on_by_itself() {
    let node = Node::set_up();
    // Otherwise their spools would be open at the end, on an unmounted disk.
    node.set("joblet.warmSandboxes", 0);
    let disk = SmallDisk::mount(&node, "spool", "1m");
    let d = node.start();
    let id = flood(&d, 200_000, &[1, 2]);
    until_it_waits(&d, &id, "disk is full");
    d.until_logged("No space left on device");
    disk.grow("16m");
    d.until_status(&id, "COMPLETED");
    assert_eq!(d.status(&id)["waitReason"], "");
    d.until_logged("output of a job goes on");
    let got = chunks(&d, &id);
    for stream in [OutputStream::OUTPUT_STREAM_STDOUT, OutputStream::OUTPUT_STREAM_STDERR] {
        assert!(of(&got, stream) == (numbers(200_000), 0), "{stream:?} differs");
    }
    drop(disk);
}

#[test]
fn flood_on_both_streams_costs_no_memory_nor_neighbour_output() {
    for policy in ["block", "drop", "kill"] {
        let d = node("256MiB", "64MiB", policy);
        let before = d.memory();
        let id = flood(&d, u64::MAX, &[1, 2]);
        let follower = d.rnx_spawn(["job", "log", &id]);
        let script = "for i in $(seq 50); do echo line $i; sleep 0.01; done";
        let beside = d.run(["sh", "-c", script]).ok();
        assert_eq!(beside, (1..=50).map(|i| format!("line {i}\n")).collect::<String>(), "{policy}");
        match policy {
            "block" => until_it_waits(&d, &id, "joblet.jobSpoolLimit"),
            "drop" => d.until_logged("is thrown away"),
            _ => d.until_status(&id, "FAILED"),
        }
        let grown = d.memory().saturating_sub(before);
        eprintln!("{policy}: the daemon has {} KiB more", grown >> 10);
        assert!(grown < 64 * MIB, "{policy}: {grown} bytes");
        if policy != "kill" {
            d.rnx(["job", "stop", &id]).ok();
        }
        let got = chunks(&d, &id);
        let streams = [OutputStream::OUTPUT_STREAM_STDOUT, OutputStream::OUTPUT_STREAM_STDERR];
        let [(out, _), (err, _)] = streams.map(|stream| of(&got, stream));
        let wanted = numbers(out.len().max(err.len()) as u64 / 8 + 1);
        assert!(wanted.starts_with(&out) && wanted.starts_with(&err), "{policy}: bytes differ");
        assert!(out.len() + err.len() > 60 << 20, "{policy}: {} and {} bytes", out.len(), err.len());
        let kept = spooled(&d, &id);
        assert!(kept < 64 * MIB + 256 * 1024, "{policy}: {kept} bytes");
        assert_eq!(
            follower.finish().stdout.len(),
            out.len() + err.len(),
            "{policy}: the live stream differs"
        );
    }
}
