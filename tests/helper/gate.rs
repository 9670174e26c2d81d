//! A signal from a test to a running job: a file in its /work, for which its script waits. So a job stops exactly where the
//! test needs it, independent of the clock and of other load.

use super::residue;
use super::wait::eventually;
use std::fs;

/// A line of a shell script that waits until `name` is opened.
pub fn wait_for(name: &str) -> String {
    format!("until [ -e /work/{name} ]; do sleep 0.02; done")
}

/// Lets the job continue where it waits for `name`: the file is made through the root of one of its processes.
#[track_caller]
pub fn open(job: &str, name: &str) {
    eventually(&format!("job {job} can be told {name:?}"), || {
        residue::processes_in_cgroup(job).iter().find_map(|process| {
            let pid = process.split(' ').next()?;
            fs::write(format!("/proc/{pid}/root/work/{name}"), "").ok()
        })
    });
}
