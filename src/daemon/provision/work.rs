//! The places that a job may write: its /work, which is a directory with a quota or a tmpfs, and there too the layer over its root.

use std::ffi::CString;

use super::{Adoption, Asked, Kind, Named, Node, StartError};
use crate::job::exit_file::OWN_DISKS;
use crate::job::own_disk::{Bound, OwnDisk};
use crate::job::{JobId, Limits};
use crate::sandbox::Root;
use crate::sandbox::plan::run_bytes;
use crate::sandbox::work::{Backing, WorkIds};

/// A job's /work.
#[derive(Debug)]
pub(in crate::daemon) enum Work {
    /// A directory of this name in `<dataDir>/work`.
    Directory(CString),
    /// A tmpfs, which goes with the job's mounts.
    Memory,
}

impl Work {
    /// The name of a directory that has to be removed.
    pub(super) fn into_directory(self) -> Option<CString> {
        match self {
            Work::Directory(name) => Some(name),
            Work::Memory => None,
        }
    }
}

/// Name of a job's directory in `<dataDir>/work`.
fn name(id: JobId) -> CString {
    CString::new(id.to_string()).expect("digits and hyphens have no NUL")
}

/// The layer over a root that its job may write.
pub(super) struct Layer<'a> {
    /// The writable root.
    pub(super) root: Root<'a>,
    /// The host id of root inside.
    pub(super) owner: u32,
}

/// Makes a job's /work, and the layer over its root beside; `held` names it before there is anything to remove.
pub(super) fn acquire(
    node: &Node,
    held: &mut Option<Work>,
    id: JobId,
    limits: &Limits,
    ids: WorkIds,
    layer: Option<Layer<'_>>,
) -> Result<Backing, StartError> {
    let made = match &node.disk {
        Some(disk) => {
            *held = Some(Work::Directory(name(id)));
            disk.create(&name(id), node.work_quota, ids)
        }
        None => {
            *held = Some(Work::Memory);
            node.sandbox.work_tmpfs(scratch_bytes(limits, node.work_quota), ids.owner)
        }
    };
    let backing = made.and_then(|mount| match layer {
        Some(Layer { root, owner }) => Backing::divide(mount, ids.owner, owner, root.shared()?),
        None => Backing::whole(mount),
    });
    backing.map_err(|e| StartError::from(&e))
}

/// Bytes that a /work in memory, and each of /tmp and /dev/shm, may take: what is written there is the job's
/// memory, so at most half of its limit.
pub(in crate::daemon) fn scratch_bytes(limits: &Limits, quota: u64) -> u64 {
    limits.memory.map_or(quota, |memory| quota.min(memory.bytes() / 2))
}

/// The sizes of a job's file systems, in the order of [`OWN_DISKS`].
pub(in crate::daemon) fn own_disks(node: &Node, limits: &Limits) -> [OwnDisk; OWN_DISKS.len()] {
    let quota = node.work_quota;
    let bytes = scratch_bytes(limits, quota);
    let scratch = OwnDisk { bytes, bound: if bytes < quota { Bound::Memory } else { Bound::Quota } };
    let work = if node.disk.is_some() { OwnDisk { bytes: quota, bound: Bound::Quota } } else { scratch };
    let of_run = run_bytes(bytes);
    let run = OwnDisk { bytes: of_run, bound: if of_run < bytes { Bound::Fixed } else { scratch.bound } };
    [work, scratch, run, scratch]
}

impl Kind for Work {
    const NAME: &'static str = "work";
    const STEP: Named = Ok("mount the work directory at /work");
    const LAYER: Named = Ok("mount /work");

    fn explain(node: &Node, asked: &Asked<'_>) -> Vec<String> {
        let what = if asked.spec.writable { "/work and the layer over the root" } else { "/work" };
        vec![match &node.disk {
            Some(disk) => format!(
                "make {what}: a directory in {}, quota {} bytes",
                disk.path().display(),
                node.work_quota
            ),
            None => {
                format!(
                    "make {what}: a tmpfs of {} bytes",
                    scratch_bytes(&asked.spec.limits, node.work_quota)
                )
            }
        }]
    }

    fn adopt(from: &mut Adoption<'_>) -> Option<Self> {
        Some(if from.node.disk.is_some() { Work::Directory(name(from.id)) } else { Work::Memory })
    }
}
