//! The use of the machine by a process of the node, from its files in /proc.

use std::collections::BTreeMap;
use std::fs;

/// A process.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub i32);

/// The use of the machine by a process since its start.
#[derive(Debug, Clone, Default)]
pub struct Used {
    /// Processor time of its threads in seconds, by name.
    pub threads: BTreeMap<String, f64>,
    /// Bytes that it dirtied for a disk, less those that went before they were written.
    pub written: f64,
}

impl Process {
    /// The child of this process with this name.
    pub fn child(self, name: &str) -> Option<Process> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0)).ok()?;
        let children =
            tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        children.collect::<Vec<_>>().join(" ").split_whitespace().find_map(|pid| {
            let command = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (command.trim() == name).then(|| pid.parse().ok()).flatten().map(Process)
        })
    }

    pub fn used(self) -> Used {
        let mut threads: BTreeMap<String, f64> = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.0)).into_iter().flatten().flatten() {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            // The first number of schedstat is the time on a processor in ns.
            let ns = read("schedstat").split(' ').next().and_then(|ns| ns.parse::<f64>().ok());
            *threads.entry(read("comm").trim().to_owned()).or_default() += ns.unwrap_or_default() / 1e9;
        }
        let io = fs::read_to_string(format!("/proc/{}/io", self.0)).unwrap_or_default();
        let of = |name: &str| {
            let line = io.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim().parse::<f64>().ok()).unwrap_or_default()
        };
        Used { threads, written: of("write_bytes:") - of("cancelled_write_bytes:") }
    }

    /// Resident memory in MiB: what it is (`VmRSS:`), or the peak since [`Process::forget_peak`] (`VmHWM:`).
    pub fn memory(self, label: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(label));
        line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or_default()
            / 1024.0
    }

    /// The peak counts from here on (proc_pid_clear_refs(5)).
    pub fn forget_peak(self) {
        fs::write(format!("/proc/{}/clear_refs", self.0), "5").expect("root may do that");
    }
}

impl Used {
    pub fn since(&self, before: &Used) -> Used {
        let old = |name: &str| before.threads.get(name).copied().unwrap_or_default();
        let threads = self.threads.iter().map(|(name, now)| (name.clone(), now - old(name))).collect();
        Used { threads, written: self.written - before.written }
    }

    /// Processor time of all threads in seconds.
    pub fn processor(&self) -> f64 {
        self.threads.values().sum()
    }

    /// The same of some threads.
    pub fn of(&self, names: &[&str]) -> f64 {
        names.iter().filter_map(|name| self.threads.get(*name)).sum()
    }
}
