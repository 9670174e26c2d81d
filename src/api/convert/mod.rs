//! The conversion between messages and the types of a job.
//!
//! [`request`] converts every field of a message into a typed value, or refuses it and names the field; no later code
//! checks again. [`reply`] converts back. Both directions are pure functions: [`Rules`] holds the facts of
//! the node that they need.

pub(super) mod attach;
pub(super) mod build;
pub(super) mod clock;
pub(super) mod exec;
pub(super) mod files;
pub(super) mod forward;
pub(super) mod gpu;
pub(super) mod host;
pub(super) mod import;
pub(super) mod install;
pub(super) mod network;
pub(super) mod reply;
pub(super) mod request;
pub(super) mod runtime;
pub(super) mod upload;
pub(super) mod volume;
pub(super) mod workflow;

use std::time::Duration;

use crate::config::daemon::{Build, DaemonConfig, Network, Process, Workflow};
use crate::job::egress::List;
use crate::job::limits::{CoreSet, CpuPercent, IoBytes, MemoryMib};
use crate::job::publish::{Publishable, Published};
use crate::job::{InvalidField, Limits, NetRate, NetworkMode, Profile, User};
use crate::upload::{LinkRoots, UploadError};

/// The reason why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// INVALID_ARGUMENT: a field breaks a rule.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// INVALID_ARGUMENT: an upload breaks a rule.
    #[error(transparent)]
    Upload(UploadError),
    /// PERMISSION_DENIED: this node's configuration allows it to no client.
    #[error("{0}")]
    Forbidden(String),
    /// FAILED_PRECONDITION: the node does not have what the request needs.
    #[error("{0}")]
    Missing(String),
    /// NOT_FOUND: the text cannot be a job's id.
    #[error("job not found: {0}")]
    NotFound(String),
    /// RESOURCE_EXHAUSTED: a limit of the daemon is reached.
    #[error("{0}")]
    Exhausted(String),
}

/// The parts of the host that jobs may have.
#[derive(Debug, Clone)]
struct HostRules {
    /// Whether a job may share the host's network.
    network: bool,
    /// Ports that may be published for jobs.
    ports: Publishable,
    /// Whether a job may have the profile `container`.
    container: bool,
}

impl HostRules {
    fn new(config: &Network, process: &Process) -> Result<Self, InvalidField> {
        let publish = &config.publish;
        let ports = Publishable::new(config.allow_publish, &publish.addresses, &publish.ports)?;
        Ok(HostRules { network: config.allow_host, ports, container: process.allow_container_profile })
    }
}

/// The node's defaults and bounds, which fill and check a request.
#[derive(Debug, Clone)]
pub struct Rules {
    cpu: Option<CpuPercent>,
    memory: Option<MemoryMib>,
    io: Option<IoBytes>,
    pids: u32,
    /// The largest memory limit, in MiB.
    max_memory_mib: u64,
    cores: CoreSet,
    network: NetworkMode,
    user: User,
    /// The egress list of a job that names none.
    egress: Option<List>,
    /// The list that no other goes beyond.
    egress_maximum: Option<List>,
    /// The rate of a job's network that a job has which names none, and that none exceeds.
    net_rate: NetRate,
    host: HostRules,
    job_timeout: Option<Duration>,
    /// Where symbolic links of uploads may lead.
    link_roots: LinkRoots,
    /// The longest time between TERM and KILL that a client may ask for.
    max_stop_grace: Duration,
    pub(super) validate_commands: bool,
    node_id: String,
    workflow: Workflow,
    build: Build,
    /// The egress list of a job that builds a runtime.
    build_egress: List,
}

