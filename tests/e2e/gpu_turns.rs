//! From one job to the next: a GPU is looked at, its memory is verified or overwritten, and one that is lost is given to nobody.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::gpus::{build, json, node, node_with, until_states};
use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::skip::is_root;
use crate::helper::wait::{eventually, holds};

/// A job with GPU 0 that runs until it is stopped, and one behind it that waits for both.
fn two_jobs(d: &TestDaemon) -> (String, String) {
    until_states(d, ["free", "free"]);
    let first = d.submit(["--gpu=1", "sleep", "1000"]);
    d.until_status(&first, "RUNNING");
    let next = d.submit(["--gpu=2", "true"]);
    assert_eq!(d.status(&next)["status"], "INITIALIZING");
    (first, next)
}

fn gpu(d: &TestDaemon, at: usize) -> Value {
    json(&d.rnx(["--json", "gpu", "list"]))["gpus"][at].clone()
}

/// Waits until GPU 0 is kept from jobs for a reason that has these words, which needs a moment.
fn until_held_back(d: &TestDaemon, next: &str, words: &str) {
    eventually(&format!("GPU 0 is held back: {words}"), || {
        let gpu = gpu(d, 0);
        holds(gpu["state"] == "held_back" && gpu["reason"].as_str().unwrap().contains(words))
    });
    assert_eq!(d.status(next)["status"], "INITIALIZING");
}

