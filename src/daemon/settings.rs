//! Values of the configuration in the types of the rooms that use them.

use std::path::{Path, PathBuf};

use log::Level;

use super::core::Settings;
use super::jobs::{BacklogLimits, KeptLimits};
use super::stores::Stores;
use super::workflows::WorkflowLimits;
use crate::cgroup::{CgroupTree, Share};
use crate::config::daemon::persist::StorageType;
use crate::config::daemon::{DaemonConfig, OnShutdown, ProcMode};
use crate::diag;
use crate::output::SpoolLimits;
use crate::persist::store::{Layout, LocalStore, StoreLimits};
use crate::sandbox::create::SandboxConfig;

/// The values of sandboxes.
pub(super) fn sandbox_config(config: &DaemonConfig, run_dir: &Path) -> SandboxConfig {
    SandboxConfig {
        mounts: config.filesystem.allowed_mounts.clone(),
        extra_mounts: config.filesystem.extra_mounts.clone(),
        proc_pids_only: config.filesystem.proc == ProcMode::Pid,
        run_dir: run_dir.to_owned(),
        orphan_linger_s: config.joblet.orphan_linger.as_secs(),
    }
}

/// The share of each job in the host's processes, where no controller limits all jobs together.
pub(super) fn share(config: &DaemonConfig, tree: &CgroupTree) -> Option<Share> {
    let joblet = &config.joblet;
    let share = tree.share(joblet.max_concurrent_jobs)?;
    if share.processes < joblet.default_pids_limit || share.jobs < joblet.max_concurrent_jobs {
        diag::event!(
            Level::Warn,
            "no pids controller: jobs have fewer processes, so that the host can always fork",
            processes = share.processes.min(joblet.default_pids_limit),
            jobs = share.jobs,
            remedy = "raise kernel.pid_max and kernel.threads-max, or lower joblet.maxConcurrentJobs"
        );
    }
    Some(share)
}

/// The numbers and words that steps need.
pub(super) fn settings(config: &DaemonConfig) -> Settings {
    const DAY_NS: i64 = 24 * 3600 * 1_000_000_000;
    Settings {
        max_queued: config.joblet.max_queued_jobs as usize,
        retention_max: config.state.retention.max as usize,
        retention_ns: i64::from(config.state.retention.days) * DAY_NS,
        keep_jobs: config.joblet.on_shutdown == OnShutdown::Keep,
        stop_grace: config.joblet.stop_grace_period,
        job_timeout: Some(config.joblet.job_timeout).filter(|bound| !bound.is_zero()),
        max_pause: config.joblet.max_pause,
        cleanup_timeout: config.joblet.cleanup_timeout,
        enforcement: config.cgroup.enforcement,
        max_output_bytes: config.workflow.max_output_bytes,
        per_job: if config.metrics.per_job { config.metrics.per_job_max as usize } else { 0 },
        spool_limits: spool_limits(config),
    }
}

/// The bytes of jobs that wait.
pub(super) fn backlog_limits(config: &DaemonConfig) -> BacklogLimits {
    BacklogLimits { all: config.joblet.queue_limit, client: config.joblet.client_queue_limit }
}

/// The bytes of jobs that are over.
pub(super) fn kept_limits(config: &DaemonConfig) -> KeptLimits {
    let retention = &config.state.retention;
    KeptLimits { output: retention.bytes, records: retention.record_bytes }
}

/// The bounds of workflows.
pub(super) fn workflow_limits(config: &DaemonConfig) -> WorkflowLimits {
    WorkflowLimits {
        running: config.workflow.max_running as usize,
        client_running: config.workflow.client_max_running as usize,
        output_bytes: config.workflow.max_output_bytes,
        kept: config.state.retention.max as usize,
        bytes: kept_limits(config),
    }
}

/// The bytes of output.
pub(super) fn spool_limits(config: &DaemonConfig) -> SpoolLimits {
    let joblet = &config.joblet;
    let (all, job) = (joblet.spool_limit, joblet.job_spool_limit);
    // A ring stays below the limit of its job, at which it would shrink.
    SpoolLimits { all, job, ring: joblet.live_buffer.min(job / 2), policy: joblet.spool_policy }
}

/// The directories of history on this host; `None`: nothing is kept. A store beyond it has them as a cache.
fn layout(config: &DaemonConfig) -> Option<Layout> {
    let storage = &config.persist.storage;
    config.ipc.enabled.then(|| Layout {
        logs: storage.local.logs.directory.clone(),
        metrics: storage.local.metrics.directory.clone(),
        state: storage.base_dir.clone(),
    })
}

/// The directories of history whose bytes count for `state.retention.bytes`. A cache has a bound of its own.
pub(super) fn history_dirs(config: &DaemonConfig) -> Vec<PathBuf> {
    let layout = layout(config).filter(|_| config.persist.storage.kind == StorageType::Local);
    layout.into_iter().flat_map(|layout| [layout.logs, layout.metrics]).collect()
}

/// Opens what history has of a job. It reads the files beside the process that writes them.
pub(super) fn stores(config: &DaemonConfig) -> Stores {
    let Some(layout) = layout(config) else { return Stores::default() };
    let store = LocalStore::new(layout, StoreLimits::default());
    Stores::new(Some(store.open_history()), Some(store.open_samples()))
}
