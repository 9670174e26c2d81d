//! The device nodes of GPUs, by the numbers that those of the host have.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{major, minor};

use super::GpuError;
use crate::job::{DeviceNode, GpuLease};

/// Nodes that every GPU program opens, and one that profilers do; the latter is not on every host.
const SHARED: [(&str, bool); 3] = [("nvidiactl", true), ("nvidia-uvm", true), ("nvidia-uvm-tools", false)];

/// The nodes of a job with these GPUs. `dev` is the host's /dev.
///
/// # Errors
/// One of them is not there, as before the first use of the driver, or is no character device.
pub fn nodes(dev: &Path, leases: &[GpuLease]) -> Result<Vec<DeviceNode>, GpuError> {
    let own = leases.iter().map(|lease| (format!("nvidia{}", lease.minor), true));
    let shared = SHARED.iter().map(|(name, needed)| ((*name).to_owned(), *needed));
    let mut found = Vec::new();
    for (name, needed) in own.chain(shared) {
        let path = dev.join(&name);
        // Not through links: a node is what the driver made there.
        let node = match fs::symlink_metadata(&path) {
            Err(_) if !needed => continue,
            Err(source) => return Err(GpuError::Node { path, source }),
            Ok(node) if !node.file_type().is_char_device() => return Err(GpuError::NoDevice(path)),
            Ok(node) => node.rdev(),
        };
        found.push(DeviceNode { name, major: major(node), minor: minor(node) });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_node_and_file_in_its_place_are_refused() {
        let dev = tempfile::tempdir().unwrap();
        let lease = [GpuLease { index: 0, uuid: "GPU-1".into(), minor: 4, lost: None }];
        let why = nodes(dev.path(), &lease).unwrap_err().to_string();
        assert!(why.contains("nvidia4") && why.contains("nvidia-modprobe"), "{why}");
        fs::write(dev.path().join("nvidia4"), "").unwrap();
        let why = nodes(dev.path(), &lease).unwrap_err().to_string();
        assert!(why.contains("no character device"), "{why}");
    }
}
