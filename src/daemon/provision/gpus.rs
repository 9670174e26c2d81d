//! The GPUs of a job: nobody else has them as long as it does. Their nodes stand in its own /dev, and are gone with its
//! mounts.

use std::os::fd::AsFd;
use std::path::Path;

use super::{Adoption, Asked, Kind, Mounts, Named, Node, Supply};
use crate::cgroup::JobCgroup;
use crate::daemon::token::Token;
use crate::gpu;
use crate::job::{DeviceNode, DriverParts, GpuLease, GpuWish, JobId, JobSpec};
use crate::sandbox::gpu_tree::PLACE;

/// The GPUs that one job has.
#[derive(Debug)]
pub(in crate::daemon) struct Gpus {
    leases: Vec<GpuLease>,
    // By these the driver lists them in /proc.
    addresses: Vec<String>,
    // Nodes that were put into its /dev; those of a job of an earlier daemon are found anew.
    nodes: Vec<DeviceNode>,
    // Each GPU is in use as long as its token lives.
    _held: Vec<Token>,
}

impl Gpus {
    /// The part of them that is stored with the job.
    pub(in crate::daemon) fn leases(&self) -> &[GpuLease] {
        &self.leases
    }

    /// The nodes that the job has for them.
    pub(in crate::daemon) fn nodes(&self) -> Vec<DeviceNode> {
        self.nodes.clone()
    }

    /// Their PCI addresses.
    pub(in crate::daemon) fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    /// Puts their nodes, those that all GPU programs share, and the files of the driver into a created sandbox, and lets its group
    /// open the nodes.
    ///
    /// # Errors
    /// A node that the host has not, or the kernel's refusal.
    pub(in crate::daemon) fn expose(
        &mut self,
        node: &Node,
        cgroup: &JobCgroup,
        mounts: &Mounts,
    ) -> Result<(), String> {
        let nodes = gpu::nodes(Path::new("/dev"), &self.leases).map_err(|why| format!("GPUs: {why}"))?;
        node.tree.allow_devices(cgroup, &nodes).map_err(|why| why.to_string())?;
        let shown = node.sandbox.show_gpus(mounts.as_fd(), &nodes, &self.addresses);
        shown.map_err(|why| why.to_string())?;
        self.nodes = nodes;
        Ok(())
    }
}

/// The environment of a job with GPUs.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Variables {
    /// Variables that those of a runtime stand over.
    pub(in crate::daemon) weak: Vec<(&'static str, String)>,
    /// Variables that stand over those of a runtime.
    pub(in crate::daemon) strong: Vec<(&'static str, String)>,
    /// Directories that are put behind those of a variable, whoever sets it.
    pub(in crate::daemon) added: Vec<(&'static str, String)>,
}

/// The variables by which programs know their GPUs, by UUID, because their numbers are those of the host; and by which they find
/// the files of the driver.
pub(in crate::daemon) fn variables(spec: &JobSpec, leases: &[GpuLease], driver: DriverParts) -> Variables {
    let Some(wish) = spec.gpus else { return Variables::default() };
    let uuids: Vec<&str> = leases.iter().map(|lease| lease.uuid.as_str()).collect();
    let uuids = uuids.join(",");
    let strong = vec![
        ("CUDA_VISIBLE_DEVICES", uuids.clone()),
        ("NVIDIA_VISIBLE_DEVICES", uuids),
        ("JOBLET_GPU_COUNT", wish.count.to_string()),
        ("JOBLET_GPU_MEMORY_MB", wish.memory_mib.to_string()),
        ("JOBLET_GPU_ALLOCATED_COUNT", leases.len().to_string()),
    ];
    let cuda = format!("{PLACE}/cuda");
    let weak = ["CUDA_HOME", "CUDA_ROOT"].into_iter().filter(|_| driver.cuda);
    let weak = weak.map(|name| (name, cuda.clone())).collect();
    // A runtime has the CUDA that its programs were built with.
    let has_cuda = driver.cuda && spec.runtime.is_none();
    let added = [
        (driver.libraries, "LD_LIBRARY_PATH", format!("{PLACE}/lib")),
        (driver.program, "PATH", format!("{PLACE}/bin")),
        (has_cuda, "LD_LIBRARY_PATH", format!("{cuda}/lib64")),
        (has_cuda, "PATH", format!("{cuda}/bin")),
    ];
    let added = added.into_iter().filter_map(|(is_there, name, dir)| is_there.then_some((name, dir)));
    Variables { weak, strong, added: added.collect() }
}

impl Supply {
    /// Free GPUs for a job; `None` where too few are free.
    pub(in crate::daemon) fn take_gpus(&mut self, id: JobId, wish: GpuWish) -> Option<Gpus> {
        let (leases, held) = self.gpus.take(id, wish)?;
        let addresses = self.gpus.addresses(&leases);
        Some(Gpus { leases, addresses, nodes: Vec::new(), _held: held })
    }

    /// Why a job can never have the GPUs that it asks for.
    pub(in crate::daemon) fn lacks_gpus(&self, spec: &JobSpec) -> Option<String> {
        self.gpus.refuses(spec.gpus?)
    }

    /// Whether a job can have the GPUs now that it asks for, if any.
    pub(in crate::daemon) fn has_gpus(&self, spec: &JobSpec) -> bool {
        spec.gpus.is_none_or(|wish| self.gpus.can(wish))
    }
}

impl Kind for Gpus {
    const NAME: &'static str = "gpus";
    const STEP: Named = Ok("reserve");
    const LAYER: Named = Ok("devices");

    fn explain(_: &Node, asked: &Asked<'_>) -> Vec<String> {
        let Some(wish) = asked.spec.gpus else { return Vec::new() };
        let now =
            if asked.supply.gpus.can(wish) { "free now" } else { "the job waits until enough are free" };
        vec![format!("reserve {wish} for the job alone, {} ({now})", asked.supply.gpus.strategy().as_str())]
    }

    fn adopt(from: &mut Adoption<'_>) -> Option<Self> {
        let held = from.supply.gpus.inherit(from.id, from.gpus);
        // The host's nodes stand there as long as its driver, which the job has in use.
        let nodes = gpu::nodes(Path::new("/dev"), from.gpus).unwrap_or_default();
        let addresses = from.supply.gpus.addresses(from.gpus);
        (!from.gpus.is_empty()).then(|| Gpus { leases: from.gpus.to_vec(), addresses, nodes, _held: held })
    }
}
