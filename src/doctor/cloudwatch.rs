//! Credentials for CloudWatch, where history goes there.

use std::path::Path;

use super::Finding;
use crate::config::daemon::DaemonConfig;
use crate::config::daemon::persist::StorageType;

const CHECK: &str = "history.credentials";

/// The checks of history beyond this host; none where it stays here.
pub(super) fn checks(config: &DaemonConfig) -> Vec<Finding> {
    if !config.ipc.enabled || config.persist.storage.kind != StorageType::Cloudwatch {
        return Vec::new();
    }
    vec![credentials(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))]
}

/// Looks where the history process looks first, without reading a secret. The instance's role is not asked for.
fn credentials(variable: &dyn Fn(&str) -> Option<String>) -> Finding {
    let has = |name| variable(name).is_some();
    if has("AWS_ACCESS_KEY_ID") && has("AWS_SECRET_ACCESS_KEY") {
        return Finding::ok(CHECK, "in the environment");
    }
    let own = variable("HOME").map(|home| format!("{home}/.aws/credentials"));
    let file = variable("AWS_SHARED_CREDENTIALS_FILE").or(own);
    if let Some(file) = file.filter(|file| Path::new(file).exists()) {
        return Finding::ok(CHECK, format!("in {file}, which the user joblet must be able to read"));
    }
    if has("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") || has("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        return Finding::ok(CHECK, "from the container's credential service");
    }
    if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        let remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for the daemon, see docs/cloudwatch.md";
        return Finding::warn(CHECK, "none for CloudWatch: output waits in the spools", remedy);
    }
    Finding::ok(CHECK, "none here: those of the instance's role are used, if it has one")
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn credentials_are_found_where_the_history_process_looks() {
        let seen = |known: &'static [(&'static str, &'static str)]| {
            credentials(&move |name| {
                known.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let keys = seen(&[("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "planted")]);
        assert!(keys.status == Status::Ok && !format!("{keys:?}").contains("planted"));
        let nowhere = seen(&[("AWS_EC2_METADATA_DISABLED", "true"), ("HOME", "/nowhere")]);
        assert!(nowhere.status == Status::Warn);
        assert!(seen(&[]).status == Status::Ok);
    }
}
