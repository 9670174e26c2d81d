//! Is this host fit for a daemon with this configuration? Small checks, each with an observation and a remedy.
//!
//! `joblet doctor` prints them all, and the daemon runs the same checks at its start: with
//! `cgroup.enforcement: strict` a failing check keeps it from starting, otherwise the log has it. So a node either
//! enforces its isolation and limits or names those that it does not.
//!
//! * Where a system call can answer, the check makes it ([`crate::sys::probe`]); a version number is only a hint.
//! * Nothing on the host is changed: groups are looked at and not made ([`crate::cgroup::survey`]), namespaces are
//!   tried with a process that is gone before the answer, no file is written.
//! * Files are read below [`Host::root`], so that tests can put any host before a check.
//!
//! A check is ok; or *warn*, where something works less well or is less safe than it could (a tuning, a limit in
//! best-effort mode, a certificate that soon expires); or *fail*, where the host cannot provide isolation or a limit
//! that the configuration demands. A host that is merely slower never fails.

mod cloudwatch;
mod gpu;
mod groups;
mod history;
mod identity;
mod kernel;
mod names;
mod network;
mod pools;
mod report;
mod runtimes;
mod storage;
mod trust;
mod volumes;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::daemon::DaemonConfig;
use crate::diag::{self, Level};
use crate::job::Enforcement;

pub use report::{command, json, text};

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The host is as it should be.
    Ok,
    /// Works, but less well.
    Warn,
    /// Does not work.
    Fail,
}

/// One check and its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the check, which never changes: `group.what`.
    pub check: String,
    /// The result of the check.
    pub status: Status,
    /// The observation, as one sentence.
    pub seen: String,
    /// The remedy, mostly a command; `None` for a check that is ok.
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(check: impl Into<String>, seen: impl Into<String>) -> Self {
        Finding { check: check.into(), status: Status::Ok, seen: seen.into(), remedy: None }
    }

    fn warn(check: impl Into<String>, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (check, seen, remedy) = (check.into(), seen.into(), Some(remedy.into()));
        Finding { check, status: Status::Warn, seen, remedy }
    }

    fn fail(check: impl Into<String>, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { status: Status::Fail, ..Self::warn(check, seen, remedy) }
    }

    /// A failing check is only a warning where the configuration says "best-effort".
    fn unless_best_effort(self, config: &DaemonConfig) -> Self {
        match (self.status, config.cgroup.enforcement) {
            (Status::Fail, Enforcement::BestEffort) => Finding { status: Status::Warn, ..self },
            _ => self,
        }
    }
}

/// The host fails a check in strict mode, so the daemon does not start.
#[derive(Debug, thiserror::Error)]
#[error(
    "this host is not fit for cgroup.enforcement: strict: {first}; {remedy} (failing: {failing}); \
     `joblet doctor` shows all, and cgroup.enforcement: best-effort starts nevertheless"
)]
pub struct Unfit {
    /// The first check that fails, with what was seen.
    first: String,
    /// The remedy of that check, mostly a command.
    remedy: String,
    /// The names of all checks that fail, separated by commas.
    failing: String,
}

/// The host as files show it.
#[derive(Debug, Clone)]
pub struct Host {
    /// Where `/proc`, `/sys`, `/etc` and `/run` are: `/`, or a directory of a test.
    pub root: PathBuf,
}

impl Host {
    /// The host of this process.
    pub fn this() -> Self {
        Host { root: PathBuf::from("/") }
    }

    /// A file of it, by its absolute path.
    fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// The text of a file, `None` where there is none or it cannot be read.
    fn text(&self, absolute: &str) -> Option<String> {
        fs::read_to_string(self.path(absolute)).ok()
    }

    /// A file with one number in it.
    fn number(&self, absolute: &str) -> Option<i64> {
        self.text(absolute)?.trim().parse().ok()
    }
}

