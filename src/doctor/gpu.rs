//! GPUs: whether the driver answers, and whether its device nodes and its libraries are there. Only where the configuration wants GPUs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Finding;
use crate::config::daemon::DaemonConfig;
use crate::gpu::{
    self, Device, DriverWish, Inquiry, Inventory, Kept, LostGpu, PROGRAM, Source, driver_files,
};
use crate::job::{GpuLease, GpuScrub};

/// How long the driver has for its answer.
const BOUND: Duration = Duration::from_secs(20);

pub(super) fn checks(config: &DaemonConfig) -> Vec<Finding> {
    if !config.gpu.enabled {
        return Vec::new();
    }
    match gpu::ask(Inquiry { program: Path::new(PROGRAM), bound: BOUND }) {
        Err(why) => {
            let seen = format!("no job can have GPUs: {why}");
            vec![Finding::warn("gpu.driver", seen, "install the NVIDIA driver, or set gpu.enabled: false")]
        }
        Ok(found) => {
            let nodes = nodes(Path::new("/dev"), &found.devices);
            vec![
                driver(&found),
                nodes,
                scrub(config.gpu.scrub, &found),
                lost(&config.data_dir),
                libraries(config),
            ]
        }
    }
}

fn driver(found: &Inventory) -> Finding {
    const CHECK: &str = "gpu.driver";
    let (number, driver) = (found.devices.len(), found.driver.as_deref().unwrap_or("of an unknown version"));
    let seen = format!("{number} GPUs, driver {driver}");
    if let Some(note) = found.notes.first().filter(|_| found.source == Source::Nvml) {
        return Finding::warn(
            CHECK,
            format!("{seen}; {note}"),
            "look at nvidia-smi and dmesg; restart the host",
        );
    }
    match found.source {
        _ if number == 0 => Finding::warn(CHECK, "the driver knows no GPU", "look at nvidia-smi and dmesg"),
        Source::Nvml => Finding::ok(CHECK, seen),
        Source::Proc => Finding::warn(
            CHECK,
            format!("{seen}; their memory is not known without NVML, and jobs cannot ask for it"),
            "install libnvidia-ml.so.1 (Debian: libnvidia-ml1), and run ldconfig",
        ),
    }
}

fn nodes(dev: &Path, devices: &[Device]) -> Finding {
    const CHECK: &str = "gpu.nodes";
    let lease = |device: &Device| GpuLease {
        index: device.index,
        uuid: device.uuid.clone(),
        minor: device.minor,
        lost: None,
    };
    match gpu::nodes(dev, &devices.iter().map(lease).collect::<Vec<_>>()) {
        Ok(found) => Finding::ok(CHECK, format!("{} device nodes are in /dev", found.len())),
        Err(why) => Finding::warn(
            CHECK,
            format!("jobs with GPUs cannot start: {why}"),
            "nvidia-modprobe -c 0 -u at each start of the host",
        ),
    }
}

fn scrub(wanted: GpuScrub, found: &Inventory) -> Finding {
    const CHECK: &str = "gpu.scrub";
    match gpu::can_scrub(Path::new(PROGRAM), wanted, found.source) {
        Ok(()) => Finding::ok(CHECK, format!("memory of GPUs between jobs: {}", wanted.as_str())),
        Err(why) => Finding::warn(
            CHECK,
            format!("no job can have GPUs: {why}"),
            "install the driver's libraries and run ldconfig, or set gpu.scrub: none",
        ),
    }
}

