//! The host as text: blocks for people, a line for each sample, and the table of processes.

use super::super::terminal::one_line;
use super::fit::{cut, padded, width};
use super::metrics::{bytes, percent, rate};
use super::span::took;
use super::words::short;
use crate::pb::joblet::{
    CPUMetrics, CloudInfo, DiskMetrics, Gpu, HostInfo, IOMetrics, MemoryMetrics, NetworkMetrics, ProcessInfo,
    ProcessMetrics, SystemMetricsRes, SystemStatusRes,
};

/// Columns of a bar.
const BAR: usize = 20;

/// The blocks of `monitor status`, those that the filter names; without one all.
pub(crate) fn status(status: &SystemStatusRes, filter: &[String]) -> String {
    let mut text = String::new();
    if filter.is_empty() {
        let state = if status.available { "available" } else { "takes no jobs" };
        text +=
            &block("System Status", &[("Time", one_line(&status.timestamp)), ("State", state.to_owned())]);
        text += &server(status);
    }
    text + &blocks(&metrics(status), filter)
}

/// A status in the form of a sample of a stream.
pub(crate) fn metrics(status: &SystemStatusRes) -> SystemMetricsRes {
    SystemMetricsRes {
        timestamp: status.timestamp.clone(),
        host: status.host.clone(),
        cpu: status.cpu.clone(),
        memory: status.memory.clone(),
        disks: status.disks.clone(),
        networks: status.networks.clone(),
        io: status.io.clone(),
        processes: status.processes.clone(),
        cloud: status.cloud.clone(),
        gpus: status.gpus.clone(),
        ..SystemMetricsRes::default()
    }
}

/// A sample with the parts alone that the filter names; without one all of it.
pub(crate) fn only(mut sample: SystemMetricsRes, filter: &[String]) -> SystemMetricsRes {
    let wants = |name: &str| filter.is_empty() || filter.iter().any(|wanted| wanted == name);
    sample.cpu = sample.cpu.into_option().filter(|_| wants("cpu")).into();
    sample.memory = sample.memory.into_option().filter(|_| wants("memory")).into();
    sample.io = sample.io.into_option().filter(|_| wants("io")).into();
    sample.processes = sample.processes.into_option().filter(|_| wants("process")).into();
    if !wants("disk") {
        sample.disks.clear();
    }
    if !wants("network") {
        sample.networks.clear();
    }
    if !filter.is_empty() {
        sample.gpus.clear();
    }
    sample
}

/// The blocks of a sample, those that the filter names; without one also the host and its cloud.
pub(crate) fn blocks(sample: &SystemMetricsRes, filter: &[String]) -> String {
    let wants = |name: &str| filter.is_empty() || filter.iter().any(|wanted| wanted == name);
    let mut text = String::new();
    let host = sample.host.as_ref().filter(|_| filter.is_empty());
    text += &host.map(host_block).unwrap_or_default();
    text += &sample.cpu.as_ref().filter(|_| wants("cpu")).map(cpu_block).unwrap_or_default();
    text += &sample.memory.as_ref().filter(|_| wants("memory")).map(memory_block).unwrap_or_default();
    if wants("disk") && !sample.disks.is_empty() {
        text += &table("Disks", &disk_rows(&sample.disks));
    }
    if wants("network") && !sample.networks.is_empty() {
        text += &table("Network Interfaces", &network_rows(&sample.networks));
    }
    text += &sample.io.as_ref().filter(|_| wants("io")).map(io_block).unwrap_or_default();
    text += &sample.processes.as_ref().filter(|_| wants("process")).map(process_block).unwrap_or_default();
    if filter.is_empty() && !sample.gpus.is_empty() {
        text += &table("GPUs", &gpu_rows(&sample.gpus));
    }
    let cloud = sample.cloud.as_ref().filter(|_| filter.is_empty());
    text + &cloud.map(cloud_block).unwrap_or_default()
}

