//! Names that jobs were refused, until the daemon hears of them: pure.
//!
//! Bounds: each job has so many names at a time, and what it asks beyond them counts as one name.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::protocol::Denial;

/// Names that wait for the daemon, of one job and of all.
const MOST_OF_ONE: usize = 64;
const MOST: usize = 4096;
/// Stands for the names for which there was no room.
pub(super) const OTHERS: &str = "(others)";

/// Denials that the daemon has not heard of.
#[derive(Debug, Default)]
pub(super) struct Denials {
    jobs: BTreeMap<Ipv4Addr, BTreeMap<(String, u16), u32>>,
    number: usize,
}

impl Denials {
    /// Counts a denial.
    pub(super) fn add(&mut self, address: Ipv4Addr, name: String, kind: u16) {
        let names = self.jobs.entry(address).or_default();
        let mut key = (name, kind);
        if !names.contains_key(&key) && (names.len() >= MOST_OF_ONE || self.number >= MOST) {
            key = (OTHERS.to_owned(), 0);
        }
        let count = names.entry(key).or_insert_with(|| {
            self.number += 1;
            0
        });
        *count = count.saturating_add(1);
    }

    /// Whether there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The denials that `hear` hears are over; the caller reads until nothing is left.
    pub(super) fn tell(&mut self, mut hear: impl FnMut(&Denial) -> bool) {
        while let Some(denial) = self.take() {
            if !hear(&denial) {
                let names = self.jobs.entry(denial.address).or_default();
                names.insert((denial.name, denial.kind), denial.count);
                self.number += 1;
                return;
            }
        }
    }

    /// Forgets those of a job, which nobody asks for any more.
    pub(super) fn forget(&mut self, job: Ipv4Addr) {
        self.number -= self.jobs.remove(&job).map_or(0, |names| names.len());
    }

    /// Takes the oldest one.
    fn take(&mut self) -> Option<Denial> {
        let mut job = self.jobs.first_entry()?;
        let address = *job.key();
        let taken = job.get_mut().pop_first();
        if job.get().is_empty() {
            job.remove();
        }
        let ((name, kind), count) = taken?;
        self.number -= 1;
        Some(Denial { address, name, kind, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_are_counted_and_bounded_for_each_job() {
        let mut denials = Denials::default();
        let (greedy, other) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        for n in 0..1000 {
            denials.add(greedy, format!("{n}.evil.org"), 1);
        }
        denials.add(other, "a.org".into(), 1);
        denials.add(other, "a.org".into(), 1);
        let mut first = None;
        denials.tell(|denial| {
            first = Some(denial.clone());
            false
        });
        let mut all = Vec::new();
        denials.tell(|denial| {
            all.push(denial.clone());
            true
        });
        assert_eq!(first.as_ref(), all.first(), "nothing is lost while nobody hears");
        assert!(denials.is_empty() && denials.number == 0);
        let of = |address| all.iter().filter(move |denial| denial.address == address);
        assert_eq!(of(greedy).count(), MOST_OF_ONE + 1);
        assert_eq!(of(greedy).map(|denial| denial.count).sum::<u32>(), 1000);
        assert_eq!(of(greedy).find(|denial| denial.name == OTHERS).unwrap().count, 1000 - MOST_OF_ONE as u32);
        let one = Denial { address: other, name: "a.org".into(), kind: 1, count: 2 };
        assert_eq!(of(other).collect::<Vec<_>>(), [&one]);
    }
}
