//! One sample as it is stored. A number without a source is `None` and not in the file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::pressure::Pressure;
use crate::job;

/// The current format version, see [`Sample::version`].
pub const VERSION: u32 = 1;

/// All measurements of a job at one moment. Counters count from the job's start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The version of the format: [`VERSION`].
    pub version: u32,
    /// The time of the sample, ns since the epoch.
    #[serde(rename = "timestamp")]
    pub time_ns: i64,
    /// The same time on a clock that cannot be set: ns since the host was started (CLOCK_BOOTTIME). Rates use it.
    #[serde(rename = "uptime")]
    pub uptime_ns: u64,
    /// Seconds to the next sample, unless the job ends before.
    #[serde(rename = "sample_interval")]
    pub interval_s: u32,
    /// Use of the processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Use of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Use of block devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<Io>,
    /// Use of the job's own network; absent where it has the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The GPUs of the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpu: Vec<Gpu>,
    /// The path of the job's cgroup.
    pub cgroup_path: String,
    /// The limits that the job requested.
    pub limits: Limits,
}

/// Limits in the units of the wire; a limit that is not set is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Processor limit in percent of one core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// Memory limit in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// I/O limit in bytes per second.
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

/// The values of `cpu.stat` and `cpu.pressure`, times in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// User and system time of all processes, including ended ones.
    pub usage_usec: u64,
    /// Time in user mode.
    pub user_usec: u64,
    /// Time in the kernel.
    pub system_usec: u64,
    /// The effect of the limit; absent without the controller.
    #[serde(flatten)]
    pub throttling: Option<Throttling>,
    /// Share of one core since the sample before, percent: 100 is one core. Absent in the first sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_percent: Option<f64>,
    /// Share of the time since the sample before in which the limit throttled the job, percent. All its processors
    /// count, so it may be above 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle_percent: Option<f64>,
    /// Share of its time that the job waited for a processor.
    #[serde(flatten)]
    pub pressure: Option<Pressure>,
}

/// The effect of `cpu.max` on the job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttling {
    /// Periods in which the job wanted to run.
    pub nr_periods: u64,
    /// Periods in which it used up its quota.
    pub nr_throttled: u64,
    /// Time that its processors were throttled, microseconds.
    pub throttled_usec: u64,
}

/// The values of `memory.*`, or of /proc without the memory controller, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Memory in use now.
    pub current: u64,
    /// The limit in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// Most memory in use at one time; since Linux 5.19.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<u64>,
    /// `current` in percent of `max`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_percent: Option<f64>,
    /// The memory in use by kind.
    #[serde(flatten)]
    pub kinds: Kinds,
    /// Allocations that the limit refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_events: Option<u64>,
    /// Processes that the kernel killed for lack of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_kill: Option<u64>,
    /// Share of its time that the job waited for memory.
    #[serde(flatten)]
    pub pressure: Option<Pressure>,
}

/// The lines of `memory.stat` that a sample keeps, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kinds {
    /// Anonymous memory: heaps, stacks, private mappings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anon: Option<u64>,
    /// Page cache, including tmpfs and shared memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<u64>,
    /// Kernel stacks of the threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_stack: Option<u64>,
    /// The kernel's own data structures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slab: Option<u64>,
    /// Transmission buffers of sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sock: Option<u64>,
    /// Memory of tmpfs and of shared mappings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shmem: Option<u64>,
    /// Page cache of mapped files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_mapped: Option<u64>,
    /// Page cache that is not on disk yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_dirty: Option<u64>,
    /// Page cache that is being written to disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_writeback: Option<u64>,
    /// Number of page faults so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgfault: Option<u64>,
    /// Number of page faults that waited for a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgmajfault: Option<u64>,
}

/// The values of `io.stat` and `io.pressure`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Io {
    /// Traffic of each device, by `major:minor`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub devices: BTreeMap<String, Traffic>,
    /// Traffic of all devices together.
    #[serde(flatten)]
    pub total: Traffic,
    /// Rates since the sample before; absent in the first sample.
    #[serde(flatten)]
    pub rates: Option<IoRates>,
    /// Share of its time that the job waited for a device.
    #[serde(flatten)]
    pub pressure: Option<Pressure>,
}

/// The traffic to and from a block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes read from the device.
    #[serde(rename = "rbytes")]
    pub read_bytes: u64,
    /// Bytes written to the device.
    #[serde(rename = "wbytes")]
    pub write_bytes: u64,
    /// Number of read requests.
    #[serde(rename = "rios")]
    pub read_ops: u64,
    /// Number of write requests.
    #[serde(rename = "wios")]
    pub write_ops: u64,
    /// Bytes discarded on the device.
    #[serde(rename = "dbytes")]
    pub discard_bytes: u64,
    /// Number of discard requests.
    #[serde(rename = "dios")]
    pub discard_ops: u64,
}

