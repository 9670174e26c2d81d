//! The real Python client, in both versions that users have, over mutual TLS.

use crate::helper::TestDaemon;
use crate::helper::programs::{cache, source};
use crate::helper::rnx::Running;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// A Python environment with this version of the SDK, made once and kept. Tests that need the same one at once wait for it.
pub(super) fn environment(version: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let place = cache().join(format!("sdk-{version}"));
    let ready = place.join("ready");
    if !ready.exists() {
        // An interrupted run leaves it unfinished: the mark is written last.
        let _ = std::fs::remove_dir_all(&place);
        run(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(&place));
        let package = format!("joblet-sdk-python=={version}");
        run(Command::new(place.join("bin/pip")).args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            &package,
        ]));
        std::fs::write(&ready, "").unwrap();
    }
    place
}

fn run(command: &mut Command) {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn drive(version: &str) {
    let python = environment(version).join("bin/python");
    let d = TestDaemon::start();
    let mut command = Command::new(python);
    command
        .arg(source("tests/clients/sdk.py"))
        .args(["localhost", &d.port().to_string()])
        .arg(d.dir().join("certs"));
    let text = Running::start(command.env_remove("http_proxy").env_remove("https_proxy")).finish().ok();
    assert!(text.contains("schedule, cancel: ok") && text.contains("list, delete, delete all: ok"), "{text}");
}

#[test]
fn sdk_of_this_contract_runs_lists_stops_deletes_and_reads_logs() {
    drive("2.1.1");
}

#[test]
fn the_sdk_of_the_later_contract_does_the_same() {
    drive("2.5.2");
}