/// All checks, in an order that does not change.
pub fn examine(host: &Host, config: &DaemonConfig) -> Vec<Finding> {
    let mut all = kernel::checks(host);
    all.extend(groups::checks(host, config));
    all.extend(identity::checks(host, config));
    all.extend(pools::checks(host, config));
    all.extend(network::checks(host, config));
    all.extend(names::checks());
    all.extend(storage::checks(config));
    all.extend(volumes::checks(config));
    all.extend(runtimes::checks(config));
    all.extend(gpu::checks(config));
    all.extend(history::checks(config));
    all.extend(cloudwatch::checks(config));
    all.extend(trust::checks(config));
    all
}

/// The checks before the daemon's start. Each that is not ok is logged, and in strict mode each that fails keeps the
/// daemon from starting. Missing controllers are not logged here: the making of the groups reports them.
///
/// # Errors
/// Strict mode and a failing check: all of them by name, with the remedy of the first.
pub fn at_start(config: &DaemonConfig) -> Result<(), Unfit> {
    let findings = examine(&Host::this(), config);
    let strict = config.cgroup.enforcement == Enforcement::Strict;
    if strict && findings.iter().any(keeps_from_start) {
        return Err(unfit(&findings));
    }
    let told =
        |check: &str| groups::CONTROLLERS.iter().any(|c| check.strip_prefix("cgroup.") == Some(c.name()));
    for finding in findings.iter().filter(|finding| finding.status != Status::Ok && !told(&finding.check)) {
        let Finding { check, seen, remedy, .. } = finding;
        let remedy = remedy.as_deref().unwrap_or_default();
        diag::event!(Level::Warn, "this host has a weak spot", check = check, seen = seen, remedy = remedy);
    }
    Ok(())
}

/// Whether no daemon can start in strict mode. Jobs whose network cannot be made are refused one by one, with the cause;
/// others need none.
fn keeps_from_start(finding: &Finding) -> bool {
    finding.status == Status::Fail && !finding.check.starts_with("network.")
}

fn unfit(findings: &[Finding]) -> Unfit {
    let failed: Vec<_> = findings.iter().filter(|finding| keeps_from_start(finding)).collect();
    let names: Vec<_> = failed.iter().map(|finding| finding.check.as_str()).collect();
    let first = failed.first().map(|finding| format!("{}: {}", finding.check, finding.seen));
    let remedy = failed.first().and_then(|finding| finding.remedy.clone());
    Unfit { first: first.unwrap_or_default(), remedy: remedy.unwrap_or_default(), failing: names.join(", ") }
}

/// Whether others than the owner can change a file or directory with this mode. The sticky bit keeps what is in a
/// directory safe.
fn others_can_write(mode: u32) -> bool {
    mode & 0o022 != 0 && mode & 0o1000 == 0
}

/// A path in a command that a remedy gives.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A host of a test: files by their path below its root.
#[cfg(test)]
fn crafted(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let host = Host { root: dir.path().to_owned() };
    (dir, host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_names_all_failed_checks_and_the_first_ones_remedy() {
        let findings = [
            Finding::ok("a", "fine"),
            Finding::fail("cgroup.io", "no io controller", "boot otherwise"),
            Finding::warn("c", "slow", "buy"),
            Finding::fail("d", "bad", "second"),
            Finding::fail("network.router", "no nf_tables", "modprobe"),
        ];
        let error = unfit(&findings).to_string();
        assert!(
            error.contains("cgroup.io: no io controller; boot otherwise (failing: cgroup.io, d)"),
            "{error}"
        );
    }

    #[test]
    fn every_check_has_a_name_of_its_own_and_every_fault_a_remedy() {
        let findings = examine(&Host::this(), &DaemonConfig::default());
        let mut names: Vec<_> = findings.iter().map(|finding| finding.check.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), findings.len());
        for finding in &findings {
            let mended = finding.remedy.as_ref().is_some_and(|remedy| !remedy.is_empty());
            assert_eq!(mended, finding.status != Status::Ok, "{finding:?}");
        }
    }
}
