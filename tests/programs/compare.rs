//! One program inside a job and outside: the same script, the same variables, an empty directory, loopback.
//!
//! Outside is a user without privileges (nobody) in a network, a process and an IPC namespace of its own: a server of the
//! script meets no port of the host, and nothing of it outlives the test. A script prints what has to be the same, errors
//! included, and no name of a user, host or process.

use super::install::{PATH, install};
use super::table::{Program, Verdict};
use crate::helper::rnx::{Output, Running};
use crate::helper::{TestDaemon, skip};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The user nobody of Debian.
const NOBODY: u32 = 65534;
/// The bound on a script outside; the one inside is the job's timeout.
const BOUND: Duration = Duration::from_secs(200);

/// The shell in the namespaces becomes nobody with what the network namespace of a job allows.
const BECOME_NOBODY: &str = "ip link set lo up && echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start && \
    echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range && \
    exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all sh script.sh";

/// Runs a program of the table inside and outside and fails the test unless the result is as the table says.
pub(super) fn judge(program: &Program, test: &str) {
    let tools = [("ip", "iproute2"), ("setpriv", "util-linux")];
    if let Err(reason) = install(&[&tools, program.needs].concat()) {
        return skip::record(test, &reason);
    }
    let dir = tempfile::Builder::new().prefix("joblet-program.").tempdir().unwrap();
    let script = dir.path().join("script.sh");
    fs::write(&script, format!("exec 2>&1\nset -eu\n{}", program.script)).unwrap();
    let outside = outside(dir.path());
    assert_eq!(outside.code, 0, "the script fails outside of jobs too:\n{}", outside.text());
    let inside = inside(program, &script);
    let same = inside.code == outside.code && inside.text() == outside.text();
    let shown = format!(
        "inside ({}):\n{}\n{}\noutside:\n{}",
        inside.code,
        inside.text(),
        inside.stderr,
        outside.text()
    );
    match program.verdict {
        Verdict::Same | Verdict::SameAsJob => assert!(same, "{shown}"),
        Verdict::Differs(_) => {
            assert!(!same, "it works now: change its verdict in the table and in docs/programs.md\n{shown}");
        }
    }
}

fn outside(dir: &Path) -> Output {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-c", BECOME_NOBODY])
        .current_dir(dir)
        .env_clear()
        .envs([("PATH", PATH), ("LANG", "C.UTF-8"), ("SHELL", "/bin/sh"), ("USER", "nobody")])
        .env("LOGNAME", "nobody")
        .env("HOME", dir);
    let mut out = Running::start(&mut command).finish_within(BOUND);
    let name = dir.to_str().expect("a temporary directory has a plain name");
    out.stdout = out.text().replace(name, "/work").into_bytes();
    out
}

fn inside(program: &Program, script: &Path) -> Output {
    let d = TestDaemon::start();
    let memory = format!("--max-memory={}", program.memory);
    let upload = format!("--upload={}", script.display());
    let user = if matches!(program.verdict, Verdict::SameAsJob) { "--user=job" } else { "--user=root" };
    d.run([memory.as_str(), upload.as_str(), user, "--timeout=200s", "sh", "script.sh"])
}