/// A process in a user namespace of its own, which has said that it is there.
fn outside(script: &str) -> Child {
    let mut command = Command::new("unshare");
    command.args(["--user", "sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "there\n");
    child
}

/// Has it end.
fn end(child: &mut Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn gpu_is_not_given_on_while_a_process_has_it() {
    needs!(is_root(), "needs root");
    let node = node();
    let on_it = node.dir().join("fake/procs-0");
    let d = node.start();
    let (first, next) = two_jobs(&d);
    // One of another user namespace, as jobs are; the host's own may compute where they like.
    let mut other = outside("echo there; read end");
    let reason = format!("process {} (sh) still computes on it", other.id());
    fs::write(&on_it, format!("1 1024\n{} 1024\n", other.id())).unwrap();
    d.rnx(["job", "stop", &first]).ok();
    until_held_back(&d, &next, &reason);
    assert!(d.rnx(["gpu", "list"]).text().contains(&format!("GPU 0 is held_back: {reason}")));
    // It comes back of itself when the process has ended.
    fs::write(&on_it, "1 1024\n").unwrap();
    end(&mut other);
    d.until_status(&next, "COMPLETED");
    let (first, next) = two_jobs(&d);
    // A descriptor of the first one's GPU that another job has got: GPU 0 is /dev/full by another name here.
    let mut holder = outside("exec 7</dev/full; echo there; read end");
    d.rnx(["job", "stop", &first]).ok();
    until_held_back(&d, &next, "of a job still has /dev/nvidia4 open");
    // An administrator may have it given on all the same.
    let done = d.rnx(["gpu", "reset-state", "GPU-fake-0"]);
    assert!(done.text().contains("GPU 0 (GPU-fake-0) is given to jobs again"), "{}", done.text());
    d.until_status(&next, "COMPLETED");
    end(&mut holder);
    until_states(&d, ["free", "free"]);
    let nothing = d.rnx(["gpu", "reset-state", "0"]);
    assert!(nothing.stderr.contains("nothing to reset"), "{}", nothing.text());
    assert!(d.rnx(["gpu", "reset-state", "7"]).stderr.contains("this node has no GPU"));
    d.stop();
}

#[test]
fn memory_that_is_still_in_use_keeps_a_gpu_from_the_next_job() {
    needs!(is_root(), "needs root");
    let node = node();
    node.set("gpu.scrub", "verify");
    let used = node.dir().join("fake/used-0");
    fs::write(&used, (500u64 << 20).to_string()).unwrap();
    let d = node.start();
    let (first, _) = two_jobs(&d);
    fs::write(&used, (9u64 << 30).to_string()).unwrap();
    // The next daemon remembers what the GPU takes when idle.
    let d = d.crash().start();
    let next = d.submit(["--gpu=2", "true"]);
    d.rnx(["job", "stop", &first]).ok();
    until_held_back(
        &d,
        &next,
        "9216 MiB of its memory are in use, and nobody has it; 500 MiB are when it is idle",
    );
    fs::write(&used, (510u64 << 20).to_string()).unwrap();
    d.until_status(&next, "COMPLETED");
    d.stop();
}

/// A node whose GPUs have the vendor's UUIDs, with CUDA's library or without it.
fn scrubbing(has_cuda: bool) -> (Node, PathBuf) {
    let node = node_with("uuid");
    node.set("gpu.scrub", "zero");
    if has_cuda {
        build(node.dir(), "libcuda.so.1", "cuda.c", &[]);
    }
    let fake = node.dir().join("fake");
    (node, fake)
}

#[test]
fn memory_is_overwritten_between_two_jobs_or_none_begins() {
    needs!(is_root(), "needs root");
    let (node, fake) = scrubbing(true);
    let d = node.start();
    let (first, next) = two_jobs(&d);
    fs::remove_file(fake.join("memory-0")).unwrap();
    fs::write(fake.join("cuda-fails"), "").unwrap();
    d.rnx(["job", "stop", &first]).ok();
    until_held_back(&d, &next, "cuMemAlloc_v2 refused (CUDA 999)");
    fs::remove_file(fake.join("cuda-fails")).unwrap();
    d.until_status(&next, "COMPLETED");
    let written = fs::read_to_string(fake.join("memory-0")).unwrap();
    // All that is free, in pieces, with zeros.
    let pieces: Vec<Vec<u64>> =
        written.lines().map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect()).collect();
    assert_eq!(pieces[0], [1 << 20, 0, 4 << 20], "{written}");
    d.stop();
    let (node, _) = scrubbing(false);
    let program = node.program.clone();
    let d = node.start();
    let refused = d.rnx(["job", "run", "--gpu=1", "true"]);
    let why = "gpu.scrub: zero is not possible";
    assert!(refused.stderr.contains(why) && refused.stderr.contains("libcuda.so.1"), "{}", refused.text());
    d.run(["true"]).ok();
    let doctor = Command::new(&program).arg("doctor").arg("--config").arg(d.config()).output().unwrap();
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("gpu.scrub"), "{doctor:?}");
    d.stop();
}

#[test]
fn lost_gpu_is_given_to_nobody_until_its_state_is_reset() {
    needs!(is_root(), "needs root");
    let node = node();
    node.set("job_metrics.default_sample_rate", "1s");
    let (program, lost) = (node.program.clone(), node.dir().join("fake/lost-0"));
    let d = node.start();
    let (first, next) = two_jobs(&d);
    fs::write(&lost, "").unwrap();
    until_states(&d, ["lost", "free"]);
    d.until_logged("a GPU is lost and given to no job");
    // The job that has it hears of it, and the one that can never have two ends.
    let message = d.status(&first)["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("GPU 0 was lost while the job had it") && message.contains("off the bus"),
        "{message}"
    );
    d.until_status(&next, "FAILED");
    let refused = d.rnx(["job", "run", "--gpu=2", "true"]);
    assert!(refused.stderr.contains("have 1 on this node; 1 lost"), "{}", refused.text());
    d.run(["--gpu=1", "true"]).ok();
    let doctor = Command::new(&program).arg("doctor").arg("--config").arg(d.config()).output().unwrap();
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("gpu.lost"), "{doctor:?}");
    // The next daemon knows it too, although the driver does not tell of it, and so does the job's record.
    let d = d.crash().start();
    until_states(&d, ["lost", "free"]);
    assert_eq!(gpu(&d, 0)["uuid"], "GPU-fake-0");
    assert_eq!(d.status(&first)["message"], message);
    let refused = d.rnx(["gpu", "reset-state", "0"]);
    assert!(refused.stderr.contains("GPU 0 is still of no use"), "{}", refused.text());
    fs::remove_file(&lost).unwrap();
    assert_eq!(gpu(&d, 0)["state"], "lost");
    d.rnx(["gpu", "reset-state", "0"]).ok();
    d.rnx(["job", "stop", &first]).ok();
    until_states(&d, ["free", "free"]);
    d.run(["--gpu=2", "true"]).ok();
    let trail = d.rnx(["audit", "--method", "ResetGpuState"]).text();
    assert!(trail.contains("ResetGpuState"), "{trail}");
    // An error after which a GPU computes no more, as the driver reports it.
    fs::write(lost.with_file_name("xid-1"), "79").unwrap();
    until_states(&d, ["free", "lost"]);
    assert!(gpu(&d, 1)["reason"].as_str().unwrap().contains("Xid 79"));
    d.stop();
}
