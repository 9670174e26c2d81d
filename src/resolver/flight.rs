//! Questions under way for jobs, at most so many at a time, with a fair share for each: pure, time is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Instant;

/// The name of a thing under way. It is never given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u64);

impl Key {
    /// The same as a number.
    pub(super) fn number(self) -> u64 {
        self.0
    }

    /// The name of this number.
    pub(super) fn of(number: u64) -> Key {
        Key(number)
    }
}

#[derive(Debug)]
struct Slot<T> {
    owner: Ipv4Addr,
    due: Instant,
    thing: T,
}

/// Things under way.
#[derive(Debug)]
pub(super) struct Flight<T> {
    most: usize,
    of_one: usize,
    next: u64,
    slots: BTreeMap<u64, Slot<T>>,
    owners: BTreeMap<Ipv4Addr, BTreeSet<u64>>,
    times: BTreeSet<(Instant, u64)>,
}

impl<T> Flight<T> {
    /// At most `most` things, and `of_one` of one owner. The first name is `first`.
    pub(super) fn new(most: usize, of_one: usize, first: u64) -> Self {
        let (slots, owners, times) = Default::default();
        Flight { most, of_one, next: first, slots, owners, times }
    }

    /// Begins a thing, which is due then. Where all is full, the oldest thing of the owner that has the most ends for it,
    /// and comes back: unless that is this owner itself, for whom there is no room then.
    ///
    /// # Errors
    /// There is no room; the thing comes back.
    pub(super) fn begin(&mut self, owner: Ipv4Addr, due: Instant, thing: T) -> Result<(Key, Option<T>), T> {
        let own = self.owners.get(&owner).map_or(0, BTreeSet::len);
        if own >= self.of_one {
            return Err(thing);
        }
        let mut ended = None;
        if self.slots.len() >= self.most {
            let greedy = self.owners.values().max_by_key(|things| things.len());
            match greedy.filter(|things| things.len() > own + 1).and_then(BTreeSet::first).copied() {
                Some(oldest) => ended = self.end(Key(oldest)).map(|(_, thing)| thing),
                None => return Err(thing),
            }
        }
        let number = self.next;
        self.next += 1;
        self.slots.insert(number, Slot { owner, due, thing });
        self.owners.entry(owner).or_default().insert(number);
        self.times.insert((due, number));
        Ok((Key(number), ended))
    }

    /// A thing, and whose it is.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<(Ipv4Addr, &mut T)> {
        self.slots.get_mut(&key.0).map(|slot| (slot.owner, &mut slot.thing))
    }

    /// Makes a thing due at another time.
    pub(super) fn postpone(&mut self, key: Key, due: Instant) {
        if let Some(slot) = self.slots.get_mut(&key.0) {
            self.times.remove(&(slot.due, key.0));
            slot.due = due;
            self.times.insert((due, key.0));
        }
    }

    /// Ends a thing.
    pub(super) fn end(&mut self, key: Key) -> Option<(Ipv4Addr, T)> {
        let Slot { owner, due, thing } = self.slots.remove(&key.0)?;
        self.times.remove(&(due, key.0));
        if let Some(things) = self.owners.get_mut(&owner) {
            things.remove(&key.0);
            if things.is_empty() {
                self.owners.remove(&owner);
            }
        }
        Some((owner, thing))
    }

    /// The thing that is due first, and when.
    pub(super) fn first_due(&self) -> Option<(Instant, Key)> {
        self.times.first().map(|(due, number)| (*due, Key(*number)))
    }

    /// The things of an owner.
    pub(super) fn of(&self, owner: Ipv4Addr) -> Vec<Key> {
        self.owners.get(&owner).into_iter().flatten().map(|number| Key(*number)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn owner(n: u8) -> Ipv4Addr {
        [10, 0, 0, n].into()
    }

    #[test]
    fn owner_with_the_most_makes_room() {
        let (mut flight, now) = (Flight::new(8, 6, 1), Instant::now());
        let keys: Vec<Key> = (0..6).map(|n| flight.begin(owner(1), now, n).unwrap().0).collect();
        assert_eq!(flight.begin(owner(1), now, 6), Err(6), "no more than its share");
        for n in 10..12 {
            assert_eq!(flight.begin(owner(2), now, n).unwrap().1, None);
        }
        let (_, ended) = flight.begin(owner(3), now, 20).unwrap();
        assert_eq!(ended, Some(0), "the oldest of the one with the most");
        assert!(flight.get_mut(keys[0]).is_none());
        let (_, ended) = flight.begin(owner(2), now, 12).unwrap();
        assert_eq!(ended, Some(1));
        assert_eq!((flight.of(owner(1)).len(), flight.of(owner(2)).len()), (4, 3));
        assert_eq!(flight.begin(owner(2), now, 13), Err(13), "it would only take its own place");
    }

    #[test]
    fn things_are_due_in_order_and_names_are_not_given_again() {
        let (mut flight, now) = (Flight::new(8, 8, 1), Instant::now());
        let later = now + Duration::from_secs(1);
        let (a, _) = flight.begin(owner(1), later, 'a').unwrap();
        let (b, _) = flight.begin(owner(1), now, 'b').unwrap();
        assert_eq!(flight.first_due(), Some((now, b)));
        flight.postpone(b, later + Duration::from_secs(1));
        assert_eq!(flight.first_due(), Some((later, a)));
        assert_eq!(flight.end(a), Some((owner(1), 'a')));
        assert_eq!(flight.end(a), None);
        let (c, _) = flight.begin(owner(1), now, 'c').unwrap();
        assert!(c != a && c != b);
        flight.end(b);
        flight.end(c);
        assert!(flight.owners.is_empty() && flight.times.is_empty() && flight.first_due().is_none());
    }
}
