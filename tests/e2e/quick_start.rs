//! `vendor-config/quickstart.sh` from its first step to its last, on hosts of the test's own: one whose jobs can have a
//! network, and one whose jobs cannot. The build is that of this test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::helper::daemon::{JOBLET, RNX};
use crate::helper::network::{has_program, host_and_outside};
use crate::helper::programs::source;
use crate::helper::rnx::{Output, Running};
use crate::helper::skip::is_root;

/// The bound on the script, which builds nothing.
const BOUND: Duration = Duration::from_secs(400);

fn program(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs the script with the programs of this test in the place of those that it would build. `doctor`: what stands in front
/// of the command `joblet doctor`.
fn quick_start(dir: &Path, doctor: &str, flags: &[&str]) -> Output {
    let (bin, release) = (dir.join("bin"), dir.join("target/release"));
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(&release).unwrap();
    program(&bin.join("cargo"), "test \"$1\" = build || echo 'cargo 1.99.0'");
    program(&bin.join("rustc"), "echo 'rustc 1.99.0'");
    let front = format!("case $1 in doctor) exec {doctor} {JOBLET} \"$@\";; *) exec {JOBLET} \"$@\";; esac");
    program(&release.join("joblet"), &front);
    program(&release.join("rnx"), &format!("exec {RNX} \"$@\""));
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display());
    let mut command = Command::new("bash");
    command.arg(source("vendor-config/quickstart.sh")).arg("--dir").arg(dir.join("node")).args(flags);
    command.env_clear().env("PATH", path).env("HOME", dir).env("CARGO_TARGET_DIR", dir.join("target"));
    Running::start(&mut command).finish_within(BOUND)
}

#[test]
fn quick_start_gives_jobs_a_network_where_the_host_can() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    needs!(has_program("strace"), "needs strace(1)");
    let (host, _outside) = host_and_outside();
    // A host without netlink cannot have a router.
    let without = "strace -f -qq -o /dev/null -e trace=socket -e inject=socket:error=EAFNOSUPPORT";
    for (doctor, flags, network) in
        [("", &[][..], "bridge"), (without, &[], "none"), ("", &["--network", "none"], "none")]
    {
        let dir = tempfile::Builder::new().prefix("joblet-quick.").tempdir().unwrap();
        let out = host.run(|| quick_start(dir.path(), doctor, flags));
        // rnx reports on its standard error about a job that it follows.
        let said = format!("{}\n{}", out.text(), out.stderr);
        assert_eq!(out.code, 0, "{said}");
        let cannot = said.contains("This host cannot give jobs a network");
        assert_eq!(cannot, !doctor.is_empty(), "{said}");
        // The first job and the hostile one have it, and the status of the first shows it.
        assert_eq!(said.matches(&format!("Network: {network}")).count(), 3, "{said}");
        assert!(said.contains("== done") && said.matches("exit 0 in").count() == 2, "{said}");
        let config = fs::read_to_string(dir.path().join("node/joblet-config.yml")).unwrap();
        assert!(config.contains(&format!("default_network: {network}\n")), "{config}");
        assert!(!host.shell("ip -o link").contains("joblet0"), "its interface goes with the daemon");
        assert_eq!(host.shell("nft list ruleset"), "", "no table is left");
        // A second run uses the node of the first.
        if flags.is_empty() && doctor.is_empty() {
            let again = host.run(|| quick_start(dir.path(), doctor, flags));
            assert_eq!(again.code, 0, "{}\n{}", again.text(), again.stderr);
            assert!(again.text().contains("a node is there already"), "{}", again.text());
        }
    }
}
