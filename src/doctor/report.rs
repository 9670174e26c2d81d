//! How findings are shown: a line each for people, an array for programs.

use std::fmt::Write;
use std::path::Path;

use super::{Finding, Host, Status, examine, history, names};
use crate::config::ConfigError;
use crate::config::daemon::DaemonConfig;

/// What `joblet doctor` found for the configuration that the daemon would read: `path`, or that of the search
/// order. One that cannot be read is a finding too; the host is then judged by the defaults.
pub fn command(path: Option<&Path>) -> Vec<Finding> {
    let (config, first) = match DaemonConfig::load(path) {
        Ok(loaded) => {
            let path = loaded.path.display().to_string();
            let first = match loaded.warnings.as_slice() {
                [] => Finding::ok("config", path),
                all => {
                    let remedy = format!("joblet --check-config --config {path}");
                    Finding::warn("config", format!("{path}: {}", all.join("; ")), remedy)
                }
            };
            (loaded.config, first)
        }
        Err(why) => (DaemonConfig::default(), unread(&why)),
    };
    let mut all = vec![first];
    all.extend(examine(&Host::this(), &config));
    all.extend(names::work(&Host::this(), &config));
    all.extend(history::work(&config));
    all
}

fn unread(why: &ConfigError) -> Finding {
    let seen = format!("{why}; the host is judged by the defaults");
    match why {
        ConfigError::FindDaemonConfig { .. } => {
            Finding::warn("config", seen, "joblet setup --dir /opt/joblet")
        }
        ConfigError::Exposed { remedy, .. } => Finding::fail("config", seen, remedy.clone()),
        ConfigError::Parse { path, .. } => {
            Finding::fail("config", seen, format!("joblet --check-config --config {}", path.display()))
        }
        ConfigError::Read { path, .. } => Finding::fail("config", seen, format!("ls -l {}", path.display())),
        _ => Finding::fail("config", seen, "joblet --check-config"),
    }
}

/// One line a check, with what to do behind an arrow, and a sum. `colours`: for a terminal.
pub fn text(findings: &[Finding], colours: bool) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut out = String::new();
    for Finding { check, status, seen, remedy } in findings {
        let (word, colour) = match status {
            Status::Ok => ("ok  ", "\x1b[32m"),
            Status::Warn => ("warn", "\x1b[33m"),
            Status::Fail => ("FAIL", "\x1b[31m"),
        };
        let word = if colours { format!("{colour}{word}\x1b[0m") } else { word.to_owned() };
        let remedy = remedy.as_ref().map(|remedy| format!(" -> {}", one_line(remedy))).unwrap_or_default();
        let _ = writeln!(out, "{word}  {check:width$}  {}{remedy}", one_line(seen)); // a String takes everything
    }
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    let (ok, warn, fail) = (count(Status::Ok), count(Status::Warn), count(Status::Fail));
    out + &format!("{} checks: {ok} ok, {warn} warn, {fail} fail\n", findings.len())
}

/// Names of files and certificates come from outside.
fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// An array of `{check, status, seen, remedy}`; `remedy` is null where nothing is to be done.
pub fn json(findings: &[Finding]) -> String {
    let mut out =
        serde_json::to_string_pretty(findings).expect("texts and words have no shape that JSON lacks");
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![
            Finding::ok("kernel.version", "Linux 6.1"),
            Finding::warn("clock", "late", "ntp"),
            Finding::fail("cgroup.io", "a\nb", "boot"),
        ]
    }

    #[test]
    fn a_line_a_check_is_aligned_and_summed_up() {
        let wanted = "ok    kernel.version  Linux 6.1\n\
                      warn  clock           late -> ntp\n\
                      FAIL  cgroup.io       a\\nb -> boot\n\
                      3 checks: 1 ok, 1 warn, 1 fail\n";
        assert_eq!(text(&findings(), false), wanted);
        assert!(text(&findings(), true).contains("\x1b[31mFAIL\x1b[0m  cgroup.io"));
    }

    #[test]
    fn programs_get_the_same_four_words_for_each() {
        let parsed: serde_json::Value = serde_json::from_str(&json(&findings())).unwrap();
        assert_eq!(parsed[0]["remedy"], serde_json::Value::Null);
        assert_eq!((&parsed[2]["check"], &parsed[2]["status"]), (&"cgroup.io".into(), &"fail".into()));
        assert_eq!(parsed[1].as_object().unwrap().len(), 4);
    }
}
