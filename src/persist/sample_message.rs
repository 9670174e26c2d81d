//! From samples to messages. An absent group or number stays absent: clients check whether it is present.

use protobuf::MessageField;

use crate::job::JobId;
use crate::metrics::Sample;
use crate::metrics::pressure::Pressure;
use crate::metrics::sample::{Cpu, Gpu, Io, Limits, Memory, Network, Packets, Process, Traffic};
use crate::pb::joblet::{
    DeviceIOMetrics, JobCPUMetrics, JobGPUMetrics, JobIOMetrics, JobMemoryMetrics, JobMetricsEvent,
    JobMetricsSample, JobNetworkMetrics, JobProcessMetrics, JobResourceLimits, NetworkInterfaceMetrics,
};

/// Converts one sample of a job.
pub fn message(id: JobId, sample: &Sample) -> JobMetricsSample {
    JobMetricsSample {
        jobId: id.to_string(),
        timestamp: sample.time_ns / 1_000_000_000,
        sampleIntervalSeconds: signed(sample.interval_s),
        cpu: MessageField::from_option(sample.cpu.as_ref().map(cpu)),
        memory: MessageField::from_option(sample.memory.as_ref().map(memory)),
        io: MessageField::from_option(sample.io.as_ref().map(io)),
        network: MessageField::from_option(sample.network.as_ref().map(network)),
        process: MessageField::from_option(sample.process.as_ref().map(process)),
        gpu: sample.gpu.iter().map(gpu).collect(),
        gpuAllocation: sample.gpu.iter().map(|gpu| signed(gpu.index)).collect(),
        cgroupPath: sample.cgroup_path.clone(),
        limits: MessageField::some(limits(&sample.limits)),
        ..JobMetricsSample::default()
    }
}

/// Converts one sample of a job into the short form of StreamJobMetrics.
pub fn event(id: JobId, sample: &Sample) -> JobMetricsEvent {
    let disk = sample.io.as_ref().map(|io| io.total);
    let (network, memory) = (sample.network.as_ref(), sample.memory.as_ref());
    let (gpu_percent, gpu_memory_bytes) = event_gpus(sample);
    JobMetricsEvent {
        timestamp: sample.time_ns,
        job_uuid: id.to_string(),
        cpu_percent: sample.cpu.as_ref().and_then(|cpu| cpu.usage_percent),
        memory_bytes: memory.map(|memory| large(memory.current)),
        memory_limit: memory.and_then(|memory| memory.max).map(large),
        disk_read_bytes: disk.map(|total| large(total.read_bytes)),
        disk_write_bytes: disk.map(|total| large(total.write_bytes)),
        net_recv_bytes: network.map(|network| large(network.total.rx_bytes)),
        net_sent_bytes: network.map(|network| large(network.total.tx_bytes)),
        gpu_percent,
        gpu_memory_bytes,
        denials: network.map(|network| network.denials),
        ..JobMetricsEvent::default()
    }
}

/// The mean use of a job's GPUs in percent, and their memory in use, which is the job's: it has them alone.
pub(super) fn event_gpus(sample: &Sample) -> (Option<f64>, Option<i64>) {
    let gpus = &sample.gpu;
    (mean(gpus.iter().map(|gpu| gpu.utilization)), sum(gpus.iter().map(|gpu| gpu.memory_used)))
}

/// The mean of numbers; absent where one of them is, or there is none.
fn mean(numbers: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let numbers: Vec<f64> = numbers.collect::<Option<_>>()?;
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}

/// The sum of numbers, likewise.
fn sum(numbers: impl Iterator<Item = Option<u64>>) -> Option<i64> {
    let numbers: Vec<u64> = numbers.collect::<Option<_>>()?;
    (!numbers.is_empty()).then(|| large(numbers.iter().fold(0, |sum, number| sum.saturating_add(*number))))
}

fn gpu(gpu: &Gpu) -> JobGPUMetrics {
    JobGPUMetrics {
        index: signed(gpu.index),
        uuid: gpu.uuid.clone(),
        name: gpu.name.clone(),
        computeCapability: gpu.compute_capability.clone().unwrap_or_default(),
        driverVersion: gpu.driver_version.clone().unwrap_or_default(),
        utilization: gpu.utilization,
        memoryUsed: gpu.memory_used,
        memoryTotal: gpu.memory_total,
        memoryFree: gpu.memory_free,
        memoryPercent: gpu.memory_percent,
        encoderUtil: gpu.encoder_util,
        decoderUtil: gpu.decoder_util,
        smClock: gpu.sm_clock,
        memoryClock: gpu.memory_clock,
        pcieThroughputRx: gpu.pcie_throughput_rx,
        pcieThroughputTx: gpu.pcie_throughput_tx,
        temperature: gpu.temperature,
        temperatureMemory: gpu.temperature_memory,
        powerDraw: gpu.power_draw,
        powerLimit: gpu.power_limit,
        fanSpeed: gpu.fan_speed,
        eccErrorsSingle: gpu.ecc_errors_single,
        eccErrorsDouble: gpu.ecc_errors_double,
        xidErrors: gpu.xid_errors,
        retiredPages: gpu.retired_pages,
        throttleReasons: gpu.throttle_reasons,
        processesCount: gpu.processes_count,
        processesMemory: gpu.processes_memory,
        computeMode: gpu.compute_mode.clone().unwrap_or_default(),
        ..JobGPUMetrics::default()
    }
}

