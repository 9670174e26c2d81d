//! Ranges and combinations that types do not express. One sentence about the first wrong key.

use std::net::Ipv4Addr;
use std::path::{Component, Path};
use std::time::Duration;

use super::{Backend, DaemonConfig, OnShutdown};
use crate::job::egress::List;
use crate::job::publish::Publishable;
use crate::job::units::{format_duration, format_size};
use crate::job::{CONTAINER_IDS, NetRate, NetworkMode, ranges};

/// Longest duration taken anywhere: ten years keep every later sum far from an overflow.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Most ranges of ids: those between the start of the default range and the owners of files in volumes.
const MOST_RANGES: u32 = 4094;

/// Paths that every job has of its own; the host's mount in their place would break the isolation.
const OWN_PLACES: [&str; 11] = [
    "/proc",
    "/dev",
    "/sys",
    "/tmp",
    "/work",
    "/volumes",
    "/run",
    "/var/run",
    "/var/lock",
    "/var/log",
    "/var/tmp",
];

pub(super) fn check(c: &DaemonConfig) -> Result<(), String> {
    between("joblet.defaultCpuLimit", c.joblet.default_cpu_limit, 0, 10_000)?;
    zero_or("joblet.defaultMemoryLimit", c.joblet.default_memory_limit, 4, i32::MAX as u32)?;
    zero_or("joblet.defaultIoLimit", c.joblet.default_io_limit, 4096, i32::MAX as u32)?;
    // The kernel's own bound of processes: PID_MAX_LIMIT.
    between("joblet.defaultPidsLimit", c.joblet.default_pids_limit, 1, 4_194_304)?;
    zero_or("joblet.maxMemoryLimit", c.joblet.max_memory_limit, 4, i32::MAX as u32)?;
    if c.joblet.max_memory_limit != 0 && c.joblet.default_memory_limit > c.joblet.max_memory_limit {
        return Err("joblet.defaultMemoryLimit is above joblet.maxMemoryLimit".into());
    }
    let jobs = ids(c)?;
    between("joblet.maxQueuedJobs", c.joblet.max_queued_jobs, 0, 1_000_000)?;
    between("state.retention.days", c.state.retention.days, 1, 36_500)?;
    between("state.retention.max", c.state.retention.max, 1, 10_000_000)?;
    check_bytes(c)?;
    if c.state.backend == Backend::Memory && c.joblet.on_shutdown == OnShutdown::Keep {
        let why = "with state.backend: memory nobody remembers jobs that go on without the daemon";
        return Err(format!("joblet.onShutdown: keep cannot be used: {why}; choose joblet.onShutdown: stop"));
    }
    between("joblet.maxConcurrentJobs", c.joblet.max_concurrent_jobs, 1, jobs)?;
    for (key, value) in [
        ("joblet.jobTimeout", c.joblet.job_timeout),
        ("joblet.stopGracePeriod", c.joblet.stop_grace_period),
        ("joblet.maxStopGrace", c.joblet.max_stop_grace),
        ("joblet.maxPause", c.joblet.max_pause),
        ("joblet.cleanupTimeout", c.joblet.cleanup_timeout),
        ("joblet.orphanLinger", c.joblet.orphan_linger),
        ("grpc.keepAliveTime", c.grpc.keep_alive_time),
        ("grpc.keepAliveTimeout", c.grpc.keep_alive_timeout),
    ] {
        if value > LONGEST {
            return Err(format!("{key} is longer than ten years"));
        }
    }
    for (key, value) in [
        ("grpc.keepAliveTime", c.grpc.keep_alive_time),
        ("grpc.keepAliveTimeout", c.grpc.keep_alive_timeout),
        ("joblet.maxPause", c.joblet.max_pause),
        ("joblet.cleanupTimeout", c.joblet.cleanup_timeout),
    ] {
        if value.is_zero() {
            return Err(format!("{key} must be longer than 0s"));
        }
    }
    let rate = c.job_metrics.default_sample_rate;
    if !(Duration::from_secs(1)..=Duration::from_secs(60)).contains(&rate) {
        let rate = format_duration(rate);
        return Err(format!("job_metrics.default_sample_rate: {rate} is out of range 1s..1m"));
    }
    between("grpc.maxRecvMsgSize", c.grpc.max_recv_msg_size, 4096, i32::MAX as u32)?;
    between("grpc.maxSendMsgSize", c.grpc.max_send_msg_size, 4096, i32::MAX as u32)?;
    between("grpc.maxConcurrentStreams", c.grpc.max_concurrent_streams, 1, i32::MAX as u32)?;
    if c.filesystem.work_quota < 1 << 20 {
        return Err("filesystem.workQuota is below 1MiB".into());
    }
    for (key, limit) in [("spoolLimit", c.joblet.spool_limit), ("jobSpoolLimit", c.joblet.job_spool_limit)] {
        if limit < 64 << 10 {
            return Err(format!("joblet.{key} is below 64KiB"));
        }
    }
    check_workflows(c)?;
    let interval = c.monitoring.system_interval;
    if !(1..=3600).contains(&interval.as_secs()) || interval.subsec_nanos() > 0 {
        return Err("monitoring.system_interval is out of range 1s..1h, in whole seconds".into());
    }
    c.metrics.address()?;
    between("metrics.perJobMax", c.metrics.per_job_max, 1, 10_000)?;
    check_uploads(c)?;
    super::audit::check(c)?;
    paths_and_names(c)
}

