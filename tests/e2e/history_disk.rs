//! The disk of history is full, or away: jobs wait by their policy and go on by themselves.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::history::{has_jq, logs, stored, until_complete};
use super::history_faults::{check, flood, numbers};
use super::spool_limits::SmallDisk;
use crate::helper::daemon::Node;
use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually, gate};

/// A node whose history lies on a disk of its own.
fn node(size: &str) -> (TestDaemon, SmallDisk) {
    let node = Node::set_up();
    node.set("joblet.jobSpoolLimit", "1MiB");
    node.set("persist.storage.local.commit_interval", "10ms");
    let disk = SmallDisk::mount(&node, "logs", size);
    (node.start(), disk)
}

fn until_it_waits(d: &TestDaemon, id: &str) {
    eventually("the job waits for room", || {
        holds(d.status(id)["waitReason"].as_str().is_some_and(|why| why.contains("joblet.jobSpoolLimit")))
    });
}

/// The bytes that `rnx job log` says are missing.
pub(super) fn missing(notes: &str) -> usize {
    let count = |line: &str| -> Option<usize> {
        line.split_once(" bytes of output are missing here")?.0.rsplit(' ').next()?.parse().ok()
    };
    notes.lines().filter_map(count).sum()
}

#[test]
fn job_waits_while_the_disk_of_history_is_full_and_goes_on() {
    needs!(has_jq(), "jq is not installed");
    let (d, disk) = node("256k");
    let id = flood(&d);
    until_it_waits(&d, &id);
    d.until_logged("cannot store a job's history; trying again");
    d.until_logged("No space left on device");
    assert_eq!(d.run(["echo", "beside it"]).ok(), "beside it\n");
    disk.grow("64m");
    check(&d, &id);
    drop(disk);
    d.stop();
}

#[test]
fn history_on_a_full_disk_goes_on_behind_what_is_released() {
    needs!(has_jq(), "jq is not installed");
    let (d, disk) = node("64m");
    let id = flood(&d);
    let file = logs(&d, &id).join("stdout.log.gz");
    eventually("much is stored", || holds(fs::metadata(&file).is_ok_and(|file| file.len() > 300_000)));
    let pid = d.history();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let filler = d.dir().join("logs/filler");
    let _ = std::io::copy(&mut std::io::repeat(1), &mut fs::File::create(&filler).unwrap());
    d.until_logged("No space left on device");
    eventually("it has tried some times", || holds(d.log().matches("trying again").count() > 1));
    fs::remove_file(filler).unwrap();
    check(&d, &id);
    drop(disk);
    d.stop();
}

#[test]
fn disk_of_history_that_becomes_read_only_is_waited_for() {
    needs!(has_jq(), "jq is not installed");
    let (d, disk) = node("64m");
    let id = flood(&d);
    eventually("something is stored", || holds(logs(&d, &id).join("stdout.log.gz").exists()));
    eventually("it is read-only between two commits", || holds(disk.remount("ro")));
    until_it_waits(&d, &id);
    d.until_logged("Read-only file system");
    assert!(disk.remount("rw"));
    check(&d, &id);
    drop(disk);
    d.stop();
}

#[test]
fn output_beyond_the_limit_is_a_counted_gap_in_history_too() {
    needs!(has_jq(), "jq is not installed");
    let d = TestDaemon::with([("joblet.jobSpoolLimit", "1MiB"), ("joblet.spoolPolicy", "drop")]);
    d.hold_history();
    let id = d.submit(["sh", "-c", "seq 1000000; echo end >&2"]);
    d.until_status(&id, "COMPLETED");
    d.release_history();
    until_complete(&d, &id);
    let dir = logs(&d, &id);
    let script = "cd \"$0\" && zcat stdout.log.gz | jq '.lost_bytes // 0'";
    let out = std::process::Command::new("bash").args(["-c", script]).arg(&dir).output().unwrap();
    let lost: usize =
        String::from_utf8(out.stdout).unwrap().lines().map(|n| n.parse::<usize>().unwrap()).sum();
    let kept = stored(&d, &id, "stdout");
    let all = numbers(1, 1_000_001);
    assert!(lost > 0 && kept.len() + lost == all.len(), "{} and {lost} of {}", kept.len(), all.len());
    let shown = d.rnx(["job", "log", "--no-follow", "--stream=stdout", &id]);
    assert!(shown.stdout == kept, "the log differs from the file");
    assert_eq!(missing(&shown.stderr), lost, "{}", shown.stderr);
}

#[test]
fn job_that_is_ended_at_its_limit_has_all_before_in_history() {
    needs!(has_jq(), "jq is not installed");
    let d = TestDaemon::with([("joblet.jobSpoolLimit", "1MiB"), ("joblet.spoolPolicy", "kill")]);
    d.hold_history();
    let id = d.submit(["sh", "-c", "echo begun >&2; exec seq 1000000"]);
    d.until_status(&id, "FAILED");
    assert_eq!(d.status(&id)["exitReason"], "output_limit");
    d.release_history();
    until_complete(&d, &id);
    let kept = stored(&d, &id, "stdout");
    assert!(kept.len() > 1 << 19 && numbers(1, 1_000_001).starts_with(&kept), "{} bytes", kept.len());
    assert_eq!(stored(&d, &id, "stderr"), b"begun\n");
    assert!(d.rnx(["job", "log", "--no-follow", "--stream=stdout", &id]).stdout == kept);
}

#[test]
fn files_removed_by_hand_are_gaps_of_exactly_their_bytes() {
    needs!(has_jq(), "jq is not installed");
    let d = TestDaemon::with([("persist.storage.local.commit_delay", "50ms")]);
    let script = format!("seq 100000; {}; seq 3; {}", gate::wait_for("removed"), gate::wait_for("end"));
    let id = d.submit(["sh", "-c", &script]);
    let (file, first) = (logs(&d, &id).join("stdout.log.gz"), numbers(1, 100_001).len());
    // All of it: the header of the last member says so when it is durable.
    eventually("the first part is stored", || {
        let out = std::process::Command::new("zcat").arg(&file).output().unwrap();
        let kept = d.dir().join("spool").join(&id).join("stdout");
        let records = out.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
        let rows = fs::metadata(kept.with_file_name("index")).unwrap().len() / 32 - 1;
        holds(
            out.status.success()
                && records as u64 == rows
                && fs::metadata(kept).unwrap().len() == first as u64,
        )
    });
    fs::remove_file(&file).unwrap();
    gate::open(&id, "removed");
    eventually("the second part is stored", || holds(file.metadata().is_ok_and(|file| file.len() > 100)));
    assert_eq!(stored(&d, &id, "stdout"), b"1\n2\n3\n");
    let shown = |d: &TestDaemon| {
        let out = d.rnx(["job", "log", "--no-follow", "--stream=stdout", &id]);
        let gap = missing(&out.stderr) as u64;
        (out.stdout, gap, out.stderr)
    };
    let (bytes, gap, said) = shown(&d);
    assert!(bytes.ends_with(b"1\n2\n3\n") && bytes.len() as u64 + gap == first as u64 + 6, "{gap}: {said}");
    gate::open(&id, "end");
    d.until_status(&id, "COMPLETED");
    until_complete(&d, &id);
    let (bytes, gap, said) = shown(&d);
    assert_eq!((bytes, gap), (b"1\n2\n3\n".to_vec(), first as u64), "{said}");
}
