//! GPUs, as text and as JSON.

use serde::Serialize;

use super::super::terminal::one_line;
use super::fit::aligned;
use super::metrics::{bytes, percent};
use super::words::short;
use crate::pb::joblet::{Gpu, Gpus};

/// The table of `gpu list`.
pub(crate) fn list(found: &Gpus) -> String {
    let notes: String = found.notes.iter().map(|note| format!("Note: {}\n", one_line(note))).collect();
    if !found.disabled_reason.is_empty() {
        return format!("No GPUs for jobs: {}\n{notes}", one_line(&found.disabled_reason));
    }
    if found.gpus.is_empty() {
        return format!("No GPUs found\n{notes}");
    }
    let row = |gpu: &Gpu| {
        [
            gpu.index.to_string(),
            one_line(&gpu.name),
            gpu.memory_mb.map_or("-".to_owned(), |mb| format!("{mb}MiB")),
            gpu.numa_node.map_or("-".to_owned(), |node| node.to_string()),
            gpu.utilization.map_or("-".to_owned(), percent),
            gpu.memory_used.map_or("-".to_owned(), |used| bytes(used as f64)),
            gpu.temperature.map_or("-".to_owned(), |degrees| format!("{degrees:.0}C")),
            gpu.power_draw.map_or("-".to_owned(), |watts| format!("{watts:.0}W")),
            one_line(&gpu.state),
            if gpu.job_uuid.is_empty() { "-".to_owned() } else { one_line(short(&gpu.job_uuid)) },
            one_line(&gpu.uuid),
        ]
    };
    let head = ["GPU", "NAME", "MEMORY", "NUMA", "USE", "USED", "TEMP", "POWER", "STATE", "JOB", "UUID"]
        .map(str::to_owned);
    let table = aligned(std::iter::once(head).chain(found.gpus.iter().map(row)).collect());
    let reasons: String = found.gpus.iter().filter_map(reason).collect();
    let driver = if found.driver_version.is_empty() { "not known" } else { &found.driver_version };
    format!(
        "{table}\n{reasons}Driver: {}\nAllocation: {}\n{notes}",
        one_line(driver),
        one_line(&found.allocation_strategy)
    )
}

/// Why no job can have a GPU, as a line.
fn reason(gpu: &Gpu) -> Option<String> {
    let is_said = !gpu.reason.is_empty() && gpu.state != "checking";
    is_said.then(|| format!("GPU {} is {}: {}\n", gpu.index, one_line(&gpu.state), one_line(&gpu.reason)))
}

/// What `gpu reset-state` says.
pub(crate) fn reset(found: &Gpus, named: &str) -> String {
    let is_named = |gpu: &&Gpu| gpu.uuid == named || gpu.index.to_string() == named;
    let done = |gpu: &Gpu| format!("GPU {} ({}) is given to jobs again\n", gpu.index, one_line(&gpu.uuid));
    found.gpus.iter().find(is_named).map(done).unwrap_or_default()
}

/// The JSON of `gpu list`.
#[derive(Debug, Serialize)]
pub(crate) struct GpusJson<'a> {
    gpus: Vec<GpuJson<'a>>,
    driver_version: &'a str,
    allocation_strategy: &'a str,
    disabled_reason: &'a str,
    notes: &'a [String],
}

/// One GPU in JSON.
#[derive(Debug, Serialize)]
pub(crate) struct GpuJson<'a> {
    index: i32,
    uuid: &'a str,
    name: &'a str,
    bus_id: &'a str,
    memory_mb: Option<i64>,
    numa_node: Option<i32>,
    state: &'a str,
    job_uuid: &'a str,
    reason: &'a str,
    utilization: Option<f64>,
    memory_used: Option<u64>,
    temperature: Option<f64>,
    power_draw: Option<f64>,
}

/// One GPU of an answer.
pub(crate) fn one_json(gpu: &Gpu) -> GpuJson<'_> {
    GpuJson {
        index: gpu.index,
        uuid: &gpu.uuid,
        name: &gpu.name,
        bus_id: &gpu.bus_id,
        memory_mb: gpu.memory_mb,
        numa_node: gpu.numa_node,
        state: &gpu.state,
        job_uuid: &gpu.job_uuid,
        reason: &gpu.reason,
        utilization: gpu.utilization,
        memory_used: gpu.memory_used,
        temperature: gpu.temperature,
        power_draw: gpu.power_draw,
    }
}

/// The GPUs of an answer.
pub(crate) fn list_json(found: &Gpus) -> GpusJson<'_> {
    GpusJson {
        gpus: found.gpus.iter().map(one_json).collect(),
        driver_version: &found.driver_version,
        allocation_strategy: &found.allocation_strategy,
        disabled_reason: &found.disabled_reason,
        notes: &found.notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_listed_with_their_jobs_and_a_node_without_says_why() {
        let free = Gpu {
            uuid: "GPU-1".into(),
            name: "NVIDIA H200".into(),
            memory_mb: Some(143_771),
            state: "free".into(),
            ..Gpu::default()
        };
        let used = Gpu {
            index: 1,
            uuid: "GPU-2".into(),
            memory_mb: None,
            numa_node: Some(1),
            state: "in_use".into(),
            job_uuid: "f47ac10b-58cc-4372-a567-0e02b2c3d479".into(),
            utilization: Some(87.25),
            memory_used: Some(12 << 30),
            temperature: Some(61.0),
            power_draw: Some(412.4),
            ..free.clone()
        };
        let lost = Gpu {
            index: 2,
            uuid: "GPU-3".into(),
            state: "lost".into(),
            reason: "it has fallen off the bus".into(),
            ..free.clone()
        };
        let found = Gpus {
            gpus: vec![free, used, lost],
            driver_version: "580.159.04".into(),
            allocation_strategy: "first-fit".into(),
            ..Gpus::default()
        };
        assert_eq!(
            list(&found),
            "GPU  NAME         MEMORY     NUMA  USE    USED  TEMP  POWER  STATE   JOB       UUID\n\
             0    NVIDIA H200  143771MiB  -     -      -     -     -      free    -         GPU-1\n\
             1    NVIDIA H200  -          1     87.2%  12GB  61C   412W   in_use  f47ac10b  GPU-2\n\
             2    NVIDIA H200  143771MiB  -     -      -     -     -      lost    -         GPU-3\n\n\
             GPU 2 is lost: it has fallen off the bus\n\
             Driver: 580.159.04\nAllocation: first-fit\n"
        );
        let off = Gpus { disabled_reason: "off".into(), ..Gpus::default() };
        assert_eq!(list(&off), "No GPUs for jobs: off\n");
        let json = serde_json::to_value(list_json(&found)).unwrap();
        assert_eq!(
            (&json["gpus"][1]["job_uuid"], &json["gpus"][1]["numa_node"]),
            (&found.gpus[1].job_uuid.clone().into(), &1.into())
        );
    }
}
