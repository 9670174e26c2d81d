//! The host as JSON, in the form that dashboards of nodes read.

use serde_json::{Value, json};

use super::gpu;
use crate::pb::joblet::SystemMetricsRes;

/// A sample. Groups that it has not are absent.
pub(crate) fn json(sample: &SystemMetricsRes) -> Value {
    let mut value = json!({ "timestamp": sample.timestamp });
    let mut put = |name: &str, group: Option<Value>| {
        if let Some(group) = group {
            value[name] = group;
        }
    };
    put("hostInfo", host(sample));
    put("cpuInfo", cpu(sample));
    put("memoryInfo", memory(sample));
    put("disksInfo", (!sample.disks.is_empty()).then(|| disks(sample)));
    put("networkInfo", (!sample.networks.is_empty()).then(|| networks(sample)));
    put("ioInfo", io(sample));
    put("processesInfo", processes(sample));
    put("gpusInfo", (!sample.gpus.is_empty()).then(|| gpus(sample)));
    value
}

fn gpus(sample: &SystemMetricsRes) -> Value {
    let each = sample.gpus.iter().map(|gpu| serde_json::to_value(gpu::one_json(gpu)).unwrap_or_default());
    json!({ "gpus": each.collect::<Vec<_>>() })
}

fn host(sample: &SystemMetricsRes) -> Option<Value> {
    let host = sample.host.as_ref()?;
    let cloud = sample.cloud.get_or_default();
    Some(json!({
        "hostname": host.hostname,
        "platform": host.platform,
        "arch": host.architecture,
        "uptime": host.uptime,
        "bootTime": host.bootTime,
        "kernel": host.kernelVersion,
        "nodeId": host.nodeId,
        "cloudProvider": cloud.provider,
        "instanceType": cloud.instanceType,
        "region": cloud.region,
    }))
}

fn cpu(sample: &SystemMetricsRes) -> Option<Value> {
    let cpu = sample.cpu.as_ref()?;
    Some(json!({
        "cores": cpu.cores,
        // From 0 to 1 here, unlike the shares of the API.
        "usage": cpu.usagePercent / 100.0,
        "loadAverage": cpu.loadAverage,
        "perCoreUsage": cpu.perCoreUsage.iter().map(|core| core / 100.0).collect::<Vec<_>>(),
    }))
}

fn memory(sample: &SystemMetricsRes) -> Option<Value> {
    let memory = sample.memory.as_ref()?;
    let swap =
        if memory.swapTotal > 0 { memory.swapUsed as f64 * 100.0 / memory.swapTotal as f64 } else { 0.0 };
    Some(json!({
        "total": memory.totalBytes,
        "used": memory.usedBytes,
        "available": memory.availableBytes,
        "percent": memory.usagePercent,
        "cached": memory.cachedBytes,
        "swap": { "total": memory.swapTotal, "used": memory.swapUsed, "percent": swap },
    }))
}

fn disks(sample: &SystemMetricsRes) -> Value {
    let each = sample.disks.iter().map(|disk| {
        json!({
            "name": disk.device,
            "mountpoint": disk.mountPoint,
            "filesystem": disk.filesystem,
            "size": disk.totalBytes,
            "used": disk.usedBytes,
            "available": disk.freeBytes,
            "percent": disk.usagePercent,
        })
    });
    json!({
        "disks": each.collect::<Vec<_>>(),
        "totalSpace": sample.disks.iter().map(|disk| disk.totalBytes).fold(0, i64::saturating_add),
        "usedSpace": sample.disks.iter().map(|disk| disk.usedBytes).fold(0, i64::saturating_add),
    })
}

fn networks(sample: &SystemMetricsRes) -> Value {
    let each = sample.networks.iter().map(|network| {
        json!({
            "name": network.interface,
            "addresses": network.ipAddresses,
            "rxBytes": network.bytesReceived,
            "txBytes": network.bytesSent,
            "rxPackets": network.packetsReceived,
            "txPackets": network.packetsSent,
            "rxRate": network.receiveRate,
            "txRate": network.transmitRate,
        })
    });
    json!({
        "interfaces": each.collect::<Vec<_>>(),
        "totalRxBytes": sample.networks.iter().map(|network| network.bytesReceived).fold(0, i64::saturating_add),
        "totalTxBytes": sample.networks.iter().map(|network| network.bytesSent).fold(0, i64::saturating_add),
    })
}

fn io(sample: &SystemMetricsRes) -> Option<Value> {
    let io = sample.io.as_ref()?;
    let each = io.diskIO.iter().map(|disk| {
        json!({
            "name": disk.device,
            "readBytes": disk.readBytes,
            "writeBytes": disk.writeBytes,
            "utilization": disk.utilization,
        })
    });
    Some(json!({ "disks": each.collect::<Vec<_>>(), "readRate": io.readRate, "writeRate": io.writeRate }))
}

fn processes(sample: &SystemMetricsRes) -> Option<Value> {
    let processes = sample.processes.as_ref()?;
    let each = processes.topByCPU.iter().map(|process| {
        json!({
            "pid": process.pid,
            "name": process.name,
            "command": process.command,
            "user": process.user,
            "cpu": process.cpuPercent,
            "memory": process.memoryPercent,
            "memoryBytes": process.memoryBytes,
            "status": process.status,
            "startTime": process.startTime,
        })
    });
    Some(json!({ "processes": each.collect::<Vec<_>>(), "totalProcesses": processes.totalProcesses }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::joblet::{CPUMetrics, DiskMetrics, HostInfo};

    #[test]
    fn shares_are_from_0_to_1_and_absent_groups_are_absent() {
        let cpu =
            CPUMetrics { cores: 1, usagePercent: 50.0, perCoreUsage: vec![50.0], ..CPUMetrics::default() };
        let sample = SystemMetricsRes {
            cpu: Some(cpu).into(),
            host: Some(HostInfo { hostname: "node".into(), ..HostInfo::default() }).into(),
            disks: vec![DiskMetrics { totalBytes: 10, usedBytes: 4, ..DiskMetrics::default() }],
            ..SystemMetricsRes::default()
        };
        let value = json(&sample);
        assert_eq!(
            (&value["cpuInfo"]["usage"], &value["cpuInfo"]["perCoreUsage"][0]),
            (&json!(0.5), &json!(0.5))
        );
        assert_eq!(
            (&value["disksInfo"]["totalSpace"], &value["hostInfo"]["hostname"]),
            (&json!(10), &json!("node"))
        );
        assert!(value.get("memoryInfo").is_none() && value.get("networkInfo").is_none());
    }
}
