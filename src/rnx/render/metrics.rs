//! A sample as the lines of the API reference, and as JSON.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::super::terminal::one_line;
use crate::pb::joblet::{
    DeviceIOMetrics, JobCPUMetrics, JobGPUMetrics, JobIOMetrics, JobMemoryMetrics, JobMetricsSample,
    JobNetworkMetrics, JobProcessMetrics, NetworkInterfaceMetrics,
};

/// The text for a number that the host cannot provide.
pub(crate) const ABSENT: &str = "n/a";

/// The three lines of the reference, and one of ours below them.
pub(crate) fn text(sample: &JobMetricsSample) -> String {
    let of = |number: Option<String>| number.unwrap_or_else(|| ABSENT.into());
    let cpu = of(sample.cpu.as_ref().and_then(|cpu| cpu.usagePercent).map(percent));
    let memory = of(sample.memory.as_ref().map(|memory| bytes(memory.current as f64)));
    let io = |resolve: fn(&JobIOMetrics) -> Option<f64>| of(sample.io.as_ref().and_then(resolve).map(rate));
    let net = |resolve: fn(&JobNetworkMetrics) -> Option<f64>| {
        of(sample.network.as_ref().and_then(resolve).map(rate))
    };
    let mut text = format!("Timestamp: {}\n", time(sample.timestamp));
    let (read, write) = (io(|io| io.readBPS), io(|io| io.writeBPS));
    let _ = writeln!(text, "CPU: {cpu}, Memory: {memory}, I/O Read: {read}, I/O Write: {write}");
    let _ = writeln!(text, "Network RX: {}, Network TX: {}", net(|net| net.rxBPS), net(|net| net.txBPS));
    let more = additions(sample);
    if !more.is_empty() {
        let _ = writeln!(text, "{}", more.join(", "));
    }
    text + &sample.gpu.iter().map(gpu_line).collect::<String>()
}

/// One GPU of the job.
pub(crate) fn gpu_line(gpu: &JobGPUMetrics) -> String {
    let of = |number: Option<String>| number.unwrap_or_else(|| ABSENT.into());
    let memory = |number: Option<u64>| of(number.map(|number| bytes(number as f64)));
    let mut text = format!(
        "GPU {}: {}, Memory: {} of {}, Job: {}, Temperature: {}, Power: {}",
        gpu.index,
        of(gpu.utilization.map(percent)),
        memory(gpu.memoryUsed),
        memory(gpu.memoryTotal),
        memory(gpu.processesMemory),
        of(gpu.temperature.map(|degrees| format!("{degrees:.0}C"))),
        of(gpu.powerDraw.map(|watts| format!("{watts:.0}W"))),
    );
    // Unused bits, and idle (1), slow nothing down that wants to run.
    let throttled = gpu.throttleReasons.filter(|reasons| reasons & !1 != 0);
    let _ = throttled.map(|reasons| write!(text, ", Throttled: {reasons:#x}"));
    let errors = [gpu.eccErrorsDouble, gpu.xidErrors].into_iter().flatten().fold(0, u64::saturating_add);
    let _ = (errors > 0).then(|| write!(text, ", Errors: {errors}"));
    text + "\n"
}

/// Lines beyond those of the API reference.
pub(crate) fn additions(sample: &JobMetricsSample) -> Vec<String> {
    let mut more = Vec::new();
    if let Some(peak) = sample.memory.as_ref().and_then(|memory| memory.peak) {
        more.push(format!("Memory Peak: {}", bytes(peak as f64)));
    }
    let throttled = sample.cpu.as_ref().filter(|cpu| cpu.nrPeriods > Some(0));
    if let Some(share) = throttled.and_then(|cpu| cpu.throttlePercent) {
        more.push(format!("Throttled: {}", percent(share)));
    }
    if let Some(net) = sample.network.as_ref() {
        let dropped = net.totalRxDropped.saturating_add(net.totalTxDropped);
        more.extend((dropped > 0).then(|| format!("Packets Dropped: {dropped}")));
        more.extend((net.denials > 0).then(|| format!("Denials: {}", net.denials)));
    }
    if let Some(process) = sample.process.as_ref() {
        more.extend(process.current.map(|current| format!("Processes: {current}")));
        // The server sends none of them for a job with too many processes to read one by one, nor has a job that is
        // over any.
        if let (Some(threads), Some(files)) =
            (process.threads.filter(|threads| *threads > 0), process.openFDs)
        {
            more.push(format!("Threads: {threads}, Open Files: {files}"));
        }
    }
    more
}