fn check_uploads(c: &DaemonConfig) -> Result<(), String> {
    if c.uploads.client_limit > c.uploads.limit {
        return Err("uploads.clientLimit is above uploads.limit".into());
    }
    if !(Duration::from_secs(1)..=LONGEST).contains(&c.uploads.lifetime) {
        return Err("uploads.lifetime is out of range 1s..10 years".into());
    }
    Ok(())
}

fn check_workflows(c: &DaemonConfig) -> Result<(), String> {
    between("workflow.maxRunning", c.workflow.max_running, 1, 10_000)?;
    between("workflow.clientMaxRunning", c.workflow.client_max_running, 1, c.workflow.max_running)?;
    between("workflow.maxJobs", c.workflow.max_jobs, 1, 20_000)?;
    if !(1024..=8 << 20).contains(&c.workflow.max_bytes) {
        return Err("workflow.maxBytes is out of range 1KiB..8MiB".into());
    }
    Ok(())
}

fn check_builds(runtime: &super::Runtime) -> Result<(), String> {
    let build = &runtime.build;
    runtime.build_egress().map_err(|why| format!("runtime.build.allow: {why}"))?;
    match build.network.parse() {
        Ok(NetworkMode::Host) => {
            return Err("runtime.build.network: host is no network of builds; use bridge or another".into());
        }
        Ok(_) => {}
        Err(why) => return Err(format!("runtime.build.network: {why}")),
    }
    if build.memory != 0 && build.memory < 4 {
        return Err(format!("runtime.build.memory: {} is out of range 4..", build.memory));
    }
    if build.timeout < Duration::from_secs(1) {
        return Err("runtime.build.timeout is below 1s".into());
    }
    Ok(())
}

