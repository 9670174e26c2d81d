//! GPUs under a real daemon. No host of ours has one: a library of ours stands for the vendor's (`tests/gpu/nvml.c`), and
//! harmless devices for the driver's nodes, in a mount namespace of the daemon's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::security::{layer, layers, payload};
use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::rnx::Output;
use crate::helper::skip::is_root;
use crate::helper::wait::{eventually, holds};
use crate::helper::workflow;

const JOBLET: &str = env!("CARGO_BIN_EXE_joblet");

/// Builds the library below `dir`.
pub(super) fn library(dir: &Path, flags: &[&str]) -> PathBuf {
    build(dir, "libnvidia-ml.so.1", "nvml.c", flags)
}

/// Builds one of the libraries of `tests/gpu` below `dir`.
pub(super) fn build(dir: &Path, name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let to = dir.join("nvml");
    fs::create_dir_all(&to).unwrap();
    let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gpu")).join(source);
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(to.join(name))
        .args(flags)
        .arg(source)
        .status();
    assert!(built.is_ok_and(|status| status.success()), "cc is needed: apt-get install build-essential");
    to
}

/// A node with two GPUs of 80 and 24 GiB, whose nodes are /dev/full and /dev/zero by other names. The libraries tell what the files of `fake`
/// below its directory say (`tests/gpu/nvml.c`).
pub(super) fn node() -> Node {
    node_with("")
}

/// The same with a word for the library, `FAKE_NVML`.
pub(super) fn node_with(mode: &str) -> Node {
    node_among(mode, "", "")
}

/// The same; `mounts` are commands that change the daemon's mounts before it starts, and `path` comes before its PATH.
pub(super) fn node_among(mode: &str, path: &str, mounts: &str) -> Node {
    let mut node = Node::set_up();
    let library = library(node.dir(), &[]);
    fs::create_dir(node.dir().join("fake")).unwrap();
    let (dev, script) = (node.dir().join("dev"), node.dir().join("joblet-with-gpus"));
    fs::create_dir(&dev).unwrap();
    let text = format!(
        r#"#!/bin/sh
PATH={path}/usr/sbin:/usr/bin:/sbin:/bin; export PATH
LD_LIBRARY_PATH={library}; export LD_LIBRARY_PATH
FAKE_DIR={fake} FAKE_NVML={mode}; export FAKE_DIR FAKE_NVML
exec unshare --mount --propagation private sh -ec '
    dev=$1 program=$2; shift 2
    mount -t tmpfs -o mode=755 tmpfs "$dev"
    cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/loop* "$dev"
    mknod -m 666 "$dev"/nvidia4 c 1 7; mknod -m 666 "$dev"/nvidia5 c 1 5
    mknod -m 666 "$dev"/nvidiactl c 1 3; mknod -m 666 "$dev"/nvidia-uvm c 1 3
    mkdir "$dev"/pts "$dev"/shm
    mount --rbind /dev/pts "$dev"/pts; mount --rbind /dev/shm "$dev"/shm
    ln -s pts/ptmx "$dev"/ptmx; ln -s /proc/self/fd "$dev"/fd
    mount --move "$dev" /dev
    {mounts}
    exec "$program" "$@"' sh {dev} {JOBLET} "$@"
"#,
        library = library.display(),
        fake = node.dir().join("fake").display(),
        dev = dev.display(),
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    node.program = script;
    node.set("gpu.enabled", true);
    node
}

pub(super) fn json(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|why| panic!("{why}: {}", out.text()))
}

/// The states of the GPUs, in the order of their numbers.
pub(super) fn states(d: &TestDaemon) -> Vec<String> {
    let found = json(&d.rnx(["--json", "gpu", "list"]));
    found["gpus"].as_array().unwrap().iter().map(|gpu| gpu["state"].as_str().unwrap().to_owned()).collect()
}

/// Waits until they are these: each is looked at before a job gets it.
#[track_caller]
pub(super) fn until_states(d: &TestDaemon, wanted: [&str; 2]) {
    eventually(&format!("the GPUs are {wanted:?}"), || holds(states(d) == wanted));
}

fn indices(d: &TestDaemon, id: &str) -> Value {
    d.status(id)["gpuIndices"].clone()
}