/// One sample as one line: `--compact`.
pub(crate) fn line(sample: &SystemMetricsRes) -> String {
    let mut parts = vec![one_line(&sample.timestamp)];
    if let Some(cpu) = sample.cpu.as_ref() {
        parts.push(format!("CPU {} load {}", percent(cpu.usagePercent), load(cpu)));
    }
    if let Some(memory) = sample.memory.as_ref() {
        parts.push(format!("memory {}", percent(memory.usagePercent)));
    }
    if let Some(fullest) = sample.disks.iter().max_by(|a, b| a.usagePercent.total_cmp(&b.usagePercent)) {
        parts.push(format!("disk {} {}", one_line(&fullest.mountPoint), percent(fullest.usagePercent)));
    }
    if !sample.networks.is_empty() {
        let sum = |of: fn(&NetworkMetrics) -> f64| rate(sample.networks.iter().map(of).sum());
        parts.push(format!("net in {} out {}", sum(|n| n.receiveRate), sum(|n| n.transmitRate)));
    }
    if let Some(io) = sample.io.as_ref() {
        parts.push(format!("I/O read {} write {}", rate(io.readRate), rate(io.writeRate)));
    }
    if let Some(processes) = sample.processes.as_ref() {
        parts.push(format!("processes {}", processes.totalProcesses));
    }
    parts.join("  ") + "\n"
}

/// `monitor top`: bars, and the processes with most processor time.
pub(crate) fn top(sample: &SystemMetricsRes, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(host) = sample.host.as_ref() {
        let up = took(host.uptime.max(0).unsigned_abs());
        lines.push(format!("{}  {}  up {up}", one_line(&host.hostname), one_line(&sample.timestamp)));
    }
    if let Some(cpu) = sample.cpu.as_ref() {
        let load = load(cpu);
        lines.push(format!("CPU     {}  {} cores, load {load}", bar(cpu.usagePercent), cpu.cores));
    }
    if let Some(memory) = sample.memory.as_ref() {
        let of = |used: i64, total: i64| format!("{} of {}", bytes(used as f64), bytes(total as f64));
        lines.push(format!(
            "Memory  {}  {}",
            bar(memory.usagePercent),
            of(memory.usedBytes, memory.totalBytes)
        ));
        if memory.swapTotal > 0 {
            let share = memory.swapUsed as f64 * 100.0 / memory.swapTotal as f64;
            lines.push(format!("Swap    {}  {}", bar(share), of(memory.swapUsed, memory.swapTotal)));
        }
    }
    if let Some(processes) = sample.processes.as_ref() {
        lines.push(counts(processes));
        lines.push(String::new());
        lines.extend(aligned(&process_rows(&processes.topByCPU)));
    }
    lines.iter().map(|line| cut(line, columns)).collect()
}

fn bar(share: f64) -> String {
    let share = if share.is_finite() { share.clamp(0.0, 100.0) } else { 0.0 };
    let full = (share / 100.0 * BAR as f64).round() as usize;
    format!("[{}{}] {:>6}", "#".repeat(full), ".".repeat(BAR - full), percent(share))
}

fn load(cpu: &CPUMetrics) -> String {
    cpu.loadAverage.iter().map(|load| format!("{load:.2}")).collect::<Vec<_>>().join(" ")
}

/// A heading with lines of names and values; values that are not known are left out.
fn block(heading: &str, lines: &[(&str, String)]) -> String {
    let mut text = format!("{heading}\n");
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        text += &format!("  {} {value}\n", padded(&format!("{name}:"), 14));
    }
    text + "\n"
}

