//! The choice of a job's GPUs: a pure function of those of the node, those that are free, and the job's request.

use super::device::Device;
use crate::job::{GpuStrategy, GpuWish};

/// How many of the usable devices have what the wish asks of each.
pub fn fitting(devices: &[Device], is_usable: impl Fn(usize) -> bool, wish: GpuWish) -> usize {
    devices.iter().enumerate().filter(|(at, device)| is_usable(*at) && fits(device, wish)).count()
}

/// Memory that is not known suffices for a wish that names none.
fn fits(device: &Device, wish: GpuWish) -> bool {
    wish.memory_mib == 0 || device.memory_mib.is_some_and(|has| has >= u64::from(wish.memory_mib))
}

/// The places in `devices` of as many free ones as the wish names, in rising order; `None` where there are not enough.
///
/// | strategy | order |
/// |---|---|
/// | first-fit | as they stand |
/// | best-fit | least memory first |
/// | pack | those of the NUMA node that suffices and has the fewest free ones; where none suffices, nodes with many first |
/// | spread | one after the other from the NUMA node with most free ones left |
pub fn choose(
    devices: &[Device],
    is_free: impl Fn(usize) -> bool,
    wish: GpuWish,
    strategy: GpuStrategy,
) -> Option<Vec<usize>> {
    let mut free: Vec<usize> =
        (0..devices.len()).filter(|at| is_free(*at) && fits(&devices[*at], wish)).collect();
    let count = wish.count as usize;
    if free.len() < count {
        return None;
    }
    match strategy {
        GpuStrategy::FirstFit => {}
        // Stable: the lower place goes first among equals.
        GpuStrategy::BestFit => free.sort_by_key(|at| devices[*at].memory_mib.unwrap_or(0)),
        GpuStrategy::Pack => {
            let left = |at: usize| free_in(devices, &free, at);
            let order = |at: &usize| {
                let left = left(*at);
                let too_few = left < count;
                (too_few, if too_few { count - left } else { left }, devices[*at].numa)
            };
            let mut packed = free.clone();
            packed.sort_by_key(order);
            free = packed;
        }
        GpuStrategy::Spread => free = spread(devices, free, count),
    }
    free.truncate(count);
    free.sort_unstable();
    Some(free)
}

/// How many of `free` are in the NUMA node of this one.
fn free_in(devices: &[Device], free: &[usize], at: usize) -> usize {
    free.iter().filter(|other| devices[**other].numa == devices[at].numa).count()
}

fn spread(devices: &[Device], mut left: Vec<usize>, count: usize) -> Vec<usize> {
    let mut taken = Vec::with_capacity(count);
    while taken.len() < count {
        let most = left.iter().map(|at| free_in(devices, &left, *at)).max();
        let Some(place) = left.iter().position(|at| Some(free_in(devices, &left, *at)) == most) else {
            break;
        };
        taken.push(left.remove(place));
    }
    taken
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STRATEGIES: [GpuStrategy; 4] =
        [GpuStrategy::FirstFit, GpuStrategy::Pack, GpuStrategy::Spread, GpuStrategy::BestFit];

    fn device(index: u32, memory_mib: Option<u64>, numa: Option<i32>) -> Device {
        Device { index, uuid: format!("GPU-{index}"), minor: index, memory_mib, numa, ..Device::default() }
    }

    fn chosen(devices: &[Device], busy: &[usize], count: u32, strategy: GpuStrategy) -> Option<Vec<usize>> {
        choose(devices, |at| !busy.contains(&at), GpuWish { count, memory_mib: 0 }, strategy)
    }

    #[test]
    fn each_strategy_has_its_own_order() {
        let two_nodes: Vec<Device> =
            (0..8).map(|index| device(index, Some(1000), Some(i32::from(index >= 4)))).collect();
        // Node 0 has two free ones, node 1 has four.
        let busy = [0, 2];
        assert_eq!(chosen(&two_nodes, &busy, 2, GpuStrategy::FirstFit), Some(vec![1, 3]));
        assert_eq!(chosen(&two_nodes, &busy, 1, GpuStrategy::Pack), Some(vec![1]));
        assert_eq!(chosen(&two_nodes, &busy, 3, GpuStrategy::Pack), Some(vec![4, 5, 6]));
        assert_eq!(chosen(&two_nodes, &busy, 5, GpuStrategy::Pack), Some(vec![1, 4, 5, 6, 7]));
        assert_eq!(chosen(&two_nodes, &busy, 1, GpuStrategy::Spread), Some(vec![4]));
        assert_eq!(chosen(&two_nodes, &[], 2, GpuStrategy::Spread), Some(vec![0, 4]));
        assert_eq!(chosen(&two_nodes, &busy, 7, GpuStrategy::FirstFit), None);
        let sizes = [device(0, Some(80_000), None), device(1, Some(24_000), None), device(2, None, None)];
        let wish = GpuWish { count: 1, memory_mib: 16_000 };
        assert_eq!(choose(&sizes, |_| true, wish, GpuStrategy::BestFit), Some(vec![1]));
        assert_eq!(choose(&sizes, |_| true, wish, GpuStrategy::FirstFit), Some(vec![0]));
        assert_eq!(fitting(&sizes, |_| true, wish), 2);
        assert_eq!(fitting(&sizes, |at| at > 0, wish), 1);
        assert_eq!(fitting(&sizes, |_| true, GpuWish { count: 1, memory_mib: 0 }), 3);
    }

    proptest! {
        #[test]
        fn choice_is_free_fits_and_has_no_gpu_twice(
            hosts in prop::collection::vec((prop::option::of(0u64..4000), prop::option::of(0i32..3), any::<bool>()), 0..12),
            count in 1u32..6,
            memory_mib in prop_oneof![Just(0u32), 1u32..4000],
        ) {
            let devices: Vec<Device> =
                hosts.iter().enumerate().map(|(at, (memory, numa, _))| device(at as u32, *memory, *numa)).collect();
            let wish = GpuWish { count, memory_mib };
            let usable = |at: usize| {
                hosts[at].2 && (memory_mib == 0 || hosts[at].0.is_some_and(|has| has >= u64::from(memory_mib)))
            };
            let there_are = (0..hosts.len()).filter(|at| usable(*at)).count();
            for strategy in STRATEGIES {
                match choose(&devices, |at| hosts[at].2, wish, strategy) {
                    None => prop_assert!(there_are < count as usize),
                    Some(places) => {
                        prop_assert_eq!(places.len(), count as usize);
                        prop_assert!(places.windows(2).all(|pair| pair[0] < pair[1]));
                        prop_assert!(places.iter().all(|at| usable(*at)));
                    }
                }
            }
        }
    }
}
