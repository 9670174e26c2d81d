//! `joblet-config.yml`: what the daemon reads, with the default of every key.
//!
//! One file holds one section: its struct, its defaults and the words that are its values. [`range`] holds the
//! rules that the types do not express, [`overrides`] the variables of the environment, [`pem`] the values of
//! `security` that name a file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod audit;
mod cgroup;
mod filesystem;
mod gpu;
mod grpc;
mod ipc;
mod job_metrics;
mod joblet;
mod logging;
mod metrics;
mod monitoring;
mod network;
mod overrides;
mod pem;
pub mod persist;
mod process;
mod range;
mod runtime;
mod security;
mod server;
mod state;
mod uploads;
mod volumes;
mod workflow;

pub use audit::{Audit, AuditOnFull};
pub use cgroup::Cgroup;
pub use filesystem::{Filesystem, ProcMode, WorkBackend};
pub use gpu::Gpu;
pub use grpc::Grpc;
pub use ipc::Ipc;
pub use job_metrics::JobMetrics;
pub use joblet::Joblet;
pub use logging::Logging;
pub use metrics::Metrics;
pub use monitoring::Monitoring;
pub use network::{Ipv6, Network};
pub use persist::Persist;
pub use process::Process;
pub use runtime::{Build, Runtime};
pub use security::Security;
pub use server::Server;
pub use state::{Backend, OnShutdown, Retention, State};
pub use uploads::Uploads;
pub use volumes::{VolumeBackend, Volumes};
pub use workflow::Workflow;

use pem::is_path;

pub use super::values::{LogLevel, Version};
use super::{
    ConfigError, Loaded, alias, check,
    permissions::{Holds, guard},
    search::{self, Environment},
    values::section,
};
pub use crate::diag::{Format as LogFormat, Output as LogOutput};

/// The daemon's configuration. Every value is in the range that its field names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DaemonConfig {
    /// Version of the format.
    pub version: Version,
    /// Root of everything the daemon keeps: run/, spool/, state. Absolute.
    pub data_dir: PathBuf,
    /// The address to listen on and the node's name.
    #[serde(deserialize_with = "section")]
    pub server: Server,
    /// The server's certificates.
    #[serde(deserialize_with = "section")]
    pub security: Security,
    /// Defaults and bounds of jobs.
    #[serde(deserialize_with = "section")]
    pub joblet: Joblet,
    /// Limits through the kernel.
    #[serde(deserialize_with = "section")]
    pub cgroup: Cgroup,
    /// The files that a job sees.
    #[serde(deserialize_with = "section")]
    pub filesystem: Filesystem,
    /// The ids that jobs run as.
    #[serde(deserialize_with = "section")]
    pub process: Process,
    /// The network that a job reaches.
    #[serde(deserialize_with = "section")]
    pub network: Network,
    /// The samples of jobs.
    #[serde(rename = "job_metrics", deserialize_with = "section")]
    pub job_metrics: JobMetrics,
    /// Bounds of the API.
    #[serde(deserialize_with = "section")]
    pub grpc: Grpc,
    /// The daemon's own log.
    #[serde(deserialize_with = "section")]
    pub logging: Logging,
    /// The way to the history process.
    #[serde(deserialize_with = "section")]
    pub ipc: Ipc,
    /// The history process.
    #[serde(deserialize_with = "section")]
    pub persist: Persist,
    /// Storage of job records.
    #[serde(deserialize_with = "section")]
    pub state: State,
    /// The files that come ahead of jobs.
    #[serde(deserialize_with = "section")]
    pub uploads: Uploads,
    /// The bounds of workflows.
    #[serde(deserialize_with = "section")]
    pub workflow: Workflow,
    /// The roots of jobs other than the host's.
    #[serde(deserialize_with = "section")]
    pub runtime: Runtime,
    /// The files that outlive jobs.
    #[serde(deserialize_with = "section")]
    pub volumes: Volumes,
    /// The GPUs that jobs can have.
    #[serde(deserialize_with = "section")]
    pub gpu: Gpu,
    /// Looks at the host itself.
    #[serde(deserialize_with = "section")]
    pub monitoring: Monitoring,
    /// The endpoint for Prometheus.
    #[serde(deserialize_with = "section")]
    pub metrics: Metrics,
    /// The trail of changes and refusals.
    #[serde(deserialize_with = "section")]
    pub audit: Audit,
}

impl Default for DaemonConfig {
    fn default() -> Self {
        Self {
            version: Version::default(),
            data_dir: "/opt/joblet".into(),
            server: Server::default(),
            security: Security::default(),
            joblet: Joblet::default(),
            cgroup: Cgroup::default(),
            filesystem: Filesystem::default(),
            process: Process::default(),
            network: Network::default(),
            job_metrics: JobMetrics::default(),
            grpc: Grpc::default(),
            logging: Logging::default(),
            ipc: Ipc::default(),
            persist: Persist::default(),
            state: State::default(),
            uploads: Uploads::default(),
            workflow: Workflow::default(),
            runtime: Runtime::default(),
            volumes: Volumes::default(),
            gpu: Gpu::default(),
            monitoring: Monitoring::default(),
            metrics: Metrics::default(),
            audit: Audit::default(),
        }
    }
}

