//! Which events go into the next request: the limits of PutLogEvents, by the API's reference.

use super::event::Event;
use super::stamp::{DAY_MS, Window, ms};

/// Most bytes of a request, counted as AWS does: each message in UTF-8 and [`OVERHEAD`].
pub(super) const BYTES: usize = 1_048_576;
/// Bytes that AWS adds to each event.
pub(super) const OVERHEAD: usize = 26;
/// Longest time between the first and the last event of a request; 24 hours are refused from one millisecond more.
const SPAN_MS: i64 = DAY_MS;

/// The first events of a queue that fit into one request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// The time to send for each of them, in order; never empty where the queue is not.
    pub(super) times_ms: Vec<i64>,
    /// Bytes as AWS counts them.
    pub(super) bytes: usize,
    /// How many carry another time than their row.
    pub(super) adjusted: u64,
}

/// Takes from the front of `events` what fits into a request of at most `most` events. `last_ms` is the time that the
/// stream's newest event was sent with.
pub(super) fn next<'a>(
    events: impl IntoIterator<Item = &'a Event>,
    window: Window,
    last_ms: i64,
    most: usize,
) -> Batch {
    let mut batch = Batch { times_ms: Vec::new(), bytes: 0, adjusted: 0 };
    let mut last = last_ms;
    for event in events.into_iter().take(most) {
        let bytes = batch.bytes + event.message.len() + OVERHEAD;
        let time = window.stamp(ms(event.time_ns), last);
        let first = batch.times_ms.first().copied().unwrap_or(time);
        if !batch.times_ms.is_empty() && (bytes > BYTES || time - first > SPAN_MS) {
            break;
        }
        batch.adjusted += u64::from(time != ms(event.time_ns));
        batch.bytes = bytes;
        batch.times_ms.push(time);
        last = time;
    }
    batch
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn event(time_ms: i64, length: usize) -> Event {
        Event {
            sequence: 1,
            time_ns: time_ms * 1_000_000,
            offset: 0,
            covers: 0,
            refused: false,
            message: "x".repeat(length),
        }
    }

    #[test]
    fn a_request_ends_at_each_limit() {
        let window = Window::at(NOW, None);
        let take = |events: &[Event], most| next(events, window, 0, most).times_ms.len();
        assert_eq!(take(&vec![event(NOW, 1); 300], 100), 100);
        // 1 048 576 bytes are allowed, and one more is not.
        let half = BYTES / 2 - OVERHEAD;
        assert_eq!(take(&[event(NOW, half), event(NOW, half), event(NOW, 1)], 100), 2);
        assert_eq!(take(&[event(NOW, half), event(NOW, half + 1)], 100), 1);
        let day = [event(NOW - DAY_MS, 1), event(NOW, 1)];
        assert_eq!(take(&day, 100), 2);
        let more = [event(NOW - DAY_MS - 1, 1), event(NOW, 1)];
        assert_eq!(take(&more, 100), 1);
        assert_eq!(take(&[], 100), 0);
    }

    #[test]
    fn an_event_with_a_moved_time_is_counted() {
        let events = [event(0, 1), event(NOW - 5, 1), event(NOW - 9, 1), event(NOW + 1, 1)];
        let batch = next(&events[1..], Window::at(NOW, None), 0, 9);
        assert_eq!(batch.times_ms, [NOW - 5, NOW - 5, NOW]);
        assert_eq!(batch.adjusted, 2);
        assert_eq!(next(&events, Window::at(NOW, None), 0, 9).times_ms.len(), 1);
    }

    proptest! {
        #[test]
        fn no_request_is_one_that_aws_refuses(
            shape in proptest::collection::vec((-30 * DAY_MS..3 * DAY_MS, 1..140_000_usize), 1..60),
            last in -40 * DAY_MS..DAY_MS,
            most in 1..40_usize,
            days in prop_oneof![Just(None), Just(Some(1)), Just(Some(7)), Just(Some(3653))],
        ) {
            let events: Vec<_> = shape.iter().map(|(time, length)| event(NOW + time, *length)).collect();
            let window = Window::at(NOW, days);
            let (mut rest, mut last) = (&events[..], NOW + last);
            while !rest.is_empty() {
                let batch = next(rest, window, last, most);
                let taken = batch.times_ms.len();
                prop_assert!(taken > 0 && taken <= most);
                let (these, behind) = rest.split_at(taken);
                let bytes: usize = these.iter().map(|e| e.message.len() + 26).sum();
                prop_assert!(bytes == batch.bytes && bytes <= 1_048_576);
                prop_assert!(batch.times_ms.is_sorted());
                let (first, end) = (batch.times_ms[0], *batch.times_ms.last().unwrap());
                prop_assert!(end - first <= DAY_MS && end <= NOW);
                prop_assert!(first > NOW - days.unwrap_or(14).min(14) * DAY_MS);
                prop_assert!(first >= last.min(NOW));
                (rest, last) = (behind, end);
            }
        }
    }
}
