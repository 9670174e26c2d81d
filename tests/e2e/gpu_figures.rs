//! Measurements of GPUs: in samples of jobs, for clients, and on the metrics endpoint, by libraries old and new.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::gpus::{json, library, node, until_states};
use super::metrics_endpoint::page;
use super::security::payload;
use crate::helper::daemon::{JOBLET, TestDaemon};
use crate::helper::skip::is_root;
use crate::helper::wait::eventually;

/// The last sample of a job that has this condition.
fn sample(d: &TestDaemon, id: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || {
        let stored = fs::read_to_string(d.dir().join("spool").join(id).join("metrics.jsonl")).ok()?;
        let last = serde_json::from_str::<Value>(stored.lines().last()?).ok()?;
        is_it(&last["gpu"][0]).then_some(last)
    })
}

/// Compares a sample with the library's words about GPU 0 and one process of the job.
fn check_sample(gpu: &Value) {
    for (name, value) in [
        ("uuid", Value::from("GPU-fake-0")),
        ("name", "NVIDIA Fake".into()),
        ("driver_version", "580.0.fake".into()),
        ("compute_capability", "9.0".into()),
        ("compute_mode", "Exclusive_Process".into()),
        ("utilization", 40.0.into()),
        ("memory_used", (3u64 << 30).into()),
        ("memory_total", (80u64 << 30).into()),
        ("memory_percent", 3.75.into()),
        ("encoder_util", 3.0.into()),
        ("decoder_util", Value::Null),
        ("sm_clock", 1980.into()),
        ("pcie_throughput_rx", 2.5.into()),
        ("temperature", 50.0.into()),
        ("temperature_memory", 61.0.into()),
        ("power_draw", 412.4.into()),
        ("fan_speed", Value::Null),
        ("ecc_errors_single", 2.into()),
        ("retired_pages", 1.into()),
        ("throttle_reasons", 33.into()),
        ("processes_memory", 1_048_576.into()),
        ("xid_errors", 0.into()),
    ] {
        assert_eq!(gpu[name], value, "{name}: {gpu:#}");
    }
}

