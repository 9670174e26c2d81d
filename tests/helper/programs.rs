//! The small programs that jobs run: sources under `tests/jobs`, compiled static once and kept outside the checkout.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of the source tree that cargo runs the tests of, or of the one around the working directory where cargo does
/// not run them; an absolute path. The path at compile time would not do: cargo takes programs of another checkout from a
/// shared target directory as they are.
pub fn source(relative: &str) -> PathBuf {
    let here = || std::env::current_dir().expect("the working directory has a path");
    let tree = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(
        || {
            let here = here();
            let tree = here.ancestors().find(|dir| dir.join("tests/jobs").is_dir());
            tree.unwrap_or_else(|| panic!("no source tree around {}", here.display())).to_owned()
        },
        PathBuf::from,
    );
    here().join(tree).join(relative)
}

/// A script or data file under `tests/jobs`.
pub fn job(name: &str) -> PathBuf {
    source("tests/jobs").join(name)
}

/// The directory for files that take long to make: compiled programs, Python environments, the kernel of the VM tier.
pub fn cache() -> PathBuf {
    let dir = std::env::var_os("JOBLET_TEST_CACHE")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("joblet-tests"), PathBuf::from);
    fs::create_dir_all(&dir).expect("the cache of the tests can be made");
    dir
}

/// The static program compiled from `tests/jobs/NAME.c`. The path ends in NAME, and changes when the source does.
pub fn c(name: &str) -> PathBuf {
    let source = job(&format!("{name}.c"));
    let text = fs::read(&source).unwrap_or_else(|e| panic!("{}: {e}", source.display()));
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let dir = cache().join(format!("c-{:016x}", hasher.finish()));
    let program = dir.join(name);
    if !program.exists() {
        compile(&source, &dir, &program);
    }
    program
}

fn compile(source: &Path, dir: &Path, program: &Path) {
    fs::create_dir_all(dir).expect("the cache of the tests can be written");
    // Compiled beside its path and renamed: parallel tests may need the same program at once.
    let aside =
        tempfile::Builder::new().prefix("cc").tempdir_in(dir).expect("the cache of the tests can be written");
    let unfinished = aside.path().join("program");
    let out = Command::new("cc")
        .args(["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .arg(&unfinished)
        .arg(source)
        .output()
        .expect("cc is installed (tests/run.sh installs it)");
    assert!(out.status.success(), "cc {}: {}", source.display(), String::from_utf8_lossy(&out.stderr));
    fs::rename(&unfinished, program).expect("renaming within one directory");
}
