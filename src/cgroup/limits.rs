//! A job's limits as files of its group: written, then read back, before anything runs.

use crate::job::limits::CoreSet;
use crate::job::{Controller, Layer, Limits};

use super::files::Group;
use super::{CgroupError, ControllerSet, Disk};

/// `cpu.max` counts in periods; 100 ms is the kernel's own default. 1 % of it is the kernel's least share.
const CPU_PERIOD_USEC: u64 = 100_000;

/// The form in which a file shows a value that was written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    /// The same text.
    Same,
    /// Rounded down to whole pages.
    Pages,
    /// A line for each device; ours is among them, with our words in it.
    Line,
    /// A set of cores, ranges joined.
    Cores,
}

/// A value for one file of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    file: &'static str,
    value: String,
    shows: Shows,
    /// Kernels without the file lack the resource that it bounds (swap), or no job can reach it (children of a job's
    /// group).
    optional: bool,
}

/// Writes every limit that `controllers` can enforce into a fresh group, and reads it back.
///
/// # Errors
/// A file refuses its value or shows another one.
pub(super) fn apply(
    group: &Group,
    limits: &Limits,
    disks: &[Disk],
    controllers: ControllerSet,
) -> Result<(), CgroupError> {
    for setting in settings(limits, disks, controllers) {
        if setting.optional && !group.has(setting.file) {
            continue;
        }
        group.write(setting.file, &setting.value)?;
        verify(group, setting.file, &setting.value, setting.shows)?;
    }
    if let Some(cores) = limits.cores.as_ref().filter(|_| controllers.contains(Controller::Cpuset)) {
        // Cores that are offline or not ours are accepted by cpuset.cpus and then quietly left out.
        if group.has("cpuset.cpus.effective") {
            verify(group, "cpuset.cpus.effective", &cores.to_string(), Shows::Cores)?;
        }
    }
    Ok(())
}

/// Compares the files of a job's group with the values written to them. Leaves out files that the kernel lacks and
/// that nothing depends on.
///
/// # Errors
/// A file cannot be read, or the group is gone.
pub(super) fn read_back(
    group: &Group,
    limits: &Limits,
    disks: &[Disk],
    controllers: ControllerSet,
) -> Result<Vec<Layer>, CgroupError> {
    let mut layers = Vec::new();
    let mut compare = |file: &str, wrote: &str, shows| -> Result<(), CgroupError> {
        let reads = group.read(file)?;
        let kept = agrees(wrote, reads.trim(), shows, rustix::param::page_size() as u64);
        let device = wrote.split(' ').next().filter(|_| shows == Shows::Line);
        let seen = device.and_then(|device| reads.lines().find(|line| line.starts_with(device)));
        layers.push(Layer::new(file, wrote, seen.unwrap_or(reads.trim()), kept));
        Ok(())
    };
    for Setting { file, value, shows, optional } in settings(limits, disks, controllers) {
        if !optional || group.has(file) {
            compare(file, &value, shows)?;
        }
    }
    if let Some(cores) = limits.cores.as_ref().filter(|_| controllers.contains(Controller::Cpuset)) {
        compare("cpuset.cpus.effective", &cores.to_string(), Shows::Cores)?;
    }
    Ok(layers)
}

/// One sentence for each value to write.
pub(super) fn sentences(limits: &Limits, disks: &[Disk], controllers: ControllerSet) -> Vec<String> {
    let settings = settings(limits, disks, controllers).into_iter();
    settings.map(|setting| format!("write {} to {}", setting.value, setting.file)).collect()
}

/// The values to write, in order.
fn settings(limits: &Limits, disks: &[Disk], controllers: ControllerSet) -> Vec<Setting> {
    let mut all = Vec::new();
    let mut put = |controller: Option<Controller>, file, value: String, shows, optional| {
        if controller.is_none_or(|controller| controllers.contains(controller)) {
            all.push(Setting { file, value, shows, optional });
        }
    };
    // The job cannot reach the cgroup file system; should it ever, it makes no groups there.
    put(None, "cgroup.max.descendants", "0".to_owned(), Shows::Same, true);
    let memory = Some(Controller::Memory);
    if let Some(limit) = limits.memory {
        put(memory, "memory.max", limit.bytes().to_string(), Shows::Pages, false);
        put(memory, "memory.swap.max", "0".to_owned(), Shows::Same, true);
    }
    put(memory, "memory.oom.group", "1".to_owned(), Shows::Same, false);
    if let Some(limit) = limits.cpu {
        let quota = u64::from(limit.get()) * CPU_PERIOD_USEC / 100;
        put(Some(Controller::Cpu), "cpu.max", format!("{quota} {CPU_PERIOD_USEC}"), Shows::Same, false);
    }
    put(Some(Controller::Pids), "pids.max", limits.pids.to_string(), Shows::Same, false);
    if let Some(cores) = &limits.cores {
        put(Some(Controller::Cpuset), "cpuset.cpus", cores.to_string(), Shows::Cores, false);
    }
    if let Some(limit) = limits.io {
        for disk in disks {
            let line = format!("{disk} rbps={limit} wbps={limit}", limit = limit.get());
            put(Some(Controller::Io), "io.max", line, Shows::Line, false);
        }
    }
    all
}

