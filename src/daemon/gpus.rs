//! The GPUs of the node: which there are, and which of them are free.
//!
//! The daemon asks the driver once, before the loop turns; it has [`BOUND`] for its answer. A GPU belongs to the job that
//! has its token, so it is free again when whatever held that is gone, on each path. A job of an earlier daemon has its GPUs
//! by its record; one of them that is not there any more stays with it and is given to nobody.

use std::path::Path;
use std::time::Duration;

use log::Level;

use super::token::{Counter, Token};
use crate::config::daemon::Gpu as Settings;
use crate::diag;
use crate::gpu::{self, Device, GpuError, Inquiry, Inventory, PROGRAM};
use crate::job::{GpuLease, GpuStrategy, GpuWish};

/// How long the driver has to tell its GPUs: without persistence mode it initialises each of them first.
const BOUND: Duration = Duration::from_secs(20);

/// The loop's list of GPUs.
#[derive(Debug)]
pub(super) struct Gpus {
    strategy: GpuStrategy,
    /// Why no job can have one; `None`: jobs can.
    off: Option<String>,
    found: Inventory,
    /// The job that has each, in the order of the inventory.
    held: Vec<Counter>,
}

impl Gpus {
    /// Asks the driver, where the configuration wants GPUs. A driver that is ill does not keep the daemon from its other jobs.
    pub(super) fn start(settings: &Settings) -> Gpus {
        let strategy = settings.allocation_strategy;
        if !settings.enabled {
            let off =
                "GPU support is disabled on this node; its configuration would have to say gpu.enabled: true";
            return Gpus::without(strategy, off.to_owned());
        }
        match gpu::ask(Inquiry { program: Path::new(PROGRAM), bound: BOUND }) {
            Ok(found) => Gpus::with(strategy, found),
            Err(why) => {
                diag::event!(Level::Error, "no job can have GPUs", error = why);
                Gpus::without(strategy, no_gpus(&why))
            }
        }
    }

    fn with(strategy: GpuStrategy, found: Inventory) -> Gpus {
        for note in &found.notes {
            diag::event!(Level::Warn, "GPUs of this host", reason = note);
        }
        let driver = found.driver.clone().unwrap_or_default();
        diag::event!(Level::Info, "GPUs can be given to jobs", number = found.devices.len(), driver = driver);
        let held = found.devices.iter().map(|_| Counter::default()).collect();
        Gpus { strategy, off: None, found, held }
    }

    fn without(strategy: GpuStrategy, off: String) -> Gpus {
        let found =
            Inventory { source: gpu::Source::Proc, driver: None, devices: Vec::new(), notes: Vec::new() };
        Gpus { strategy, off: Some(off), found, held: Vec::new() }
    }

    /// Why no job can have GPUs; `None`: jobs can.
    pub(super) fn off(&self) -> Option<&str> {
        self.off.as_deref()
    }

    /// The inventory by the driver.
    pub(super) fn found(&self) -> &Inventory {
        &self.found
    }

    /// The order in which free ones are given.
    pub(super) fn strategy(&self) -> GpuStrategy {
        self.strategy
    }

    /// Whether nobody has the GPU at this place of the inventory.
    pub(super) fn is_free(&self, at: usize) -> bool {
        self.held.get(at).is_some_and(|held| held.count() == 0)
    }

    /// Why such a wish can never be met here; `None`: it can, if not now.
    pub(super) fn refuses(&self, wish: GpuWish) -> Option<String> {
        if let Some(off) = &self.off {
            return Some(off.clone());
        }
        let have = gpu::fitting(&self.found.devices, wish);
        let unknown = wish.memory_mib > 0 && self.found.devices.iter().any(|gpu| gpu.memory_mib.is_none());
        let why = if unknown { "; their memory is not known without NVML" } else { "" };
        (have < wish.count as usize)
            .then(|| format!("not enough GPUs available: need {wish}, have {have} on this node{why}"))
    }

    /// Whether such a wish can be met now.
    pub(super) fn can(&self, wish: GpuWish) -> bool {
        self.choose(wish).is_some()
    }

    /// Free GPUs for one job, with the tokens by which it has them; `None` where too few are free.
    pub(super) fn take(&mut self, wish: GpuWish) -> Option<(Vec<GpuLease>, Vec<Token>)> {
        let places = self.choose(wish)?;
        let lease = |at: &usize| {
            let Device { index, uuid, minor, .. } = &self.found.devices[*at];
            GpuLease { index: *index, uuid: uuid.clone(), minor: *minor }
        };
        Some((places.iter().map(lease).collect(), places.iter().map(|at| self.held[*at].token()).collect()))
    }