/// Keys of the documented format whose features are not built. The daemon accepts them with a warning, so that
/// the file of an installed host loads.
const WITHOUT_EFFECT: [&str; 55] = [
    "buffers",
    "cgroup.cleanupTimeout",
    "cgroup.namespaceMount",
    "filesystem.baseDir",
    "filesystem.blockDevices",
    "filesystem.tmpDir",
    "filesystem.workspaceDir",
    "grpc.connectionTimeout",
    "grpc.maxConnectionAge",
    "grpc.maxConnectionAgeGrace",
    "grpc.maxConnectionIdle",
    "grpc.maxHeaderListSize",
    "job_metrics.enabled",
    "job_metrics.retention_days",
    "job_metrics.storage_dir",
    "joblet.allowedCommands",
    "joblet.isolation",
    "joblet.maxCpuLimit",
    "joblet.maxIoLimit",
    "joblet.minCpuLimit",
    "joblet.minIoLimit",
    "joblet.minMemoryLimit",
    "joblet.preserveFailedJobs",
    "network.allow_custom_networks",
    "network.dns",
    "network.enabled",
    "network.networks.bridge.bridge_name",
    "network.state_dir",
    "network.storage",
    "network.traffic_control",
    "persist.ipc.read_buffer",
    "persist.ipc.write_buffer",
    "persist.server.tls.ca_file",
    "persist.server.tls.cert_file",
    "persist.server.tls.client_auth",
    "persist.server.tls.key_file",
    "persist.storage.cloudwatch.log_stream_prefix",
    "persist.storage.compression.compress_extensions",
    "persist.storage.compression.enabled",
    "persist.storage.local.logs.rotation.compress_rotated",
    "persist.storage.local.logs.rotation.max_files",
    "persist.storage.local.metrics.rotation",
    "persist.storage.retention.archive_before_delete",
    "persist.storage.retention.cleanup_schedule",
    "process.allow_setuid",
    "process.default_group",
    "process.default_user",
    "process.namespaces",
    "runtime.common_paths",
    "security.audit",
    "server.keepalive",
    "server.mode",
    "server.timeout",
    "volumes.base_path",
    "volumes.default_disk_quota_bytes",
];

impl DaemonConfig {
    /// Finds, reads and checks the file, then applies the `JOBLET_*` variables of the environment.
    ///
    /// # Errors
    /// No file, a file that is wrong or whose private key others can read, no certificates in it.
    pub fn load(path: Option<&Path>) -> Result<Loaded<Self>, ConfigError> {
        Self::load_with(path, &search::process_environment)
    }

    fn load_with(path: Option<&Path>, env: Environment<'_>) -> Result<Loaded<Self>, ConfigError> {
        let path = search::daemon(path, env)?;
        let (file, text) = super::read(&path)?;
        let wrong = |why| ConfigError::Parse { path: path.clone(), why };
        let (mut config, warnings) = Self::parse(&text).map_err(wrong)?;
        let key = config.security.server_key.expose();
        let holds = if key.is_empty() || is_path(key) { Holds::Trust } else { Holds::Key };
        guard(&path, &file, holds)?;
        config.security.read_files()?;
        config.override_from(env)?;
        persist::range::fill_paths(&mut config);
        range::check(&config).map_err(wrong)?;
        persist::range::check(&config).map_err(wrong)?;
        range::check_certificates(&config).map_err(wrong)?;
        Ok(Loaded { config, path, warnings })
    }

    /// Reads a text; the pure part of [`DaemonConfig::load`]. Ranges are checked after the environment's overrides.
    fn parse(text: &str) -> Result<(Self, Vec<String>), String> {
        let (config, tree) = match without_history(text) {
            Some(rest) => {
                let whole = serde_yaml::from_str(text).map_err(|e| e.to_string())?;
                (super::parse::<Self>(&rest, alias::DAEMON)?.0, whole)
            }
            None => super::parse::<Self>(text, alias::DAEMON)?,
        };
        Ok((config, check::unread_keys(&tree, &known(), &WITHOUT_EFFECT)))
    }

    /// Everything in force as YAML, the private key as `***`: what `joblet --check-config` prints.
    pub fn effective(&self) -> String {
        serde_yaml::to_string(self).expect("a tree of texts, numbers and lists has no shape that YAML lacks")
    }
}

/// The file without its section `persist:`, where nothing reads that (`ipc.enabled: false`). Values in it may be anything.
fn without_history(text: &str) -> Option<String> {
    let mut tree: serde_yaml::Value = serde_yaml::from_str(text).ok()?;
    if tree.get("ipc")?.get("enabled")?.as_bool()? {
        return None;
    }
    tree.as_mapping_mut()?.remove("persist")?;
    serde_yaml::to_string(&tree).ok()
}

/// Every key that is read, as a tree.
fn known() -> serde_yaml::Value {
    let mut tree = serde_yaml::to_value(DaemonConfig::default())
        .expect("a tree of texts, numbers and lists has no shape that YAML lacks");
    // Dimensions have names of their own.
    tree["persist"]["storage"]["cloudwatch"]["metric_dimensions"]["*"] = "".into();
    tree
}

#[cfg(test)]
mod tests;