fn table<const N: usize>(heading: &str, rows: &[[String; N]]) -> String {
    let lines: Vec<String> = aligned(rows).iter().map(|line| format!("  {line}\n")).collect();
    format!("{heading}\n{}\n", lines.concat())
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let widths: [usize; N] =
        std::array::from_fn(|at| rows.iter().map(|row| width(&row[at])).max().unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| padded(cell, width)).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn server(status: &SystemStatusRes) -> String {
    let version = status.server_version.get_or_default();
    let lines = [
        ("Version", one_line(&version.version)),
        ("Commit", one_line(&version.git_commit)),
        ("Built", one_line(&version.build_date)),
        ("Platform", one_line(&version.platform)),
    ];
    block("Joblet Server", &lines)
}

fn host_block(host: &HostInfo) -> String {
    let system = format!("{} {}", one_line(&host.platform), one_line(&host.platformVersion));
    let lines = [
        ("Hostname", one_line(&host.hostname)),
        ("Node", one_line(&host.nodeId)),
        ("System", system.trim().to_owned()),
        ("Kernel", format!("{} {}", one_line(&host.kernelVersion), one_line(&host.kernelArch))),
        ("Boot", one_line(&host.bootTime)),
        ("Uptime", took(host.uptime.max(0).unsigned_abs())),
    ];
    block("Host Information", &lines)
}

fn cpu_block(cpu: &CPUMetrics) -> String {
    let each: Vec<String> = cpu.perCoreUsage.iter().map(|core| format!("{core:.0}")).collect();
    let lines = [
        ("Usage", format!("{} of {} cores", percent(cpu.usagePercent), cpu.cores)),
        ("User", percent(cpu.userTime)),
        ("System", percent(cpu.systemTime)),
        ("I/O wait", percent(cpu.ioWaitTime)),
        ("Stolen", percent(cpu.stealTime)),
        ("Load", load(cpu)),
        ("Each core", each.join(" ")),
    ];
    block("CPU", &lines)
}

fn memory_block(memory: &MemoryMetrics) -> String {
    let of = |value: i64| bytes(value as f64);
    let swap = format!("{} of {}", of(memory.swapUsed), of(memory.swapTotal));
    let lines = [
        (
            "Used",
            format!(
                "{} of {} ({})",
                of(memory.usedBytes),
                of(memory.totalBytes),
                percent(memory.usagePercent)
            ),
        ),
        ("Available", of(memory.availableBytes)),
        ("Cached", of(memory.cachedBytes)),
        ("Buffers", of(memory.bufferedBytes)),
        ("Swap", if memory.swapTotal > 0 { swap } else { "none".to_owned() }),
    ];
    block("Memory", &lines)
}

fn disk_rows(disks: &[DiskMetrics]) -> Vec<[String; 7]> {
    let head = ["MOUNT", "DEVICE", "TYPE", "SIZE", "USED", "FREE", "INODES"].map(str::to_owned);
    let row = |disk: &DiskMetrics| {
        let inodes = if disk.inodesTotal > 0 { percent(disk.inodesUsagePercent) } else { "-".to_owned() };
        [
            one_line(&disk.mountPoint),
            one_line(&disk.device),
            one_line(&disk.filesystem),
            bytes(disk.totalBytes as f64),
            percent(disk.usagePercent),
            bytes(disk.freeBytes as f64),
            inodes,
        ]
    };
    std::iter::once(head).chain(disks.iter().map(row)).collect()
}

fn network_rows(networks: &[NetworkMetrics]) -> Vec<[String; 6]> {
    let head = ["NAME", "RX", "TX", "RX RATE", "TX RATE", "ADDRESSES"].map(str::to_owned);
    let row = |network: &NetworkMetrics| {
        let addresses: Vec<String> = network.ipAddresses.iter().map(|address| one_line(address)).collect();
        [
            one_line(&network.interface),
            bytes(network.bytesReceived as f64),
            bytes(network.bytesSent as f64),
            rate(network.receiveRate),
            rate(network.transmitRate),
            addresses.join(", "),
        ]
    };
    std::iter::once(head).chain(networks.iter().map(row)).collect()
}

fn gpu_rows(gpus: &[Gpu]) -> Vec<[String; 7]> {
    let head = ["GPU", "NAME", "USE", "MEMORY", "TEMP", "POWER", "STATE"].map(str::to_owned);
    let row = |gpu: &Gpu| {
        let state = match short(&gpu.job_uuid) {
            "" => one_line(&gpu.state),
            job => format!("{} by {}", one_line(&gpu.state), one_line(job)),
        };
        let or = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            gpu.index.to_string(),
            one_line(&gpu.name),
            or(gpu.utilization.map(percent)),
            or(gpu.memory_used.map(|used| bytes(used as f64))),
            or(gpu.temperature.map(|degrees| format!("{degrees:.0}C"))),
            or(gpu.power_draw.map(|watts| format!("{watts:.0}W"))),
            state,
        ]
    };
    std::iter::once(head).chain(gpus.iter().map(row)).collect()
}