    /// The tokens of a job that has these already; none for a GPU that is not there any more.
    pub(super) fn inherit(&self, leases: &[GpuLease]) -> Vec<Token> {
        let place = |lease: &GpuLease| self.found.devices.iter().position(|gpu| gpu.uuid == lease.uuid);
        leases.iter().filter_map(|lease| Some(self.held[place(lease)?].token())).collect()
    }

    fn choose(&self, wish: GpuWish) -> Option<Vec<usize>> {
        gpu::choose(&self.found.devices, |at| self.is_free(at), wish, self.strategy)
    }
}

fn no_gpus(why: &GpuError) -> String {
    format!("this node cannot give GPUs to jobs: {why}; restart joblet when that is mended")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::gpu::Source;

    fn host(number: u32) -> Inventory {
        let device = |index| Device {
            index,
            uuid: format!("GPU-{index}"),
            minor: index,
            memory_mib: Some(if index % 2 == 0 { 80_000 } else { 24_000 }),
            numa: Some(i32::from(index >= number / 2)),
            ..Device::default()
        };
        let devices = (0..number).map(device).collect();
        Inventory { source: Source::Nvml, driver: None, devices, notes: Vec::new() }
    }

    #[test]
    fn wish_that_can_never_be_met_is_refused_with_numbers() {
        let gpus = Gpus::with(GpuStrategy::FirstFit, host(2));
        let wish = |count, memory_mib| GpuWish { count, memory_mib };
        assert_eq!(gpus.refuses(wish(2, 0)), None);
        let why = gpus.refuses(wish(3, 0)).unwrap();
        assert!(why.starts_with("not enough GPUs available: need 3 GPUs, have 2"), "{why}");
        let why = gpus.refuses(wish(2, 50_000)).unwrap();
        assert!(why.contains("have 1 on this node"), "{why}");
        let off = Gpus::start(&Settings::default());
        assert!(off.refuses(wish(1, 0)).is_some_and(|why| why.contains("gpu.enabled: true")));
    }

    /// Jobs come, end, and are taken over by a daemon that was killed: no GPU has ever two jobs, and none is lost.
    #[test]
    fn no_gpu_has_two_jobs_and_none_is_lost_in_10000_steps() {
        for strategy in [GpuStrategy::FirstFit, GpuStrategy::Pack, GpuStrategy::Spread, GpuStrategy::BestFit]
        {
            // Knuth's MMIX generator: the same steps in each run.
            let mut random = strategy as u64;
            let mut below = |most: u32| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) as u32 % most
            };
            let mut gpus = Gpus::with(strategy, host(8));
            let mut jobs: BTreeMap<u32, (Vec<GpuLease>, Vec<Token>)> = BTreeMap::new();
            for step in 0..10_000 {
                match below(20) {
                    0..=9 => {
                        let memory_mib = if below(3) == 0 { 50_000 } else { 0 };
                        let wish = GpuWish { count: below(4) + 1, memory_mib };
                        let free =
                            (0..8).filter(|at| gpus.is_free(*at) && (memory_mib == 0 || at % 2 == 0)).count();
                        let taken = gpus.take(wish);
                        assert_eq!(taken.is_some(), free >= wish.count as usize, "step {step}");
                        jobs.extend(taken.map(|taken| (step, taken)));
                    }
                    10..=18 => {
                        let at = below(jobs.len().max(1) as u32) as usize;
                        if let Some(id) = jobs.keys().nth(at).copied() {
                            jobs.remove(&id);
                        }
                    }
                    _ => {
                        // The daemon is killed: tokens are gone with it, records are not.
                        gpus = Gpus::with(strategy, host(8));
                        for (leases, tokens) in jobs.values_mut() {
                            *tokens = gpus.inherit(leases);
                            assert_eq!(tokens.len(), leases.len());
                        }
                    }
                }
                let mut held: Vec<&str> = jobs
                    .values()
                    .flat_map(|(leases, _)| leases.iter().map(|lease| lease.uuid.as_str()))
                    .collect();
                held.sort_unstable();
                let number = held.len();
                held.dedup();
                assert_eq!(held.len(), number, "step {step}: a GPU has two jobs");
                assert_eq!(
                    (0..8).filter(|at| !gpus.is_free(*at)).count(),
                    number,
                    "step {step}: one is lost"
                );
            }
        }
    }
}
