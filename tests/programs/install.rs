//! Installing what a program of the table needs, by apt and by package name only.

use crate::helper::programs::cache;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// Where a job and a login of Debian look for programs.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Forbids the start of services by maintainer scripts: a test needs the program, not a server on the host's ports.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// A program or an absolute path, and the package that has it.
pub(super) type Need = (&'static str, &'static str);

/// Installs the packages whose program or file is missing.
///
/// # Errors
/// The last lines of apt.
pub(super) fn install(needs: &[Need]) -> Result<(), String> {
    if missing(needs).is_empty() {
        return Ok(());
    }
    // Tests run side by side, and apt is one at a time.
    let lock = File::create(cache().join("apt.lock")).expect("the cache of the tests can be written");
    lock.lock().expect("a lock on our own file");
    let packages = missing(needs);
    if packages.is_empty() {
        return Ok(());
    }
    let _policy = Policy::forbid_services();
    if apt(&packages).is_err() {
        let lists = run(Command::new("apt-get").args(["update", "-q"]));
        lists.map_err(|e| format!("apt-get update: {e}"))?;
        apt(&packages).map_err(|e| format!("apt-get install {}: {e}", packages.join(" ")))?;
    }
    match missing(needs).as_slice() {
        [] => Ok(()),
        rest => Err(format!("{} is installed and has not what it should have", rest.join(", "))),
    }
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    let here = |file: &str| match file.starts_with('/') {
        true => Path::new(file).exists(),
        false => PATH.split(':').any(|dir| Path::new(dir).join(file).exists()),
    };
    needs.iter().filter(|(file, _)| !here(file)).map(|(_, package)| *package).collect()
}

fn apt(packages: &[&str]) -> Result<(), String> {
    let mut command = Command::new("apt-get");
    command.args(["-o", "DPkg::Lock::Timeout=300", "install", "-q", "-y", "--no-install-recommends"]);
    run(command.args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn run(command: &mut Command) -> Result<(), String> {
    let out: Output = command.env("PATH", PATH).output().map_err(|e| e.to_string())?;
    if out.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&out.stderr);
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    Err(lines.into_iter().rev().collect::<Vec<_>>().join("; "))
}

/// The policy file, if this test wrote it.
struct Policy {
    ours: bool,
}

impl Policy {
    fn forbid_services() -> Policy {
        let ours = !Path::new(POLICY).exists();
        if ours {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n").expect("root may write there");
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755)).expect("the file is ours");
        }
        Policy { ours }
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}
