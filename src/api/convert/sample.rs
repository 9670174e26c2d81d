//! From samples to messages. An absent group stays absent: clients check whether it is present.

use protobuf::MessageField;

use crate::job::JobId;
use crate::metrics::Sample;
use crate::metrics::pressure::Pressure;
use crate::metrics::sample::{Cpu, Io, Limits, Memory, Network, Packets, Process, Traffic};
use crate::pb::joblet::{
    DeviceIOMetrics, JobCPUMetrics, JobIOMetrics, JobMemoryMetrics, JobMetricsSample, JobNetworkMetrics,
    JobProcessMetrics, JobResourceLimits, NetworkInterfaceMetrics,
};

/// Converts one sample of a job.
pub(in crate::api) fn message(id: JobId, sample: &Sample) -> JobMetricsSample {
    JobMetricsSample {
        jobId: id.to_string(),
        timestamp: sample.time_ns / 1_000_000_000,
        sampleIntervalSeconds: signed(sample.interval_s),
        cpu: MessageField::from_option(sample.cpu.as_ref().map(cpu)),
        memory: MessageField::from_option(sample.memory.as_ref().map(memory)),
        io: MessageField::from_option(sample.io.as_ref().map(io)),
        network: MessageField::from_option(sample.network.as_ref().map(network)),
        process: MessageField::from_option(sample.process.as_ref().map(process)),
        cgroupPath: sample.cgroup_path.clone(),
        limits: MessageField::some(limits(&sample.limits)),
        ..JobMetricsSample::default()
    }
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
        let pressure: Pressure = $pressure.unwrap_or_default();
        $message.pressureSome10 = pressure.pressure_some_10;
        $message.pressureSome60 = pressure.pressure_some_60;
        $message.pressureSome300 = pressure.pressure_some_300;
        $message.pressureFull10 = pressure.pressure_full_10;
        $message.pressureFull60 = pressure.pressure_full_60;
        $message.pressureFull300 = pressure.pressure_full_300;
    };
}

fn cpu(cpu: &Cpu) -> JobCPUMetrics {
    let throttling = cpu.throttling.unwrap_or_default();
    let mut message = JobCPUMetrics {
        usageUsec: cpu.usage_usec,
        userUsec: cpu.user_usec,
        systemUsec: cpu.system_usec,
        nrPeriods: throttling.nr_periods,
        nrThrottled: throttling.nr_throttled,
        throttledUsec: throttling.throttled_usec,
        usagePercent: cpu.usage_percent.unwrap_or(0.0),
        throttlePercent: cpu.throttle_percent.unwrap_or(0.0),
        ..JobCPUMetrics::default()
    };
    fill_pressure!(message, cpu.pressure);
    message
}

fn memory(memory: &Memory) -> JobMemoryMetrics {
    let kinds = &memory.kinds;
    let mut message = JobMemoryMetrics {
        current: memory.current,
        max: memory.max.unwrap_or(0),
        usagePercent: memory.usage_percent.unwrap_or(0.0),
        anon: kinds.anon.unwrap_or(0),
        file: kinds.file.unwrap_or(0),
        kernelStack: kinds.kernel_stack.unwrap_or(0),
        slab: kinds.slab.unwrap_or(0),
        sock: kinds.sock.unwrap_or(0),
        shmem: kinds.shmem.unwrap_or(0),
        fileMapped: kinds.file_mapped.unwrap_or(0),
        fileDirty: kinds.file_dirty.unwrap_or(0),
        fileWriteback: kinds.file_writeback.unwrap_or(0),
        pgFault: kinds.pgfault.unwrap_or(0),
        pgMajFault: kinds.pgmajfault.unwrap_or(0),
        oomEvents: memory.oom_events.unwrap_or(0),
        oomKill: memory.oom_kill.unwrap_or(0),
        peak: memory.peak,
        ..JobMemoryMetrics::default()
    };
    fill_pressure!(message, memory.pressure);
    message
}

fn io(io: &Io) -> JobIOMetrics {
    let (total, rates) = (&io.total, io.rates.unwrap_or_default());
    let mut message = JobIOMetrics {
        devices: io.devices.iter().map(|(name, traffic)| (name.clone(), device(name, traffic))).collect(),
        totalReadBytes: total.read_bytes,
        totalWriteBytes: total.write_bytes,
        totalReadOps: total.read_ops,
        totalWriteOps: total.write_ops,
        totalDiscardBytes: total.discard_bytes,
        totalDiscardOps: total.discard_ops,
        readBPS: rates.read_bps,
        writeBPS: rates.write_bps,
        readIOPS: rates.read_iops,
        writeIOPS: rates.write_iops,
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
        rxBPS: network.rx_bps.unwrap_or(0.0),
        txBPS: network.tx_bps.unwrap_or(0.0),
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
    let walk = process.walk.unwrap_or_default();
    JobProcessMetrics {
        current: process.current.unwrap_or(0),
        max: process.max.unwrap_or(0),
        events: process.events.unwrap_or(0),
        threads: walk.threads,
        running: walk.running,
        sleeping: walk.sleeping,
        stopped: walk.stopped,
        zombie: walk.zombie,
        openFDs: walk.open_fds,
        maxFDs: walk.max_fds,
        ..JobProcessMetrics::default()
    }
}
