//! The handlers. A handler never waits: it converts the message, sends a command to the loop and leaves a future.
//!
//! [`auth`](super::auth) has permitted the call before a handler sees it.

mod attach;
mod audit;
mod build;
mod files;
mod gpu;
mod import;
mod install;
mod installation;
mod job;
mod monitoring;
mod network;
mod runtime;
mod session;
mod stream;
mod upload;
mod volume;
mod workflow;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use grpcio::Service;

pub(super) use self::audit::Trail;
pub(super) use self::monitoring::{Host, watcher};
use self::upload::Uploads;
use super::convert::Refusal;
use super::limits::CallLimits;
use super::{Rules, StreamPump};
use crate::daemon::command::{CommandSender, Installer};
use crate::files::Transfers;
use crate::forward::Relay;
use crate::input::Inputs;
use crate::pb::joblet_grpc::{
    create_audit_service, create_gpu_service, create_job_service, create_monitoring_service,
    create_network_service, create_runtime_service, create_session_service, create_upload_service,
    create_volume_service,
};
use crate::upload::Store;
use crate::upload::receive::Places;

/// The state that all handlers share.
#[derive(Clone)]
pub(super) struct Jobs {
    commands: CommandSender,
    rules: Arc<Rules>,
    pump: StreamPump,
    relay: Relay,
    inputs: Inputs,
    /// Most serialized bytes of one page of a list.
    page_bytes: u64,
    upload_limit: UploadLimit,
    call_limits: CallLimits,
    store: Arc<Store>,
    installer: Installer,
    /// Threads that check workflow files.
    workflow_threads: Places,
    /// Copies of files.
    transfers: Transfers,
}

impl Jobs {
    pub(super) fn new(
        commands: CommandSender,
        rules: Rules,
        (pump, relay, inputs): (StreamPump, Relay, Inputs),
        call_limits: CallLimits,
        (store, installer): (Arc<Store>, Installer),
        page_bytes: u64,
        start_bytes: u64,
    ) -> Self {
        let upload_limit = UploadLimit { bytes: Arc::default(), limit: start_bytes };
        Jobs {
            commands,
            rules: Arc::new(rules),
            pump,
            relay,
            inputs,
            page_bytes,
            upload_limit,
            call_limits,
            store,
            installer,
            workflow_threads: Places::default(),
            transfers: Transfers::default(),
        }
    }
}

/// The limit of the bytes of all RunJob requests that are not answered yet. The loop's queue bounds the number of
/// commands; this bounds their size, which is mostly uploads.
#[derive(Clone)]
struct UploadLimit {
    bytes: Arc<AtomicU64>,
    limit: u64,
}

impl UploadLimit {
    fn acquire(&self, bytes: u64) -> Result<UploadPermit, Refusal> {
        let permit = UploadPermit { all: self.bytes.clone(), bytes };
        let others = self.bytes.fetch_add(bytes, Ordering::SeqCst);
        // A single request is always accepted: gRPC has bounded its size.
        if others > 0 && others.saturating_add(bytes) > self.limit {
            return Err(Refusal::Exhausted(format!(
                "too many jobs are being started: their uploads have {} MiB, {} MiB are allowed; try again",
                others >> 20,
                self.limit >> 20
            )));
        }
        Ok(permit)
    }
}

/// The bytes of one request, released when it is dropped.
#[derive(Debug)]
struct UploadPermit {
    all: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for UploadPermit {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// All services of the protocol.
pub(super) fn all(jobs: Jobs, host: Host, trail: Trail) -> [Service; 9] {
    let sessions = jobs.clone();
    let uploads = Uploads::new(jobs.store.clone(), jobs.rules.clone(), jobs.call_limits.clone());
    [
        create_upload_service(uploads),
        create_job_service(jobs.clone()),
        create_network_service(jobs.clone()),
        create_volume_service(jobs.clone()),
        create_gpu_service(jobs.clone()),
        create_monitoring_service(host),
        create_audit_service(trail),
        create_runtime_service(jobs),
        create_session_service(sessions),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_of_starting_jobs_are_bounded_together_and_given_back() {
        let upload_limit = UploadLimit { bytes: Arc::default(), limit: 100 };
        let first = upload_limit.acquire(60).unwrap();
        assert!(upload_limit.acquire(41).is_err());
        let second = upload_limit.acquire(40).unwrap();
        assert!(upload_limit.acquire(1).is_err());
        drop((first, second));
        assert!(upload_limit.acquire(1000).is_ok(), "one alone is taken");
        assert_eq!(upload_limit.bytes.load(Ordering::SeqCst), 0);
    }
}
