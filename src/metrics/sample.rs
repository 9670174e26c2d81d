//! One sample, as it is stored. What has no source is `None` and not in the file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::pressure::Pressure;
use crate::job;

/// The version that [`Sample::version`] says.
pub const VERSION: u32 = 1;

/// All that was measured of a job at one moment. Counters count from the job's start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Of the format: [`VERSION`].
    pub version: u32,
    /// When, ns since the epoch.
    #[serde(rename = "timestamp")]
    pub time_ns: i64,
    /// The same on a clock that nobody sets: ns since the host was started (CLOCK_BOOTTIME). Rates go by it.
    #[serde(rename = "uptime")]
    pub uptime_ns: u64,
    /// Seconds to the next sample, unless the job ends before.
    #[serde(rename = "sample_interval")]
    pub interval_s: u32,
    /// Processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Block devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<Io>,
    /// The job's own network; absent where it has the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The job's group.
    pub cgroup_path: String,
    /// The job's limits.
    pub limits: Limits,
}

/// Limits in the units of the wire; none is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Percent of one core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Bytes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<u32>,
}

impl From<&job::Limits> for Limits {
    fn from(limits: &job::Limits) -> Self {
        Limits {
            cpu: limits.cpu.map(|cpu| cpu.get()),
            memory: limits.memory.map(|memory| memory.bytes()),
            io: limits.io.map(|io| io.get()),
        }
    }
}

/// From `cpu.stat` and `cpu.pressure`. Times in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// User and system time of all processes, ended ones included.
    pub usage_usec: u64,
    /// In user mode.
    pub user_usec: u64,
    /// In the kernel.
    pub system_usec: u64,
    /// What the limit did; absent without the controller.
    #[serde(flatten)]
    pub throttling: Option<Throttling>,
    /// Share of one core since the sample before, percent: 100 is one core. Absent in the first sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_percent: Option<f64>,
    /// Share of the time since the sample before in which the limit held the job back, percent; all its
    /// processors count, so it may be above 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle_percent: Option<f64>,
    /// How much of its time the job waited for a processor.
    #[serde(flatten)]
    pub pressure: Option<Pressure>,
}

/// How often `cpu.max` held the job back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttling {
    /// Periods in which the job wanted to run.
    pub nr_periods: u64,
    /// Periods in which it used up its share.
    pub nr_throttled: u64,
    /// How long its processors waited.
    pub throttled_usec: u64,
}

/// From `memory.*`, or from /proc where there is no such controller. Bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// In use now.
    pub current: u64,
    /// The limit in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// Most in use at one time; Linux 5.19.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<u64>,
    /// `current` of `max`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_percent: Option<f64>,
    /// What it is used for.
    #[serde(flatten)]
    pub kinds: Kinds,
    /// Allocations that the limit did not let pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_events: Option<u64>,
    /// Processes killed for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_kill: Option<u64>,
    /// How much of its time the job waited for memory.
    #[serde(flatten)]
    pub pressure: Option<Pressure>,
}

/// The lines of `memory.stat` that are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kinds {
    /// Anonymous memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anon: Option<u64>,
    /// Page cache, tmpfs and shared memory included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<u64>,
    /// Stacks of threads in the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_stack: Option<u64>,
    /// The kernel's own structures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slab: Option<u64>,
    /// Buffers of sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sock: Option<u64>,
    /// tmpfs and shared memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shmem: Option<u64>,
    /// Files that are mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_mapped: Option<u64>,
    /// Page cache that is not on disk yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_dirty: Option<u64>,
    /// Page cache on its way to disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_writeback: Option<u64>,
    /// Page faults so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgfault: Option<u64>,
    /// Those that waited for a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgmajfault: Option<u64>,
}

/// From `io.stat` and `io.pressure`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Io {
    /// By `major:minor`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub devices: BTreeMap<String, Traffic>,
    /// Of all devices.
    #[serde(flatten)]
    pub total: Traffic,
    /// Bytes per second since the sample before, and so on. Absent in the first sample.
    #[serde(flatten)]
    pub rates: Option<IoRates>,
    /// How much of its time the job waited for a device.
    #[serde(flatten)]
    pub pressure: Option<Pressure>,
}

/// What went to and from a block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes read.
    #[serde(rename = "rbytes")]
    pub read_bytes: u64,
    /// Bytes written.
    #[serde(rename = "wbytes")]
    pub write_bytes: u64,
    /// Requests to read.
    #[serde(rename = "rios")]
    pub read_ops: u64,
    /// Requests to write.
    #[serde(rename = "wios")]
    pub write_ops: u64,
    /// Bytes discarded.
    #[serde(rename = "dbytes")]
    pub discard_bytes: u64,
    /// Requests to discard.
    #[serde(rename = "dios")]
    pub discard_ops: u64,
}

