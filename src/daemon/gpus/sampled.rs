//! The GPUs of a job in its samples.

use crate::gpu::{Board, Measured};
use crate::job::GpuLease;
use crate::metrics::GetGpus;
use crate::metrics::sample::Gpu;

/// Where the samples of a job with these GPUs get their figures; `None`: it has no GPU.
pub(in crate::daemon) fn source(board: &Board, leases: &[GpuLease]) -> Option<GetGpus> {
    let (board, leases) = (board.clone(), leases.to_vec());
    (!leases.is_empty()).then(|| -> GetGpus {
        Box::new(move |pids| {
            let (seen, driver) = (board.all(), board.driver());
            let one = |lease: &GpuLease| {
                let seen = seen.iter().find(|seen| seen.device.uuid == lease.uuid);
                let gpu = Gpu {
                    index: lease.index,
                    uuid: lease.uuid.clone(),
                    name: seen.map(|seen| seen.device.name.clone()).unwrap_or_default(),
                    driver_version: driver.clone(),
                    ..Gpu::default()
                };
                match seen.and_then(|seen| seen.measured.clone()) {
                    Some(measured) => with(gpu, measured, pids),
                    None => gpu,
                }
            };
            leases.iter().map(one).collect()
        })
    })
}

/// A GPU with what was measured of it, and of these processes on it.
fn with(gpu: Gpu, measured: Measured, pids: &[i32]) -> Gpu {
    let Measured { figures, processes, xids } = measured;
    let own = processes.map(|processes| {
        let own = |pid: u32| pids.contains(&pid.cast_signed());
        processes.into_iter().filter(|process| own(process.pid)).collect::<Vec<_>>()
    });
    let share = |used: u64, total: u64| used as f64 * 100.0 / total as f64;
    let total = figures.memory_total.filter(|total| *total > 0);
    Gpu {
        compute_capability: figures.compute_capability,
        memory_percent: figures.memory_used.zip(total).map(|(used, total)| share(used, total)),
        xid_errors: Some(xids),
        processes_count: own.as_ref().map(|own| own.len() as u64),
        // One whose memory is not told makes the sum unknown.
        processes_memory: own.and_then(|own| own.iter().map(|process| process.memory).sum()),
        utilization: figures.utilization,
        memory_used: figures.memory_used,
        memory_total: figures.memory_total,
        memory_free: figures.memory_free,
        encoder_util: figures.encoder_util,
        decoder_util: figures.decoder_util,
        sm_clock: figures.sm_clock,
        memory_clock: figures.memory_clock,
        pcie_throughput_rx: figures.pcie_throughput_rx,
        pcie_throughput_tx: figures.pcie_throughput_tx,
        temperature: figures.temperature,
        temperature_memory: figures.temperature_memory,
        power_draw: figures.power_draw,
        power_limit: figures.power_limit,
        fan_speed: figures.fan_speed,
        ecc_errors_single: figures.ecc_errors_single,
        ecc_errors_double: figures.ecc_errors_double,
        retired_pages: figures.retired_pages,
        throttle_reasons: figures.throttle_reasons,
        compute_mode: figures.compute_mode,
        ..gpu
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gpu::{Device, GpuFigures, GpuProcess};

    #[test]
    fn sample_has_figures_of_own_gpus_and_own_processes() {
        let device = |at: u32| Device { index: at, uuid: format!("GPU-{at}"), ..Device::default() };
        let board = Board::new(&[device(0), device(1)], Some("580".into()));
        let lease = GpuLease { index: 1, uuid: "GPU-1".into(), minor: 1, lost: None };
        assert!(source(&board, &[]).is_none());
        let get = source(&board, &[lease]).unwrap();
        let [gpu] = get(&[7]).try_into().unwrap();
        assert_eq!((gpu.index, gpu.memory_used, gpu.xid_errors), (1, None, None), "nothing was measured");
        let figures = GpuFigures { memory_used: Some(1), memory_total: Some(4), ..GpuFigures::default() };
        let process = |pid, memory| GpuProcess { pid, memory };
        let processes = Some(vec![process(7, Some(3)), process(8, None)]);
        board.measure(vec![None, Some(Measured { figures, processes, xids: 2 })], Duration::from_secs(60));
        let [gpu] = get(&[7, 9]).try_into().unwrap();
        assert_eq!((gpu.memory_percent, gpu.xid_errors, gpu.utilization), (Some(25.0), Some(2), None));
        assert_eq!((gpu.processes_count, gpu.processes_memory), (Some(1), Some(3)));
        let [gpu] = get(&[7, 8]).try_into().unwrap();
        assert_eq!((gpu.processes_count, gpu.processes_memory), (Some(2), None));
    }
}
