//! The payload of the measured jobs: a tiny static program, assembled at each run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Directories that every job has for itself: `filesystem.allowedMounts` refuses paths below them.
const OWN_PLACES: [&str; 5] = ["/proc", "/dev", "/tmp", "/work", "/volumes"];
/// The directory of the payload where the target directory is below one of these. Jobs have no /var/lib of their own, and
/// only root writes to the host's.
const ELSEWHERE: &str = "/var/lib/joblet-bench";

/// Assembles the payload for the benchmark of this name and returns its path, which jobs can mount. It stays below the
/// target directory where that is possible, and never lies below TMPDIR: jobs have a /tmp of their own.
pub fn assemble(benchmark: &str) -> PathBuf {
    let target = fs::canonicalize(env!("CARGO_TARGET_TMPDIR")).expect("cargo makes the directory");
    let dir = directory(&target).join(benchmark);
    fs::create_dir_all(&dir).expect("root can write there");
    let program = dir.join("payload");
    let source = Path::new("benches/start_job/payload.S");
    let done = Command::new("cc")
        .args(["-nostdlib", "-static", "-Wl,--build-id=none", "-o"])
        .arg(&program)
        .arg(source)
        .status();
    assert!(done.expect("cc is installed").success(), "the payload cannot be assembled");
    program
}

fn directory(target: &Path) -> &Path {
    let refused = OWN_PLACES.iter().any(|own| target.starts_with(own));
    if refused { Path::new(ELSEWHERE) } else { target }
}
