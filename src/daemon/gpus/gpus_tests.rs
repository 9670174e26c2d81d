//! The loop's list of GPUs, without a thread.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

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

/// A list of which every GPU was looked at.
fn clean(strategy: GpuStrategy, number: u32) -> Gpus {
    let mut gpus = Gpus::with(strategy, host(number));
    gpus.given_back().into_iter().for_each(|at| gpus.clean(at));
    gpus
}

fn wish(count: u32, memory_mib: u32) -> GpuWish {
    GpuWish { count, memory_mib }
}

#[test]
fn wish_that_can_never_be_met_is_refused_with_numbers() {
    let mut gpus = clean(GpuStrategy::FirstFit, 2);
    assert_eq!(gpus.refuses(wish(2, 0)), None);
    let why = gpus.refuses(wish(3, 0)).unwrap();
    assert!(why.starts_with("not enough GPUs available: need 3 GPUs, have 2"), "{why}");
    let why = gpus.refuses(wish(2, 50_000)).unwrap();
    assert!(why.contains("have 1 on this node"), "{why}");
    gpus.lose(1, "gone".to_owned());
    let why = gpus.refuses(wish(2, 0)).unwrap();
    assert!(why.contains("have 1 on this node; 1 lost"), "{why}");
    let (off, thread) = Gpus::start(&DaemonConfig::default(), |_| ()).unwrap();
    assert!(thread.is_none() && off.refuses(wish(1, 0)).is_some_and(|why| why.contains("gpu.enabled: true")));
}

#[test]
fn gpu_is_given_on_only_after_a_look_at_it() {
    let mut gpus = Gpus::with(GpuStrategy::FirstFit, host(1));
    let id = JobId::random();
    let state = |gpus: &Gpus| gpus.standings()[0].state;
    assert!(!gpus.can(wish(1, 0)) && state(&gpus) == GpuState::Checking);
    assert_eq!((gpus.given_back(), gpus.given_back()), (vec![0], vec![]));
    gpus.clean(0);
    let (leases, tokens) = gpus.take(id, wish(1, 0)).unwrap();
    assert_eq!(gpus.standings()[0].job, Some(id));
    // An answer that is too late for the look before means nothing.
    gpus.clean(0);
    gpus.hold_back(0, "x".to_owned());
    assert_eq!((state(&gpus), gpus.given_back()), (GpuState::InUse, vec![]));
    drop(tokens);
    assert_eq!(gpus.given_back(), [0]);
    gpus.hold_back(0, "process 7 has it".to_owned());
    assert_eq!((state(&gpus), gpus.can(wish(1, 0))), (GpuState::HeldBack, false));
    gpus.restore(0);
    assert_eq!(state(&gpus), GpuState::Free);
    let held = gpus.inherit(id, &leases);
    assert_eq!(gpus.lose(0, "fell off".to_owned()), Some(("GPU-0".to_owned(), Some(id))));
    drop(held);
    assert_eq!(gpus.given_back(), [0]);
    gpus.clean(0);
    assert_eq!((state(&gpus), gpus.can(wish(1, 0))), (GpuState::Lost, false));
    gpus.restore(0);
    assert_eq!((state(&gpus), gpus.given_back()), (GpuState::Checking, vec![0]));
}

/// The things that survive a daemon, beside the list: jobs with their leases, and the set of lost GPUs.
struct World {
    gpus: Gpus,
    jobs: BTreeMap<u32, (JobId, Vec<GpuLease>, Vec<Token>)>,
    checking: BTreeSet<usize>,
    lost: BTreeSet<usize>,
}

impl World {
    fn take(&mut self, step: u32, wish: GpuWish) {
        let id = JobId::random();
        let busy = self.held();
        if let Some((leases, tokens)) = self.gpus.take(id, wish) {
            let is_right = |lease: &GpuLease| {
                let at = lease.index as usize;
                !busy.contains(&lease.index) && !self.lost.contains(&at) && !self.checking.contains(&at)
            };
            assert!(leases.iter().all(is_right), "step {step}: {leases:?}");
            assert_eq!((leases.len(), tokens.len()), (wish.count as usize, leases.len()), "step {step}");
            self.jobs.insert(step, (id, leases, tokens));
        }
    }

