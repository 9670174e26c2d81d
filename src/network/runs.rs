//! A set of numbers as the runs of neighbours that it has: pure. The next number that is not in it is found by one look,
//! however many are in there, so that the loop leases the last address of a network as quickly as the first.

use std::collections::BTreeMap;

/// A set of numbers, each run of neighbours by its first and its last one.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: BTreeMap<u32, u32>,
    len: usize,
}

impl Runs {
    /// How many numbers are in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The run that has a number.
    fn around(&self, number: u32) -> Option<(u32, u32)> {
        let (first, last) = self.runs.range(..=number).next_back()?;
        (*last >= number).then_some((*first, *last))
    }

    /// Whether a number is in it.
    pub(super) fn contains(&self, number: u32) -> bool {
        self.around(number).is_some()
    }

    /// Adds a number; whether it was not in it.
    pub(super) fn insert(&mut self, number: u32) -> bool {
        if self.contains(number) {
            return false;
        }
        let before = number.checked_sub(1).and_then(|before| self.around(before));
        let after = number.checked_add(1).and_then(|after| self.runs.remove(&after));
        let first = before.map_or(number, |(first, _)| first);
        self.runs.insert(first, after.unwrap_or(number));
        self.len += 1;
        true
    }

    /// Takes a number out; whether it was in it.
    pub(super) fn remove(&mut self, number: u32) -> bool {
        let Some((first, last)) = self.around(number) else { return false };
        if first < number {
            self.runs.insert(first, number - 1);
        } else {
            self.runs.remove(&first);
        }
        if number < last {
            self.runs.insert(number + 1, last);
        }
        self.len -= 1;
        true
    }

    /// The first number from `from` to `last` that is not in it.
    fn gap(&self, from: u32, last: u32) -> Option<u32> {
        let free = match self.around(from) {
            // Runs that touch are one.
            Some((_, end)) => end.checked_add(1)?,
            None => from,
        };
        (free <= last).then_some(free)
    }

    /// The next number behind `behind` that is not in it, from `first` to `last` in a circle; `behind` itself comes last.
    pub(super) fn next_gap(&self, behind: u32, first: u32, last: u32) -> Option<u32> {
        let next = behind.saturating_add(1).max(first);
        self.gap(next, last).or_else(|| self.gap(first, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn ends_of_the_numbers_are_numbers_too() {
        let mut runs = Runs::default();
        assert!(runs.insert(u32::MAX) && runs.insert(0) && !runs.insert(0));
        assert_eq!(runs.next_gap(u32::MAX - 1, u32::MAX - 1, u32::MAX), Some(u32::MAX - 1));
        assert!(runs.insert(u32::MAX - 1));
        assert_eq!(runs.next_gap(0, u32::MAX - 1, u32::MAX), None);
        assert_eq!(runs.next_gap(u32::MAX, 0, 5), Some(1));
        assert!(runs.remove(u32::MAX) && !runs.remove(u32::MAX));
        assert_eq!(runs.len(), 2);
    }

    /// A nearly full network of a /16 was looked through address by address.
    #[test]
    fn full_set_is_one_run() {
        let mut runs = Runs::default();
        (0..60_000).filter(|n| n % 2 == 0).chain((0..60_000).filter(|n| n % 2 == 1)).for_each(|n| {
            runs.insert(n);
        });
        assert_eq!((runs.runs.len(), runs.len()), (1, 60_000));
        runs.remove(31);
        assert_eq!((runs.runs.len(), runs.next_gap(32, 0, 59_999)), (2, Some(31)));
    }

    proptest! {
        /// Against a look at each number, one after the other.
        #[test]
        fn next_gap_is_what_a_look_at_each_number_finds(
            steps in proptest::collection::vec((any::<bool>(), 0u32..40), 1..200),
            (first, room, behind) in (0u32..20, 1u32..25, 0u32..50),
        ) {
            let (mut runs, mut model) = (Runs::default(), BTreeSet::new());
            for (add, number) in steps {
                if add {
                    prop_assert_eq!(runs.insert(number), model.insert(number));
                } else {
                    prop_assert_eq!(runs.remove(number), model.remove(&number));
                }
                prop_assert_eq!((runs.len(), runs.contains(number)), (model.len(), add));
                let last = first + room - 1;
                let mut circle = (behind + 1..=last).filter(|n| *n >= first).chain(first..=last);
                prop_assert_eq!(runs.next_gap(behind, first, last), circle.find(|n| !model.contains(n)));
            }
            let apart = model.iter().filter(|n| **n == 0 || !model.contains(&(**n - 1))).count();
            prop_assert_eq!(runs.runs.len(), apart, "neighbours are one run");
        }
    }
}
