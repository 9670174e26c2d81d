//! Where cgroup v2 is mounted and which group is ours: parsers of /proc, pure on text.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::CgroupError;

/// A cgroup v2 mount: the group `root` of the hierarchy is to be seen at `point`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) root: PathBuf,
    pub(super) point: PathBuf,
}

/// The cgroup v2 mounts in a `mountinfo` (proc_pid_mountinfo(5)), in its order.
pub(super) fn mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(mount).collect()
}

/// `id parent major:minor root point options [tags...] - type source super-options`
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    if after.split(' ').next() != Some("cgroup2") {
        return None;
    }
    let mut fields = before.split(' ').skip(3);
    Some(Mount { root: unescape(fields.next()?), point: unescape(fields.next()?) })
}

/// Mountinfo writes blank, tab, newline and backslash as `\` and three octal digits.
fn unescape(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\').then(|| field.get(at + 1..at + 4)).flatten();
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 4;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(plain))
}

/// The directory of the group that the `0::` line of /proc/self/cgroup names, and the mount it lies in.
pub(super) fn own_group(mountinfo: &str, self_cgroup: &str) -> Result<(Mount, PathBuf), CgroupError> {
    let mounts = mounts(mountinfo);
    let first = mounts.first().ok_or(CgroupError::FindMount)?;
    let group = self_cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("");
    let seen = mounts.iter().find_map(|mount| Some((mount.clone(), directory(mount, group)?)));
    seen.ok_or_else(|| CgroupError::FindOwnGroup { group: group.to_owned(), mount: first.point.clone() })
}

/// Where a mount shows a group. A path with `..` lies outside of our cgroup namespace.
fn directory(mount: &Mount, group: &str) -> Option<PathBuf> {
    let below = Path::new(group).strip_prefix(&mount.root).ok()?;
    let ours = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    // Joining an empty path would add a slash, which errors then print.
    ours.then(|| if below.as_os_str().is_empty() { mount.point.clone() } else { mount.point.join(below) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:10 master:1 - cgroup2 cgroup2 rw
";
    const UNIFIED: &str = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_mount_is_found_on_unified_and_hybrid_hosts() {
        let service = "0::/joblet.slice/joblet.service\n";
        let (mount, own) = own_group(UNIFIED, service).unwrap();
        assert_eq!(mount, Mount { root: "/".into(), point: "/sys/fs/cgroup".into() });
        assert_eq!(own, Path::new("/sys/fs/cgroup/joblet.slice/joblet.service"));
        let (_, own) = own_group(HYBRID, "9:memory:/foo\n1:name=systemd:/\n0::/\n").unwrap();
        assert_eq!(own, Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn a_mount_of_a_part_of_the_tree_hides_its_root() {
        let part = "30 24 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        let (_, own) = own_group(part, "0::/docker/abc/x y\n").unwrap();
        assert_eq!(own, Path::new("/sys/fs/cgroup/x y"));
        for elsewhere in ["0::/docker/abcd\n", "0::/docker\n", "0::/docker/abc/../x\n", "5:cpu:/\n", ""] {
            let error = own_group(part, elsewhere).unwrap_err();
            assert!(matches!(error, CgroupError::FindOwnGroup { .. }), "{elsewhere}");
        }
        assert!(own_group(UNIFIED, "0::/../outside\n").is_err());
    }

    #[test]
    fn the_group_is_found_in_whichever_mount_shows_it() {
        let both = "30 24 0:26 /a /mnt rw - cgroup2 c rw\n31 24 0:26 / /sys/fs/cgroup rw - cgroup2 c rw\n";
        assert_eq!(own_group(both, "0::/b\n").unwrap().1, Path::new("/sys/fs/cgroup/b"));
    }

    #[test]
    fn host_without_cgroup_v2_gets_an_error_that_names_the_cause() {
        let v1 = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let error = own_group(v1, "0::/\n").unwrap_err().to_string();
        assert!(error.starts_with("cgroup setup failed: no cgroup v2"), "{error}");
    }

    #[test]
    fn escaped_mount_points_are_read_as_they_are() {
        let line = "30 24 0:26 / /mnt/a\\040b\\134c\\12 rw - cgroup2 c rw\n";
        assert_eq!(mounts(line)[0].point, Path::new("/mnt/a b\\c\\12"));
        assert!(mounts("nonsense\n\n30 24 - cgroup2\n").is_empty());
    }
}
