//! The handlers. A handler never waits: it converts, puts a question to the loop and leaves a future behind.
//!
//! [`auth`](super::auth) has let the call through before a handler sees it, and has answered all calls of what
//! is not built: the four services at the end have no handlers of their own, but must be registered, because
//! C-core answers for a method that it does not know without asking who calls.

mod job;
mod logs;

use std::sync::Arc;

use grpcio::Service;

use super::{LogPump, Rules};
use crate::daemon::commands::Door;
use crate::pb::joblet_grpc::{
    MonitoringService, NetworkService, RuntimeService, VolumeService, create_job_service,
    create_monitoring_service, create_network_service, create_runtime_service, create_volume_service,
};

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Jobs {
    door: Door,
    rules: Arc<Rules>,
    logs: LogPump,
    /// Serialized bytes of one page of a list.
    page_bytes: u64,
}

impl Jobs {
    pub(super) fn new(door: Door, rules: Rules, logs: LogPump, page_bytes: u64) -> Self {
        Jobs { door, rules: Arc::new(rules), logs, page_bytes }
    }
}

#[derive(Clone)]
struct NotBuilt;

impl NetworkService for NotBuilt {}
impl VolumeService for NotBuilt {}
impl MonitoringService for NotBuilt {}
impl RuntimeService for NotBuilt {}

/// All five services.
pub(super) fn all(jobs: Jobs) -> [Service; 5] {
    [
        create_job_service(jobs),
        create_network_service(NotBuilt),
        create_volume_service(NotBuilt),
        create_monitoring_service(NotBuilt),
        create_runtime_service(NotBuilt),
    ]
}