impl Rules {
    /// The rules of a node whose jobs may run on these `cores`, and that has this much memory.
    ///
    /// # Errors
    /// A default of the configuration is not valid for a job.
    pub fn new(config: &DaemonConfig, cores: CoreSet, host_memory_mib: u64) -> Result<Self, InvalidField> {
        let jobs = &config.joblet;
        let max_memory_mib = match jobs.max_memory_limit {
            0 => host_memory_mib,
            limit => u64::from(limit),
        };
        // On a host smaller than the default, jobs without a limit are not refused but get all its memory.
        let list = |texts: &[String]| -> Result<Option<List>, InvalidField> {
            let list = (!texts.is_empty()).then(|| List::parse(texts)).transpose();
            list.map_err(|why| InvalidField::new(why.to_string()))
        };
        let egress_maximum = list(&config.network.egress.maximum)?;
        let memory = u64::from(jobs.default_memory_limit).min(max_memory_mib);
        Ok(Rules {
            cpu: given(jobs.default_cpu_limit.into(), CpuPercent::new)?,
            memory: given(memory.cast_signed(), |mib| MemoryMib::new(mib, max_memory_mib))?,
            io: given(jobs.default_io_limit.into(), IoBytes::new)?,
            pids: jobs.default_pids_limit,
            max_memory_mib,
            cores,
            network: config.network.default_network.parse().unwrap_or(NetworkMode::None),
            user: config.process.default_user,
            // A job without a list would reach more than any list may allow.
            egress: list(&config.network.egress.default)?.or_else(|| egress_maximum.clone()),
            egress_maximum,
            net_rate: NetRate::of_node(config.network.rate.up, config.network.rate.down)?,
            host: HostRules::new(&config.network, &config.process)?,
            job_timeout: Some(jobs.job_timeout).filter(|bound| !bound.is_zero()),
            link_roots: LinkRoots::new(
                config.filesystem.allowed_mounts.as_deref(),
                &config.filesystem.extra_mounts,
            ),
            max_stop_grace: jobs.max_stop_grace,
            validate_commands: jobs.validate_commands,
            node_id: config.server.node_id.clone(),
            workflow: config.workflow,
            build: config.runtime.build.clone(),
            build_egress: config.runtime.build_egress().map_err(|why| InvalidField::new(why.to_string()))?,
        })
    }
}

impl Rules {
    /// The same with a lower limit of processes, if the node has one.
    #[must_use]
    pub fn with_processes(self, most: Option<u32>) -> Self {
        Rules { pids: most.map_or(self.pids, |most| self.pids.min(most)), ..self }
    }

    /// Checks that a list goes no further than the node lets any job's.
    fn check_egress(&self, list: &List) -> Result<(), Refusal> {
        match &self.egress_maximum {
            Some(maximum) => list.within(maximum).map_err(|why| Refusal::Forbidden(why.to_string())),
            None => Ok(()),
        }
    }

    /// Checks that the node lets jobs publish these ports.
    fn check_publish(&self, ports: &[Published]) -> Result<(), Refusal> {
        match ports.iter().find_map(|port| self.host.ports.refusal(port)) {
            Some(why) => Err(Refusal::Forbidden(why)),
            None => Ok(()),
        }
    }

    /// Checks that the node lets jobs have this profile.
    fn check_profile(&self, profile: Profile) -> Result<(), Refusal> {
        match profile {
            Profile::Container if !self.host.container => Err(Refusal::Forbidden(
                "this node runs no jobs of the profile \"container\" (process.allowContainerProfile: false)"
                    .to_owned(),
            )),
            Profile::Strict | Profile::Container => Ok(()),
        }
    }

    /// The limits, the user and the network of a job that requests none.
    pub fn usual(&self) -> (Limits, User, NetworkMode) {
        let limits = Limits { cpu: self.cpu, memory: self.memory, io: self.io, cores: None, pids: self.pids };
        (limits, self.user, self.network.clone())
    }
}

/// The value of a field: 0 means "not given" everywhere on the wire and in the configuration.
fn given<T>(
    value: i64,
    parse: impl FnOnce(i64) -> Result<T, InvalidField>,
) -> Result<Option<T>, InvalidField> {
    if value == 0 { Ok(None) } else { parse(value).map(Some) }
}
