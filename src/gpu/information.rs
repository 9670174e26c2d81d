//! The files of the driver below `/proc/driver/nvidia/gpus`: one directory a GPU, named after its PCI address.

use std::fs;
use std::io;
use std::path::Path;

use super::device::Device;

/// Longest file that is read of each.
const LONGEST: usize = 16 * 1024;

/// The GPUs that the driver lists below this directory, in the order of their minors.
///
/// # Errors
/// There is no such directory, or it cannot be read. A single GPU whose file is odd is left out.
pub(super) fn devices(gpus: &Path) -> io::Result<Vec<Device>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(gpus)? {
        let entry = entry?;
        let text = fs::read_to_string(entry.path().join("information")).unwrap_or_default();
        let bus_id = entry.file_name().to_string_lossy().into_owned();
        found.extend(parse(&bus_id, text.get(..LONGEST).unwrap_or(&text)));
    }
    found.sort_by_key(|device| device.minor);
    for (index, device) in found.iter_mut().enumerate() {
        device.index = u32::try_from(index).unwrap_or(u32::MAX);
    }
    Ok(found)
}

/// One file `information`; `None` where it has no UUID or no minor, and for a GPU that the driver is configured to leave alone.
fn parse(bus_id: &str, text: &str) -> Option<Device> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'));
        line.map(str::trim).filter(|value| !value.is_empty())
    };
    if value("GPU Excluded").is_some_and(|word| word.eq_ignore_ascii_case("yes")) {
        return None;
    }
    Some(Device {
        index: 0,
        uuid: value("GPU UUID").filter(|uuid| !uuid.contains('?'))?.to_owned(),
        name: value("Model").unwrap_or_default().to_owned(),
        minor: value("Device Minor")?.parse().ok()?,
        memory_mib: None,
        bus_id: bus_id.to_ascii_lowercase(),
        numa: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As driver 580.159.04 writes it for an H200.
    const H200: &str = "\
Model: \t\t NVIDIA H200
IRQ:   \t\t 64
GPU UUID: \t GPU-8b6a7c7e-9f0f-7a4e-3d5f-0a1b2c3d4e5f
Video BIOS: \t 96.00.bc.00.01
Bus Type: \t PCIe
DMA Size: \t 52 bits
DMA Mask: \t 0xfffffffffffff
Bus Location: \t 0000:04:00.0
Device Minor: \t 3
GPU Firmware: \t 580.159.04
GPU Excluded:\t No
";

    #[test]
    fn information_of_the_driver_is_read() {
        let device = parse("0000:04:00.0", H200).unwrap();
        assert_eq!((device.minor, device.name.as_str()), (3, "NVIDIA H200"));
        assert_eq!(device.uuid, "GPU-8b6a7c7e-9f0f-7a4e-3d5f-0a1b2c3d4e5f");
        assert_eq!((device.memory_mib, device.bus_id.as_str()), (None, "0000:04:00.0"));
        for (from, to) in
            [("Excluded:\t No", "Excluded:\t Yes"), ("Minor: \t 3", "Minor: \t"), ("GPU-8b6a", "GPU-????")]
        {
            assert!(H200.contains(from), "{from}");
            assert_eq!(parse("x", &H200.replace(from, to)), None, "{to}");
        }
    }

    #[test]
    fn gpus_are_numbered_in_the_order_of_their_minors() {
        let dir = tempfile::tempdir().unwrap();
        for (bus, minor) in [("0000:04:00.0", 1), ("0000:9A:00.0", 0), ("0000:99:00.0", 7)] {
            fs::create_dir(dir.path().join(bus)).unwrap();
            let text = H200.replace("Minor: \t 3", &format!("Minor: \t {minor}"));
            fs::write(dir.path().join(bus).join("information"), text).unwrap();
        }
        fs::create_dir(dir.path().join("0000:aa:00.0")).unwrap();
        let found = devices(dir.path()).unwrap();
        let seen: Vec<_> = found.iter().map(|d| (d.index, d.minor, d.bus_id.as_str())).collect();
        assert_eq!(seen, [(0, 0, "0000:9a:00.0"), (1, 1, "0000:04:00.0"), (2, 7, "0000:99:00.0")]);
        assert!(devices(&dir.path().join("none")).is_err());
    }
}
