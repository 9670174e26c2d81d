//! Ranges of `ipc:` and `persist:`, and the paths that follow from `dataDir`.

use std::path::PathBuf;
use std::time::Duration;

use super::StorageType;
use crate::config::daemon::DaemonConfig;
use crate::config::daemon::range::{absolute, between};
use crate::job::units::format_duration;

/// Bytes of the longest path of a Unix socket (unix(7)).
const SOCKET_PATH: usize = 107;

/// Fills in the paths that the file leaves out.
pub(in crate::config::daemon) fn fill_paths(c: &mut DaemonConfig) {
    let fill = |path: &mut PathBuf, usual: PathBuf| {
        if path.as_os_str().is_empty() {
            *path = usual;
        }
    };
    fill(&mut c.runtime.base_path, c.data_dir.join("runtimes"));
    let run = c.data_dir.join("run");
    let told = c.persist.ipc.socket.clone();
    fill(&mut c.ipc.socket, if told.as_os_str().is_empty() { run.join("persist-ipc.sock") } else { told });
    fill(&mut c.persist.ipc.socket, c.ipc.socket.clone());
    fill(&mut c.persist.server.grpc_socket, run.join("persist-grpc.sock"));
    let storage = &mut c.persist.storage;
    fill(&mut storage.base_dir, c.data_dir.clone());
    fill(&mut storage.local.logs.directory, storage.base_dir.join("logs"));
    fill(&mut storage.local.metrics.directory, storage.base_dir.join("metrics"));
}

/// Checks both sections, once their paths are filled in.
pub(in crate::config::daemon) fn check(c: &DaemonConfig) -> Result<(), String> {
    if !c.ipc.enabled {
        return Ok(());
    }
    between("ipc.buffer_size", c.ipc.buffer_size, 1, 100_000)?;
    span("ipc.reconnect_delay", c.ipc.reconnect_delay, Duration::from_millis(10), Duration::from_secs(3600))?;
    check_sockets(c)?;
    let persist = &c.persist;
    between("persist.server.max_connections", persist.server.max_connections, 1, 100_000)?;
    between("persist.ipc.max_connections", persist.ipc.max_connections, 1, 1000)?;
    between("persist.ipc.max_message_size", persist.ipc.max_message_size, 4096, i32::MAX as u32)?;
    let storage = &persist.storage;
    for (key, path) in [
        ("persist.storage.base_dir", &storage.base_dir),
        ("persist.storage.local.logs.directory", &storage.local.logs.directory),
        ("persist.storage.local.metrics.directory", &storage.local.metrics.directory),
    ] {
        absolute(key, path)?;
    }
    let (soon, late) = (Duration::from_millis(10), Duration::from_secs(600));
    span("persist.storage.local.commit_delay", storage.local.commit_delay, soon, late)?;
    span("persist.storage.local.commit_interval", storage.local.commit_interval, soon, late)?;
    between(
        "persist.storage.local.logs.rotation.max_size_mb",
        storage.local.logs.rotation.max_size_mb,
        0,
        1 << 20,
    )?;
    between("persist.storage.retention.logs_days", storage.retention.logs_days, 1, 36_500)?;
    between("persist.storage.retention.metrics_days", storage.retention.metrics_days, 1, 36_500)?;
    span(
        "persist.storage.retention.cleanup_interval",
        storage.retention.cleanup_interval,
        Duration::from_secs(1),
        Duration::from_secs(30 * 24 * 3600),
    )?;
    between("persist.storage.compression.level", storage.compression.level, 1, 9)?;
    if storage.kind == StorageType::Cloudwatch { check_cloudwatch(c) } else { Ok(()) }
}

fn check_sockets(c: &DaemonConfig) -> Result<(), String> {
    let server = &c.persist.server;
    if c.persist.ipc.socket != c.ipc.socket {
        let (ours, theirs) = (c.ipc.socket.display(), c.persist.ipc.socket.display());
        return Err(format!(
            "persist.ipc.socket is {theirs} and ipc.socket is {ours}: they are one socket; leave one out"
        ));
    }
    for (key, path) in [("ipc.socket", &c.ipc.socket), ("persist.server.grpc_socket", &server.grpc_socket)] {
        absolute(key, path)?;
        if path.as_os_str().len() > SOCKET_PATH {
            return Err(format!(
                "{key}: {} has more than {SOCKET_PATH} bytes, which no socket can have; choose a shorter path",
                path.display()
            ));
        }
    }
    if c.ipc.socket == server.grpc_socket {
        return Err("ipc.socket and persist.server.grpc_socket are the same path".into());
    }
    if !server.grpc_address.is_empty() {
        return Err(
            "persist.server.grpc_address is not supported: history is queried through persist.server.grpc_socket, \
             and over the network through the daemon (GetJobLogs, GetJobMetrics)"
                .into(),
        );
    }
    if server.tls.enabled {
        return Err(
            "persist.server.tls.enabled: true is not supported: the query socket is a Unix socket".into()
        );
    }
    if server.group.contains(|c: char| c.is_control() || c.is_whitespace() || c == ':') {
        return Err("persist.server.group is no name of a group".into());
    }
    Ok(())
}

fn check_cloudwatch(c: &DaemonConfig) -> Result<(), String> {
    let cloud = &c.persist.storage.cloudwatch;
    if !cfg!(feature = "cloudwatch") {
        return Err(
            "persist.storage.type: cloudwatch needs a joblet that is built with the feature cloudwatch; \
                    this one has local"
                .into(),
        );
    }
    cloud.check(&c.server.node_id)
}

fn span(key: &str, value: Duration, low: Duration, high: Duration) -> Result<(), String> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let [value, low, high] = [value, low, high].map(format_duration);
    Err(format!("{key}: {value} is out of range {low}..{high}"))
}
