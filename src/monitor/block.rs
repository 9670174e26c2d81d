//! Disks: `/proc/diskstats` (Documentation/admin-guide/iostats.rst).

/// Bytes of a sector in the file, whatever the disk's own sectors have.
const SECTOR: u64 = 512;
/// Beginnings of names of devices that are no disk of their own: memory, files, and what is made of other disks.
const MADE_OF_OTHERS: [&str; 7] = ["loop", "ram", "zram", "dm-", "md", "sr", "fd"];

/// The work of one disk since the boot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disk {
    /// The name, such as `nvme0n1`.
    pub name: String,
    /// Reads that are complete.
    pub reads: u64,
    /// Writes that are complete.
    pub writes: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Milliseconds of all reads, added up.
    pub read_ms: u64,
    /// Milliseconds of all writes, added up.
    pub write_ms: u64,
    /// Milliseconds in which something was under way.
    pub busy_ms: u64,
}

/// Parses `/proc/diskstats`: whole disks. Partitions, and devices that are made of other disks, do the same work again.
pub fn diskstats(text: &str) -> Vec<Disk> {
    let all: Vec<Disk> = text.lines().filter_map(disk).collect();
    let is_whole = |disk: &&Disk| {
        !MADE_OF_OTHERS.iter().any(|made| disk.name.starts_with(made))
            && !all.iter().any(|other| is_partition(&disk.name, &other.name))
    };
    all.iter().filter(is_whole).cloned().collect()
}

/// Whether a name is that of a partition of the disk: `sda1` of `sda`, `nvme0n1p2` of `nvme0n1`.
fn is_partition(name: &str, disk: &str) -> bool {
    let Some(rest) = name.strip_prefix(disk) else { return false };
    let number =
        if disk.ends_with(|c: char| c.is_ascii_digit()) { rest.strip_prefix('p') } else { Some(rest) };
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn disk(line: &str) -> Option<Disk> {
    let mut words = line.split_whitespace().skip(2);
    let name = words.next()?.to_owned();
    let mut n = [0u64; 10];
    for place in &mut n {
        *place = words.next()?.parse().ok()?;
    }
    let [reads, _, sectors_read, read_ms, writes, _, sectors_written, write_ms, _, busy_ms] = n;
    Some(Disk {
        name,
        reads,
        writes,
        read_bytes: sectors_read.saturating_mul(SECTOR),
        written_bytes: sectors_written.saturating_mul(SECTOR),
        read_ms,
        write_ms,
        busy_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_disks_are_read_and_nothing_twice() {
        let names = [
            "sda",
            "sda1",
            "sda10",
            "sdaa",
            "nvme0n1",
            "nvme0n1p1",
            "nvme0n10",
            "mmcblk0",
            "mmcblk0p2",
            "mmcblk0boot0",
            "vda",
            "loop0",
            "ram0",
            "zram0",
            "dm-0",
            "md127",
            "sr0",
            "fd0",
        ];
        let numbers = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17";
        let text: String = names.iter().map(|name| format!("   8       0 {name} {numbers}\n")).collect();
        let found = diskstats(&text);
        let names: Vec<_> = found.iter().map(|disk| disk.name.as_str()).collect();
        assert_eq!(names, ["sda", "sdaa", "nvme0n1", "nvme0n10", "mmcblk0", "mmcblk0boot0", "vda"]);
        let first = &found[0];
        assert_eq!(
            (first.reads, first.writes, first.read_bytes, first.written_bytes),
            (1, 5, 3 * 512, 7 * 512)
        );
        assert_eq!((first.read_ms, first.write_ms, first.busy_ms), (4, 8, 10));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "([0-9 ]{0,4} [a-z0-9]{0,5} [0-9 ]{0,60}\n?){0,3}") {
            diskstats(&text);
        }
    }
}
