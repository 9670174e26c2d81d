//! `joblet-config.yml`: what the daemon reads, with the default of every key.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use super::state::{Backend, OnShutdown, Retention, State};
pub use super::values::{LogLevel, Version};
use super::{
    ConfigError, Loaded, check,
    pem::{is_path, pem_file},
    permissions::{Holds, guard},
    range,
    search::{self, Environment},
    values::{self, section},
};
use crate::diag;
pub use crate::diag::{Format as LogFormat, Output as LogOutput};
use crate::job::{Controller, Enforcement, Secret, SpoolPolicy};

/// The daemon's configuration. Every value is in the range that its field names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DaemonConfig {
    /// Version of the format.
    pub version: Version,
    /// Root of everything the daemon keeps: run/, spool/, state. Absolute.
    pub data_dir: PathBuf,
    /// Where it listens and who it is.
    #[serde(deserialize_with = "section")]
    pub server: Server,
    /// Its certificates.
    #[serde(deserialize_with = "section")]
    pub security: Security,
    /// Defaults and bounds of jobs.
    #[serde(deserialize_with = "section")]
    pub joblet: Joblet,
    /// Limits through the kernel.
    #[serde(deserialize_with = "section")]
    pub cgroup: Cgroup,
    /// What a job sees.
    #[serde(deserialize_with = "section")]
    pub filesystem: Filesystem,
    /// Who a job is.
    #[serde(deserialize_with = "section")]
    pub process: Process,
    /// What a job reaches.
    #[serde(deserialize_with = "section")]
    pub network: Network,
    /// What is measured of jobs.
    #[serde(rename = "job_metrics", deserialize_with = "section")]
    pub job_metrics: JobMetrics,
    /// Bounds of the API.
    #[serde(deserialize_with = "section")]
    pub grpc: Grpc,
    /// The daemon's own log.
    #[serde(deserialize_with = "section")]
    pub logging: Logging,
    /// Whether output is kept.
    #[serde(deserialize_with = "section")]
    pub ipc: Ipc,
    /// Where jobs are remembered.
    #[serde(deserialize_with = "section")]
    pub state: State,
}

/// `server:`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Server {
    /// Address to listen on.
    pub address: String,
    /// TCP port, 1..65535.
    #[serde(deserialize_with = "values::port")]
    pub port: u16,
    /// Name of this node in replies and records; may be empty.
    pub node_id: String,
}

/// `security:` Three PEM texts, all required to start, and a file. Where the file of the configuration names files
/// instead of texts, their texts are here.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Security {
    /// The server's certificate, with its chain if it has one.
    pub server_cert: String,
    /// Its private key.
    #[serde(with = "values::secret")]
    pub server_key: Secret,
    /// The CA that clients' certificates must come from.
    pub ca_cert: String,
    /// A file with the CA's list of revoked certificates, absolute; absent: nothing is revoked.
    pub revocation_list: Option<PathBuf>,
}

/// `joblet:`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Joblet {
    /// Percent of one core for a job that asks for nothing, up to 10000; 0: no limit.
    pub default_cpu_limit: u32,
    /// MiB for a job that asks for nothing, from 4; 0: no limit.
    pub default_memory_limit: u32,
    /// Bytes a second for a job that asks for nothing, from 4096; 0: no limit.
    pub default_io_limit: u32,
    /// Processes and threads of a job, at least 1.
    pub default_pids_limit: u32,
    /// MiB that a job may ask for; 0: the host's memory.
    pub max_memory_limit: u32,
    /// Jobs that run at one time, at least 1 and at most `process.subidCount`.
    pub max_concurrent_jobs: u32,
    /// Jobs that may wait for their time or for a place, 0 for none.
    pub max_queued_jobs: u32,
    /// Berths kept ready for the next jobs, at most 256; 0: none.
    #[serde(alias = "readyBerths")]
    pub warm_sandboxes: u32,
    /// Longest run of any job; zero: no bound.
    #[serde(with = "values::duration")]
    pub job_timeout: Duration,
    /// From TERM to KILL when a job is stopped.
    #[serde(with = "values::duration")]
    pub stop_grace_period: Duration,
    /// Bound of reading a finished job's pipes and of removing its cgroup; then a warning and a retry.
    #[serde(with = "values::duration")]
    pub cleanup_timeout: Duration,
    /// Refuses shell characters in commands (never in arguments).
    pub validate_commands: bool,
    /// How long a finished job waits for a new daemon to fetch its output when the old one is gone.
    #[serde(with = "values::duration")]
    pub orphan_linger: Duration,
    /// What becomes of running jobs when the daemon is told to end.
    pub on_shutdown: OnShutdown,
    /// Bytes of output kept for all unfinished jobs together, at least 64 KiB.
    #[serde(with = "values::size")]
    pub spool_limit: u64,
    /// Bytes of output kept for one unfinished job, at least 64 KiB.
    #[serde(with = "values::size")]
    pub job_spool_limit: u64,
    /// What happens to output at these limits.
    pub spool_policy: SpoolPolicy,
}

