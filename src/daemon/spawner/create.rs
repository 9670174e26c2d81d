//! Creating a sandbox: the first, long half of a start.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Spawner, StartError};
use crate::daemon::provision::{Acquired, NetworkSource, Resources};
use crate::job::{JobId, Limits};
use crate::output::{JobOutput, Watermark};
use crate::sandbox::{CloneContext, Init, SandboxError};

/// A sandbox to create.
#[derive(Debug)]
pub(in crate::daemon) struct CreateRequest {
    /// The id that its job has or will have.
    pub(in crate::daemon) id: JobId,
    /// Limits that are in force from the start.
    pub(in crate::daemon) limits: Limits,
    /// Where its network comes from.
    pub(in crate::daemon) network: NetworkSource,
    /// The resources that it holds already: its identity.
    pub(in crate::daemon) held: Resources,
    /// How far its output has come.
    pub(in crate::daemon) output: Arc<Watermark>,
}

/// A sandbox that waits for its job: everything that a job needs, and a joblet-init behind finished walls.
#[derive(Debug)]
pub(in crate::daemon) struct WarmSandbox {
    /// The id of the job that takes it.
    pub(in crate::daemon) id: JobId,
    /// Limits in force.
    pub(in crate::daemon) limits: Limits,
    /// How far its output has come.
    pub(in crate::daemon) output: Arc<Watermark>,
    /// Its PID 1, which waits for a payload.
    pub(in crate::daemon) init: Init,
    /// The root of its /work, to be filled.
    pub(in crate::daemon) work: OwnedFd,
    /// The resources that it holds.
    pub(in crate::daemon) held: Resources,
}

/// A sandbox that could not be created.
#[derive(Debug)]
pub(in crate::daemon) struct CreateError {
    /// The id that its job would have had.
    pub(in crate::daemon) id: JobId,
    /// The resources that it had acquired.
    pub(in crate::daemon) held: Resources,
    /// The reason for its client.
    pub(in crate::daemon) why: StartError,
}

impl Spawner {
    /// Creates a sandbox. Its output goes to the collector from now on.
    pub(super) fn create(
        &self,
        context: &mut Result<CloneContext, SandboxError>,
        request: Box<CreateRequest>,
    ) -> Result<WarmSandbox, Box<CreateError>> {
        let CreateRequest { id, limits, network, mut held, output } = *request;
        let acquired = match context {
            Ok(context) => held.acquire(&self.node, context, id, &limits, network),
            Err(why) => Err(StartError::from(&*why)),
        };
        match acquired {
            Ok(Acquired { init, stdout, stderr, work, spool }) => {
                let control = init.control.clone();
                let watermark = output.clone();
                self.collector.add(JobOutput { id, stdout, stderr, control, spool, watermark, wake: None });
                Ok(WarmSandbox { id, limits, output, init, work, held })
            }
            Err(why) => Err(Box::new(CreateError { id, held, why })),
        }
    }
}
