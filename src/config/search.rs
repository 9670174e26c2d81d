//! The search order of the two files. The first that exists is taken; one that is named must exist.

use std::{
    env, io,
    path::{Path, PathBuf},
};

use super::ConfigError;

/// Looks up a variable of the environment; given by the caller so that tests need no process-wide state.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's own environment. Empty variables count as absent.
pub fn process_environment(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The daemon's search order after `--config` and `$JOBLET_CONFIG_PATH`.
pub const DAEMON: [&str; 4] = [
    "/opt/joblet/config/joblet-config.yml",
    "/opt/joblet/joblet-config.yml",
    "config/joblet-config.yml",
    "joblet-config.yml",
];

/// The daemon's file: `named`, `$JOBLET_CONFIG_PATH`, then [`DAEMON`].
///
/// # Errors
/// Nothing is named and no place has a file, or none that can be looked at. (A named file that is missing fails when
/// it is read.)
pub fn daemon(named: Option<&Path>, env: Environment<'_>) -> Result<PathBuf, ConfigError> {
    if let Some(path) = named.map(Path::to_path_buf).or_else(|| env("JOBLET_CONFIG_PATH").map(PathBuf::from))
    {
        return Ok(absolute(&path));
    }
    first(DAEMON.map(PathBuf::from)).map_err(|denied| match denied {
        Some(path) => ConfigError::ReachDaemonConfig { path },
        None => ConfigError::FindDaemonConfig { searched: DAEMON.join(", ") },
    })
}

/// The client's file: `named`, `$RNX_CONFIG`, `$RNX_CONFIG_PATH` (the Python SDK's name for it), then the
/// working directory, the home directory and the system's.
///
/// # Errors
/// A named file that does not exist, or none anywhere, or none that can be looked at.
pub fn client(named: Option<&Path>, env: Environment<'_>) -> Result<PathBuf, ConfigError> {
    let named = named
        .map(Path::to_path_buf)
        .or_else(|| env("RNX_CONFIG").or_else(|| env("RNX_CONFIG_PATH")).map(PathBuf::from));
    if let Some(path) = named {
        return match path.try_exists() {
            Ok(true) => Ok(absolute(&path)),
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                Err(ConfigError::Read { path, source })
            }
            _ => Err(ConfigError::FindNamedClientConfig { path }),
        };
    }
    let home = env("HOME").map(|home| Path::new(&home).join(".rnx/rnx-config.yml"));
    let places = ["rnx-config.yml", "config/rnx-config.yml"]
        .map(PathBuf::from)
        .into_iter()
        .chain(home)
        .chain(["/etc/joblet/rnx-config.yml", "/opt/joblet/config/rnx-config.yml"].map(PathBuf::from));
    first(places).map_err(|denied| match denied {
        Some(path) => ConfigError::ReachClientConfig { path },
        None => ConfigError::FindClientConfig,
    })
}

/// The first place that has a file. Without one, the first place that could not be looked at: a directory that others
/// keep for themselves may have it, and "not found" would send its reader to look elsewhere.
fn first(places: impl IntoIterator<Item = PathBuf>) -> Result<PathBuf, Option<PathBuf>> {
    let mut denied = None;
    for place in places {
        match place.metadata() {
            Ok(meta) if meta.is_file() => return Ok(absolute(&place)),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                denied.get_or_insert_with(|| absolute(&place));
            }
            _ => {}
        }
    }
    Err(denied)
}

/// Absolute, because the daemon changes its working directory later and passes the path to children.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_file_wins_over_environment_and_that_over_default_paths() {
        let env = |name: &str| (name == "JOBLET_CONFIG_PATH").then(|| "/from/env.yml".to_string());
        assert_eq!(daemon(Some(Path::new("/named.yml")), &env).unwrap(), Path::new("/named.yml"));
        assert_eq!(daemon(None, &env).unwrap(), Path::new("/from/env.yml"));
    }

    #[test]
    fn client_file_in_home_is_found_and_a_missing_named_file_fails() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(".rnx/rnx-config.yml");
        std::fs::create_dir(home.path().join(".rnx")).unwrap();
        std::fs::write(&file, "").unwrap();
        let env = |name: &str| (name == "HOME").then(|| home.path().display().to_string());
        assert_eq!(client(None, &env).unwrap(), file);
        let gone = client(Some(Path::new("/nowhere/rnx.yml")), &env).unwrap_err();
        assert_eq!(gone.to_string(), "client configuration file not found: /nowhere/rnx.yml");
    }
}
