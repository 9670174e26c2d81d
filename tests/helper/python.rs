//! Python environments with packages of PyPI, made once and kept in the tests' cache.

use super::programs::cache;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// An environment of this name with these packages. Tests that need the same one at once wait for it.
pub fn environment(name: &str, packages: &[&str]) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let place = cache().join(name);
    let ready = place.join("ready");
    if !ready.exists() {
        // An interrupted run leaves it unfinished: the mark is written last.
        let _ = std::fs::remove_dir_all(&place);
        run(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(&place));
        let mut pip = Command::new(place.join("bin/pip"));
        run(pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(packages));
        std::fs::write(&ready, "").unwrap();
    }
    place
}

fn run(command: &mut Command) {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}