/// A time in UTC: `2024-01-15T10:30:00Z`.
pub(crate) fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// A percentage with one decimal: `45.2%`.
pub(crate) fn percent(percent: f64) -> String {
    format!("{percent:.1}%")
}

/// A rate with its unit: `10MB/s`.
pub(crate) fn rate(bytes_per_second: f64) -> String {
    format!("{}/s", bytes(bytes_per_second))
}

/// `256MB`, `1.2MB`, `5MB`: in 1024s, as limits are given.
pub(crate) fn bytes(bytes: f64) -> String {
    let mut number = if bytes.is_finite() { bytes.max(0.0) } else { 0.0 };
    let mut unit = "B";
    for larger in ["KB", "MB", "GB", "TB"] {
        if number < 1023.5 {
            break;
        }
        (number, unit) = (number / 1024.0, larger);
    }
    let short = if unit == "B" || number >= 9.95 { format!("{number:.0}") } else { format!("{number:.1}") };
    format!("{}{unit}", short.strip_suffix(".0").unwrap_or(&short))
}

/// One line of `--json`: the names of the API; a group that is absent in the message is absent here.
pub(crate) fn json(sample: &JobMetricsSample) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            object.insert(name.to_owned(), value);
        }
    };
    put("jobId", Some(json!(sample.jobId)));
    put("timestamp", Some(json!(sample.timestamp)));
    put("sampleIntervalSeconds", Some(json!(sample.sampleIntervalSeconds)));
    put("cpu", sample.cpu.as_ref().map(cpu));
    put("memory", sample.memory.as_ref().map(memory));
    put("io", sample.io.as_ref().map(io));
    put("network", sample.network.as_ref().map(network));
    put("process", sample.process.as_ref().map(process));
    let gpus = (!sample.gpu.is_empty()).then(|| sample.gpu.iter().map(gpu).collect());
    put("gpu", gpus);
    put("gpuAllocation", (!sample.gpu.is_empty()).then(|| json!(sample.gpuAllocation)));
    put("cgroupPath", Some(json!(sample.cgroupPath)));
    put("limits", sample.limits.as_ref().map(|l| json!({"cpu": l.cpu, "memory": l.memory, "io": l.io})));
    Value::Object(object)
}

/// An object of fields of a message under their own names, without those that are absent.
macro_rules! fields {
    ($message:ident: $($name:ident)*) => {
        present(json!({ $(stringify!($name): $message.$name),* }))
    };
}

/// An object without its empty values.
fn present(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    object
}

fn cpu(m: &JobCPUMetrics) -> Value {
    fields!(m: usageUsec userUsec systemUsec nrPeriods nrThrottled throttledUsec usagePercent throttlePercent
        pressureSome10 pressureSome60 pressureSome300 pressureFull10 pressureFull60 pressureFull300)
}

fn memory(m: &JobMemoryMetrics) -> Value {
    fields!(m: current max usagePercent anon file kernelStack slab sock shmem fileMapped fileDirty
        fileWriteback pgFault pgMajFault oomEvents oomKill
        pressureSome10 pressureSome60 pressureSome300 pressureFull10 pressureFull60 pressureFull300 peak)
}

fn io(m: &JobIOMetrics) -> Value {
    let mut value = fields!(m: totalReadBytes totalWriteBytes totalReadOps totalWriteOps totalDiscardBytes
        totalDiscardOps readBPS writeBPS readIOPS writeIOPS
        pressureSome10 pressureSome60 pressureSome300 pressureFull10 pressureFull60 pressureFull300);
    let device = |m: &DeviceIOMetrics| fields!(m: device readBytes writeBytes readOps writeOps discardBytes discardOps);
    let devices: Map<String, Value> = m.devices.iter().map(|(name, m)| (one_line(name), device(m))).collect();
    value["devices"] = Value::Object(devices);
    value
}

