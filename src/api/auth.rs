//! Who may do what: a role from the client's certificate, and one table over every RPC of every service.
//!
//! The check runs before each handler, for each call: a connection that outlives its certificate loses its
//! rights. A method without a row is denied.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use grpcio::{CheckResult, RpcContext, RpcStatus, RpcStatusCode, ServerChecker};
use openssl::asn1::Asn1Time;
use openssl::nid::Nid;
use openssl::x509::X509;

use super::status;
use crate::diag::{Level, limited};

/// What a certificate's OU makes of its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// May do everything.
    Admin,
    /// May look.
    Viewer,
}

impl Role {
    /// The OU, compared byte by byte: neither case nor spaces are forgiven.
    fn from_unit(unit: &[u8]) -> Option<Self> {
        match unit {
            b"admin" => Some(Role::Admin),
            b"viewer" => Some(Role::Viewer),
            _ => None,
        }
    }

    /// The word in errors.
    fn word(role: Option<Self>) -> &'static str {
        match role {
            Some(Role::Admin) => "admin",
            Some(Role::Viewer) => "viewer",
            None => "unknown",
        }
    }
}

/// One RPC: its full name, what it is called in errors, who may use it, and whether it is built.
struct Row(&'static str, &'static str, &'static [Role], Built);

#[derive(Clone, Copy, PartialEq)]
enum Built {
    Yes,
    NotYet,
}

const ADMIN: &[Role] = &[Role::Admin];
const ALL: &[Role] = &[Role::Admin, Role::Viewer];

/// Every RPC. `ALL_METHODS` of the generated code is held against it by a test.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row("/joblet.JobService/RunJob", "run_job", ADMIN, Built::Yes),
    Row("/joblet.JobService/GetJobStatus", "get_job_status", ALL, Built::Yes),
    Row("/joblet.JobService/StopJob", "stop_job", ADMIN, Built::Yes),
    Row("/joblet.JobService/CancelJob", "stop_job", ADMIN, Built::NotYet),
    Row("/joblet.JobService/DeleteJob", "delete_job", ADMIN, Built::Yes),
    Row("/joblet.JobService/DeleteAllJobs", "delete_job", ADMIN, Built::Yes),
    Row("/joblet.JobService/GetJobLogs", "get_job_logs", ALL, Built::Yes),
    Row("/joblet.JobService/ListJobs", "list_jobs", ALL, Built::Yes),
    Row("/joblet.JobService/GetJobMetrics", "get_job_metrics", ALL, Built::NotYet),
    Row("/joblet.JobService/RunWorkflow", "run_job", ADMIN, Built::NotYet),
    Row("/joblet.JobService/GetWorkflowStatus", "get_workflow_status", ALL, Built::NotYet),
    Row("/joblet.JobService/ListWorkflows", "list_workflows", ALL, Built::NotYet),
    Row("/joblet.JobService/GetWorkflowJobs", "get_workflow_jobs", ALL, Built::NotYet),
    Row("/joblet.JobService/CancelWorkflow", "stop_job", ADMIN, Built::NotYet),
    Row("/joblet.NetworkService/CreateNetwork", "create_network", ADMIN, Built::NotYet),
    Row("/joblet.NetworkService/ListNetworks", "list_networks", ALL, Built::NotYet),
    Row("/joblet.NetworkService/RemoveNetwork", "remove_network", ADMIN, Built::NotYet),
    Row("/joblet.VolumeService/CreateVolume", "create_volume", ADMIN, Built::NotYet),
    Row("/joblet.VolumeService/ListVolumes", "list_volumes", ALL, Built::NotYet),
    Row("/joblet.VolumeService/RemoveVolume", "remove_volume", ADMIN, Built::NotYet),
    Row("/joblet.MonitoringService/GetSystemStatus", "get_metrics", ALL, Built::NotYet),
    Row("/joblet.MonitoringService/StreamSystemMetrics", "get_metrics", ALL, Built::NotYet),
    Row("/joblet.RuntimeService/ListRuntimes", "list_runtimes", ALL, Built::NotYet),
    Row("/joblet.RuntimeService/GetRuntimeInfo", "get_runtime", ALL, Built::NotYet),
    Row("/joblet.RuntimeService/TestRuntime", "test_runtime", ADMIN, Built::NotYet),
    Row("/joblet.RuntimeService/InstallRuntimeFromGithub", "build_runtime", ADMIN, Built::NotYet),
    Row("/joblet.RuntimeService/InstallRuntimeFromLocal", "build_runtime", ADMIN, Built::NotYet),
    Row("/joblet.RuntimeService/StreamingInstallRuntimeFromGithub", "build_runtime", ADMIN, Built::NotYet),
    Row("/joblet.RuntimeService/StreamingInstallRuntimeFromLocal", "build_runtime", ADMIN, Built::NotYet),
    Row("/joblet.RuntimeService/ValidateRuntimeSpec", "get_runtime", ALL, Built::NotYet),
    Row("/joblet.RuntimeService/RemoveRuntime", "remove_runtime", ADMIN, Built::NotYet),
];