fn verify(group: &Group, file: &'static str, wrote: &str, shows: Shows) -> Result<(), CgroupError> {
    let reads = group.read(file)?;
    if agrees(wrote, reads.trim(), shows, rustix::param::page_size() as u64) {
        return Ok(());
    }
    let reads = reads.trim().to_owned();
    Err(CgroupError::Verify { file: group.path.join(file), wrote: wrote.to_owned(), reads })
}

/// Whether a file that was given `wrote` says so with `reads`.
fn agrees(wrote: &str, reads: &str, shows: Shows, page: u64) -> bool {
    match shows {
        Shows::Same => reads == wrote,
        Shows::Pages => match (wrote.parse::<u64>(), reads.parse::<u64>()) {
            (Ok(wrote), Ok(reads)) => wrote / page * page == reads,
            _ => false,
        },
        Shows::Line => reads.lines().any(|line| {
            let words: Vec<_> = line.split(' ').collect();
            wrote.split(' ').all(|word| words.contains(&word))
        }),
        Shows::Cores => match (CoreSet::parse(wrote), CoreSet::parse(reads)) {
            (Ok(wrote), Ok(reads)) => wrote.is_subset_of(&reads) && reads.is_subset_of(&wrote),
            _ => false,
        },
    }
}

/// The limits of a request that `controllers` cannot enforce, each with its controller and in words.
pub(super) fn beyond(limits: &Limits, controllers: ControllerSet) -> Vec<(Controller, String)> {
    let asked = [
        (Controller::Cpu, limits.cpu.map(|cpu| format!("maxCPU {} %", cpu.get()))),
        (Controller::Memory, limits.memory.map(|memory| format!("maxMemory {} MB", memory.mib()))),
        (Controller::Io, limits.io.map(|io| format!("maxIOBPS {} bytes/s", io.get()))),
        (Controller::Pids, Some(format!("the limit of {} processes", limits.pids))),
        (Controller::Cpuset, limits.cores.as_ref().map(|cores| format!("cpuCores {cores}"))),
    ];
    let missing = asked.into_iter().filter(|(controller, _)| !controllers.contains(*controller));
    missing.filter_map(|(controller, limit)| Some((controller, limit?))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::disk::disk;
    use super::*;
    use crate::job::Verdict;
    use crate::job::limits::{CpuPercent, IoBytes, MemoryMib};
    use std::fs;

    fn every_limit() -> Limits {
        Limits {
            cpu: Some(CpuPercent::new(250).unwrap()),
            memory: Some(MemoryMib::new(64, 1024).unwrap()),
            io: Some(IoBytes::new(4_194_304).unwrap()),
            cores: Some(CoreSet::parse("0,1,3").unwrap()),
            pids: 4096,
        }
    }

    fn no_limit() -> Limits {
        Limits { cpu: None, memory: None, io: None, cores: None, pids: 7 }
    }

    /// A directory with empty files where the kernel would have made a group's.
    fn group_of_files(files: &[&str]) -> (tempfile::TempDir, Group) {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(dir.path().join(file), "").unwrap();
        }
        let group = Group::open(dir.path()).unwrap();
        (dir, group)
    }

    #[test]
    fn every_limit_is_written_in_the_kernels_words() {
        let files =
            ["memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "pids.max", "cpuset.cpus"];
        let (dir, group) = group_of_files(&[&files[..], &["io.max", "cgroup.max.descendants"]].concat());
        apply(&group, &every_limit(), &[disk("8:0")], ControllerSet::all()).unwrap();
        let read = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
        let wrote = ["67108864", "0", "1", "250000 100000", "4096", "0,1,3"];
        assert_eq!(files.map(read), wrote);
        assert_eq!(read("io.max"), "8:0 rbps=4194304 wbps=4194304");
        assert_eq!(read("cgroup.max.descendants"), "0");
    }

    #[test]
    fn limit_file_that_changed_after_the_write_is_reported_broken() {
        let files = [
            "cgroup.max.descendants",
            "memory.max",
            "memory.oom.group",
            "cpu.max",
            "pids.max",
            "cpuset.cpus",
        ];
        let (dir, group) = group_of_files(&[&files[..], &["io.max"]].concat());
        let disks = [disk("8:0")];
        apply(&group, &every_limit(), &disks, ControllerSet::all()).unwrap();
        fs::write(dir.path().join("cpuset.cpus.effective"), "0-1,3\n").unwrap();
        let broken = || -> Vec<String> {
            let layers = read_back(&group, &every_limit(), &disks, ControllerSet::all()).unwrap();
            assert_eq!(layers.len(), 8, "swap has no file here");
            layers
                .into_iter()
                .filter(|l| l.verdict == Verdict::Broken)
                .map(|l| format!("{} {}", l.name, l.seen))
                .collect()
        };
        assert_eq!(broken(), Vec::<String>::new());
        fs::write(dir.path().join("memory.max"), "max\n").unwrap();
        fs::write(dir.path().join("io.max"), "8:0 rbps=max wbps=4194304\n").unwrap();
        fs::write(dir.path().join("cpuset.cpus.effective"), "0-3\n").unwrap();
        let wanted = ["memory.max max", "io.max 8:0 rbps=max wbps=4194304", "cpuset.cpus.effective 0-3"];
        assert_eq!(broken(), wanted);
    }

    #[test]
    fn only_controllers_that_are_there_are_written() {
        let (dir, group) = group_of_files(&["pids.max"]);
        apply(&group, &every_limit(), &[disk("8:0")], ControllerSet::read("pids")).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("pids.max")).unwrap(), "4096");
        let (_dir, bare) = group_of_files(&[]);
        apply(&bare, &every_limit(), &[disk("8:0")], ControllerSet::default()).unwrap();
    }

    #[test]
    fn no_limit_leaves_the_kernels_max() {
        let wrote: Vec<_> = settings(&no_limit(), &[disk("8:0")], ControllerSet::all());
        let files: Vec<_> = wrote.iter().map(|setting| setting.file).collect();
        assert_eq!(files, ["cgroup.max.descendants", "memory.oom.group", "pids.max"]);
    }

    #[test]
    fn io_is_limited_on_every_disk() {
        let limits = Limits { io: Some(IoBytes::new(9000).unwrap()), ..no_limit() };
        let wrote = settings(&limits, &[disk("8:0"), disk("259:1")], ControllerSet::read("io"));
        let lines: Vec<_> =
            wrote.iter().filter(|setting| setting.file == "io.max").map(|s| s.value.as_str()).collect();
        assert_eq!(lines, ["8:0 rbps=9000 wbps=9000", "259:1 rbps=9000 wbps=9000"]);
    }

    #[test]
    fn a_file_that_is_missing_or_refuses_names_itself_and_the_value() {
        let (_dir, group) = group_of_files(&["memory.oom.group"]);
        let error =
            apply(&group, &every_limit(), &[], ControllerSet::read("memory")).unwrap_err().to_string();
        assert!(error.starts_with("cgroup setup failed: cannot write \"67108864\" to /"), "{error}");
        assert!(error.contains("/memory.max: No such file"), "{error}");
    }

    #[test]
    fn a_value_that_does_not_hold_is_an_error() {
        // The file keeps the tail of what was there: as if another program had written after us.
        let (dir, group) = group_of_files(&[]);
        fs::write(dir.path().join("pids.max"), "999999\n").unwrap();
        let error = apply(&group, &no_limit(), &[], ControllerSet::read("pids")).unwrap_err().to_string();
        assert!(error.contains("was given \"7\" and reads \"799999\""), "{error}");
        fs::write(dir.path().join("pids.max"), "").unwrap();
        apply(&group, &no_limit(), &[], ControllerSet::read("pids")).unwrap();
    }

    #[test]
    fn cores_that_are_not_there_are_an_error() {
        let (dir, group) = group_of_files(&["cpuset.cpus"]);
        fs::write(dir.path().join("cpuset.cpus.effective"), "0-1\n").unwrap();
        let limits = Limits { cores: Some(CoreSet::parse("0-3").unwrap()), ..no_limit() };
        let error = apply(&group, &limits, &[], ControllerSet::read("cpuset")).unwrap_err().to_string();
        assert!(error.contains("cpuset.cpus.effective was given \"0-3\" and reads \"0-1\""), "{error}");
    }

    #[test]
    fn readings_are_compared_as_the_kernel_writes_them() {
        let io = "253:0 rbps=max wbps=9 riops=max wiops=max\n8:0 rbps=9 wbps=9 riops=max wiops=max";
        assert!(agrees("8:0 rbps=9 wbps=9", io, Shows::Line, 4096));
        assert!(!agrees("253:0 rbps=9 wbps=9", io, Shows::Line, 4096));
        assert!(agrees("10000000", "9998336", Shows::Pages, 4096));
        assert!(!agrees("10000000", "max", Shows::Pages, 4096));
        assert!(agrees("0,1,3", "0-1,3", Shows::Cores, 4096));
        assert!(!agrees("0,1,3", "", Shows::Cores, 4096));
    }

    #[test]
    fn limits_without_controller_are_named_as_in_the_request() {
        let words: Vec<_> = beyond(&every_limit(), ControllerSet::read("cpu io")).into_iter().collect();
        assert_eq!(
            words,
            [
                (Controller::Memory, "maxMemory 64 MB".to_owned()),
                (Controller::Pids, "the limit of 4096 processes".to_owned()),
                (Controller::Cpuset, "cpuCores 0,1,3".to_owned()),
            ]
        );
        assert!(beyond(&no_limit(), ControllerSet::read("pids")).is_empty());
    }
}
