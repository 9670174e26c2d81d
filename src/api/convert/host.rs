//! Messages about the host.

use jiff::Timestamp;

use super::{Refusal, gpu};
use crate::daemon::command::GpuBoard;
use crate::job::InvalidField;
use crate::monitor::process::Shown;
use crate::monitor::{Cloud, Part, Parts, Sample, block, disk, host, interface, sample::Rates};
use crate::pb::joblet::{
    CPUMetrics, CloudInfo, DiskIOMetrics, DiskMetrics, HostInfo, IOMetrics, MemoryMetrics, NetworkMetrics,
    ProcessInfo, ProcessMetrics, ServerVersionInfo, StreamMetricsReq, SystemMetricsRes, SystemStatusRes,
};

/// The longest interval of a stream, seconds.
const LONGEST: i32 = 3600;

/// The interval in seconds and the parts that a stream asks for.
///
/// # Errors
/// The interval is out of range, or a part has another name.
pub(in crate::api) fn wanted(request: &StreamMetricsReq, usual: u64) -> Result<(u64, Parts), Refusal> {
    let interval = match request.intervalSeconds {
        0 => usual,
        seconds @ 1..=LONGEST => seconds.unsigned_abs().into(),
        other => {
            return Err(invalid(format!(
                "intervalSeconds is {other}; it is 1 to {LONGEST}, or 0 for the node's own"
            )));
        }
    };
    let names = request.metricTypes.iter().map(String::as_str);
    let parts = Parts::named(names).map_err(|name| {
        let known = Part::NAMED.map(|(_, name)| name).join(", ");
        invalid(format!("metricTypes has no {name:?}; there are {known}"))
    })?;
    Ok((interval, parts))
}

fn invalid(text: String) -> Refusal {
    Refusal::Invalid(InvalidField::new(text))
}

/// The status of a host that nobody may look at.
pub(in crate::api) fn hidden() -> SystemStatusRes {
    SystemStatusRes {
        timestamp: time(crate::sys::clock::now_ns().div_euclid(1_000_000_000)),
        available: true,
        server_version: Some(version()).into(),
        ..SystemStatusRes::default()
    }
}

/// The status of the host.
pub(in crate::api) fn status(sample: &Sample, node: &str, gpus: &GpuBoard) -> SystemStatusRes {
    let all = metrics(sample, node, gpus);
    SystemStatusRes {
        timestamp: all.timestamp,
        available: true,
        host: all.host,
        cpu: all.cpu,
        memory: all.memory,
        disks: all.disks,
        networks: all.networks,
        io: all.io,
        processes: all.processes,
        cloud: all.cloud,
        gpus: all.gpus,
        server_version: Some(version()).into(),
        ..SystemStatusRes::default()
    }
}

/// One message of a stream: the host and its cloud, and the parts that the stream asks for.
pub(in crate::api) fn metrics(sample: &Sample, node: &str, gpus: &GpuBoard) -> SystemMetricsRes {
    let has = |part| sample.parts.has(part);
    let all = sample.parts == Parts::ALL;
    SystemMetricsRes {
        timestamp: time(sample.time_ns.div_euclid(1_000_000_000)),
        host: Some(host_info(sample, node)).into(),
        cpu: has(Part::Cpu).then(|| cpu(sample)).into(),
        memory: has(Part::Memory).then(|| memory(sample)).into(),
        disks: sample.disks.iter().map(disk).collect(),
        networks: sample.interfaces.iter().map(network).collect(),
        io: has(Part::Io).then(|| io(sample)).into(),
        processes: has(Part::Process).then(|| processes(sample)).into(),
        cloud: sample.cloud.as_ref().map(cloud).into(),
        gpus: if all { gpus.all().into_iter().map(gpu::one).collect() } else { Vec::new() },
        ..SystemMetricsRes::default()
    }
}

fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

/// The version of the daemon. A builder for others names the commit in the environment of the build.
fn version() -> ServerVersionInfo {
    let built = |value: Option<&str>| value.unwrap_or_default().to_owned();
    ServerVersionInfo {
        version: env!("CARGO_PKG_VERSION").into(),
        git_commit: built(option_env!("JOBLET_BUILD_COMMIT")),
        git_tag: built(option_env!("JOBLET_BUILD_TAG")),
        build_date: built(option_env!("JOBLET_BUILD_DATE")),
        component: "joblet".into(),
        platform: format!("{}/{}", std::env::consts::OS, host::architecture(std::env::consts::ARCH)),
        ..ServerVersionInfo::default()
    }
}