fn paths_and_names(c: &DaemonConfig) -> Result<(), String> {
    absolute("dataDir", &c.data_dir)?;
    if !c.runtime.base_path.as_os_str().is_empty() {
        absolute("runtime.base_path", &c.runtime.base_path)?;
    }
    check_builds(&c.runtime)?;
    if let Some(dir) = &c.cgroup.base_dir {
        absolute("cgroup base directory", dir)?;
    }
    if let Some(list) = &c.security.revocation_list {
        absolute("security.revocationList", list)?;
    }
    let allowed = c.filesystem.allowed_mounts.iter().flatten().map(|path| ("filesystem.allowedMounts", path));
    let extra = c.filesystem.extra_mounts.iter().map(|path| ("filesystem.extraMounts", path));
    for (key, path) in allowed.chain(extra) {
        absolute(key, path)?;
        let ours = OWN_PLACES.iter().find(|own| path.starts_with(own) || Path::new(own).starts_with(path));
        if let Some(own) = ours {
            return Err(format!("{key}: {} is refused: jobs have a {own} of their own", path.display()));
        }
    }
    gpu_files(&c.gpu)?;
    if c.server.address.is_empty() {
        return Err("server.address is empty; 0.0.0.0 listens everywhere".into());
    }
    for (key, value) in [("server.address", &c.server.address), ("server.nodeId", &c.server.node_id)] {
        if value.len() > 253 || value.chars().any(|ch| ch.is_control() || ch.is_whitespace()) {
            return Err(format!("{key} has a blank or control character, or more than 253 bytes"));
        }
    }
    check_default_network(c)?;
    let own = [
        ("network.networks.bridge.cidr", &c.network.networks.bridge.cidr),
        ("network.isolated_cidr", &c.network.isolated_cidr),
    ];
    for (key, text) in
        own.into_iter().chain(c.network.egress.allow.iter().map(|r| ("network.egress.allow", r)))
    {
        if !is_range(text) {
            return Err(format!("{key}: {text:?} is no range of IPv4 addresses, such as 172.20.0.0/16"));
        }
    }
    let publish = &c.network.publish;
    Publishable::new(c.network.allow_publish, &publish.addresses, &publish.ports)
        .map_err(|why| format!("network.publish: {why}"))?;
    NetRate::of_node(c.network.rate.up, c.network.rate.down).map_err(|why| why.to_string())?;
    egress(c)
}

/// The files of the driver that jobs with GPUs see.
fn gpu_files(gpu: &super::Gpu) -> Result<(), String> {
    for path in &gpu.cuda_paths {
        absolute("gpu.cuda_paths", path)?;
    }
    let is_name = |name: &str| {
        let name = name.strip_suffix('*').unwrap_or(name);
        !name.is_empty() && !name.contains(['/', '*']) && !name.contains(char::is_control)
    };
    match gpu.libraries.iter().find(|name| !is_name(name)) {
        Some(name) => Err(format!(
            "gpu.libraries: {name:?} is no name of a library, such as libcuda.so.1, or libnvidia-* with a star at the end"
        )),
        None => Ok(()),
    }
}

/// The egress lists of the node.
fn egress(c: &DaemonConfig) -> Result<(), String> {
    let list = |key: &str, texts| List::parse(texts).map_err(|why| format!("network.egress.{key}: {why}"));
    let default = list("default", &c.network.egress.default)?;
    let maximum = list("maximum", &c.network.egress.maximum)?;
    if maximum.texts().is_empty() {
        return Ok(());
    }
    default.within(&maximum).map_err(|why| format!("network.egress.default: {why}"))
}

fn check_default_network(c: &DaemonConfig) -> Result<(), String> {
    between("network.max_custom_networks", c.network.max_custom_networks, 0, 500)?;
    match (c.network.default_network.as_str(), c.network.allow_host) {
        ("none" | "isolated" | "bridge", _) | ("host", true) => {}
        ("host", false) => {
            return Err("network.default_network: host needs network.allow_host: true".into());
        }
        (other, _) => {
            return Err(format!(
                "network.default_network: {other:?} is no mode; use none, isolated, bridge or host"
            ));
        }
    }
    Ok(())
}

/// Whether a text is an IPv4 address, with or without a prefix. The daemon's start says more of it.
fn is_range(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
    address.parse::<Ipv4Addr>().is_ok() && prefix.parse::<u8>().is_ok_and(|prefix| prefix <= 32)
}

