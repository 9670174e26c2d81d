//! Packages of Debian that a test needs, unpacked in the cache and never installed: no script of theirs runs, and nothing of
//! this machine changes.

use super::programs::cache;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Fetches what apt would install here, and unpacks it.
const FETCH: &str = r#"
set -e
to=$1; shift
mkdir -p "$to/archives/partial" "$to/tree"
get() {
    apt-get -q -y --no-install-recommends --download-only -o Debug::NoLocking=1 -o Dir::Cache::archives="$to/archives" \
        install "$@" >"$to/log" 2>&1
}
get "$@" || { apt-get update -q >/dev/null 2>&1 && get "$@"; } || { tail -3 "$to/log"; exit 1; }
for deb in "$to"/archives/*.deb; do dpkg --fsys-tarfile "$deb" | tar -x -C "$to/tree" --exclude=./usr/share/doc; done
rm -rf "$to/archives" "$to/log"
"#;

/// The root of the unpacked packages and of those that they need beyond what is installed.
///
/// # Errors
/// No registry of packages, as a sentence.
pub fn unpacked(packages: &[&str]) -> Result<PathBuf, String> {
    let kept = cache().join(format!("packages-{}", packages.join("-")));
    if !kept.exists() {
        let aside = tempfile::tempdir_in(cache()).unwrap();
        let out =
            Command::new("sh").args(["-c", FETCH, "sh"]).arg(aside.path()).args(packages).output().unwrap();
        if !out.status.success() {
            return Err(format!(
                "cannot fetch {}: {}",
                packages.join(" "),
                String::from_utf8_lossy(&out.stdout)
            ));
        }
        match fs::rename(aside.keep(), &kept) {
            // Another test was faster.
            Err(_) if kept.exists() => {}
            done => done.unwrap(),
        }
    }
    Ok(kept.join("tree"))
}
