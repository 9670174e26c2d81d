//! The file systems of a job alone (/work, /tmp, /run, /dev/shm), for the sentence about a job that failed with one of them
//! full.

use super::exit_file::{ExitFile, OWN_DISKS};

/// One of [`OWN_DISKS`].
#[derive(Debug, Clone, Copy, Default)]
pub struct OwnDisk {
    /// The size in bytes.
    pub bytes: u64,
    /// The setting that decides the size.
    pub bound: Bound,
}

/// The setting that decides how large a file system of a job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Bound {
    /// The size of /work that the node grants, `filesystem.workQuota`.
    #[default]
    Quota,
    /// Half of the job's memory limit.
    Memory,
    /// The daemon, whatever the job and the node ask for.
    Fixed,
}

/// The sentence about the file systems that were full when the payload ended; `None` where none was.
pub(super) fn hint(record: &ExitFile, disks: &[OwnDisk; OWN_DISKS.len()]) -> Option<String> {
    let is_set = |bits: u8, n: usize| (bits >> n) & 1 == 1;
    let said = OWN_DISKS.iter().zip(disks).enumerate().filter_map(|(n, (path, disk))| {
        let path = path.to_string_lossy();
        let what = match (is_set(record.full, n), is_set(record.crowded, n)) {
            (true, _) => format!("its {path} was full ({} MiB)", disk.bytes >> 20),
            (false, true) => format!("its {path} had no inode left for another file"),
            (false, false) => return None,
        };
        let remedy = match disk.bound {
            Bound::Quota => "filesystem.workQuota of the node bounds it",
            Bound::Memory => "ask for more memory: it may take half of that",
            Bound::Fixed => "/tmp and /work may take more",
        };
        Some(format!("{what}; {remedy}"))
    });
    Some(said.collect::<Vec<_>>().join("; ")).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_full_file_system_is_named_with_its_remedy() {
        let disk = |mib: u64, bound| OwnDisk { bytes: mib << 20, bound };
        let disks = [
            disk(1024, Bound::Quota),
            disk(256, Bound::Memory),
            disk(64, Bound::Fixed),
            disk(256, Bound::Memory),
        ];
        let said = |full, crowded| hint(&ExitFile { full, crowded, ..ExitFile::default() }, &disks);
        assert_eq!(said(0, 0), None);
        let text = "its /work was full (1024 MiB); filesystem.workQuota of the node bounds it";
        assert_eq!(said(1, 1).as_deref(), Some(text));
        let text =
            "its /tmp had no inode left for another file; ask for more memory: it may take half of that";
        assert_eq!(said(0, 2).as_deref(), Some(text));
        let both = said(4, 8).unwrap();
        assert!(
            both.starts_with("its /run was full (64 MiB); /tmp and /work may take more; its /dev/shm "),
            "{both}"
        );
    }
}
