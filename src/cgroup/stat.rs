//! Parsers of a group's accounting files, pure on text.

use std::time::Duration;

/// CPU time of a group (`cpu.stat`). The first three exist without the cpu controller too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuStat {
    /// User and system time together.
    pub usage: Duration,
    /// Time in user mode.
    pub user: Duration,
    /// Time in the kernel.
    pub system: Duration,
    /// The counts of `cpu.max`, where there is a limit.
    pub throttling: Option<Throttling>,
}

/// How often `cpu.max` held a group back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Throttling {
    /// Periods in which the group wanted to run.
    pub periods: u64,
    /// Periods in which it used up its share.
    pub throttled: u64,
    /// How long its CPUs waited.
    pub waited: Duration,
}

/// Counts of events at the memory limit (`memory.events`) since the group was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryEvents {
    /// Allocations that could not be served within the limit.
    pub oom: u64,
    /// Processes killed for it. Counts double where the whole group is killed (`memory.oom.group`).
    pub oom_kill: u64,
    /// Times the group was killed as a whole; `None` before Linux 5.17.
    pub oom_group_kill: Option<u64>,
}

impl MemoryEvents {
    /// Whether the kernel killed any process for lack of memory.
    pub fn killed(&self) -> bool {
        self.oom_group_kill.unwrap_or(0) > 0 || self.oom_kill > 0
    }
}

/// The number beside a key in a file of `key number` lines.
pub(super) fn value(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key).and_then(|(_, number)| number.trim().parse().ok())
}

pub(super) fn cpu_stat(text: &str) -> Option<CpuStat> {
    let micros = |key| value(text, key).map(Duration::from_micros);
    let throttling = || {
        Some(Throttling {
            periods: value(text, "nr_periods")?,
            throttled: value(text, "nr_throttled")?,
            waited: micros("throttled_usec")?,
        })
    };
    Some(CpuStat {
        usage: micros("usage_usec")?,
        user: micros("user_usec")?,
        system: micros("system_usec")?,
        throttling: throttling(),
    })
}

pub(super) fn memory_events(text: &str) -> Option<MemoryEvents> {
    Some(MemoryEvents {
        oom: value(text, "oom")?,
        oom_kill: value(text, "oom_kill")?,
        oom_group_kill: value(text, "oom_group_kill"),
    })
}

/// Whether `cgroup.events` says that processes live in the group or below it.
pub(super) fn populated(text: &str) -> Option<bool> {
    value(text, "populated").map(|number| number != 0)
}

/// `frozen` of `cgroup.events`.
pub(super) fn frozen(text: &str) -> Option<bool> {
    value(text, "frozen").map(|number| number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_there_with_and_without_the_controller() {
        let bare = "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n";
        let stat = cpu_stat(bare).unwrap();
        assert_eq!((stat.usage, stat.user), (Duration::from_micros(1500), Duration::from_millis(1)));
        assert_eq!(stat.throttling, None);
        let full =
            format!("{bare}core_sched.force_idle_usec 0\nnr_periods 9\nnr_throttled 4\nthrottled_usec 77\n");
        let waited = Duration::from_micros(77);
        assert_eq!(
            cpu_stat(&full).unwrap().throttling,
            Some(Throttling { periods: 9, throttled: 4, waited })
        );
        assert_eq!(cpu_stat("usage_usec x\n"), None);
    }

    #[test]
    fn oom_kills_are_recognised_on_old_and_new_kernels() {
        let old = "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n";
        assert_eq!(memory_events(old), Some(MemoryEvents { oom: 1, oom_kill: 1, oom_group_kill: None }));
        let new = format!("{old}oom_group_kill 1\n");
        assert!(memory_events(&new).unwrap().killed());
        let tight = memory_events("oom 3\noom_kill 0\noom_group_kill 0\n").unwrap();
        assert!(!tight.killed(), "an allocation may fail without a kill");
    }

    #[test]
    fn keys_are_whole_words() {
        assert_eq!(value("oom_kill 5\noom 2\n", "oom"), Some(2));
        assert_eq!(populated("populated 1\nfrozen 0\n"), Some(true));
        assert_eq!(populated("frozen 0\n"), None);
        assert_eq!(frozen("populated 1\nfrozen 1\n"), Some(true));
    }
}
