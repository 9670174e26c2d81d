//! Which block devices `io.max` can name: whole disks, not their partitions (ENODEV).

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A whole block device by its numbers; prints as `major:minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Disk {
    major: u32,
    minor: u32,
}

impl Disk {
    /// The disks behind these paths, each once. A path that cannot be looked at has none.
    pub fn behind<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Vec<Disk> {
        let devices = paths.into_iter().filter_map(|path| fs::metadata(path).ok()).map(|meta| {
            let device = meta.dev();
            (rustix::fs::major(device), rustix::fs::minor(device))
        });
        whole_disks(devices, Path::new("/sys/dev/block"))
    }
}

/// The whole disks that hold these devices. File systems without a disk (tmpfs, overlay, also btrfs, which
/// gives its files numbers of its own) have no entry in `sys_dev_block` and are left out.
fn whole_disks(devices: impl IntoIterator<Item = (u32, u32)>, sys_dev_block: &Path) -> Vec<Disk> {
    let whole = |(major, minor): (u32, u32)| {
        let entry = fs::canonicalize(sys_dev_block.join(format!("{major}:{minor}"))).ok()?;
        // A partition is a directory inside its disk's.
        let disk = if entry.join("partition").exists() { entry.parent()? } else { &entry };
        parse(&fs::read_to_string(disk.join("dev")).ok()?)
    };
    devices.into_iter().filter_map(whole).collect::<BTreeSet<_>>().into_iter().collect()
}

fn parse(text: &str) -> Option<Disk> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(Disk { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

#[cfg(test)]
pub(super) fn disk(text: &str) -> Disk {
    parse(text).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn partitions_count_as_their_disk_and_every_disk_once() {
        let sys = tempfile::tempdir().unwrap();
        let (sda, sda1) = (sys.path().join("devices/sda"), sys.path().join("devices/sda/sda1"));
        fs::create_dir_all(&sda1).unwrap();
        fs::write(sda.join("dev"), "8:0\n").unwrap();
        fs::write(sda1.join("dev"), "8:1\n").unwrap();
        fs::write(sda1.join("partition"), "1\n").unwrap();
        let block = sys.path().join("block");
        fs::create_dir(&block).unwrap();
        symlink("../devices/sda", block.join("8:0")).unwrap();
        symlink("../devices/sda/sda1", block.join("8:1")).unwrap();
        assert_eq!(whole_disks([(8, 1), (8, 0), (0, 31), (8, 7)], &block), [disk("8:0")]);
        assert_eq!(whole_disks([(0, 31)], &block), []);
    }

    #[test]
    fn devices_print_as_io_max_takes_them() {
        assert_eq!(disk("259:3\n").to_string(), "259:3");
        assert_eq!(parse("8"), None);
    }
}
