//! Many samples as one: the average, minimum, maximum or sum of each number over an interval.
//!
//! A sample is folded as its JSON tree of numbers, so that no field can be forgotten. A number counts where it is
//! present; one that no sample of the interval has is absent in the result.

use serde_json::{Map, Number, Value};

use super::Sample;

/// The operation on the values of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The arithmetic mean, for counters rounded to a whole number.
    Average,
    /// The smallest of the values.
    Least,
    /// The largest of the values.
    Most,
    /// The sum, which saturates at 64 bits.
    Sum,
}

/// A fold of samples that come in the order of their time.
#[derive(Debug)]
pub struct Fold {
    how: How,
    /// The length of an interval in ns; `None` folds everything into one sample.
    interval: Option<i64>,
    open: Option<Bucket>,
}

/// One interval, from a whole multiple of its length since the epoch to the next multiple.
#[derive(Debug)]
struct Bucket {
    number: i64,
    first_ns: i64,
    last: Sample,
    sums: Map<String, Value>,
    count: Counts,
}

/// The number of samples that had each number, by its path.
type Counts = std::collections::HashMap<String, u64>;

/// Fields that are no measurements, and are taken from the last sample.
const FIXED: [&str; 6] = ["version", "timestamp", "uptime", "sample_interval", "cgroup_path", "limits"];

impl Fold {
    /// A fold over intervals of so many seconds, at least 1; `None` folds all samples into one.
    pub fn new(how: How, seconds: Option<u32>) -> Fold {
        Fold { how, interval: seconds.map(|s| i64::from(s.max(1)) * 1_000_000_000), open: None }
    }

    /// Adds a sample. One that begins a new interval completes the interval before, which is returned.
    pub fn push(&mut self, sample: Sample) -> Option<Sample> {
        let number = self.interval.map_or(0, |ns| sample.time_ns.div_euclid(ns));
        let done = if self.open.as_ref().is_some_and(|b| b.number != number) { self.finish() } else { None };
        let values = tree(&sample);
        match &mut self.open {
            Some(bucket) => {
                merge(self.how, &mut bucket.sums, values, "", &mut bucket.count);
                bucket.last = sample;
            }
            None => {
                let (mut sums, mut count) = (Map::new(), Counts::new());
                merge(self.how, &mut sums, values, "", &mut count);
                self.open = Some(Bucket { number, first_ns: sample.time_ns, last: sample, sums, count });
            }
        }
        done
    }

    /// Completes the last interval, when no more samples come.
    pub fn finish(&mut self) -> Option<Sample> {
        let Bucket { first_ns, last, mut sums, count, .. } = self.open.take()?;
        if self.how == How::Average {
            divide(&mut sums, "", &count);
        }
        let seconds = self.interval.unwrap_or(last.time_ns - first_ns) / 1_000_000_000;
        let interval_s = u32::try_from(seconds).unwrap_or(u32::MAX);
        let mut whole = tree(&Sample { interval_s, ..last });
        whole.extend(sums);
        // The tree has the shape of the samples it was made from, so it is a sample again.
        serde_json::from_value(Value::Object(whole)).ok()
    }
}

fn tree(sample: &Sample) -> Map<String, Value> {
    match serde_json::to_value(sample) {
        Ok(Value::Object(map)) => map,
        Ok(_) | Err(_) => Map::new(),
    }
}

fn merge(
    how: How,
    sums: &mut Map<String, Value>,
    values: Map<String, Value>,
    path: &str,
    count: &mut Counts,
) {
    for (key, value) in values {
        if path.is_empty() && FIXED.contains(&key.as_str()) {
            continue;
        }
        let place = format!("{path}/{key}");
        match value {
            Value::Object(values) => {
                let inner = sums.entry(key).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(inner) = inner {
                    merge(how, inner, values, &place, count);
                }
            }
            // A name, although it is a number.
            index @ Value::Number(_) if key == "index" => drop(sums.insert(key, index)),
            Value::Number(new) => {
                *count.entry(place).or_default() += 1;
                let sum = match sums.get(&key) {
                    Some(Value::Number(old)) => joined(how, old, &new),
                    _ => new,
                };
                sums.insert(key, Value::Number(sum));
            }
            // GPUs, of which a job has the same ones from its beginning to its end.
            Value::Array(values) => {
                let old = sums.entry(key).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(old) = old else { continue };
                old.resize(values.len(), Value::Object(Map::new()));
                for (at, (old, value)) in old.iter_mut().zip(values).enumerate() {
                    if let (Value::Object(old), Value::Object(values)) = (old, value) {
                        merge(how, old, values, &format!("{place}/{at}"), count);
                    }
                }
            }
            other => drop(sums.insert(key, other)),
        }
    }
}

fn joined(how: How, old: &Number, new: &Number) -> Number {
    match (old.as_u64(), new.as_u64()) {
        (Some(old), Some(new)) => Number::from(match how {
            How::Average | How::Sum => old.saturating_add(new),
            How::Least => old.min(new),
            How::Most => old.max(new),
        }),
        _ => {
            let (a, b) = (old.as_f64().unwrap_or(0.0), new.as_f64().unwrap_or(0.0));
            let joined = match how {
                How::Average | How::Sum => a + b,
                How::Least => a.min(b),
                How::Most => a.max(b),
            };
            Number::from_f64(joined).unwrap_or_else(|| old.clone())
        }
    }
}

