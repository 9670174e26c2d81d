//! The permissions of clients: a role from the client's certificate, and one table of all RPCs of all services.
//!
//! The check runs before each handler, for each call. A connection loses its rights when its certificate expires or is
//! revoked, or when its CA is replaced ([`access`](super::access)). A method without a row is denied.

use grpcio::{CheckResult, RpcContext, RpcStatus, RpcStatusCode, ServerChecker};

use super::access::{Access, Peer};
use super::role::Role;
use super::{recorded, status};
use crate::audit::Audit;
use crate::diag::{Level, limited};
use crate::exporter::Counts;
use log::log_enabled;

/// One RPC: its full name, its operation in errors, and the roles that may call it.
struct Row(&'static str, &'static str, &'static [Role]);

const ADMIN: &[Role] = &[Role::Admin];
const ALL: &[Role] = &[Role::Admin, Role::Viewer];

/// All RPCs; a test compares the table with `ALL_METHODS` of the generated code.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row("/joblet.JobService/RunJob", "run_job", ADMIN),
    Row("/joblet.JobService/GetJobStatus", "get_job_status", ALL),
    Row("/joblet.JobService/StopJob", "stop_job", ADMIN),
    Row("/joblet.JobService/CancelJob", "stop_job", ADMIN),
    Row("/joblet.JobService/DeleteJob", "delete_job", ADMIN),
    Row("/joblet.JobService/DeleteAllJobs", "delete_job", ADMIN),
    Row("/joblet.JobService/GetJobLogs", "get_job_logs", ALL),
    Row("/joblet.JobService/ListJobs", "list_jobs", ALL),
    Row("/joblet.JobService/GetJobMetrics", "get_job_metrics", ALL),
    Row("/joblet.JobService/StreamJobMetrics", "get_job_metrics", ALL),
    Row("/joblet.JobService/RunWorkflow", "run_job", ADMIN),
    Row("/joblet.JobService/GetWorkflowStatus", "get_workflow_status", ALL),
    Row("/joblet.JobService/ListWorkflows", "list_workflows", ALL),
    Row("/joblet.JobService/GetWorkflowJobs", "get_workflow_jobs", ALL),
    Row("/joblet.JobService/CancelWorkflow", "stop_job", ADMIN),
    Row("/joblet.UploadService/Upload", "run_job", ADMIN),
    Row("/joblet.UploadService/GetUpload", "run_job", ADMIN),
    Row("/joblet.UploadService/DeleteUpload", "run_job", ADMIN),
    Row("/joblet.NetworkService/CreateNetwork", "create_network", ADMIN),
    Row("/joblet.NetworkService/ListNetworks", "list_networks", ALL),
    Row("/joblet.NetworkService/RemoveNetwork", "remove_network", ADMIN),
    Row("/joblet.NetworkService/GetNetwork", "list_networks", ALL),
    Row("/joblet.NetworkService/ChangeEgress", "change_egress", ADMIN),
    Row("/joblet.NetworkService/GetDenials", "get_denials", ALL),
    Row("/joblet.SessionService/Forward", "forward", ADMIN),
    Row("/joblet.SessionService/FreezeJob", "stop_job", ADMIN),
    Row("/joblet.SessionService/ThawJob", "stop_job", ADMIN),
    Row("/joblet.SessionService/SetJobTimeout", "stop_job", ADMIN),
    Row("/joblet.SessionService/StartExec", "exec", ADMIN),
    Row("/joblet.SessionService/GetExec", "list_execs", ALL),
    Row("/joblet.SessionService/ListExecs", "list_execs", ALL),
    Row("/joblet.SessionService/SignalExec", "exec", ADMIN),
    Row("/joblet.SessionService/Attach", "exec", ADMIN),
    Row("/joblet.VolumeService/CreateVolume", "create_volume", ADMIN),
    Row("/joblet.VolumeService/ListVolumes", "list_volumes", ALL),
    Row("/joblet.VolumeService/RemoveVolume", "remove_volume", ADMIN),
    Row("/joblet.VolumeService/GetVolume", "list_volumes", ALL),
    Row("/joblet.VolumeService/ResizeVolume", "create_volume", ADMIN),
    Row("/joblet.VolumeService/WriteFiles", "copy_files", ADMIN),
    Row("/joblet.VolumeService/ReadFiles", "copy_files", ADMIN),
    Row("/joblet.GpuService/ListGpus", "list_gpus", ALL),
    Row("/joblet.GpuService/ResetGpuState", "reset_gpu_state", ADMIN),
    Row("/joblet.MonitoringService/GetSystemStatus", "get_metrics", ALL),
    Row("/joblet.MonitoringService/StreamSystemMetrics", "get_metrics", ALL),
    Row("/joblet.AuditService/GetAudit", "get_audit", ADMIN),
    Row("/joblet.RuntimeService/ListRuntimes", "list_runtimes", ALL),
    Row("/joblet.RuntimeService/GetRuntimeInfo", "get_runtime", ALL),
    Row("/joblet.RuntimeService/TestRuntime", "test_runtime", ADMIN),
    Row("/joblet.RuntimeService/InstallRuntimeFromGithub", "build_runtime", ADMIN),
    Row("/joblet.RuntimeService/InstallRuntimeFromLocal", "build_runtime", ADMIN),
    Row("/joblet.RuntimeService/StreamingInstallRuntimeFromGithub", "build_runtime", ADMIN),
    Row("/joblet.RuntimeService/StreamingInstallRuntimeFromLocal", "build_runtime", ADMIN),
    Row("/joblet.RuntimeService/ValidateRuntimeSpec", "get_runtime", ALL),
    Row("/joblet.RuntimeService/RemoveRuntime", "remove_runtime", ADMIN),
    Row("/joblet.RuntimeService/ImportRuntime", "build_runtime", ADMIN),
    Row("/joblet.RuntimeService/BuildRuntime", "build_runtime", ADMIN),
    Row("/joblet.RuntimeService/ValidateRuntimeYAML", "get_runtime", ALL),
];

