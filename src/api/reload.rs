//! The reload on SIGHUP: the log file is opened again (it may have been rotated), the configuration is read again, and
//! the keys that can change in a running daemon take effect: all of `security`, and `logging.level`. A warning names
//! every other key that changed; it waits for a restart. A configuration that cannot be used changes nothing.

use std::path::PathBuf;

use serde_yaml::Value;

use super::access::{Access, InForce};
use crate::audit::{Audit, Entry, Event};
use crate::config::daemon::DaemonConfig;
use crate::diag::{self, Level, event};

/// Sections and keys that a reload puts in force.
const READ_AGAIN: [&str; 2] = ["security", "logging.level"];

/// A daemon's configuration as it was at the start, and the credentials that a reload replaces.
pub struct Reload {
    path: PathBuf,
    started: DaemonConfig,
    access: Access,
    audit: Audit,
}

impl Reload {
    /// The reload of a daemon that was started with the file at `path`.
    pub fn new(path: PathBuf, started: DaemonConfig, access: Access, audit: Audit) -> Self {
        Self { path, started, access, audit }
    }

    /// Reads the files and puts them in force, and logs the result, or the reason why nothing changes. It reads files, so
    /// the loop must not call it.
    pub fn run(&self) {
        if let Err(why) = diag::reopen() {
            event!(Level::Error, "lines go on into the log file that was open", error = why);
        }
        let path = self.path.display();
        let replaced = || -> Result<_, Box<dyn std::error::Error>> {
            let loaded = DaemonConfig::load(Some(&self.path))?;
            let in_force = self.access.replace(&loaded.config.security)?;
            Ok((loaded, in_force))
        };
        let (loaded, in_force) = match replaced() {
            Ok(done) => done,
            Err(why) => {
                event!(Level::Error, "reload failed, all stays as it was", path = path, error = why);
                let failed =
                    Entry { why: why.to_string(), code: "FAILED".into(), ..Entry::new(Event::Reload) };
                self.audit.note(failed);
                return;
            }
        };
        diag::set_level(loaded.config.logging.level.into());
        grpcio::redirect_log(); // C-core logs at the new level too
        for warning in &loaded.warnings {
            event!(Level::Warn, warning);
        }
        let waiting = differences(&tree(&self.started), &tree(&loaded.config));
        if !waiting.is_empty() {
            event!(Level::Warn, "changed keys need a restart", keys = waiting.join(", "));
        }
        self.audit.note(Entry { code: "OK".into(), ..Entry::new(Event::Reload) });
        say("configuration reloaded", &in_force);
    }
}

/// Logs one line about the certificates and the revocation list.
pub fn say(what: &'static str, in_force: &InForce) {
    let until = jiff::Timestamp::from_second(in_force.server_until).unwrap_or_default();
    event!(Level::Info, what, serverCertUntil = until, revoked = in_force.revoked);
    if in_force.old_list {
        event!(Level::Warn, "a revocation list asks for a newer one; it is used all the same");
    }
}

fn tree(config: &DaemonConfig) -> Value {
    serde_yaml::to_value(config).unwrap_or_default()
}

/// The keys, such as "server.port", that differ and that a reload does not put in force; never their values.
fn differences(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", old, new, &mut found);
    found
}

fn compare(at: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    if old == new || READ_AGAIN.contains(&at) {
        return;
    }
    let (Some(sections), Some(_)) = (old.as_mapping(), new.as_mapping()) else {
        found.push(at.to_owned());
        return;
    };
    for (key, value) in sections {
        let Some(name) = key.as_str() else { continue };
        let path = if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
        compare(&path, value, &new[name], found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_keys_are_named_unless_they_are_read_again() {
        let old = DaemonConfig::default();
        let mut new = old.clone();
        new.security.ca_cert = "another".into();
        new.logging.level = crate::config::daemon::LogLevel::Debug;
        assert_eq!(differences(&tree(&old), &tree(&new)), Vec::<String>::new());
        new.server.port = 1;
        new.joblet.default_cpu_limit = 5;
        new.cgroup.base_dir = Some("/x".into());
        assert_eq!(
            differences(&tree(&old), &tree(&new)),
            ["server.port", "joblet.defaultCpuLimit", "cgroup.baseDir"]
        );
    }
}
