//! The host between two readings.

use std::sync::Arc;

use super::block;
use super::cloud::Cloud;
use super::cpu::Shares;
use super::disk::Disk;
use super::host::Host;
use super::interface::Interface;
use super::memory::Memory;
use super::part::Parts;
use super::process::{Processes, Shown, Stat, TOP};
use super::reading::{Files, Reading};

/// Bytes a second in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rates {
    /// Received or read.
    pub rx: f64,
    /// Sent or written.
    pub tx: f64,
}

/// The host in an interval.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The end of the interval in nanoseconds since the epoch.
    pub time_ns: i64,
    /// The parts that were read; the others are empty.
    pub parts: Parts,
    /// The host itself.
    pub host: Host,
    /// The cloud below, where there is one and detection is not switched off.
    pub cloud: Option<Cloud>,
    /// Shares of all processors together.
    pub cpu: Shares,
    /// The busy share of each processor, percent.
    pub cores: Vec<f64>,
    /// Averages of one, five and fifteen minutes.
    pub load: [f64; 3],
    /// Memory and swap.
    pub memory: Memory,
    /// File systems and their room.
    pub disks: Vec<Disk>,
    /// Interfaces with their rates.
    pub interfaces: Vec<(Interface, Rates)>,
    /// Disks at work, with their rates and the share of the time in which they were busy, percent.
    pub blocks: Vec<(block::Disk, Rates, f64)>,
    /// Processes in numbers, and the largest.
    pub processes: Processes,
}

impl Sample {
    /// The host from one reading to a later one.
    pub fn between(
        files: &Files,
        before: &Reading,
        now: &Reading,
        parts: Parts,
        cloud: Option<Cloud>,
    ) -> Sample {
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        let per_second = |after: u64, before: u64| rate(after, before, seconds);
        let each = now.stat.each.iter().enumerate();
        let cores = each.map(|(at, core)| {
            // Processors come and go; one that has come is looked at since its start.
            core.shares_since(&before.stat.each.get(at).copied().unwrap_or_default()).busy()
        });
        let interfaces = now.interfaces.iter().map(|interface| {
            let old = before.interfaces.iter().find(|old| old.name == interface.name);
            let (old, new) = (old.map_or(interface.counters, |old| old.counters), interface.counters);
            let rates = Rates {
                rx: per_second(new.rx_bytes, old.rx_bytes),
                tx: per_second(new.tx_bytes, old.tx_bytes),
            };
            (interface.clone(), rates)
        });
        let blocks = now.blocks.iter().map(|disk| {
            let old = before.blocks.iter().find(|old| old.name == disk.name).unwrap_or(disk);
            let rates = Rates {
                rx: per_second(disk.read_bytes, old.read_bytes),
                tx: per_second(disk.written_bytes, old.written_bytes),
            };
            (disk.clone(), rates, (per_second(disk.busy_ms, old.busy_ms) / 10.0).min(100.0))
        });
        Sample {
            time_ns: now.time_ns,
            parts,
            host: now.host.clone(),
            cloud,
            cpu: now.stat.all.shares_since(&before.stat.all),
            cores: cores.collect(),
            load: now.load,
            memory: now.memory,
            disks: now.disks.clone(),
            interfaces: interfaces.collect(),
            blocks: blocks.collect(),
            processes: processes(files, before, now, seconds),
        }
    }
}

/// Units a second; none without an interval, or of a counter that began anew.
fn rate(after: u64, before: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { after.saturating_sub(before) as f64 / seconds } else { 0.0 }
}

fn processes(files: &Files, before: &Reading, now: &Reading, seconds: f64) -> Processes {
    let stats: Vec<Stat> = now.processes.values().cloned().collect();
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    let cpu = |stat: &Stat| {
        // The same number may be another process, which has begun in between.
        let old = before.processes.get(&stat.pid).filter(|old| old.started == stat.started);
        match old {
            Some(old) => rate(stat.ticks, old.ticks, seconds) * 100.0 / ticks_per_second as f64,
            None => 0.0,
        }
    };
    let shown = |stat: &Stat| {
        let (command, user) = files.details(stat);
        Shown {
            cpu_percent: cpu(stat),
            memory: stat.pages.saturating_mul(rustix::param::page_size() as u64),
            started: now.host.booted + (stat.started / ticks_per_second) as i64,
            command,
            user,
            stat: stat.clone(),
        }
    };
    let top = |key: &dyn Fn(&Stat) -> f64| {
        let mut order: Vec<(&Stat, f64)> = stats.iter().map(|stat| (stat, key(stat))).collect();
        // Ties stand by their numbers, so that two samples of an idle host are the same.
        order.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(a.pid.cmp(&b.pid)));
        order.into_iter().take(TOP).map(|(stat, _)| shown(stat)).collect()
    };
    let (by_cpu, by_memory) = (top(&cpu), top(&|stat| stat.pages as f64));
    Processes { by_cpu, by_memory, ..Processes::count(&stats) }
}