    fn held(&self) -> Vec<u32> {
        self.jobs.values().flat_map(|(_, leases, _)| leases.iter().map(|lease| lease.index)).collect()
    }

    /// The daemon is killed: tokens and looks are gone with it, records and the file of lost GPUs are not.
    fn crash(&mut self, strategy: GpuStrategy) {
        self.gpus = Gpus::with(strategy, host(8));
        self.checking.clear();
        for at in &self.lost {
            self.gpus.lose(*at, "lost".to_owned());
        }
        for (id, leases, tokens) in self.jobs.values_mut() {
            *tokens = self.gpus.inherit(*id, leases);
            assert_eq!(tokens.len(), leases.len());
        }
    }

    /// One GPU has one job, those that nobody has come back when they are looked at, and none vanishes.
    fn check(&mut self, step: u32) {
        self.checking.extend(self.gpus.given_back());
        let mut held = self.held();
        held.sort_unstable();
        let number = held.len();
        held.dedup();
        assert_eq!(held.len(), number, "step {step}: a GPU has two jobs");
        for (at, standing) in self.gpus.standings().iter().enumerate() {
            let is_held = held.contains(&(at as u32));
            let expected = if self.lost.contains(&at) {
                GpuState::Lost
            } else if is_held {
                GpuState::InUse
            } else if self.checking.contains(&at) {
                assert!(
                    matches!(standing.state, GpuState::Checking | GpuState::HeldBack),
                    "step {step}: {at}"
                );
                continue;
            } else {
                GpuState::Free
            };
            assert_eq!((standing.state, standing.job.is_some()), (expected, is_held), "step {step}: {at}");
        }
    }
}

/// Jobs come, end, and are taken over by a daemon that was killed; GPUs are lost, held back and reset.
#[test]
fn no_gpu_has_two_jobs_and_none_is_lost_in_10000_steps() {
    for strategy in [GpuStrategy::FirstFit, GpuStrategy::Pack, GpuStrategy::Spread, GpuStrategy::BestFit] {
        // Knuth's MMIX generator: the same steps in each run.
        let mut random = strategy as u64;
        let mut below = |most: u32| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as u32 % most
        };
        let (jobs, checking, lost) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let mut world = World { gpus: clean(strategy, 8), jobs, checking, lost };
        for step in 0..10_000 {
            let at = below(8) as usize;
            match below(40) {
                0..=13 => world.take(step, wish(below(4) + 1, if below(3) == 0 { 50_000 } else { 0 })),
                14..=25 => {
                    let nth = below(world.jobs.len().max(1) as u32) as usize;
                    if let Some(id) = world.jobs.keys().nth(nth).copied() {
                        world.jobs.remove(&id);
                    }
                }
                26..=33 => {
                    if let Some(at) = world.checking.pop_first() {
                        world.gpus.clean(at);
                    }
                }
                34 => {
                    if let Some(at) = world.checking.first() {
                        world.gpus.hold_back(*at, "a process".to_owned());
                    }
                }
                35 => {
                    world.lost.insert(at);
                    world.gpus.lose(at, "lost".to_owned());
                }
                36..=37 => {
                    if let Some(at) = world.lost.pop_first() {
                        world.checking.remove(&at);
                        world.gpus.restore(at);
                    }
                }
                38 => {
                    // Nothing to reset there is refused before it comes so far.
                    if world.gpus.standings()[at].state == GpuState::HeldBack {
                        world.checking.remove(&at);
                        world.gpus.restore(at);
                    }
                }
                _ => world.crash(strategy),
            }
            world.check(step);
        }
        world.jobs.clear();
        world.check(10_000);
        std::mem::take(&mut world.checking).into_iter().for_each(|at| world.gpus.clean(at));
        std::mem::take(&mut world.lost).into_iter().for_each(|at| world.gpus.restore(at));
        world.check(10_001);
        std::mem::take(&mut world.checking).into_iter().for_each(|at| world.gpus.clean(at));
        assert!(world.gpus.can(wish(8, 0)), "all eight are free in the end");
    }
}