/// Without all three the server cannot start.
pub(super) fn check_certificates(c: &DaemonConfig) -> Result<(), String> {
    let s = &c.security;
    for (key, text) in
        [("serverCert", s.server_cert.as_str()), ("serverKey", s.server_key.expose()), ("caCert", &s.ca_cert)]
    {
        if text.trim().is_empty() {
            return Err(format!(
                "server certificates are not configured in security section: {key} is missing; make a set with: \
                 joblet setup --dir DIR"
            ));
        }
    }
    Ok(())
}

pub(super) fn between(key: &str, value: u32, low: u32, high: u32) -> Result<(), String> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(format!("{key}: {value} is out of range {low}..{high}"))
    }
}

/// The ids of jobs. The number of jobs for which there are enough, beside the warm sandboxes.
fn ids(c: &DaemonConfig) -> Result<u32, String> {
    let (base, count, each) = (c.process.subid_base, c.process.subid_count, c.process.ids_per_job);
    if each != 1 && each != CONTAINER_IDS {
        return Err(format!("process.idsPerJob: {each} is neither 1 nor {CONTAINER_IDS}"));
    }
    if c.process.allow_container_profile && each == 1 {
        return Err(format!("process.allowContainerProfile: true needs process.idsPerJob: {CONTAINER_IDS}"));
    }
    let most = if each == 1 { 1 << 20 } else { MOST_RANGES * CONTAINER_IDS };
    between("process.subidCount", count, each, most)?;
    // Uid 0 and the ids of real users are never given to a job; -1 and its neighbour mean "nobody" to the kernel.
    between("process.subidBase", base, 65_537, u32::MAX - 2 - count)?;
    let (_, leases) = ranges(base, count, each);
    let (jobs, warm) = (c.joblet.max_concurrent_jobs, c.joblet.warm_sandboxes);
    if each != 1 && u64::from(jobs) + u64::from(warm) > u64::from(leases) {
        let wanted = (u64::from(jobs) + u64::from(warm)) * u64::from(each);
        return Err(format!(
            "process.subidCount: {count} ids have {leases} times {each} for a job in them, too few for \
             joblet.maxConcurrentJobs ({jobs}) and joblet.warmSandboxes ({warm}): write {wanted}, or lower these"
        ));
    }
    between("joblet.warmSandboxes", warm, 0, 256.min(leases - 1))?;
    // Jobs that cannot use a warm sandbox need ids too.
    Ok(leases - warm)
}

/// Limits of bytes that something must fit into.
fn check_bytes(c: &DaemonConfig) -> Result<(), String> {
    if !(64 << 10..=1 << 30).contains(&c.joblet.live_buffer) {
        let size = format_size(c.joblet.live_buffer);
        return Err(format!("joblet.liveBuffer: {size} is out of range 64KiB..1GiB"));
    }
    let (kept, joblet) = (&c.state.retention, &c.joblet);
    at_least("state.retention.bytes", kept.bytes, "joblet.jobSpoolLimit", joblet.job_spool_limit)?;
    at_least("state.retention.recordBytes", kept.record_bytes, "the largest record", 4 << 20)?;
    at_least("joblet.queueLimit", joblet.queue_limit, "joblet.clientQueueLimit", joblet.client_queue_limit)
}

/// A limit of bytes that another one must fit into.
fn at_least(key: &str, value: u64, what: &str, least: u64) -> Result<(), String> {
    if value >= least {
        Ok(())
    } else {
        Err(format!("{key}: {} is below {what}, {}", format_size(value), format_size(least)))
    }
}

fn zero_or(key: &str, value: u32, low: u32, high: u32) -> Result<(), String> {
    if value == 0 { Ok(()) } else { between(key, value, low, high) }
}

pub(super) fn absolute(key: &str, path: &Path) -> Result<(), String> {
    let steps_up = path.components().any(|c| c == Component::ParentDir);
    if path.is_absolute() && !steps_up {
        Ok(())
    } else {
        Err(format!("{key} must be absolute path: {}", path.display().to_string().escape_debug()))
    }
}
