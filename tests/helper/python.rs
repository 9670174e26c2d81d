//! Python environments with packages of PyPI, made once and kept in the tests' cache.

use super::programs::cache;
use std::path::{Path, PathBuf};
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

/// A directory with wheels of packages of PyPI for the system's Python, fetched once and kept in the cache.
///
/// # Errors
/// No index of packages, as a sentence.
pub fn wheels(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let place = cache().join(format!("wheels-{name}"));
    if !place.exists() {
        let aside = tempfile::tempdir_in(cache()).unwrap();
        let mut pip = Command::new("/usr/bin/python3");
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        pip.args(["--only-binary", ":all:", "--dest"]).arg(aside.path()).args(packages);
        let out = pip.output().map_err(|why| why.to_string())?;
        if !out.status.success() {
            let why = String::from_utf8_lossy(&out.stderr);
            return Err(format!(
                "cannot fetch {}: {}",
                packages.join(" "),
                why.lines().last().unwrap_or_default()
            ));
        }
        match std::fs::rename(aside.keep(), &place) {
            // Another test was faster.
            Err(_) if place.exists() => {}
            done => done.unwrap(),
        }
    }
    Ok(place)
}

/// Makes a wheel in a directory: the package `greeting` with the program `greet`.
pub fn make_wheel(dir: &Path) {
    const MAKE: &str = "
import sys, zipfile
name = 'greeting-1.0.dist-info/'
files = {
    'greeting.py': 'import os, sys\\ndef main(): print(\"hello from\", sys.prefix, os.environ.get(\"MOOD\"))\\n',
    name + 'METADATA': 'Metadata-Version: 2.1\\nName: greeting\\nVersion: 1.0\\n',
    name + 'WHEEL': 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n',
    name + 'entry_points.txt': '[console_scripts]\\ngreet = greeting:main\\n',
}
files[name + 'RECORD'] = ''.join(f'{path},,\\n' for path in [*files, name + 'RECORD'])
with zipfile.ZipFile(sys.argv[1] + '/greeting-1.0-py3-none-any.whl', 'w') as wheel:
    for path, text in files.items():
        wheel.writestr(path, text)
";
    run(Command::new("/usr/bin/python3").args(["-c", MAKE]).arg(dir));
}