/// Per second, since the sample before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct IoRates {
    /// Bytes.
    pub read_bps: f64,
    /// Bytes.
    pub write_bps: f64,
    /// Requests.
    pub read_iops: f64,
    /// Requests.
    pub write_iops: f64,
}

/// From `/proc/<PID 1>/net/dev`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// By name.
    pub interfaces: BTreeMap<String, Packets>,
    /// Of all interfaces.
    #[serde(flatten)]
    pub total: Packets,
    /// Bytes received per second since the sample before. Absent in the first sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx_bps: Option<f64>,
    /// Bytes sent per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx_bps: Option<f64>,
}

/// What an interface received and sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packets {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors on the way in.
    pub rx_errors: u64,
    /// Errors on the way out.
    pub tx_errors: u64,
    /// Packets dropped on the way in.
    pub rx_dropped: u64,
    /// Packets dropped on the way out.
    pub tx_dropped: u64,
}

/// From `pids.*`, and from /proc of the job's processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Processes and threads, as the limit counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    /// The limit in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// Forks that the limit refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// What the processes tell; absent when there are too many to ask.
    #[serde(flatten)]
    pub walk: Option<Walk>,
}

/// Sums over the job's processes, its PID 1 included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// Threads.
    pub threads: u64,
    /// Processes that run or could.
    pub running: u64,
    /// Processes that wait, for a disk too.
    pub sleeping: u64,
    /// Processes that were stopped.
    pub stopped: u64,
    /// Processes that ended and were not waited for.
    pub zombie: u64,
    /// Open descriptors of all processes.
    pub open_fds: u64,
    /// Most descriptors that one process may have: the highest soft limit among the job's first ones.
    pub max_fds: u64,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A sample with everything, so many seconds after the first.
    pub(in crate::metrics) fn sample(seconds: u32) -> Sample {
        let traffic =
            Traffic { read_bytes: 4096, write_bytes: 8192, read_ops: 1, write_ops: 2, ..Traffic::default() };
        let packets =
            Packets { rx_bytes: 100, tx_bytes: 100, rx_packets: 1, tx_packets: 1, ..Packets::default() };
        let pressure = Pressure { pressure_some_10: 1.5, pressure_full_300: 0.25, ..Pressure::default() };
        let pressure = Some(pressure);
        let kinds = Kinds { anon: Some(900), file: Some(8192), pgfault: Some(7), ..Kinds::default() };
        Sample {
            version: VERSION,
            time_ns: 1_705_314_600_000_000_000 + i64::from(seconds) * 1_000_000_000,
            uptime_ns: 100_000_000_000 + u64::from(seconds) * 1_000_000_000,
            interval_s: 5,
            cpu: Some(Cpu {
                usage_usec: 3000,
                user_usec: 2000,
                system_usec: 1000,
                throttling: Some(Throttling { nr_periods: 9, nr_throttled: 4, throttled_usec: 77 }),
                usage_percent: None,
                throttle_percent: None,
                pressure,
            }),
            memory: Some(Memory {
                current: 268_435_456,
                max: Some(536_870_912),
                peak: Some(300_000_000),
                usage_percent: Some(50.0),
                kinds,
                oom_events: Some(0),
                oom_kill: Some(0),
                pressure,
            }),
            io: Some(Io {
                devices: [("259:0".into(), traffic)].into(),
                total: traffic,
                rates: None,
                pressure,
            }),
            network: Some(Network {
                interfaces: [("lo".into(), packets)].into(),
                total: packets,
                ..Default::default()
            }),
            process: Some(Process {
                current: Some(2),
                max: Some(4096),
                events: Some(0),
                walk: Some(Walk { threads: 2, sleeping: 2, open_fds: 8, max_fds: 1024, ..Walk::default() }),
            }),
            cgroup_path: "/sys/fs/cgroup/joblet/job-f47ac10b-58cc-4372-a567-0e02b2c3d479".into(),
            limits: Limits { cpu: Some(50), memory: Some(536_870_912), io: None },
        }
    }

    /// A sample of a host that tells nothing but the time of its processors.
    pub(in crate::metrics) fn bare(seconds: u32) -> Sample {
        let cpu = Cpu { usage_usec: 3000, user_usec: 2000, system_usec: 1000, ..Cpu::default() };
        Sample {
            cpu: Some(cpu),
            memory: None,
            io: None,
            network: None,
            process: None,
            limits: Limits::default(),
            ..sample(seconds)
        }
    }

    #[test]
    fn absent_value_is_not_written_and_reads_back_absent() {
        for sample in [sample(0), bare(3)] {
            let line = serde_json::to_string(&sample).unwrap();
            assert!(!line.contains("null"), "{line}");
            assert_eq!(serde_json::from_str::<Sample>(&line).unwrap(), sample);
        }
        let bare = serde_json::to_string(&bare(0)).unwrap();
        for absent in ["nr_periods", "pressure", "memory\"", "usage_percent", "\"io\""] {
            assert!(!bare.contains(absent), "{absent} in {bare}");
        }
    }
}