fn large(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn limits(limits: &Limits) -> JobResourceLimits {
    JobResourceLimits {
        cpu: signed(limits.cpu.unwrap_or(0)),
        memory: limits.memory.unwrap_or(0).cast_signed(),
        io: signed(limits.io.unwrap_or(0)),
        ..JobResourceLimits::default()
    }
}

/// Fills the six fields whose names three messages share.
macro_rules! fill_pressure {
    ($message:ident, $pressure:expr) => {
        let pressure: Option<&Pressure> = $pressure.as_ref();
        $message.pressureSome10 = pressure.map(|p| p.pressure_some_10);
        $message.pressureSome60 = pressure.map(|p| p.pressure_some_60);
        $message.pressureSome300 = pressure.map(|p| p.pressure_some_300);
        $message.pressureFull10 = pressure.map(|p| p.pressure_full_10);
        $message.pressureFull60 = pressure.map(|p| p.pressure_full_60);
        $message.pressureFull300 = pressure.map(|p| p.pressure_full_300);
    };
}

fn cpu(cpu: &Cpu) -> JobCPUMetrics {
    let throttling = cpu.throttling.as_ref();
    let mut message = JobCPUMetrics {
        usageUsec: cpu.usage_usec,
        userUsec: cpu.user_usec,
        systemUsec: cpu.system_usec,
        nrPeriods: throttling.map(|t| t.nr_periods),
        nrThrottled: throttling.map(|t| t.nr_throttled),
        throttledUsec: throttling.map(|t| t.throttled_usec),
        usagePercent: cpu.usage_percent,
        throttlePercent: cpu.throttle_percent,
        ..JobCPUMetrics::default()
    };
    fill_pressure!(message, cpu.pressure);
    message
}

fn memory(memory: &Memory) -> JobMemoryMetrics {
    let kinds = &memory.kinds;
    let mut message = JobMemoryMetrics {
        current: memory.current,
        max: memory.max,
        usagePercent: memory.usage_percent,
        anon: kinds.anon,
        file: kinds.file,
        kernelStack: kinds.kernel_stack,
        slab: kinds.slab,
        sock: kinds.sock,
        shmem: kinds.shmem,
        fileMapped: kinds.file_mapped,
        fileDirty: kinds.file_dirty,
        fileWriteback: kinds.file_writeback,
        pgFault: kinds.pgfault,
        pgMajFault: kinds.pgmajfault,
        oomEvents: memory.oom_events,
        oomKill: memory.oom_kill,
        peak: memory.peak,
        ..JobMemoryMetrics::default()
    };
    fill_pressure!(message, memory.pressure);
    message
}

fn io(io: &Io) -> JobIOMetrics {
    let (total, rates) = (&io.total, io.rates.as_ref());
    let mut message = JobIOMetrics {
        devices: io.devices.iter().map(|(name, traffic)| (name.clone(), device(name, traffic))).collect(),
        totalReadBytes: total.read_bytes,
        totalWriteBytes: total.write_bytes,
        totalReadOps: total.read_ops,
        totalWriteOps: total.write_ops,
        totalDiscardBytes: total.discard_bytes,
        totalDiscardOps: total.discard_ops,
        readBPS: rates.map(|r| r.read_bps),
        writeBPS: rates.map(|r| r.write_bps),
        readIOPS: rates.map(|r| r.read_iops),
        writeIOPS: rates.map(|r| r.write_iops),
        ..JobIOMetrics::default()
    };
    fill_pressure!(message, io.pressure);
    message
}

fn device(name: &str, traffic: &Traffic) -> DeviceIOMetrics {
    DeviceIOMetrics {
        device: name.to_owned(),
        readBytes: traffic.read_bytes,
        writeBytes: traffic.write_bytes,
        readOps: traffic.read_ops,
        writeOps: traffic.write_ops,
        discardBytes: traffic.discard_bytes,
        discardOps: traffic.discard_ops,
        ..DeviceIOMetrics::default()
    }
}

fn network(network: &Network) -> JobNetworkMetrics {
    let total = &network.total;
    JobNetworkMetrics {
        interfaces: network.interfaces.iter().map(|(name, p)| (name.clone(), interface(name, p))).collect(),
        totalRxBytes: total.rx_bytes,
        totalTxBytes: total.tx_bytes,
        totalRxPackets: total.rx_packets,
        totalTxPackets: total.tx_packets,
        totalRxErrors: total.rx_errors,
        totalTxErrors: total.tx_errors,
        totalRxDropped: total.rx_dropped,
        totalTxDropped: total.tx_dropped,
        rxBPS: network.rx_bps,
        txBPS: network.tx_bps,
        denials: network.denials,
        ..JobNetworkMetrics::default()
    }
}

fn interface(name: &str, packets: &Packets) -> NetworkInterfaceMetrics {
    NetworkInterfaceMetrics {
        interface: name.to_owned(),
        rxBytes: packets.rx_bytes,
        txBytes: packets.tx_bytes,
        rxPackets: packets.rx_packets,
        txPackets: packets.tx_packets,
        rxErrors: packets.rx_errors,
        txErrors: packets.tx_errors,
        rxDropped: packets.rx_dropped,
        txDropped: packets.tx_dropped,
        ..NetworkInterfaceMetrics::default()
    }
}

fn process(process: &Process) -> JobProcessMetrics {
    let walk = process.walk.as_ref();
    JobProcessMetrics {
        current: process.current,
        max: process.max,
        events: process.events,
        threads: walk.map(|w| w.threads),
        running: walk.map(|w| w.running),
        sleeping: walk.map(|w| w.sleeping),
        stopped: walk.map(|w| w.stopped),
        zombie: walk.map(|w| w.zombie),
        openFDs: walk.map(|w| w.open_fds),
        maxFDs: walk.map(|w| w.max_fds),
        ..JobProcessMetrics::default()
    }
}