fn lost(dir: &Path) -> Finding {
    const CHECK: &str = "gpu.lost";
    match Kept::read(dir) {
        Err(why) => Finding::warn(
            CHECK,
            format!("it is not known which GPUs were lost: {}: {why}", dir.join("gpus.json").display()),
            "move that file away, if no GPU is ill",
        ),
        Ok(kept) if kept.lost.is_empty() => Finding::ok(CHECK, "no GPU is lost"),
        Ok(kept) => {
            let each =
                |lost: &LostGpu| format!("GPU {} ({}): {}", lost.device.index, lost.device.uuid, lost.reason);
            let all: Vec<String> = kept.lost.values().map(each).collect();
            Finding::warn(
                CHECK,
                format!("lost, and given to no job: {}", all.join("; ")),
                "mend it (nvidia-smi --gpu-reset, or restart the host), then rnx gpu reset-state",
            )
        }
    }
}

/// The files of the driver that jobs with GPUs see; those that overlayfs refuses are in the daemon's log.
fn libraries(config: &DaemonConfig) -> Finding {
    const CHECK: &str = "gpu.libraries";
    let (libraries, cuda_paths) = (&config.gpu.libraries, &config.gpu.cuda_paths);
    let path = std::env::var_os("PATH");
    let (files, notes) = driver_files(DriverWish { libraries, cuda_paths, path: path.as_deref() });
    let or_none = |path: Option<PathBuf>| path.map_or("none".to_owned(), |path| path.display().to_string());
    let (number, program, cuda) = (files.libraries.len(), or_none(files.program), or_none(files.cuda));
    let seen = format!("{number} libraries of the driver; nvidia-smi: {program}; CUDA: {cuda}");
    match notes.first() {
        Some(note) => {
            Finding::warn(CHECK, format!("{seen}; {note}"), "install what is missing, and run ldconfig")
        }
        None if number == 0 && !libraries.is_empty() => Finding::warn(
            CHECK,
            seen,
            "install the driver's libraries, run ldconfig, or name others in gpu.libraries",
        ),
        None => Finding::ok(CHECK, seen),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn each_lack_of_the_driver_is_a_warning_with_a_remedy() {
        let device = Device { uuid: "GPU-1".into(), ..Device::default() };
        let with = |source, devices: &[Device], note: &[&str]| Inventory {
            source,
            driver: Some("580.1".into()),
            devices: devices.to_vec(),
            notes: note.iter().map(|note| (*note).to_owned()).collect(),
        };
        let one = std::slice::from_ref(&device);
        for (found, status, word) in [
            (with(Source::Nvml, one, &[]), Status::Ok, "1 GPUs, driver 580.1"),
            (with(Source::Nvml, one, &["GPU 1 cannot be used: x"]), Status::Warn, "GPU 1 cannot"),
            (with(Source::Proc, one, &["no memory"]), Status::Warn, "without NVML"),
            (with(Source::Nvml, &[], &[]), Status::Warn, "no GPU"),
        ] {
            let finding = driver(&found);
            assert!(finding.status == status && finding.seen.contains(word), "{finding:?}");
        }
        let dev = tempfile::tempdir().unwrap();
        assert_eq!(nodes(dev.path(), std::slice::from_ref(&device)).status, Status::Warn);
        assert!(checks(&DaemonConfig::default()).is_empty());
        assert_eq!(scrub(GpuScrub::None, &with(Source::Proc, one, &[])).status, Status::Ok);
        let finding = scrub(GpuScrub::Verify, &with(Source::Proc, one, &[]));
        assert!(finding.status == Status::Warn && finding.seen.contains("gpu.scrub: verify"), "{finding:?}");
        assert_eq!(lost(dev.path()).status, Status::Ok);
        let mut kept = Kept::default();
        let gone = LostGpu { device, reason: "off the bus".into(), since_ns: 0 };
        kept.lost.insert("GPU-1".into(), gone);
        kept.write(dev.path()).unwrap();
        let finding = lost(dev.path());
        assert!(finding.status == Status::Warn && finding.seen.contains("off the bus"), "{finding:?}");
        let mut config = DaemonConfig::default();
        config.gpu.libraries = vec!["libcuda-of-nobody.so".into()];
        assert_eq!(libraries(&config).status, Status::Warn);
    }
}