#[test]
fn figures_of_a_gpu_are_in_samples_status_and_endpoint() {
    needs!(is_root(), "needs root");
    let node = node();
    node.set("job_metrics.default_sample_rate", "1s");
    node.set("metrics.listen", "127.0.0.1:0");
    let fake = node.dir().join("fake");
    fs::write(fake.join("used-0"), (3u64 << 30).to_string()).unwrap();
    let d = node.start();
    until_states(&d, ["free", "free"]);
    let id = d.submit(["--gpu=1", "sleep", "1000"]);
    d.until_status(&id, "RUNNING");
    let own = payload(&d, &id);
    fs::write(fake.join("procs-0"), format!("{own} 1048576\n1 7\n")).unwrap();
    let seen =
        sample(&d, &id, "a sample has the job's process on its GPU", |gpu| gpu["processes_count"] == 1);
    check_sample(&seen["gpu"][0]);
    // An error of the program alone is counted.
    fs::write(fake.join("xid-0"), "31").unwrap();
    sample(&d, &id, "the error is counted", |gpu| gpu["xid_errors"] == 1);
    let listed = json(&d.rnx(["--json", "gpu", "list"]));
    assert_eq!(
        (&listed["gpus"][0]["state"], &listed["gpus"][0]["temperature"]),
        (&"in_use".into(), &50.0.into())
    );
    let status = d.rnx(["monitor", "status"]).text();
    assert!(
        status.contains("GPUs")
            && status.contains("412W")
            && status.contains(&format!("in_use by {}", &id[..8])),
        "{status}"
    );
    let plain = d.rnx(["monitor", "status", "--filter=cpu"]).text();
    assert!(!plain.contains("412W"), "{plain}");
    let log = d.log();
    let address =
        log.split("serving metrics | address=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let text = page(address.unwrap().parse().unwrap());
    for line in [
        "joblet_gpu_utilization_ratios{gpu=\"1\",uuid=\"GPU-fake-1\"} 0.41".to_owned(),
        format!("joblet_gpu_job{{gpu=\"0\",uuid=\"GPU-fake-0\",job=\"{id}\"}} 1"),
        "joblet_gpu_memory_used_bytes{gpu=\"0\",uuid=\"GPU-fake-0\"} 3221225472".to_owned(),
    ] {
        assert!(text.lines().any(|said| said == line), "{line}: {text}");
    }
    fs::remove_file(fake.join("procs-0")).unwrap();
    d.rnx(["job", "stop", &id]).ok();
    d.until_status(&id, "STOPPED");
    let said = d.rnx(["job", "metrics", &id]).text();
    assert!(
        said.contains(
            "GPU 0: 40.0%, Memory: 3GB of 80GB, Job: 1MB, Temperature: 50C, Power: 412W, Throttled: 0x21"
        ),
        "{said}"
    );
    let lines = d.rnx(["--json", "job", "metrics", &id]).text();
    assert!(lines.lines().all(|line| line.contains("\"gpuAllocation\":[0]")), "{lines}");
    // A job without GPUs has none in its samples.
    let other = d.submit(["true"]);
    d.until_status(&other, "COMPLETED");
    assert!(!d.rnx(["--json", "job", "metrics", &other]).text().contains("gpu"));
    d.stop();
}

#[test]
fn driver_that_hangs_takes_its_figures_and_nothing_else() {
    needs!(is_root(), "needs root");
    let node = node();
    node.set("job_metrics.default_sample_rate", "1s");
    let hang = node.dir().join("fake/hang");
    let d = node.start();
    let id = d.submit(["--gpu=1", "sleep", "1000"]);
    sample(&d, &id, "the GPU is measured", |gpu| gpu["utilization"].is_number());
    fs::write(&hang, "").unwrap();
    d.until_logged("GPUs are not measured");
    d.run(["true"]).ok();
    sample(&d, &id, "samples go on without its figures", |gpu| {
        gpu["uuid"] == "GPU-fake-0" && gpu["utilization"].is_null()
    });
    fs::remove_file(&hang).unwrap();
    sample(&d, &id, "they come back", |gpu| gpu["utilization"].is_number());
    d.stop();
}

/// What `joblet gpus --watch` says once.
fn read_once(library: &Path, mode: &str) -> Value {
    let mut asking = Command::new(JOBLET);
    asking.args(["gpus", "--watch"]).env_clear().env("LD_LIBRARY_PATH", library).env("FAKE_NVML", mode);
    let mut child = asking.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let out = child.wait_with_output().unwrap();
    serde_json::from_slice(&out.stdout).unwrap_or(Value::Null)
}

#[test]
fn libraries_old_and_new_tell_what_they_can() {
    let dir = tempfile::tempdir().unwrap();
    let figures = |said: &Value| said["Ok"][1]["figures"].clone();
    let new = library(dir.path(), &[]);
    let said = read_once(&new, "");
    assert_eq!(
        (&figures(&said)["throttle_reasons"], &said["Ok"][1]["processes"]),
        (&33.into(), &Value::Array(vec![]))
    );
    let elder = library(&dir.path().join("elder"), &["-DELDER"]);
    let said = read_once(&elder, "");
    assert_eq!(
        (&figures(&said)["throttle_reasons"], &said["Ok"][1]["processes"]),
        (&1.into(), &Value::Array(vec![]))
    );
    let plain = library(&dir.path().join("plain"), &["-DPLAIN"]);
    let said = read_once(&plain, "");
    assert_eq!(
        (&figures(&said)["memory_total"], &figures(&said)["utilization"]),
        (&(24u64 << 30).into(), &Value::Null)
    );
    assert!(said["Ok"][1]["processes"].is_null(), "unknown is not none: {said}");
    let said = read_once(&new, "lie");
    assert!(
        said["Ok"][0]["uuid"].is_null()
            && figures(&said)["name"].as_str().is_none_or(|name| name.len() <= 96),
        "{said}"
    );
    let said = read_once(&new, "lost");
    assert!(said["Ok"][1]["lost"].as_str().is_some_and(|why| why.contains("fallen off the bus")), "{said}");
    assert!(said["Ok"][0]["lost"].is_null(), "{said}");
    assert!(read_once(&new, "crash").is_null());
    assert!(
        read_once(Path::new("/nowhere"), "")["Err"]
            .as_str()
            .is_some_and(|why| why.contains("libnvidia-ml.so.1"))
    );
}