fn network(m: &JobNetworkMetrics) -> Value {
    let mut value = fields!(m: totalRxBytes totalTxBytes totalRxPackets totalTxPackets totalRxErrors totalTxErrors
        totalRxDropped totalTxDropped rxBPS txBPS denials);
    let interface = |m: &NetworkInterfaceMetrics| fields!(m: interface rxBytes txBytes rxPackets txPackets rxErrors txErrors rxDropped txDropped);
    let list: Map<String, Value> =
        m.interfaces.iter().map(|(name, m)| (one_line(name), interface(m))).collect();
    value["interfaces"] = Value::Object(list);
    value
}

fn process(m: &JobProcessMetrics) -> Value {
    fields!(m: current max events threads running sleeping stopped zombie openFDs maxFDs)
}

fn gpu(m: &JobGPUMetrics) -> Value {
    let mut whole = fields!(m: index uuid name computeCapability driverVersion computeMode);
    let numbers = [
        fields!(m: utilization memoryUsed memoryTotal memoryFree memoryPercent encoderUtil decoderUtil smClock
            memoryClock processesCount processesMemory),
        fields!(m: pcieThroughputRx pcieThroughputTx temperature temperatureMemory powerDraw powerLimit fanSpeed
            eccErrorsSingle eccErrorsDouble xidErrors retiredPages throttleReasons),
    ];
    if let Some(all) = whole.as_object_mut() {
        all.extend(numbers.into_iter().filter_map(|part| part.as_object().cloned()).flatten());
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_packets_are_counted_where_there_are_some() {
        let mut sample = JobMetricsSample::default();
        sample.network.mut_or_insert_default().totalRxBytes = 1;
        assert_eq!(additions(&sample), Vec::<String>::new());
        let net = sample.network.mut_or_insert_default();
        (net.totalRxDropped, net.totalTxDropped, net.denials) = (2, 3, 7);
        assert_eq!(additions(&sample), ["Packets Dropped: 5", "Denials: 7"]);
        assert_eq!(json(&sample)["network"]["denials"], 7);
    }

    #[test]
    fn each_gpu_has_a_line_and_what_is_unknown_is_marked() {
        let mut gpu = JobGPUMetrics { index: 1, memoryTotal: Some(80 << 30), ..Default::default() };
        let line = "GPU 1: n/a, Memory: n/a of 80GB, Job: n/a, Temperature: n/a, Power: n/a";
        assert_eq!(gpu_line(&gpu), format!("{line}\n"));
        (gpu.throttleReasons, gpu.xidErrors) = (Some(1), Some(0));
        assert_eq!(gpu_line(&gpu), format!("{line}\n"));
        (gpu.throttleReasons, gpu.xidErrors) = (Some(0x21), Some(2));
        assert_eq!(gpu_line(&gpu), format!("{line}, Throttled: 0x21, Errors: 2\n"));
        let sample = JobMetricsSample { gpu: vec![gpu], gpuAllocation: vec![1], ..Default::default() };
        let json = json(&sample);
        assert_eq!(
            (&json["gpu"][0]["memoryTotal"], &json["gpuAllocation"][0]),
            (&(80u64 << 30).into(), &1.into())
        );
        assert!(json["gpu"][0].get("temperature").is_none(), "{json}");
    }

    #[test]
    fn bytes_are_short_and_change_their_unit_in_time() {
        for (number, text) in [
            (0.0, "0B"),
            (1023.0, "1023B"),
            (1023.7, "1KB"),
            (1258291.2, "1.2MB"),
            (10_485_760.0, "10MB"),
            (268_435_456.0, "256MB"),
            (10_433_331.0, "9.9MB"),
            (10_440_000.0, "10MB"),
            (5e15, "4547TB"),
            (-1.0, "0B"),
            (f64::NAN, "0B"),
        ] {
            assert_eq!(bytes(number), text, "{number}");
        }
    }
}