fn divide(sums: &mut Map<String, Value>, path: &str, count: &Counts) {
    for (key, value) in sums {
        let place = format!("{path}/{key}");
        match value {
            Value::Object(inner) => divide(inner, &place, count),
            Value::Array(each) => {
                for (at, one) in each.iter_mut().enumerate() {
                    if let Value::Object(inner) = one {
                        divide(inner, &format!("{place}/{at}"), count);
                    }
                }
            }
            Value::Number(sum) => {
                let n = count.get(&place).copied().unwrap_or(1).max(1);
                let mean = match sum.as_u64() {
                    Some(whole) => Some(Number::from((whole + n / 2) / n)),
                    None => Number::from_f64(sum.as_f64().unwrap_or(0.0) / n as f64),
                };
                *sum = mean.unwrap_or_else(|| sum.clone());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::Gpu;
    use super::super::sample::tests::{bare, sample};
    use super::*;
    use proptest::prelude::*;

    fn with(seconds: u32, usage: u64, percent: Option<f64>) -> Sample {
        let mut sample = sample(seconds);
        let cpu = sample.cpu.as_mut().unwrap();
        (cpu.usage_usec, cpu.usage_percent) = (usage, percent);
        sample
    }

    fn over(how: How, seconds: Option<u32>, samples: impl IntoIterator<Item = Sample>) -> Vec<Sample> {
        let mut fold = Fold::new(how, seconds);
        let mut done: Vec<Sample> = samples.into_iter().filter_map(|sample| fold.push(sample)).collect();
        done.extend(fold.finish());
        done
    }

    #[test]
    fn each_number_is_folded_over_the_samples_that_have_it() {
        let samples = || [with(0, 10, None), with(5, 20, Some(1.0)), bare(7), with(10, 60, Some(2.5))];
        for (how, usage, percent) in
            [(How::Average, 773, 1.75), (How::Least, 10, 1.0), (How::Most, 3000, 2.5), (How::Sum, 3090, 3.5)]
        {
            let [one] = over(how, None, samples()).try_into().unwrap();
            let cpu = one.cpu.unwrap();
            assert_eq!((cpu.usage_usec, cpu.usage_percent), (usage, Some(percent)), "{how:?}");
            let limits = (one.limits.clone(), one.time_ns, one.interval_s);
            assert_eq!(limits, (sample(0).limits, sample(10).time_ns, 10), "these are the last sample's");
            let memory = one.memory.unwrap();
            let expected = if how == How::Sum { 3 * 268_435_456 } else { 268_435_456 };
            assert_eq!((memory.current, memory.usage_percent.is_some()), (expected, true));
            assert_eq!(one.io.unwrap().devices["259:0"].read_ops, if how == How::Sum { 3 } else { 1 });
        }
    }

    #[test]
    fn figures_of_each_gpu_are_folded_and_its_number_is_not() {
        let with = |seconds, used: [Option<u64>; 2]| {
            let gpu = |at: usize| Gpu {
                index: 5 + at as u32,
                uuid: format!("GPU-{at}"),
                memory_used: used[at],
                utilization: Some(used[at].unwrap_or(0) as f64),
                ..Gpu::default()
            };
            Sample { gpu: vec![gpu(0), gpu(1)], ..sample(seconds) }
        };
        let samples = || [with(0, [Some(10), None]), with(5, [Some(30), Some(7)])];
        for (how, used) in [(How::Average, [20, 7]), (How::Least, [10, 7]), (How::Sum, [40, 7])] {
            let [one] = over(how, None, samples()).try_into().unwrap();
            let seen: Vec<_> = one.gpu.iter().map(|gpu| (gpu.index, gpu.memory_used)).collect();
            assert_eq!(seen, [(5, Some(used[0])), (6, Some(used[1]))], "{how:?}");
            assert_eq!(one.gpu[1].uuid, "GPU-1");
        }
        let [one] = over(How::Average, None, samples()).try_into().unwrap();
        assert_eq!((one.gpu[0].utilization, one.gpu[1].utilization), (Some(20.0), Some(3.5)));
    }

    #[test]
    fn a_sample_alone_is_what_it_was_and_nothing_folds_to_nothing() {
        for how in [How::Average, How::Least, How::Most, How::Sum] {
            let one = with(3, 7, Some(0.5));
            assert_eq!(over(how, None, [one.clone()]), [Sample { interval_s: 0, ..one }]);
            assert_eq!(over(how, Some(5), []), []);
        }
    }

    #[test]
    fn intervals_are_whole_multiples_of_their_length() {
        // 10:30:00 is one for 10 s.
        let folded = over(How::Most, Some(10), [0, 5, 9, 10, 31].map(sample));
        let times: Vec<i64> =
            folded.iter().map(|s| (s.time_ns - sample(0).time_ns) / 1_000_000_000).collect();
        assert_eq!(times, [9, 10, 31]);
        assert!(folded.iter().all(|s| s.interval_s == 10));
    }

    #[test]
    fn group_absent_in_all_samples_stays_absent_in_the_fold() {
        let [one] = over(How::Average, None, [bare(0), bare(5)]).try_into().unwrap();
        assert_eq!((one.memory, one.io, one.network, one.process), (None, None, None, None));
    }

    proptest! {
        #[test]
        fn folds_agree_with_the_plain_ones(values in prop::collection::vec(any::<u32>(), 1..20)) {
            let fold = |how| {
                let samples = values.iter().enumerate().map(|(n, v)| with(n as u32, u64::from(*v), None));
                over(how, None, samples).remove(0).cpu.unwrap().usage_usec
            };
            let sum: u64 = values.iter().map(|v| u64::from(*v)).sum();
            prop_assert_eq!(fold(How::Sum), sum);
            prop_assert_eq!(fold(How::Least), u64::from(*values.iter().min().unwrap()));
            prop_assert_eq!(fold(How::Most), u64::from(*values.iter().max().unwrap()));
            prop_assert_eq!(fold(How::Average), (sum + values.len() as u64 / 2) / values.len() as u64);
        }
    }
}