/// Rates per second since the sample before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct IoRates {
    /// Bytes read per second.
    pub read_bps: f64,
    /// Bytes written per second.
    pub write_bps: f64,
    /// Read requests per second.
    pub read_iops: f64,
    /// Write requests per second.
    pub write_iops: f64,
}

/// The values of the job's wire, from `/proc/<PID 1>/net/dev`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Packets of each interface, by its name.
    pub interfaces: BTreeMap<String, Packets>,
    /// Packets of all interfaces together.
    #[serde(flatten)]
    pub total: Packets,
    /// Bytes received per second since the sample before. Absent in the first sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx_bps: Option<f64>,
    /// Bytes sent per second since the sample before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx_bps: Option<f64>,
    /// Packets and questions that the network refused, as far as they were counted a second before.
    #[serde(default, skip_serializing_if = "is_none_at_all")]
    pub denials: u64,
}

fn is_none_at_all(count: &u64) -> bool {
    *count == 0
}

/// Bytes and packets that an interface received and sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packets {
    /// Bytes that were received.
    pub rx_bytes: u64,
    /// Bytes that were sent.
    pub tx_bytes: u64,
    /// Packets that were received.
    pub rx_packets: u64,
    /// Packets that were sent.
    pub tx_packets: u64,
    /// Errors while receiving.
    pub rx_errors: u64,
    /// Errors while sending.
    pub tx_errors: u64,
    /// Packets dropped while receiving.
    pub rx_dropped: u64,
    /// Packets dropped while sending.
    pub tx_dropped: u64,
}

/// The values of `pids.*`, and of /proc for the job's processes.
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
    /// Sums over the processes; absent when there are too many to read.
    #[serde(flatten)]
    pub walk: Option<Walk>,
}

/// The driver's figures of one GPU of the job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    /// The number that the node shows.
    pub index: u32,
    /// The vendor's identity.
    pub uuid: String,
    /// The name of the model.
    pub name: String,
    /// Such as `9.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<String>,
    /// The version of the driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_version: Option<String>,
    /// Share of the last interval in which it computed, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilization: Option<f64>,
    /// Its memory in use, bytes, by whomever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_used: Option<u64>,
    /// All of its memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_total: Option<u64>,
    /// Its memory that is free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_free: Option<u64>,
    /// `memory_used` in percent of `memory_total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_percent: Option<f64>,
    /// Use of its video encoder, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder_util: Option<f64>,
    /// Use of its video decoder, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder_util: Option<f64>,
    /// Clock of its processors, MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sm_clock: Option<u64>,
    /// Clock of its memory, MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_clock: Option<u64>,
    /// MB/s that it receives over PCIe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcie_throughput_rx: Option<f64>,
    /// MB/s that it sends over PCIe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcie_throughput_tx: Option<f64>,
    /// Temperature of its processors, degrees Celsius.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Degrees Celsius of its memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_memory: Option<f64>,
    /// Power that it draws, watts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_draw: Option<f64>,
    /// Power that it may draw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_limit: Option<f64>,
    /// Percent of the fastest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fan_speed: Option<f64>,
    /// Memory errors that were corrected since the driver was loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecc_errors_single: Option<u64>,
    /// Memory errors that were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecc_errors_double: Option<u64>,
    /// Errors that the driver has reported since the daemon watches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xid_errors: Option<u64>,
    /// Pages of memory that are not used any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retired_pages: Option<u64>,
    /// Bits of `nvmlClocksEventReasons`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle_reasons: Option<u64>,
    /// Processes of the job on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes_count: Option<u64>,
    /// Their memory on it, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes_memory: Option<u64>,
    /// The mode that says how many processes may compute on it, in the words of nvidia-smi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute_mode: Option<String>,
}

/// Sums over the job's processes, including its PID 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// Threads of all processes.
    pub threads: u64,
    /// Processes that run or are ready to run.
    pub running: u64,
    /// Processes that wait, which includes waiting for a disk.
    pub sleeping: u64,
    /// Processes that were stopped.
    pub stopped: u64,
    /// Processes that have ended, and whose parent has not waited for them.
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
            gpu: Vec::new(),
            cgroup_path: "/sys/fs/cgroup/joblet/job-f47ac10b-58cc-4372-a567-0e02b2c3d479".into(),
            limits: Limits { cpu: Some(50), memory: Some(536_870_912), io: None },
        }
    }

    /// A sample of a host that reports only the time of its processors.
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