/// Checks that a role may call a method.
fn permit(method: &str, role: Option<Role>) -> Result<(), RpcStatus> {
    let row = TABLE.iter().find(|row| row.0 == method);
    let operation = row.map_or(method, |row| row.1);
    match row {
        Some(row) if role.is_some_and(|role| row.2.contains(&role)) => Ok(()),
        _ => {
            let text = format!("role {} is not allowed to perform operation {operation}", Role::word(role));
            Err(status::new(RpcStatusCode::PERMISSION_DENIED, &text))
        }
    }
}

/// The name of a method as the table has it; of one that is not in it, a word for all of those.
pub(super) fn known(method: &str) -> &'static str {
    TABLE.iter().find(|row| row.0 == method).map_or("unknown", |row| row.0)
}

/// Whether calls of a method are recorded one by one: those that only an admin may make.
pub(super) fn is_recorded(method: &str) -> bool {
    TABLE.iter().any(|row| row.0 == method && row.2 == ADMIN)
}

/// Has a refused call recorded.
pub(super) fn note_refusal(audit: &Audit, peer: Peer, address: String, method: String, status: RpcStatus) {
    let (key, known, code) = (*peer.key(), known(&method), status::word(status.code()));
    audit.refused(key, known, code, move || recorded::refusal(&peer, &address, &method, &status));
}

/// The check of permissions before every handler.
#[derive(Clone)]
pub(super) struct Guard(pub(super) Access, pub(super) Counts, pub(super) Audit);

impl ServerChecker for Guard {
    fn check(&mut self, ctx: &RpcContext<'_>) -> CheckResult {
        let method = String::from_utf8_lossy(ctx.method());
        match self.0.identify(ctx).and_then(|identity| permit(&method, identity.role)) {
            Ok(()) => {
                if log_enabled!(Level::Debug) {
                    let subject = self.0.peer(ctx).subject();
                    limited!(Level::Debug, "call", peer = ctx.peer(), method = method, subject = subject);
                }
                CheckResult::Continue
            }
            Err(status) => {
                self.1.answered(known(&method), status::word(status.code()));
                let (peer, address) = (self.0.peer(ctx), ctx.peer());
                peer.log_refusal(&address, &method, &status);
                note_refusal(&self.2, peer, address, method.into_owned(), status.clone());
                CheckResult::Abort(status)
            }
        }
    }

    fn box_clone(&self) -> Box<dyn ServerChecker> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
