//! The order of turns: round robin over clients, and over the streams of each.
//!
//! A client with a thousand streams that catch up thus delays another client's line by one slice of the thread's time,
//! not by a thousand.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// The streams that have something to do, each at most once, by their clients.
#[derive(Debug)]
pub struct Turns<C> {
    /// Clients with such streams, in the order of their slices, without the one whose slice it is.
    clients: VecDeque<C>,
    current: Option<C>,
    streams: HashMap<C, VecDeque<u64>>,
}

impl<C> Default for Turns<C> {
    /// No stream has anything to do.
    fn default() -> Self {
        Turns { clients: VecDeque::new(), current: None, streams: HashMap::new() }
    }
}

impl<C: Copy + Eq + Hash> Turns<C> {
    /// Whether no stream has anything to do, between two slices.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Puts a stream behind the others of its client. A client that has none yet comes behind the other clients. The
    /// caller adds no stream twice.
    pub fn add(&mut self, client: C, stream: u64) {
        let streams = self.streams.entry(client).or_default();
        if streams.is_empty() && self.current != Some(client) {
            self.clients.push_back(client);
        }
        streams.push_back(stream);
    }

    /// Begins the slice of the client that waits longest, if there is one.
    pub fn begin_slice(&mut self) -> Option<C> {
        self.current = self.clients.pop_front();
        self.current
    }

    /// The next stream of the client whose slice it is.
    pub fn next_stream(&mut self) -> Option<u64> {
        self.streams.get_mut(&self.current?)?.pop_front()
    }

    /// Ends the slice: the client goes behind the others, if any of its streams still has something to do.
    pub fn end_slice(&mut self) {
        let Some(client) = self.current.take() else { return };
        if self.streams.get(&client).is_some_and(|streams| !streams.is_empty()) {
            self.clients.push_back(client);
        } else {
            self.streams.remove(&client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stream_of_a_client_waits_for_one_slice_of_a_crowd() {
        let mut turns = Turns::default();
        (0..1000).for_each(|stream| turns.add("greedy", stream));
        assert_eq!(turns.begin_slice(), Some("greedy"));
        assert_eq!(turns.next_stream(), Some(0));
        turns.add("other", 5000);
        turns.add("greedy", 0);
        turns.end_slice();
        assert_eq!(turns.begin_slice(), Some("other"));
        assert_eq!((turns.next_stream(), turns.next_stream()), (Some(5000), None));
        turns.end_slice();
        assert_eq!(turns.begin_slice(), Some("greedy"));
        let rest: Vec<u64> = std::iter::from_fn(|| turns.next_stream()).collect();
        assert_eq!(rest.len(), 1000);
        assert_eq!((rest.first(), rest.last()), (Some(&1), Some(&0)), "its streams take turns too");
        turns.end_slice();
        assert!(turns.is_empty() && turns.streams.is_empty());
    }

    #[test]
    fn clients_that_go_on_reading_alternate() {
        let mut turns = Turns::default();
        [("a", 1), ("b", 2), ("c", 3)].into_iter().for_each(|(client, stream)| turns.add(client, stream));
        let mut seen = String::new();
        for _ in 0..6 {
            let client = turns.begin_slice().unwrap();
            let stream = turns.next_stream().unwrap();
            turns.add(client, stream);
            turns.end_slice();
            seen += client;
        }
        assert_eq!(seen, "abcabc");
    }
}
