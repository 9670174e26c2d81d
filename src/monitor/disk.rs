//! Mounted file systems of disks: `/proc/self/mounts` (proc(5)) and statvfs(3).

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The block device, such as `/dev/nvme0n1p2`.
    pub device: String,
    /// The directory of the mount.
    pub point: String,
    /// The type, such as `ext4`.
    pub kind: String,
}

/// A file system and its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The place of the file system.
    pub mount: Mount,
    /// Bytes of all blocks.
    pub total: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes that a program without privilege can still write.
    pub free: u64,
    /// All inodes; 0 where there is no such limit, as on btrfs.
    pub inodes: u64,
    /// Inodes that are not in use.
    pub inodes_free: u64,
}

/// Parses a file of mounts: the file systems of block devices, each device once, at its shortest path. Others, such as
/// bind mounts and the subvolumes of btrfs, are the same room again.
pub fn mounts(text: &str) -> Vec<Mount> {
    let mut found: Vec<Mount> = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some(device), Some(point), Some(kind)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        // An image is counted with the disk that has its file.
        if !device.starts_with("/dev/") || device.starts_with("/dev/loop") {
            continue;
        }
        let mount = Mount { device: unescaped(device), point: unescaped(point), kind: kind.to_owned() };
        match found.iter_mut().find(|other| other.device == mount.device) {
            Some(other) if other.point.len() > mount.point.len() => *other = mount,
            Some(_) => {}
            None => found.push(mount),
        }
    }
    found
}

/// A path with its octal escapes resolved: space, tab, line break and backslash (getmntent(3)).
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind
            .get(..3)
            .filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match digits {
            Some(digits) => {
                let value = digits.iter().fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0'));
                bytes.push(value as u8);
                rest = &behind[3..];
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Disk {
    /// The share of the room in use, as df(1) counts it: of the room that programs have.
    pub fn used_percent(&self) -> f64 {
        percent(self.used, self.used.saturating_add(self.free))
    }

    /// The share of inodes in use, percent.
    pub fn inodes_percent(&self) -> f64 {
        percent(self.inodes_used(), self.inodes)
    }

    /// Inodes in use.
    pub fn inodes_used(&self) -> u64 {
        self.inodes.saturating_sub(self.inodes_free)
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_device_is_there_once_at_its_shortest_path() {
        let text = "proc /proc proc rw 0 0\n/dev/nvme0n1p2 /var/lib/with\\040space ext4 rw 0 0\n\
                    /dev/nvme0n1p2 / ext4 rw 0 0\n/dev/sdb1 /data btrfs rw,subvol=/@data 0 0\n\
                    /dev/sdb1 /data/snapshots btrfs rw,subvol=/@snap 0 0\n/dev/loop3 /snap/x squashfs ro 0 0\n\
                    tmpfs /run tmpfs rw 0 0\n/dev/mapper/vg-home /home\\134x xfs rw 0 0\nbroken\n";
        let found: Vec<_> = mounts(text).into_iter().map(|m| (m.device, m.point, m.kind)).collect();
        let of = |d: &str, p: &str, k: &str| (d.to_owned(), p.to_owned(), k.to_owned());
        assert_eq!(
            found,
            [
                of("/dev/nvme0n1p2", "/", "ext4"),
                of("/dev/sdb1", "/data", "btrfs"),
                of("/dev/mapper/vg-home", "/home\\x", "xfs")
            ]
        );
    }

    #[test]
    fn shares_are_of_what_programs_have() {
        let mount = Mount { device: "/dev/sda1".into(), point: "/".into(), kind: "ext4".into() };
        let disk = Disk { mount, total: 1000, used: 300, free: 600, inodes: 0, inodes_free: 0 };
        assert!((disk.used_percent() - 33.33).abs() < 0.01);
        assert_eq!((disk.inodes_percent(), disk.inodes_used()), (0.0, 0));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "(/dev/[a-z0-9\\\\]{0,6} /[0-7\\\\]{0,8} ext4\n?){0,4}[^\n]{0,20}") {
            let found = mounts(&text);
            let mut devices: Vec<_> = found.iter().map(|mount| &mount.device).collect();
            devices.sort_unstable();
            devices.dedup();
            prop_assert_eq!(devices.len(), found.len());
        }
    }
}
