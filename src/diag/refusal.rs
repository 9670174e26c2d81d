//! Hints for writes that a file system refuses.

use std::io;

use rustix::io::Errno;

/// The remedy in words, by errno(3); it says nothing of where.
pub fn disk_remedy(why: &io::Error) -> &'static str {
    match why.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC) => {
            "the file system of dataDir is full: make room (df -h), or remove files where inodes are used up (df -i)"
        }
        Some(Errno::DQUOT) => "the quota of the file system of dataDir is used up: raise it, or make room",
        Some(Errno::ROFS) => {
            "the file system of dataDir is read-only: `dmesg` says why where the kernel did it; then mount it anew, \
             or `mount -o remount,rw`"
        }
        Some(Errno::IO) => "the disk of dataDir fails: see `dmesg`, then replace it or mount it anew",
        _ => "can dataDir be written?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_a_disk_has_its_own_remedy() {
        let errnos = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::IO, Errno::ACCESS];
        let mut remedies = errnos.map(|errno| disk_remedy(&errno.into())).to_vec();
        remedies.sort_unstable();
        remedies.dedup();
        assert_eq!(remedies.len(), errnos.len());
    }
}
