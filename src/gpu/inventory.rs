//! The GPUs of this host, as the driver tells them now.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::device::Device;
use super::{GpuError, information};
use crate::sys::nvml::{Nvml, NvmlDevice};

/// The vendor's directory in procfs.
const DRIVER: &str = "/proc/driver/nvidia";
/// Where the kernel says to which NUMA node a PCI device belongs.
const PCI: &str = "/sys/bus/pci/devices";

/// Where an inventory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The vendor's library.
    Nvml,
    /// The files below `/proc/driver/nvidia`.
    Proc,
}

/// All GPUs of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The source that answered.
    pub source: Source,
    /// The version of the driver, where it is known.
    pub driver: Option<String>,
    /// The GPUs, by their numbers.
    pub devices: Vec<Device>,
    /// Sentences about GPUs that are there and cannot be used, and about what is not known.
    pub notes: Vec<String>,
}

/// Asks the driver. It may hang or crash in there: only a process of its own calls this.
///
/// # Errors
/// There is no driver.
pub fn look() -> Result<Inventory, GpuError> {
    let mut found = match by_nvml() {
        Ok(found) => found,
        Err(nvml) => by_files(Path::new(DRIVER), nvml)?,
    };
    for device in &mut found.devices {
        device.numa = numa(Path::new(PCI), &device.bus_id);
    }
    Ok(found)
}

fn by_nvml() -> Result<Inventory, String> {
    let nvml = Nvml::open()?;
    let (mut devices, mut notes) = (Vec::new(), Vec::new());
    for index in 0..nvml.count()? {
        match nvml.device(index) {
            Ok(device) => devices.push(of_nvml(index, device)),
            Err(why) => notes.push(format!("GPU {index} cannot be used: {why}")),
        }
    }
    Ok(Inventory { source: Source::Nvml, driver: nvml.driver(), devices, notes })
}

fn of_nvml(index: u32, device: NvmlDevice) -> Device {
    let NvmlDevice { uuid, name, minor, memory_bytes, bus_id } = device;
    Device {
        index,
        uuid,
        name,
        minor,
        memory_mib: Some(memory_bytes >> 20),
        bus_id: kernel_address(&bus_id),
        numa: None,
    }
}

/// NVML writes the domain with eight digits, the kernel with four.
fn kernel_address(nvml: &str) -> String {
    let lower = nvml.to_ascii_lowercase();
    match lower.split_once(':') {
        Some((domain, rest)) if domain.len() == 8 && domain.starts_with("0000") => {
            format!("{}:{rest}", &domain[4..])
        }
        _ => lower,
    }
}

fn by_files(driver: &Path, nvml: String) -> Result<Inventory, GpuError> {
    let path: PathBuf = driver.join("gpus");
    let missing = |_| GpuError::Find { nvml: nvml.clone(), path: path.clone() };
    let devices = information::devices(&path).map_err(missing)?;
    let version = fs::read_to_string(driver.join("version")).unwrap_or_default();
    let notes = vec![format!("the memory of GPUs is not known: {nvml}")];
    Ok(Inventory { source: Source::Proc, driver: version_of(&version), devices, notes })
}

/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  ...`: the first word that is a version.
fn version_of(text: &str) -> Option<String> {
    let is_version = |word: &&str| {
        word.contains('.')
            && word.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

/// -1 is the kernel's word for none.
fn numa(pci: &Path, bus_id: &str) -> Option<i32> {
    // It comes from a driver, and becomes a path.
    if !bus_id.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
        || bus_id.contains("..")
    {
        return None;
    }
    let node = fs::read_to_string(pci.join(bus_id).join("numa_node")).ok()?;
    node.trim().parse().ok().filter(|node| *node >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_versions_are_those_of_the_kernel() {
        assert_eq!(kernel_address("00000000:9A:00.0"), "0000:9a:00.0");
        assert_eq!(kernel_address("00010000:04:00.0"), "00010000:04:00.0");
        let text =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build\nGCC 12.2.0";
        assert_eq!(version_of(text).as_deref(), Some("580.159.04"));
        assert_eq!(version_of(""), None);
    }

    #[test]
    fn numa_node_is_read_and_odd_addresses_are_no_paths() {
        let pci = tempfile::tempdir().unwrap();
        for (bus, node) in [("0000:04:00.0", "1\n"), ("0000:05:00.0", "-1\n")] {
            fs::create_dir(pci.path().join(bus)).unwrap();
            fs::write(pci.path().join(bus).join("numa_node"), node).unwrap();
        }
        assert_eq!(numa(pci.path(), "0000:04:00.0"), Some(1));
        assert_eq!(numa(pci.path(), "0000:05:00.0"), None);
        assert_eq!(numa(pci.path(), "../0000:04:00.0"), None);
    }

    #[test]
    fn files_of_the_driver_stand_in_and_no_driver_is_said() {
        let driver = tempfile::tempdir().unwrap();
        let why = by_files(driver.path(), "no NVML".into()).unwrap_err().to_string();
        assert!(why.contains("no NVML") && why.contains("driver loaded"), "{why}");
        fs::create_dir_all(driver.path().join("gpus/0000:04:00.0")).unwrap();
        let text = "Model: X\nGPU UUID: GPU-1\nDevice Minor: 2\n";
        fs::write(driver.path().join("gpus/0000:04:00.0/information"), text).unwrap();
        let found = by_files(driver.path(), "no NVML".into()).unwrap();
        assert_eq!((found.source, found.devices.len()), (Source::Proc, 1));
        assert!(found.notes[0].contains("no NVML"), "{:?}", found.notes);
    }
}
