//! Parsers of a cgroup's accounting files, pure functions of text.

use std::collections::BTreeMap;

use super::sample::{Kinds, Throttling, Traffic};

/// Most devices in a list; totals count all of them.
pub const LISTED: usize = 64;

/// The number behind a key in a file of `key number` lines.
pub fn value(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key).and_then(|(_, number)| number.trim().parse().ok())
}

/// The number that is the whole content of a file; `None` for `max`.
pub fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Parses `cpu.stat`: usage, user and system time in microseconds, and the effect of the limit.
pub fn cpu_stat(text: &str) -> Option<([u64; 3], Option<Throttling>)> {
    let times = [value(text, "usage_usec")?, value(text, "user_usec")?, value(text, "system_usec")?];
    let throttling = || {
        Some(Throttling {
            nr_periods: value(text, "nr_periods")?,
            nr_throttled: value(text, "nr_throttled")?,
            throttled_usec: value(text, "throttled_usec")?,
        })
    };
    Some((times, throttling()))
}

/// Parses `memory.stat` in one pass, because it has fifty lines.
pub fn memory_stat(text: &str) -> Kinds {
    let mut kinds = Kinds::default();
    for (name, number) in text.lines().filter_map(|line| line.split_once(' ')) {
        let place = match name {
            "anon" => &mut kinds.anon,
            "file" => &mut kinds.file,
            "kernel_stack" => &mut kinds.kernel_stack,
            "slab" => &mut kinds.slab,
            "sock" => &mut kinds.sock,
            "shmem" => &mut kinds.shmem,
            "file_mapped" => &mut kinds.file_mapped,
            "file_dirty" => &mut kinds.file_dirty,
            "file_writeback" => &mut kinds.file_writeback,
            "pgfault" => &mut kinds.pgfault,
            "pgmajfault" => &mut kinds.pgmajfault,
            _ => continue,
        };
        *place = number.trim().parse().ok();
    }
    kinds
}

/// Parses `io.stat`: the traffic of each device, and of all devices. A device that was removed is `(unknown)`; it
/// counts.
pub fn io_stat(text: &str) -> (BTreeMap<String, Traffic>, Traffic) {
    let (mut devices, mut total) = (BTreeMap::new(), Traffic::default());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(device) = words.next() else { continue };
        let mut traffic = Traffic::default();
        for (key, number) in words.filter_map(|word| word.split_once('=')) {
            let place = match key {
                "rbytes" => &mut traffic.read_bytes,
                "wbytes" => &mut traffic.write_bytes,
                "rios" => &mut traffic.read_ops,
                "wios" => &mut traffic.write_ops,
                "dbytes" => &mut traffic.discard_bytes,
                "dios" => &mut traffic.discard_ops,
                _ => continue,
            };
            *place = number.parse().unwrap_or(0);
        }
        total.add(&traffic);
        // A device that the job has not used has a line without numbers.
        if devices.len() < LISTED && traffic != Traffic::default() {
            devices.insert(device.to_owned(), traffic);
        }
    }
    (devices, total)
}

impl Traffic {
    fn add(&mut self, other: &Traffic) {
        for (sum, more) in [
            (&mut self.read_bytes, other.read_bytes),
            (&mut self.write_bytes, other.write_bytes),
            (&mut self.read_ops, other.read_ops),
            (&mut self.write_ops, other.write_ops),
            (&mut self.discard_bytes, other.discard_bytes),
            (&mut self.discard_ops, other.discard_ops),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// Parses `cgroup.procs`: process ids in the reader's namespace; 0 is a process of another namespace.
pub fn processes(text: &str) -> impl Iterator<Item = i32> {
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn processor_time_is_there_with_and_without_the_controller() {
        let bare = "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnice_usec 0\n";
        assert_eq!(cpu_stat(bare), Some(([1500, 1000, 500], None)));
        let full = format!("{bare}nr_periods 9\nnr_throttled 4\nthrottled_usec 77\nnr_bursts 0\n");
        let throttling = Throttling { nr_periods: 9, nr_throttled: 4, throttled_usec: 77 };
        assert_eq!(cpu_stat(&full), Some(([1500, 1000, 500], Some(throttling))));
        assert_eq!(cpu_stat("usage_usec x\n"), None);
    }

    #[test]
    fn memory_has_the_lines_that_are_there() {
        let kinds = memory_stat("anon 4096\nfile 8192\nfile_mapped 1\npgfault 7\nworkingset_x 9\nslab ?\n");
        assert_eq!((kinds.anon, kinds.file, kinds.file_mapped), (Some(4096), Some(8192), Some(1)));
        assert_eq!((kinds.pgfault, kinds.slab, kinds.sock), (Some(7), None, None));
    }

    #[test]
    fn devices_add_up_and_untouched_ones_are_left_out() {
        let text = "259:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 \n\
                    (unknown) rbytes=5 wbytes=0 rios=1 wios=0 dbytes=3 dios=1 cost.vrate=100.00\n";
        let (devices, total) = io_stat(text);
        assert_eq!(devices.keys().collect::<Vec<_>>(), ["(unknown)", "259:0"]);
        assert_eq!((total.read_bytes, total.write_bytes, total.read_ops), (15, 20, 2));
        assert_eq!((devices["259:0"].write_ops, total.discard_bytes, total.discard_ops), (2, 3, 1));
    }

    #[test]
    fn limits_and_processes_are_read() {
        assert_eq!((number("max\n"), number("4096\n")), (None, Some(4096)));
        assert_eq!(processes("12\n0\n7\nx\n").collect::<Vec<_>>(), [12, 7]);
        assert_eq!(value("oom_kill 5\noom 2\n", "oom"), Some(2), "keys are whole words");
    }

    proptest! {
        #[test]
        fn any_counters_come_back(numbers in prop::collection::vec(any::<u32>(), 6), minor in 0u8..) {
            let n = &numbers;
            let line = format!(
                "8:{minor} rbytes={} wbytes={} rios={} wios={} dbytes={} dios={}\n", n[0], n[1], n[2], n[3], n[4], n[5]
            );
            let (_, t) = io_stat(&line.repeat(3));
            let read = [t.read_bytes, t.write_bytes, t.read_ops, t.write_ops, t.discard_bytes, t.discard_ops];
            prop_assert_eq!(read.to_vec(), numbers.iter().map(|n| 3 * u64::from(*n)).collect::<Vec<_>>());
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "([a-z_:]{0,9}[ =][0-9]{0,21}\n?){0,9}.*") {
            let _ = (cpu_stat(&text), memory_stat(&text), number(&text), processes(&text).count());
            prop_assert!(io_stat(&text).0.len() <= LISTED);
        }
    }
}
