//! The real Python client, in both versions that users have, over mutual TLS.

use super::history::{logs, until_complete};
use super::volumes::has_images;
use crate::helper::TestDaemon;
use crate::helper::daemon::Node;
use crate::helper::programs::source;
use crate::helper::python;
use crate::helper::rnx::{Output, Running};
use std::path::PathBuf;
use std::process::Command;

/// A Python environment with this version of the SDK.
pub(super) fn environment(version: &str) -> PathBuf {
    python::environment(&format!("sdk-{version}"), &[&format!("joblet-sdk-python=={version}")])
}

/// Runs a script of ours with the SDK of this version against a node.
fn call(d: &TestDaemon, version: &str, script: &str, more: &[&str]) -> Output {
    let mut command = Command::new(environment(version).join("bin/python"));
    command
        .arg(source(script))
        .args(["localhost", &d.port().to_string()])
        .arg(d.dir().join("certs"))
        .args(more);
    Running::start(command.env_remove("http_proxy").env_remove("https_proxy")).finish()
}

fn drive(version: &str) {
    let d = TestDaemon::start();
    let has_volumes = has_images();
    let more = if has_volumes { &["--volumes"][..] } else { &[] };
    let text = call(&d, version, "tests/clients/sdk.py", more).ok();
    assert_eq!(text.contains("volumes: ok"), has_volumes, "{text}");
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

#[test]
fn both_sdks_read_old_output_after_a_restart_of_everything() {
    const SCRIPT: &str = "tests/clients/sdk_history.py";
    let d = TestDaemon::start();
    let versions = ["2.1.1", "2.5.2"];
    let ids = versions.map(|version| call(&d, version, SCRIPT, &[]).ok().trim().to_owned());
    for id in &ids {
        d.until_status(id, "COMPLETED");
        until_complete(&d, id);
        assert!(
            logs(&d, id).join("stdout.log.gz").exists()
                && !d.dir().join("spool").join(id).join("stdout").exists()
        );
    }
    let d = d.crash().start();
    let numbers: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    let wanted = [b"a\0\xffb\n", numbers.as_bytes()].concat();
    for version in versions {
        for id in &ids {
            let out = call(&d, version, SCRIPT, &[id]);
            assert_eq!(out.code, 0, "{version}: {}", out.stderr);
            assert!(out.stdout == wanted, "{version} reads {} of {} bytes", out.stdout.len(), wanted.len());
        }
    }
}

#[test]
fn sdk_of_this_contract_runs_a_workflow() {
    let d = TestDaemon::start();
    let text = call(&d, "2.1.1", "tests/clients/sdk_workflow.py", &[]).ok();
    assert!(text.contains("workflow: ok"), "{text}");
}

#[test]
fn both_sdks_install_or_build_test_and_remove_a_runtime() {
    for version in ["2.1.1", "2.5.2"] {
        let node = Node::set_up();
        node.set("runtime.build.network", "none");
        let d = node.start();
        let text = call(&d, version, "tests/clients/sdk_runtimes.py", &[]).ok();
        assert!(text.contains("runtimes: ok"), "{version}: {text}");
    }
}