/// `cgroup:`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Cgroup {
    /// The group below which jobs get theirs, absolute; absent: found from mountinfo.
    pub base_dir: Option<PathBuf>,
    /// What a missing controller means.
    pub enforcement: Enforcement,
    /// Controllers to use.
    pub enable_controllers: Vec<Controller>,
}

/// What of /proc a job sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcMode {
    /// All of its own pid namespace's, with the host's doors masked.
    Masked,
    /// Processes only.
    Pid,
}

/// What /work is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkBackend {
    /// Disk where the file system of dataDir enforces project quotas, else tmpfs.
    Auto,
    /// A directory below dataDir with a project quota; without quotas the daemon does not start.
    Disk,
    /// Memory: what a job writes counts for its memory limit, and at most half of that.
    Tmpfs,
}

/// `filesystem:`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Filesystem {
    /// What of /proc a job sees.
    pub proc: ProcMode,
    /// Host paths that jobs see read-only, absolute; absent: the built-in list.
    pub allowed_mounts: Option<Vec<PathBuf>>,
    /// Bytes of /work, at least 1 MiB.
    #[serde(with = "values::size")]
    pub work_quota: u64,
    /// What /work is made of.
    pub work_backend: WorkBackend,
}

/// `process:`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Process {
    /// First host uid and gid that jobs run as; one for each running job.
    pub subid_base: u32,
    /// How many there are.
    pub subid_count: u32,
}

/// `network:`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Mode of a job that asks for none: "none", or "host" where that is allowed.
    pub default_network: String,
    /// Whether a job may share the host's network.
    pub allow_host: bool,
    /// Whether a network namespace in which a job left no socket is given to a later one.
    #[serde(rename = "reuseNamespaces")]
    pub reuse_namespaces: bool,
}

/// `job_metrics:`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobMetrics {
    /// From one sample of a job to the next, 1s..60s.
    #[serde(with = "values::duration")]
    pub default_sample_rate: Duration,
}

/// `grpc:`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Grpc {
    /// Bytes of one request; bounds uploads. 4 KiB..2 GiB, as is the next.
    pub max_recv_msg_size: u32,
    /// Bytes of one reply.
    pub max_send_msg_size: u32,
    /// Idle time before a connection is pinged.
    #[serde(with = "values::duration")]
    pub keep_alive_time: Duration,
    /// Wait for the answer before the connection is closed.
    #[serde(with = "values::duration")]
    pub keep_alive_timeout: Duration,
    /// Calls at one time on one connection.
    pub max_concurrent_streams: u32,
}

/// `logging:`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// Least severity.
    pub level: LogLevel,
    /// Shape of a line.
    pub format: LogFormat,
    /// Destination.
    pub output: LogOutput,
}

/// `ipc:`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipc {
    /// Keeps the output of jobs; `false` is refused until live-only output exists.
    pub enabled: bool,
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
            state: State::default(),
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self { address: "0.0.0.0".into(), port: 50051, node_id: String::new() }
    }
}

impl Default for Joblet {
    fn default() -> Self {
        Self {
            default_cpu_limit: 100,
            default_memory_limit: 512,
            default_io_limit: 0,
            default_pids_limit: 4096,
            max_memory_limit: 0,
            max_concurrent_jobs: 100,
            max_queued_jobs: 10_000,
            warm_sandboxes: 8,
            job_timeout: Duration::from_secs(3600),
            stop_grace_period: Duration::from_millis(100),
            cleanup_timeout: Duration::from_secs(5),
            validate_commands: true,
            orphan_linger: Duration::from_secs(24 * 3600),
            spool_limit: 1 << 30,
            job_spool_limit: 256 << 20,
            spool_policy: SpoolPolicy::Block,
            on_shutdown: OnShutdown::Keep,
        }
    }
}

impl Default for Cgroup {
    fn default() -> Self {
        use Controller::*;
        Self {
            base_dir: None,
            enforcement: Enforcement::Strict,
            enable_controllers: vec![Cpu, Memory, Io, Pids, Cpuset],
        }
    }
}

impl Default for Filesystem {
    fn default() -> Self {
        Self {
            proc: ProcMode::Masked,
            allowed_mounts: None,
            work_quota: 1 << 30,
            work_backend: WorkBackend::Auto,
        }
    }
}

impl Default for Process {
    fn default() -> Self {
        // 0x70000000: the start of a range that systemd leaves to nobody (its UIDS-GIDS document).
        Self { subid_base: 1_879_048_192, subid_count: 65_536 }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self { default_network: "none".into(), allow_host: false, reuse_namespaces: false }
    }
}

impl Default for JobMetrics {
    fn default() -> Self {
        Self { default_sample_rate: Duration::from_secs(5) }
    }
}

impl Default for Grpc {
    fn default() -> Self {
        Self {
            max_recv_msg_size: 128 << 20,
            max_send_msg_size: 4 << 20,
            keep_alive_time: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(20),
            max_concurrent_streams: 256,
        }
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text, output: LogOutput::Stdout }
    }
}

