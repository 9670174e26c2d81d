//! Equal refusals within a minute: one line for the first, one for all others.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Entry;

/// The time that a refusal stands for those like it.
const WINDOW: Duration = Duration::from_secs(60);
/// Most kinds of refusals at one time. Beyond it refusals are lost lines.
const MOST: usize = 1024;

/// A client by its key, a method that exists, and a code.
type Key = ([u8; 32], &'static str, &'static str);

struct Folded {
    until: Instant,
    more: u64,
    entry: Entry,
}

/// The refusals of the last minute.
#[derive(Default)]
pub(super) struct Fold(HashMap<Key, Folded>);

/// The fate of a refusal.
#[derive(Debug)]
pub(super) enum Told {
    /// It has a line.
    Line(Box<Entry>),
    /// It is counted.
    Counted,
    /// There are too many kinds of them.
    Lost,
}

impl Fold {
    /// Takes a refusal. `entry` makes its line, where it needs one.
    pub(super) fn take(&mut self, key: Key, now: Instant, entry: impl FnOnce() -> Entry) -> Told {
        if let Some(folded) = self.0.get_mut(&key) {
            folded.more += 1;
            return Told::Counted;
        }
        if self.0.len() >= MOST {
            return Told::Lost;
        }
        let entry = entry().bounded();
        self.0.insert(key, Folded { until: now + WINDOW, more: 0, entry: entry.clone() });
        Told::Line(Box::new(entry))
    }

    /// The lines of minutes that are over; of all, where `all` is set.
    pub(super) fn over(&mut self, now: Instant, all: bool) -> Vec<Entry> {
        let mut lines = Vec::new();
        self.0.retain(|_, folded| {
            if !all && folded.until > now {
                return true;
            }
            if folded.more > 0 {
                lines.push(Entry { times: folded.more, ..folded.entry.clone() });
            }
            false
        });
        lines
    }

    /// When the next minute is over.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.values().map(|folded| folded.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Event;
    use super::*;

    #[test]
    fn equal_refusals_of_a_minute_have_two_lines() {
        let (mut fold, now) = (Fold::default(), Instant::now());
        let entry = || Entry::new(Event::Refused);
        let key = |client: u8| ([client; 32], "/joblet.JobService/RunJob", "PERMISSION_DENIED");
        assert!(matches!(fold.take(key(1), now, entry), Told::Line(_)));
        for _ in 0..5 {
            assert!(matches!(fold.take(key(1), now, entry), Told::Counted));
        }
        assert!(matches!(fold.take(key(2), now, entry), Told::Line(_)), "another client has its own");
        assert!(fold.over(now, false).is_empty());
        let lines = fold.over(now + WINDOW, false);
        assert_eq!(lines.iter().map(|line| line.times).collect::<Vec<_>>(), [5]);
        assert_eq!(fold.due(), None);
    }

    #[test]
    fn kinds_of_refusals_are_bounded() {
        let (mut fold, now) = (Fold::default(), Instant::now());
        for client in 0..MOST {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&client.to_le_bytes());
            fold.take((key, "", ""), now, Entry::default);
        }
        assert!(matches!(fold.take(([9; 32], "", ""), now, Entry::default), Told::Lost));
    }
}
