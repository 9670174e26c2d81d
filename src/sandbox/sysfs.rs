//! The /sys of jobs: a few files with the host's topology of processors and memory nodes, copied once per daemon.
//!
//! Programs read them to choose a number of threads, and lscpu, lsblk and numactl fail without them. The real sysfs
//! stays away: it shows every device of the host. Values that change while the host runs (frequencies, free memory of a node)
//! are not copied either: an old figure would be a false one. `/sys/fs/cgroup` is a mount of each job's own.

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Directories that programs list or use as mount points; most are empty, because jobs have no device of the host.
const DIRECTORIES: &[&str] = &[
    "block",
    "bus",
    "class",
    "class/block",
    "class/net",
    "dev/block",
    "dev/char",
    "devices/system/cpu",
    "devices/system/node",
    "fs/cgroup",
    "kernel/mm/transparent_hugepage",
];

/// Files that are copied where the host has them.
const FILES: &[&str] = &[
    "devices/system/cpu/isolated",
    "devices/system/cpu/kernel_max",
    "devices/system/cpu/offline",
    "devices/system/cpu/online",
    "devices/system/cpu/possible",
    "devices/system/cpu/present",
    "devices/system/cpu/smt/active",
    "devices/system/cpu/smt/control",
    "devices/system/node/has_cpu",
    "devices/system/node/has_memory",
    "devices/system/node/has_normal_memory",
    "devices/system/node/online",
    "devices/system/node/possible",
    "kernel/mm/transparent_hugepage/defrag",
    "kernel/mm/transparent_hugepage/enabled",
    "kernel/mm/transparent_hugepage/hpage_pmd_size",
    "kernel/mm/transparent_hugepage/shmem_enabled",
    "kernel/mm/transparent_hugepage/use_zero_page",
];

/// Files of one processor, below `cpuN`; a directory stands for all the files in it.
const OF_A_PROCESSOR: &[&str] =
    &["online", "cpu_capacity", "topology", "cpufreq/cpuinfo_max_freq", "cpufreq/cpuinfo_min_freq"];
/// Files of one memory node, below `nodeN`.
const OF_A_NODE: &[&str] = &["cpulist", "cpumap", "distance"];
/// The longest file that is copied: a map of processors has nine bytes for each 32 of them.
const LONGEST: u64 = 64 << 10;

/// Copies the files named above from one sysfs to a new directory. A file that the host lacks, or refuses to read, is left
/// out.
///
/// # Errors
/// The new directory cannot be written.
pub(super) fn copy_topology(from: &Path, to: &Path) -> io::Result<()> {
    let mut copy = Copy { from, to, known: HashMap::new() };
    for dir in DIRECTORIES {
        fs::create_dir_all(to.join(dir))?;
    }
    for file in FILES {
        copy.file(Path::new(file))?;
    }
    for cpu in numbered(&from.join("devices/system/cpu"), "cpu") {
        let cpu = Path::new("devices/system/cpu").join(cpu);
        for file in OF_A_PROCESSOR {
            copy.file_or_files(&cpu.join(file))?;
        }
        for index in numbered(&from.join(&cpu).join("cache"), "index") {
            copy.file_or_files(&cpu.join("cache").join(index))?;
        }
    }
    for node in numbered(&from.join("devices/system/node"), "node") {
        for file in OF_A_NODE {
            copy.file(&Path::new("devices/system/node").join(&node).join(file))?;
        }
    }
    Ok(())
}

/// The entries of a directory whose names are `prefix` and a number.
fn numbered(dir: &Path, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_number = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    names.filter(|name| name.strip_prefix(prefix).is_some_and(is_number)).collect()
}

/// A copy under way.
struct Copy<'a> {
    from: &'a Path,
    to: &'a Path,
    /// The first file with this text. The next one is a link to it: most files of a large host are equal, and each would
    /// hold a page of memory.
    known: HashMap<Vec<u8>, PathBuf>,
}

impl Copy<'_> {
    fn file_or_files(&mut self, path: &Path) -> io::Result<()> {
        let Ok(entries) = fs::read_dir(self.from.join(path)) else { return self.file(path) };
        for entry in entries.flatten() {
            self.file(&path.join(entry.file_name()))?;
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> io::Result<()> {
        let source = self.from.join(path);
        let others_read = fs::symlink_metadata(&source)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o004 != 0);
        let mut text = Vec::new();
        let read = File::open(source).and_then(|file| file.take(LONGEST).read_to_end(&mut text));
        if !others_read || read.is_err() {
            return Ok(());
        }
        let at = self.to.join(path);
        if let Some(dir) = at.parent() {
            fs::create_dir_all(dir)?;
        }
        if let Some(same) = self.known.get(&text) {
            return fs::hard_link(same, at);
        }
        fs::write(&at, &text)?;
        fs::set_permissions(&at, Permissions::from_mode(0o444))?;
        self.known.insert(text, at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topology_is_copied_and_devices_are_not() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (path, text) in [
            ("devices/system/cpu/possible", "0-1\n"),
            ("devices/system/cpu/cpu1/topology/core_id", "1\n"),
            ("devices/system/cpu/cpu1/topology/die_id", "1\n"),
            ("devices/system/cpu/cpu1/cache/index0/size", "32K\n"),
            ("devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "1\n"),
            ("devices/system/cpu/vulnerabilities/meltdown", "Vulnerable\n"),
            ("devices/pci0000:00/vendor", "0x8086\n"),
            ("class/dmi/id/product_serial", "secret\n"),
        ] {
            fs::create_dir_all(from.path().join(path).parent().unwrap()).unwrap();
            fs::write(from.path().join(path), text).unwrap();
        }
        let there = to.path().join("sys");
        copy_topology(from.path(), &there).unwrap();
        let read = |path: &str| fs::read_to_string(there.join(path)).ok();
        assert_eq!(read("devices/system/cpu/possible").as_deref(), Some("0-1\n"));
        assert_eq!(read("devices/system/cpu/cpu1/topology/core_id").as_deref(), Some("1\n"));
        assert_eq!(read("devices/system/cpu/cpu1/topology/die_id").as_deref(), Some("1\n"));
        assert_eq!(read("devices/system/cpu/cpu1/cache/index0/size").as_deref(), Some("32K\n"));
        for gone in [
            "devices/system/cpu/cpufreq",
            "devices/system/cpu/vulnerabilities",
            "devices/pci0000:00",
            "class/dmi",
        ] {
            assert!(!there.join(gone).exists(), "{gone}");
        }
        assert!(there.join("class/net").is_dir() && there.join("fs/cgroup").is_dir());
    }
}