fn signed(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

fn number(value: impl TryInto<i32>) -> i32 {
    value.try_into().unwrap_or(i32::MAX)
}

fn host_info(sample: &Sample, node: &str) -> HostInfo {
    let of = &sample.host;
    let macs = sample.interfaces.iter().map(|(interface, _)| interface.mac.clone());
    HostInfo {
        hostname: of.name.clone(),
        os: std::env::consts::OS.into(),
        platform: of.system.id.clone(),
        platformFamily: of.system.family.clone(),
        platformVersion: of.system.version.clone(),
        kernelVersion: of.kernel.clone(),
        kernelArch: of.machine.clone(),
        architecture: host::architecture(&of.machine).into(),
        cpuCount: number(sample.cores.len()),
        totalMemory: signed(sample.memory.total),
        bootTime: time(of.booted),
        uptime: signed(of.uptime),
        nodeId: node.into(),
        serverIPs: sample.interfaces.iter().flat_map(|(interface, _)| interface.addresses.clone()).collect(),
        macAddresses: macs.filter(|mac| !mac.is_empty()).collect(),
        ..HostInfo::default()
    }
}

fn cpu(sample: &Sample) -> CPUMetrics {
    CPUMetrics {
        cores: number(sample.cores.len()),
        usagePercent: sample.cpu.busy(),
        userTime: sample.cpu.user,
        systemTime: sample.cpu.system,
        idleTime: sample.cpu.idle,
        ioWaitTime: sample.cpu.io_wait,
        stealTime: sample.cpu.steal,
        loadAverage: sample.load.to_vec(),
        perCoreUsage: sample.cores.clone(),
        ..CPUMetrics::default()
    }
}

fn memory(sample: &Sample) -> MemoryMetrics {
    let of = &sample.memory;
    MemoryMetrics {
        totalBytes: signed(of.total),
        usedBytes: signed(of.used()),
        freeBytes: signed(of.free),
        availableBytes: signed(of.available),
        usagePercent: of.used_percent(),
        cachedBytes: signed(of.cached),
        bufferedBytes: signed(of.buffered),
        swapTotal: signed(of.swap_total),
        swapUsed: signed(of.swap_used()),
        swapFree: signed(of.swap_free),
        ..MemoryMetrics::default()
    }
}

fn disk(of: &disk::Disk) -> DiskMetrics {
    DiskMetrics {
        device: of.mount.device.clone(),
        mountPoint: of.mount.point.clone(),
        filesystem: of.mount.kind.clone(),
        totalBytes: signed(of.total),
        usedBytes: signed(of.used),
        freeBytes: signed(of.free),
        usagePercent: of.used_percent(),
        inodesTotal: signed(of.inodes),
        inodesUsed: signed(of.inodes_used()),
        inodesFree: signed(of.inodes_free),
        inodesUsagePercent: of.inodes_percent(),
        ..DiskMetrics::default()
    }
}

fn network((of, rates): &(interface::Interface, Rates)) -> NetworkMetrics {
    let counters = &of.counters;
    NetworkMetrics {
        interface: of.name.clone(),
        bytesReceived: signed(counters.rx_bytes),
        bytesSent: signed(counters.tx_bytes),
        packetsReceived: signed(counters.rx_packets),
        packetsSent: signed(counters.tx_packets),
        errorsIn: signed(counters.rx_errors),
        errorsOut: signed(counters.tx_errors),
        dropsIn: signed(counters.rx_drops),
        dropsOut: signed(counters.tx_drops),
        receiveRate: rates.rx,
        transmitRate: rates.tx,
        ipAddresses: of.addresses.clone(),
        macAddress: of.mac.clone(),
        ..NetworkMetrics::default()
    }
}

fn io(sample: &Sample) -> IOMetrics {
    let sum = |of: fn(&block::Disk) -> u64| {
        signed(sample.blocks.iter().fold(0u64, |sum, (disk, ..)| sum.saturating_add(of(disk))))
    };
    let each = sample.blocks.iter().map(|(disk, _, busy)| DiskIOMetrics {
        device: disk.name.clone(),
        readsCompleted: signed(disk.reads),
        writesCompleted: signed(disk.writes),
        readBytes: signed(disk.read_bytes),
        writeBytes: signed(disk.written_bytes),
        readTime: signed(disk.read_ms),
        writeTime: signed(disk.write_ms),
        ioTime: signed(disk.busy_ms),
        utilization: *busy,
        ..DiskIOMetrics::default()
    });
    IOMetrics {
        totalReads: sum(|disk| disk.reads),
        totalWrites: sum(|disk| disk.writes),
        readBytes: sum(|disk| disk.read_bytes),
        writeBytes: sum(|disk| disk.written_bytes),
        readRate: sample.blocks.iter().map(|(_, rates, _)| rates.rx).sum(),
        writeRate: sample.blocks.iter().map(|(_, rates, _)| rates.tx).sum(),
        diskIO: each.collect(),
        ..IOMetrics::default()
    }
}

fn processes(sample: &Sample) -> ProcessMetrics {
    let of = &sample.processes;
    let total = sample.memory.total;
    let list = |shown: &[Shown]| shown.iter().map(|process| self::process(process, total)).collect();
    ProcessMetrics {
        totalProcesses: number(of.total),
        runningProcesses: number(of.running),
        sleepingProcesses: number(of.sleeping),
        stoppedProcesses: number(of.stopped),
        zombieProcesses: number(of.zombies),
        totalThreads: number(of.threads),
        topByCPU: list(&of.by_cpu),
        topByMemory: list(&of.by_memory),
        ..ProcessMetrics::default()
    }
}

fn process(of: &Shown, total: u64) -> ProcessInfo {
    ProcessInfo {
        pid: of.stat.pid,
        ppid: of.stat.parent,
        name: of.stat.name.clone(),
        command: of.command.clone(),
        cpuPercent: of.cpu_percent,
        memoryPercent: if total == 0 { 0.0 } else { of.memory as f64 * 100.0 / total as f64 },
        memoryBytes: signed(of.memory),
        status: of.stat.doing.word().into(),
        startTime: time(of.started),
        user: of.user.clone(),
        ..ProcessInfo::default()
    }
}

fn cloud(of: &Cloud) -> CloudInfo {
    CloudInfo {
        provider: of.provider.clone(),
        region: of.region.clone(),
        zone: of.zone.clone(),
        instanceID: of.instance.clone(),
        instanceType: of.size.clone(),
        hypervisorType: of.hypervisor.clone(),
        ..CloudInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::Files;

    fn request(interval: i32, types: &[&str]) -> StreamMetricsReq {
        let metric_types = types.iter().map(|name| (*name).to_owned()).collect();
        StreamMetricsReq {
            intervalSeconds: interval,
            metricTypes: metric_types,
            ..StreamMetricsReq::default()
        }
    }

    #[test]
    fn stream_has_an_interval_and_parts_that_exist() {
        assert_eq!(wanted(&request(0, &[]), 10).unwrap(), (10, Parts::ALL));
        let (interval, parts) = wanted(&request(3600, &["io", "cpu"]), 10).unwrap();
        assert!(interval == 3600 && parts.has(Part::Io) && !parts.has(Part::Memory));
        for wrong in [request(-1, &[]), request(3601, &[]), request(1, &["cpu", "gpu"])] {
            assert!(matches!(wanted(&wrong, 10), Err(Refusal::Invalid(_))), "{wrong:?}");
        }
    }

    #[test]
    fn message_has_every_part_that_was_wanted_and_no_other() {
        let files = Files::default();
        let of = |parts| {
            let (before, now) = (files.read(parts).unwrap(), files.read(parts).unwrap());
            metrics(&Sample::between(&files, &before, &now, parts, None), "node-1", &GpuBoard::default())
        };
        let all = of(Parts::ALL);
        assert!(all.cpu.is_some() && all.memory.is_some() && all.io.is_some() && all.processes.is_some());
        assert_eq!((all.cpu.loadAverage.len(), all.host.nodeId.as_str()), (3, "node-1"));
        assert!(all.host.cpuCount > 0 && all.host.totalMemory > 0 && all.host.bootTime.ends_with('Z'));
        assert!(all.processes.topByMemory.iter().any(|process| !process.user.is_empty()));
        let one = of(Parts::named(["memory"]).unwrap());
        assert!(
            one.memory.is_some() && one.cpu.is_none() && one.processes.is_none() && one.networks.is_empty()
        );
    }

    #[test]
    fn host_that_is_hidden_has_its_version_alone() {
        let status = hidden();
        assert!(status.available && status.host.is_none() && status.server_version.component == "joblet");
    }
}