#[test]
fn gpu_goes_to_one_job_and_the_next_one_waits_for_it() {
    needs!(is_root(), "needs root");
    let d = node().start();
    until_states(&d, ["free", "free"]);
    let first = d.submit(["--gpu=1", "sleep", "1000"]);
    let second = d.submit(["--gpu=1", "--gpu-memory=16GB", "sleep", "1000"]);
    d.until_status(&first, "RUNNING");
    d.until_status(&second, "RUNNING");
    assert_eq!((indices(&d, &first), indices(&d, &second)), (0.into_list(), 1.into_list()));
    assert_eq!(states(&d), ["in_use", "in_use"]);
    let third = d.submit(["--gpu=1", "sh", "-c", "env; ls /dev"]);
    let both = d.submit(["--gpu=2", "true"]);
    let waits = d.status(&third);
    assert!(waits["waitReason"].as_str().unwrap().contains("waits for 1 GPU"), "{waits}");
    // Jobs without GPUs go past it.
    d.run(["true"]).ok();
    assert_eq!(d.status(&third)["status"], "INITIALIZING");
    d.rnx(["job", "stop", &second]).ok();
    d.until_status(&third, "COMPLETED");
    assert_eq!(indices(&d, &third), 1.into_list());
    let said = d.rnx(["job", "log", "--no-follow", &third]).text();
    for line in
        ["CUDA_VISIBLE_DEVICES=GPU-fake-1", "JOBLET_GPU_ALLOCATED_COUNT=1", "nvidia5", "nvidiactl", "null"]
    {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
    assert!(!said.lines().any(|line| line == "nvidia4"), "{said}");
    d.rnx(["job", "stop", &first]).ok();
    d.until_status(&both, "COMPLETED");
    until_states(&d, ["free", "free"]);
    d.stop();
}

trait IntoList {
    fn into_list(self) -> Value;
}

impl IntoList for i32 {
    fn into_list(self) -> Value {
        Value::from(vec![self])
    }
}

#[test]
fn job_has_its_nodes_alone_and_each_wall_is_read_back() {
    needs!(is_root(), "needs root");
    let d = node().start();
    until_states(&d, ["free", "free"]);
    let look = "head -c 4 /dev/nvidia5 | od -An -tx1; echo x >/dev/nvidiactl && echo written; \
                mknod /tmp/n c 1 5 || echo refused; rm /dev/nvidia5 || echo kept; tty -s <>/dev/ptmx && echo terminal; \
                echo shared >/dev/shm/x && echo memory; exec sleep 1000";
    let id = d.submit(["--gpu=1", "--gpu-memory=16GB", "--name=small", "sh", "-c", look]);
    // The first one has more memory than the job wants, and first-fit takes it.
    assert_eq!(indices(&d, &id), 0.into_list());
    let other = d.submit(["--gpu=1", "sh", "-c", look]);
    let said = eventually("the job has tried everything", || {
        let said = d.rnx(["job", "log", "--no-follow", &other]).text();
        said.contains("memory").then_some(said)
    });
    for word in ["00 00 00 00", "written", "refused", "kept", "terminal", "memory"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let (_, layers) = layers(&d, &other);
    let broken: Vec<&Value> = layers.iter().filter(|l| l["ok"] == false && l["unenforced"] != true).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    let devices = layer(&layers, "devices");
    assert!(devices["seen"].as_str().unwrap().contains("nvidia5 nvidiactl"), "{devices}");
    let plan = d.rnx(["job", "run", "--explain", "--gpu=1", "true"]).text();
    assert!(
        plan.lines().any(|line| line.starts_with("reserve 1 GPU for the job alone, first-fit")),
        "{plan}"
    );
    assert!(plan.contains("the job waits until enough are free"), "{plan}");
    let text = d.rnx(["job", "status", &other]).text();
    assert!(text.lines().any(|line| line.starts_with("GPUs:") && line.ends_with("1 (1)")), "{text}");
    d.stop();
}

#[test]
fn gpus_of_a_killed_daemon_stay_with_their_jobs() {
    needs!(is_root(), "needs root");
    let d = node().start();
    let id = d.submit(["--gpu=1", "sleep", "1000"]);
    d.until_status(&id, "RUNNING");
    let both = d.submit(["--gpu=2", "true"]);
    let d = d.crash().start();
    until_states(&d, ["in_use", "free"]);
    assert_eq!(indices(&d, &id), 0.into_list());
    let listed = json(&d.rnx(["--json", "gpu", "list"]));
    assert_eq!(listed["gpus"][0]["job_uuid"], Value::from(id.clone()));
    assert_eq!(d.status(&both)["status"], "INITIALIZING");
    d.rnx(["job", "stop", &id]).ok();
    d.until_status(&both, "COMPLETED");
    until_states(&d, ["free", "free"]);
    d.stop();
}

#[test]
fn failed_start_and_impossible_wish_leave_no_gpu_behind() {
    needs!(is_root(), "needs root");
    let d = node().start();
    assert_ne!(d.rnx(["job", "run", "--gpu=2", "/no/such/program"]).code, 0);
    let refused = d.rnx(["job", "run", "--gpu=3", "true"]);
    assert!(refused.stderr.contains("not enough GPUs available: need 3 GPUs, have 2"), "{}", refused.text());
    let refused = d.rnx(["job", "run", "--gpu=2", "--gpu-memory=40GB", "true"]);
    assert!(refused.stderr.contains("have 1 on this node"), "{}", refused.text());
    until_states(&d, ["free", "free"]);
    let text = "jobs:\n  train:\n    command: sh\n    args: [-c, 'echo $NVIDIA_VISIBLE_DEVICES']\n    \
                resources: {gpu_count: 2}\n";
    let flow = workflow::finish(&d, text, "COMPLETED");
    assert_eq!(flow.log(&d, "train").trim(), "GPU-fake-0,GPU-fake-1");
    let wrong = workflow::run(&d, &[], &text.replace("gpu_count: 2", "gpu_count: 9"));
    assert!(wrong.stderr.contains("job 'train': not enough GPUs"), "{}", wrong.text());
    d.stop();
}

#[test]
fn node_put_into_a_job_from_outside_cannot_be_opened() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let look = "until [ -e /volumes/done ]; do sleep 0.01; done; for n in zero fuse; do \
                head -c 0 /volumes/$n 2>&1 && echo $n opens; done; exec sleep 1000";
    let id = d.submit(["sh", "-c", look]);
    d.until_status(&id, "RUNNING");
    let process = payload(&d, &id).to_string();
    // A hole in the first wall: a node of the host in the job's own mounts, open to everybody.
    let put = "umask 0 && mount -t tmpfs -o mode=755 none /volumes && mknod /volumes/zero c 1 5 && \
               mknod /volumes/fuse c 10 229 && : >/volumes/done";
    let done = Command::new("nsenter").args(["-t", &process, "-m", "sh", "-c", put]).status().unwrap();
    assert!(done.success());
    let said = eventually("the job has tried both", || {
        let said = d.rnx(["job", "log", "--no-follow", &id]).text();
        said.contains("fuse").then_some(said)
    });
    assert!(said.contains("zero opens"), "{said}");
    let (_, layers) = layers(&d, &id);
    let program = layer(&layers, "devices.program");
    needs!(program["unenforced"] != true, "bpf is refused here");
    assert_eq!(program["ok"], true, "{program}");
    assert!(said.contains("Operation not permitted") && !said.contains("fuse opens"), "{said}");
    d.stop();
}

#[test]
fn ill_driver_ends_its_own_process_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let asked = |library: &Path, mode: &str| {
        let mut asking = Command::new(JOBLET);
        asking.arg("gpus").env_clear().env("LD_LIBRARY_PATH", library).env("FAKE_NVML", mode);
        let out = asking.output().unwrap();
        (out.status.success(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    };
    let new = library(dir.path(), &[]);
    let (done, said) = asked(&new, "");
    assert!(done && said.contains("GPU-fake-1") && said.contains("580.0.fake"), "{said}");
    assert!(
        said.contains("\"minor\":5") && said.contains("0000:05:00.0") && said.contains("24576"),
        "{said}"
    );
    let (done, said) = asked(&new, "lost");
    assert!(done && said.contains("GPU 1 cannot be used") && !said.contains("GPU-fake-1"), "{said}");
    let (done, said) = asked(&new, "mig");
    assert!(done && said.contains("GPU 1 cannot be used: it is split into MIG instances"), "{said}");
    assert!(said.contains("GPU-fake-0") && !said.contains("GPU-fake-1"), "{said}");
    let (done, said) = asked(&new, "lie");
    assert!(done && said.contains("a text that is none"), "{said}");
    assert!(!asked(&new, "crash").0);
    let old = library(&dir.path().join("old"), &["-DOLD"]);
    let (done, said) = asked(&old, "");
    assert!(!done && said.contains("NVML is too old: it has no nvmlDeviceGetPciInfo_v3"), "{said}");
}