/// A sample that is over before the next one is needed is shared.
pub type Shared = Arc<Sample>;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    fn files(dir: &std::path::Path) -> Files {
        let files = Files { proc: dir.join("proc"), sys: dir.join("sys"), etc: dir.join("etc") };
        for sub in ["proc/net", "proc/self", "proc/7", "sys", "etc"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        fs::write(dir.join("proc/meminfo"), "MemTotal: 1000 kB\nMemFree: 500 kB\n").unwrap();
        fs::write(dir.join("proc/loadavg"), "1.00 2.00 3.00 1/2 3\n").unwrap();
        files
    }

    fn counters(dir: &std::path::Path, busy: u64, bytes: u64) {
        let write = |name: &str, text: String| fs::write(dir.join("proc").join(name), text).unwrap();
        let cpu = format!("{busy} 0 0 {busy} 0 0 0 0 0 0");
        write("stat", format!("cpu  {cpu}\ncpu0 {cpu}\nbtime 1700000000\n"));
        write("net/dev", format!("eth0: {bytes} 0 0 0 0 0 0 0 {bytes} 0 0 0 0 0 0 0\n"));
        write("diskstats", format!("8 0 sda 0 0 {bytes} 0 0 0 {bytes} 0 0 {busy} 0\n"));
        write("7/stat", format!("7 (work) R 1 7 7 0 -1 0 0 0 0 0 {busy} 0 0 0 20 0 2 0 100 1000 25 0\n"));
    }

    #[test]
    fn shares_and_rates_are_of_the_interval() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        counters(dir.path(), 0, 1000);
        let before = files.read(Parts::ALL).unwrap();
        counters(dir.path(), 500, 3000);
        let mut now = files.read(Parts::ALL).unwrap();
        now.at = before.at + Duration::from_secs(2);
        let sample = Sample::between(&files, &before, &now, Parts::ALL, None);
        assert_eq!(
            (sample.cpu.user, sample.cores.as_slice(), sample.load),
            (50.0, [50.0].as_slice(), [1.0, 2.0, 3.0])
        );
        assert_eq!(sample.interfaces[0].1, Rates { rx: 1000.0, tx: 1000.0 });
        assert_eq!(sample.blocks[0].1, Rates { rx: 512_000.0, tx: 512_000.0 });
        assert_eq!(sample.blocks[0].2, 25.0);
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let process = &sample.processes.by_cpu[0];
        assert_eq!((process.cpu_percent, process.stat.name.as_str()), (25_000.0 / ticks, "work"));
        assert_eq!((process.command.as_str(), sample.processes.threads), ("[work]", 2));
        assert!(process.memory >= 25 * 4096 && process.started > 1_700_000_000);
        // The other way round: no counter runs backwards.
        let back = Sample::between(&files, &now, &before, Parts::ALL, None);
        assert_eq!((back.interfaces[0].1, back.blocks[0].2), (Rates::default(), 0.0));
    }

    #[test]
    fn parts_that_nobody_wants_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        counters(dir.path(), 0, 1000);
        let reading = files.read(Parts::named(["cpu"]).unwrap()).unwrap();
        assert!(reading.interfaces.is_empty() && reading.processes.is_empty() && reading.blocks.is_empty());
        fs::remove_file(dir.path().join("proc/meminfo")).unwrap();
        assert!(files.read(Parts::ALL).is_err());
    }

    #[test]
    fn this_host_can_be_read() {
        let (files, all) = (Files::default(), Parts::ALL);
        let (before, now) = (files.read(all).unwrap(), files.read(all).unwrap());
        let sample = Sample::between(&files, &before, &now, all, None);
        assert!(sample.memory.total > 0 && !sample.cores.is_empty() && sample.processes.total > 0);
        assert!(!sample.host.name.is_empty() && sample.host.uptime > 0);
        let own = std::process::id() as i32;
        assert!(now.processes.contains_key(&own));
    }
}
