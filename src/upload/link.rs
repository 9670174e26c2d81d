//! The rule for symbolic links of an upload, which is syntax only.
//!
//! A link is made as it was sent and never followed by the daemon. The job's own processes look its target up, in the job's
//! own root, so no target can reach the host. The rule is there for the client: a link that cannot lead
//! anywhere in the job is a mistake of the upload, and the error names it.

use std::path::{Path, PathBuf};

/// Directories that every job has of its own.
const OWN: &[&str] = &["/work", "/tmp", "/dev", "/proc", "/sys", "/run", "/var", "/etc", "/volumes"];
/// Directories of the host that a job sees where the configuration names no others.
const HOST: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// Longest target in bytes: PATH_MAX less its NUL (symlink(2)).
const LONGEST: usize = 4095;

/// The directories that an absolute link may lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRoots(Vec<PathBuf>);

impl LinkRoots {
    /// The directories of jobs that see these paths of the host (`filesystem.allowedMounts`), or the usual ones, and
    /// beside them `extra` (`filesystem.extraMounts`).
    pub fn new(mounts: Option<&[PathBuf]>, extra: &[PathBuf]) -> Self {
        let own = OWN.iter().map(PathBuf::from).chain(extra.iter().cloned());
        LinkRoots(match mounts {
            Some(mounts) => own.chain(mounts.iter().cloned()).collect(),
            None => own.chain(HOST.iter().map(PathBuf::from)).collect(),
        })
    }

    fn hold(&self, target: &str) -> bool {
        self.0.iter().any(|root| Path::new(target).starts_with(root))
    }
}

impl Default for LinkRoots {
    fn default() -> Self {
        LinkRoots::new(None, &[])
    }
}

/// Whether a link at `path`, relative to /work, may have this target.
///
/// # Errors
/// The rule that is broken, and the remedy.
pub(super) fn check(path: &[u8], target: &str, roots: &LinkRoots) -> Result<(), String> {
    let leads = |why: &str| {
        Err(format!("it is a symbolic link to \"{}\", {why}", super::printable(target.as_bytes())))
    };
    if target.len() > LONGEST {
        return leads("which is longer than a link can be");
    }
    if target.contains('\0') {
        return leads("which contains a NUL character");
    }
    let (mut depth, steps) = match target.strip_prefix('/') {
        None => (path.iter().filter(|byte| **byte == b'/').count(), target),
        // Counted from the root: "/usr/../root" is not below /usr.
        Some(_) if roots.hold(target) && !target.split('/').any(|step| step == "..") => return Ok(()),
        Some(_) => {
            return leads("which is in no directory of a job; upload the file itself, or leave the link out");
        }
    };
    for step in steps.split('/') {
        match step {
            "" | "." => {}
            ".." => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => {
                    return leads("which leads out of /work; upload the file itself, or leave the link out");
                }
            },
            _ => depth += 1,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &str, target: &str) -> String {
        check(path.as_bytes(), target, &LinkRoots::default()).unwrap_err()
    }

    #[test]
    fn links_within_work_and_into_directories_of_jobs_are_taken() {
        for (path, target) in [
            ("node_modules/.bin/tool", "../tool/cli.js"),
            ("a/b/c", "../../d"),
            ("a", "."),
            ("a", "b/../c"),
            ("a", "nowhere"),
            ("a", "a"),
            ("bin/python", "/usr/bin/python3"),
            ("a", "/work/b"),
            ("null", "/dev/null"),
            ("a", "x\\..\\..\\y"),
        ] {
            check(path.as_bytes(), target, &LinkRoots::default()).unwrap();
        }
    }

    #[test]
    fn link_out_of_work_is_refused_with_its_target() {
        for (path, target) in [("a", ".."), ("a/b", "../../c"), ("a", "b/../../c"), ("a", "../work/b")] {
            let why = refusal(path, target);
            assert!(why.contains(target) && why.contains("leads out of /work"), "{why}");
        }
        for target in ["/", "/root/x", "/home", "/usrx", "/usr/../root", "/work/../etc/x", "//root"] {
            let why = refusal("a", target);
            assert!(why.contains(target) && why.contains("in no directory of a job"), "{why}");
        }
        assert!(refusal("a", "x\0y").contains("NUL") && refusal("a", &"x/".repeat(2048)).contains("longer"));
        let why = refusal("a", "/root/\u{1b}]52;c;\n");
        assert!(!why.contains(['\u{1b}', '\n']), "{why:?}");
    }

    #[test]
    fn configured_mounts_replace_the_hosts_directories() {
        let roots = LinkRoots::new(Some(&["/opt/tools".into()]), &["/data".into()]);
        check(b"a", "/data/x", &roots).unwrap();
        check(b"a", "/opt/tools/x", &roots).unwrap();
        check(b"a", "/tmp/x", &roots).unwrap();
        assert!(check(b"a", "/usr/bin/x", &roots).is_err());
    }
}
