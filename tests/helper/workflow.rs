//! Workflows of a test: files in a directory of their own, and what became of them.

use super::TestDaemon;
use super::rnx::Output;
use super::wait::{eventually, holds};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// Writes a workflow file below the node's directory, beside whatever else a test puts there; returns its path.
pub fn file(d: &TestDaemon, name: &str, text: &str) -> PathBuf {
    let dir = d.dir().join("flows");
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// Runs `rnx workflow run` with these flags on a file with this text, and waits for rnx.
#[track_caller]
pub fn run(d: &TestDaemon, flags: &[&str], text: &str) -> Output {
    let path = file(d, "flow.yaml", text).display().to_string();
    d.rnx([&["workflow", "run"], flags, &[path.as_str()]].concat())
}

/// Starts a workflow and returns its id.
#[track_caller]
pub fn start(d: &TestDaemon, text: &str) -> String {
    let out = run(d, &["-q"], text);
    out.ok();
    out.id()
}

/// Runs a workflow to its end, which is this one; returns its status.
#[track_caller]
pub fn finish(d: &TestDaemon, text: &str, wanted: &str) -> Flow {
    let id = start(d, text);
    until(d, &id, wanted)
}

/// Waits until a workflow has this status; fails as soon as it has another one for good.
#[track_caller]
pub fn until(d: &TestDaemon, id: &str, wanted: &str) -> Flow {
    eventually(&format!("workflow {id} is {wanted}"), || {
        let flow = status(d, id);
        let now = flow.status().to_owned();
        let is_over = ["COMPLETED", "FAILED", "CANCELED"].contains(&now.as_str());
        assert!(now == wanted || !is_over, "it is {now}, not {wanted}: {:#}", flow.0);
        holds(now == wanted).map(|()| flow)
    })
}

/// The status of a workflow as `rnx workflow status --json` prints it.
#[track_caller]
pub fn status(d: &TestDaemon, id: &str) -> Flow {
    let out = d.rnx(["--json", "workflow", "status", id]);
    out.ok();
    Flow(out.json())
}

/// One answer about a workflow.
#[derive(Debug)]
pub struct Flow(pub Value);

impl Flow {
    /// The status of the workflow.
    pub fn status(&self) -> &str {
        self.0["status"].as_str().unwrap()
    }

    /// The entry of one of its jobs.
    #[track_caller]
    pub fn job(&self, name: &str) -> &Value {
        let jobs = self.0["jobs"].as_array().unwrap();
        jobs.iter().find(|job| job["name"] == name).unwrap_or_else(|| panic!("no job {name}: {:#}", self.0))
    }

    /// The names of all jobs with their statuses, `a COMPLETED`, in the order of the file.
    pub fn all(&self) -> Vec<String> {
        let jobs = self.0["jobs"].as_array().unwrap();
        jobs.iter()
            .map(|job| format!("{} {}", job["name"].as_str().unwrap(), job["status"].as_str().unwrap()))
            .collect()
    }

    /// The id of a job that was started.
    #[track_caller]
    pub fn id(&self, name: &str) -> String {
        let id = self.job(name)["id"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), 36, "{name} was not started: {:#}", self.0);
        id
    }

    /// All that a job printed.
    #[track_caller]
    pub fn log(&self, d: &TestDaemon, name: &str) -> String {
        d.rnx(["job", "log", &self.id(name)]).ok()
    }
}
