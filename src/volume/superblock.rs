//! The superblock of an ext4: what it says of the journal, the size, the room and the state (Documentation/filesystems/ext4, "Super
//! Block").

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Where it begins, and how much of it is read.
const PLACE: u64 = 1024;
const LENGTH: usize = 1024;
const MAGIC: u16 = 0xef53;
/// `s_feature_compat`: there is a journal.
const COMPAT_HAS_JOURNAL: u32 = 4;
/// `s_feature_incompat`: the journal has something to replay; blocks are counted in 64 bits.
const INCOMPAT_RECOVER: u32 = 4;
const INCOMPAT_64BIT: u32 = 0x80;
/// `s_state`: it was unmounted cleanly; the kernel found errors.
const STATE_VALID: u16 = 1;
const STATE_ERROR: u16 = 2;

/// The fields of a superblock that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Bytes of the file system.
    pub(super) bytes: u64,
    /// Bytes of its own tables, which statvfs(2) does not count; 0 where nobody has noted them.
    pub(super) overhead: u64,
    /// Free bytes, as long as nobody has mounted it.
    pub(super) free_bytes: u64,
    /// The number of its inodes.
    pub(super) files: u64,
    /// Free inodes, as long as nobody has mounted it.
    pub(super) free_files: u64,
    /// Its journal has something to replay: it is mounted, or was when the power went.
    pub(super) has_to_recover: bool,
    /// It has a journal.
    pub(super) has_journal: bool,
    /// It asks to be checked before it is mounted: the kernel has found errors in it, it was not unmounted and has no journal to
    /// replay, or it was mounted as often as it may be.
    pub(super) asks_for_check: bool,
}

/// Reads the superblock of an image, or of the device of one that may be mounted.
///
/// # Errors
/// It cannot be read. `InvalidData`: it is none of an ext4.
pub(super) fn read(image: &File) -> io::Result<Superblock> {
    let mut raw = [0; LENGTH];
    image.read_exact_at(&mut raw, PLACE)?;
    parse(&raw).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse(raw: &[u8; LENGTH]) -> Option<Superblock> {
    let u16_at = |at: usize| u16::from_le_bytes([raw[at], raw[at + 1]]);
    let u32_at = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
    if u16_at(0x38) != MAGIC {
        return None;
    }
    let incompat = u32_at(0x60);
    let high = if incompat & INCOMPAT_64BIT == 0 { 0 } else { u64::from(u32_at(0x150)) };
    let free_high = if incompat & INCOMPAT_64BIT == 0 { 0 } else { u64::from(u32_at(0x158)) };
    let blocks = high << 32 | u64::from(u32_at(0x4));
    let free = free_high << 32 | u64::from(u32_at(0xc));
    let block = 1024_u64.checked_shl(u32_at(0x18))?;
    let (mounts, most) = (u16_at(0x34).cast_signed(), u16_at(0x36).cast_signed());
    let state = u16_at(0x3a);
    let is_unclean = state & STATE_VALID == 0 && incompat & INCOMPAT_RECOVER == 0;
    Some(Superblock {
        bytes: blocks.checked_mul(block)?,
        overhead: u64::from(u32_at(0x248)).checked_mul(block)?,
        free_bytes: free.checked_mul(block)?,
        files: u64::from(u32_at(0x0)),
        free_files: u64::from(u32_at(0x10)),
        has_to_recover: incompat & INCOMPAT_RECOVER != 0,
        has_journal: u32_at(0x5c) & COMPAT_HAS_JOURNAL != 0,
        asks_for_check: state & STATE_ERROR != 0 || is_unclean || (most > 0 && mounts >= most),
    })
}

#[cfg(test)]
mod tests {
    use super::super::usage::Usage;
    use super::*;

    /// A superblock with these values at these places.
    fn superblock(fields: &[(usize, u32)]) -> [u8; LENGTH] {
        let mut raw = [0; LENGTH];
        for (at, value) in [(0x38, u32::from(MAGIC) | 1 << 16), (0x4, 4096), (0x18, 2)].iter().chain(fields) {
            raw[*at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        raw
    }

    #[test]
    fn superblock_tells_size_journal_and_wish_to_be_checked() {
        let read = |fields: &[(usize, u32)]| parse(&superblock(fields)).unwrap();
        let clean = read(&[(0x5c, COMPAT_HAS_JOURNAL)]);
        assert_eq!((clean.bytes, clean.has_journal, clean.asks_for_check), (16 << 20, true, false));
        let counted = read(&[(0x0, 100), (0x10, 89), (0xc, 4000), (0x248, 90)]);
        let usage = Usage::of_superblock(&counted).unwrap();
        assert_eq!(usage, Usage { bytes: 6 * 4096, files: 11, most_files: 100 });
        assert_eq!(Usage::of_superblock(&read(&[(0x60, INCOMPAT_RECOVER)])), None);
        assert_eq!(read(&[(0x60, INCOMPAT_64BIT), (0x150, 1)]).bytes, (1 << 44) + (16 << 20));
        let state = |state: u32| (0x38, u32::from(MAGIC) | state << 16);
        assert!(read(&[state(u32::from(STATE_VALID | STATE_ERROR))]).asks_for_check);
        assert!(read(&[state(0)]).asks_for_check, "it was not unmounted");
        assert!(!read(&[state(0), (0x60, INCOMPAT_RECOVER)]).asks_for_check, "its journal is replayed");
        assert!(read(&[(0x34, 30 << 16 | 30)]).asks_for_check, "it was mounted 30 times of 30");
        assert!(!read(&[(0x34, 0xffff << 16 | 30)]).asks_for_check, "-1: any number of times");
        assert_eq!(parse(&[0; LENGTH]), None);
    }
}