impl Default for Ipc {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// Keys of the documented format whose features are not built. Accepted, so that a file of an installed host
/// loads, but told.
const WITHOUT_EFFECT: [&str; 49] = [
    "buffers",
    "cgroup.cleanupTimeout",
    "cgroup.namespaceMount",
    "filesystem.baseDir",
    "filesystem.blockDevices",
    "filesystem.tmpDir",
    "filesystem.workspaceDir",
    "gpu",
    "grpc.connectionTimeout",
    "grpc.maxConnectionAge",
    "grpc.maxConnectionAgeGrace",
    "grpc.maxConnectionIdle",
    "grpc.maxHeaderListSize",
    "ipc.buffer_size",
    "ipc.max_reconnects",
    "ipc.reconnect_delay",
    "ipc.socket",
    "job_metrics.enabled",
    "job_metrics.retention_days",
    "job_metrics.storage_dir",
    "joblet.allowedCommands",
    "joblet.isolation",
    "joblet.liveBuffer",
    "joblet.maxCpuLimit",
    "joblet.maxIoLimit",
    "joblet.minCpuLimit",
    "joblet.minIoLimit",
    "joblet.minMemoryLimit",
    "joblet.preserveFailedJobs",
    "monitoring",
    "network.allow_custom_networks",
    "network.dns",
    "network.enabled",
    "network.max_custom_networks",
    "network.networks",
    "network.state_dir",
    "network.storage",
    "network.traffic_control",
    "persist",
    "process.allow_setuid",
    "process.default_group",
    "process.default_user",
    "process.namespaces",
    "runtime",
    "security.audit",
    "server.keepalive",
    "server.mode",
    "server.timeout",
    "volumes",
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
        range::check(&config).map_err(wrong)?;
        range::check_certificates(&config).map_err(wrong)?;
        Ok(Loaded { config, path, warnings })
    }

    /// Reads a text; the pure part of [`DaemonConfig::load`]. Ranges are checked after the environment had its say.
    fn parse(text: &str) -> Result<(Self, Vec<String>), String> {
        let (config, tree) = super::parse::<Self>(text)?;
        Ok((config, check::unread_keys(&tree, &known(), &WITHOUT_EFFECT)))
    }

    /// Everything in force as YAML, the private key as `***`: what `joblet --check-config` prints.
    pub fn effective(&self) -> String {
        serde_yaml::to_string(self).expect("a tree of texts, numbers and lists has no shape that YAML lacks")
    }

    fn override_from(&mut self, env: Environment<'_>) -> Result<(), ConfigError> {
        let wrong = |name| move |why| ConfigError::Override { name, why };
        if let Some(address) = env("JOBLET_SERVER_ADDRESS") {
            self.server.address = address;
        }
        if let Some(port) = env("JOBLET_SERVER_PORT") {
            self.server.port = values::parse_port(&port).map_err(wrong("JOBLET_SERVER_PORT"))?;
        }
        if let Some(id) = env("JOBLET_NODE_ID") {
            self.server.node_id = id;
        }
        if let Some(jobs) = env("JOBLET_MAX_JOBS") {
            let why = format!("{:?} is not a number of jobs", jobs);
            let number = jobs.parse().map_err(|_| why);
            self.joblet.max_concurrent_jobs = number.map_err(wrong("JOBLET_MAX_JOBS"))?;
        }
        if let Some(level) = env("JOBLET_LOG_LEVEL") {
            self.logging.level = LogLevel::parse(&level).map_err(wrong("JOBLET_LOG_LEVEL"))?;
        }
        if let Some(format) = env("JOBLET_LOG_FORMAT") {
            self.logging.format = match format.as_str() {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => return Err(wrong("JOBLET_LOG_FORMAT")(format!("{format:?} is neither text nor json"))),
            };
        }
        Ok(())
    }
}

impl Security {
    /// Puts the texts of files in the place of their names.
    fn read_files(&mut self) -> Result<(), ConfigError> {
        for (key, value) in [("serverCert", &mut self.server_cert), ("caCert", &mut self.ca_cert)] {
            if let Some(text) = pem_file(key, value, Holds::Trust)? {
                *value = text;
            }
        }
        if let Some(text) = pem_file("serverKey", self.server_key.expose(), Holds::Key)? {
            self.server_key = Secret::new(text);
        }
        Ok(())
    }
}

impl Logging {
    /// The same for the log itself.
    pub fn settings(&self) -> diag::Settings {
        diag::Settings { level: self.level.into(), format: self.format, output: self.output.clone() }
    }
}

/// Every key that is read, as a tree.
fn known() -> serde_yaml::Value {
    serde_yaml::to_value(DaemonConfig::default())
        .expect("a tree of texts, numbers and lists has no shape that YAML lacks")
}

#[cfg(test)]
#[path = "daemon_tests.rs"]
mod tests;