/// Whether a role may call a method, and whether there is anything behind it. The right comes first: who may
/// not use an RPC does not learn whether it is built.
fn permit(method: &str, role: Option<Role>) -> Result<(), RpcStatus> {
    let row = TABLE.iter().find(|row| row.0 == method);
    let operation = row.map_or(method, |row| row.1);
    match row {
        Some(row) if role.is_some_and(|role| row.2.contains(&role)) => match row.3 {
            Built::Yes => Ok(()),
            Built::NotYet => {
                let name = method.rsplit('/').next().unwrap_or(method);
                let text = format!("{name} is not supported by this version of joblet");
                Err(status::new(RpcStatusCode::UNIMPLEMENTED, &text))
            }
        },
        _ => {
            let text = format!("role {} is not allowed to perform operation {operation}", Role::word(role));
            Err(status::new(RpcStatusCode::PERMISSION_DENIED, &text))
        }
    }
}

/// What is kept of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    role: Option<Role>,
    /// Last second of its validity, Unix time.
    not_after: i64,
}

/// Reads a certificate. `None`: it is none.
fn identify(pem: &[u8]) -> Option<Identity> {
    let cert = X509::from_pem(pem).ok()?;
    let mut units = cert.subject_name().entries_by_nid(Nid::ORGANIZATIONALUNITNAME);
    let role = match (units.next(), units.next()) {
        // The bytes as they are signed: a text that is cut at a NUL would make "admin\0x" an admin.
        (Some(unit), None) => Role::from_unit(unit.data().as_slice()),
        _ => None,
    };
    let left = Asn1Time::from_unix(0).ok()?.diff(cert.not_after()).ok()?;
    Some(Identity { role, not_after: i64::from(left.days) * 86_400 + i64::from(left.secs) })
}

/// Certificates that are remembered. Parsing one takes half a millisecond of the only gRPC thread.
const REMEMBERED: usize = 256;

/// Identities by the whole PEM text. When it is full it is emptied: the few certificates of a node are back
/// after one call each, and whoever has hundreds of them gains nothing by pushing others out.
#[derive(Debug, Default)]
struct Known(HashMap<Vec<u8>, Option<Identity>>);

impl Known {
    fn identify(&mut self, pem: &[u8]) -> Option<Identity> {
        if let Some(known) = self.0.get(pem) {
            return *known;
        }
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        let identity = identify(pem);
        self.0.insert(pem.to_vec(), identity);
        identity
    }
}

/// The check before every handler.
#[derive(Clone, Default)]
pub struct Guard {
    known: Arc<Mutex<Known>>,
}

impl Guard {
    /// The client's role; `None` where the certificate gives none.
    fn role(&self, ctx: &RpcContext<'_>) -> Result<Option<Role>, RpcStatus> {
        let unknown = |why: &str| {
            let text = format!("failed to extract client role: {why}");
            status::new(RpcStatusCode::UNAUTHENTICATED, &text)
        };
        let peer = ctx.auth_context().ok_or_else(|| unknown("no peer information found"))?;
        if !peer.peer_is_authenticated() {
            return Err(unknown("no TLS information found"));
        }
        let pem = peer.into_iter().find(|p| p.name() == "x509_pem_cert").map(|p| p.value());
        let pem = pem.ok_or_else(|| unknown("no client certificate found"))?;
        let identity = self.known.lock().unwrap_or_else(PoisonError::into_inner).identify(pem);
        let identity = identity.ok_or_else(|| unknown("the client certificate cannot be read"))?;
        if unix_now() > identity.not_after {
            return Err(unknown("the client certificate has expired"));
        }
        Ok(identity.role)
    }
}

impl ServerChecker for Guard {
    fn check(&mut self, ctx: &RpcContext<'_>) -> CheckResult {
        let method = String::from_utf8_lossy(ctx.method());
        match self.role(ctx).and_then(|role| permit(&method, role)) {
            Ok(()) => CheckResult::Continue,
            Err(status) => {
                limited!(
                    Level::Warn,
                    "request refused",
                    peer = ctx.peer(),
                    method = method,
                    why = status.message(),
                );
                CheckResult::Abort(status)
            }
        }
    }

    fn box_clone(&self) -> Box<dyn ServerChecker> {
        Box::new(self.clone())
    }
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