fn io_block(io: &IOMetrics) -> String {
    let head = ["DISK", "READ", "WRITTEN", "BUSY"].map(str::to_owned);
    let rows = io.diskIO.iter().map(|disk| {
        let of = |value: i64| bytes(value as f64);
        [one_line(&disk.device), of(disk.readBytes), of(disk.writeBytes), percent(disk.utilization)]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let lines = [("Read", rate(io.readRate)), ("Write", rate(io.writeRate))];
    block("Disk I/O", &lines).trim_end().to_owned() + "\n" + &table("", &rows)[1..]
}

fn counts(processes: &ProcessMetrics) -> String {
    format!(
        "{} processes, {} threads: {} running, {} sleeping, {} stopped, {} zombies",
        processes.totalProcesses,
        processes.totalThreads,
        processes.runningProcesses,
        processes.sleepingProcesses,
        processes.stoppedProcesses,
        processes.zombieProcesses
    )
}

fn process_rows(processes: &[ProcessInfo]) -> Vec<[String; 6]> {
    let head = ["PID", "USER", "CPU", "MEMORY", "STATE", "COMMAND"].map(str::to_owned);
    let row = |process: &ProcessInfo| {
        [
            process.pid.to_string(),
            one_line(&process.user),
            percent(process.cpuPercent),
            bytes(process.memoryBytes as f64),
            one_line(&process.status),
            cut(&one_line(&process.command), 60),
        ]
    };
    std::iter::once(head).chain(processes.iter().map(row)).collect()
}

fn process_block(processes: &ProcessMetrics) -> String {
    let by_memory = table("By memory", &process_rows(&processes.topByMemory));
    let by_cpu = table("By CPU", &process_rows(&processes.topByCPU));
    format!("Processes\n  {}\n\n{by_cpu}{by_memory}", counts(processes))
}

fn cloud_block(cloud: &CloudInfo) -> String {
    let lines = [
        ("Provider", one_line(&cloud.provider)),
        ("Region", one_line(&cloud.region)),
        ("Zone", one_line(&cloud.zone)),
        ("Instance", one_line(&cloud.instanceID)),
        ("Type", one_line(&cloud.instanceType)),
        ("Hypervisor", one_line(&cloud.hypervisorType)),
    ];
    block("Cloud Environment", &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SystemMetricsRes {
        let process = ProcessInfo {
            pid: 7,
            name: "work".into(),
            command: "work \u{1b}[31m--hard".into(),
            cpuPercent: 50.0,
            memoryBytes: 1 << 20,
            status: "running".into(),
            user: "root".into(),
            ..ProcessInfo::default()
        };
        SystemMetricsRes {
            timestamp: "2026-01-05T10:00:00Z".into(),
            host: Some(HostInfo { hostname: "node".into(), uptime: 90, ..HostInfo::default() }).into(),
            cpu: Some(CPUMetrics {
                cores: 2,
                usagePercent: 25.0,
                loadAverage: vec![0.5, 1.0, 2.0],
                perCoreUsage: vec![50.0, 0.0],
                ..CPUMetrics::default()
            })
            .into(),
            memory: Some(MemoryMetrics {
                totalBytes: 1 << 30,
                usedBytes: 1 << 29,
                usagePercent: 50.0,
                ..Default::default()
            })
            .into(),
            disks: vec![DiskMetrics { mountPoint: "/".into(), usagePercent: 75.0, ..DiskMetrics::default() }],
            networks: vec![NetworkMetrics {
                interface: "eth0".into(),
                receiveRate: 2048.0,
                ..NetworkMetrics::default()
            }],
            io: Some(IOMetrics { readRate: 1024.0, ..IOMetrics::default() }).into(),
            processes: Some(ProcessMetrics {
                totalProcesses: 1,
                topByCPU: vec![process],
                ..Default::default()
            })
            .into(),
            ..SystemMetricsRes::default()
        }
    }

    #[test]
    fn blocks_are_those_of_the_filter() {
        let all = blocks(&sample(), &[]);
        for heading in
            ["Host Information", "CPU", "Memory", "Disks", "Network Interfaces", "Disk I/O", "Processes"]
        {
            assert!(all.contains(&format!("{heading}\n")), "{heading}: {all}");
        }
        assert!(!all.contains('\u{1b}'), "what a process calls itself moves no cursor");
        let some = blocks(&sample(), &["cpu".to_owned()]);
        assert!(some.starts_with("CPU\n") && !some.contains("Memory"), "{some}");
        assert!(some.contains("25.0% of 2 cores") || some.contains("25% of 2 cores"), "{some}");
    }

    #[test]
    fn compact_sample_is_one_line() {
        let line = line(&sample());
        assert_eq!(line.matches('\n').count(), 1);
        for part in
            ["2026-01-05T10:00:00Z", "load 0.50 1.00 2.00", "disk / 75", "net in 2KB/s", "processes 1"]
        {
            assert!(line.contains(part), "{part}: {line}");
        }
    }

    #[test]
    fn top_fits_the_terminal() {
        for columns in [0, 1, 20, 80, 200] {
            let lines = top(&sample(), columns);
            assert!(lines.iter().all(|line| width(line) <= columns), "{lines:?}");
        }
        let lines = top(&sample(), 120).join("\n");
        assert!(lines.contains("[#####...............]") && lines.contains("PID  USER"), "{lines}");
        assert!(top(&SystemMetricsRes::default(), 80).is_empty());
    }

    #[test]
    fn status_without_a_host_has_the_server() {
        let text = status(&SystemStatusRes { available: true, ..SystemStatusRes::default() }, &[]);
        assert!(text.starts_with("System Status\n") && text.contains("Joblet Server\n"), "{text}");
    }
}
