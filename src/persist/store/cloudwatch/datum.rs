//! The nine metrics of a job: from lines of samples to one statistic set a minute.
//!
//! CloudWatch keeps one value a minute for metrics of standard resolution. A set of minimum, maximum, sum and count a
//! minute says there what all samples of the minute would say, and costs one datum instead of twelve. All nine are always
//! sent, so that an idle job shows zeros and not missing data; a number that a sample lacks is sent as zero. Disk and
//! network count from the job's start.

use serde::Deserialize;

/// Seconds of one period, the resolution of standard metrics.
pub(super) const PERIOD_S: i64 = 60;

/// The name and the unit of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The name in the namespace.
    pub name: &'static str,
    /// The unit, a word of the CloudWatch API.
    pub unit: &'static str,
}

/// All metrics of a job. `CPUUsage` is in cores.
pub const METRICS: [Metric; 9] = [
    Metric { name: "CPUUsage", unit: "None" },
    Metric { name: "MemoryUsage", unit: "Megabytes" },
    Metric { name: "GPUUsage", unit: "Percent" },
    Metric { name: "DiskReadBytes", unit: "Bytes" },
    Metric { name: "DiskWriteBytes", unit: "Bytes" },
    Metric { name: "DiskReadOps", unit: "Count" },
    Metric { name: "DiskWriteOps", unit: "Count" },
    Metric { name: "NetworkRxBytes", unit: "Kilobytes" },
    Metric { name: "NetworkTxBytes", unit: "Kilobytes" },
];

/// The values of one metric in one period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// The least value.
    pub minimum: f64,
    /// The greatest value.
    pub maximum: f64,
    /// All values together.
    pub sum: f64,
    /// The number of values.
    pub count: f64,
}

impl Statistics {
    const EMPTY: Statistics =
        Statistics { minimum: f64::INFINITY, maximum: f64::NEG_INFINITY, sum: 0.0, count: 0.0 };

    fn add(&mut self, value: f64) {
        self.minimum = self.minimum.min(value);
        self.maximum = self.maximum.max(value);
        self.sum += value;
        self.count += 1.0;
    }

    /// The mean of the values.
    pub fn average(&self) -> f64 {
        if self.count > 0.0 { self.sum / self.count } else { 0.0 }
    }
}

/// All metrics of one minute.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Minute {
    /// Its beginning, s since the epoch.
    pub(super) start_s: i64,
    /// The values, in the order of [`METRICS`].
    pub(super) values: [Statistics; METRICS.len()],
    /// The number of its last sample.
    pub(super) through: u64,
    /// The number of its samples.
    pub(super) samples: u64,
}

/// The result of [`minutes`].
#[derive(Debug, Default, PartialEq)]
pub(super) struct Folded {
    /// Complete minutes, oldest first.
    pub(super) minutes: Vec<Minute>,
    /// The number of the last sample that is in one of them, or is no sample; 0: none.
    pub(super) through: u64,
    /// Lines that are no samples.
    pub(super) unreadable: u64,
}

#[derive(Deserialize)]
struct Line {
    timestamp: i64,
    cpu: Option<Cpu>,
    memory: Option<Memory>,
    io: Option<Io>,
    network: Option<Network>,
    #[serde(default)]
    gpu: Vec<Gpu>,
}

#[derive(Deserialize)]
struct Gpu {
    utilization: Option<f64>,
}

#[derive(Deserialize)]
struct Cpu {
    usage_percent: Option<f64>,
}

#[derive(Deserialize)]
struct Memory {
    current: f64,
}

#[derive(Deserialize)]
struct Io {
    rbytes: f64,
    wbytes: f64,
    rios: f64,
    wios: f64,
}

#[derive(Deserialize)]
struct Network {
    rx_bytes: f64,
    tx_bytes: f64,
}

const KIB: f64 = 1024.0;

impl Line {
    fn values(&self) -> [f64; METRICS.len()] {
        let cores = self.cpu.as_ref().and_then(|cpu| cpu.usage_percent).unwrap_or(0.0) / 100.0;
        let memory = self.memory.as_ref().map_or(0.0, |memory| memory.current / (KIB * KIB));
        let io = self.io.as_ref().map_or([0.0; 4], |io| [io.rbytes, io.wbytes, io.rios, io.wios]);
        let network = self.network.as_ref().map_or([0.0; 2], |n| [n.rx_bytes / KIB, n.tx_bytes / KIB]);
        let gpus: Vec<f64> = self.gpu.iter().filter_map(|gpu| gpu.utilization).collect();
        let gpu = if gpus.is_empty() { 0.0 } else { gpus.iter().sum::<f64>() / gpus.len() as f64 };
        let all = [cores, memory, gpu, io[0], io[1], io[2], io[3], network[0], network[1]];
        // CloudWatch refuses what is not finite, and what is beyond 2^360.
        all.map(|value| if value.is_finite() { value.clamp(-1e108, 1e108) } else { 0.0 })
    }
}

/// Folds sample lines, the first of which has the number `first`, into minutes. The last minute is complete when
/// `ended` or when a sample of another minute follows.
pub(super) fn minutes(first: u64, lines: &[&[u8]], ended: bool) -> Folded {
    let mut folded = Folded::default();
    let mut open: Option<Minute> = None;
    for (number, line) in (first..).zip(lines) {
        let Ok(line) = serde_json::from_slice::<Line>(line) else {
            folded.unreadable += 1;
            match &mut open {
                Some(minute) => minute.through = number,
                None => folded.through = number,
            }
            continue;
        };
        let start_s = line.timestamp.div_euclid(1_000_000_000).div_euclid(PERIOD_S) * PERIOD_S;
        if let Some(minute) = open.take_if(|minute| minute.start_s != start_s) {
            folded.close(minute);
        }
        let values = [Statistics::EMPTY; METRICS.len()];
        let minute = open.get_or_insert(Minute { start_s, values, through: 0, samples: 0 });
        for (statistics, value) in minute.values.iter_mut().zip(line.values()) {
            statistics.add(value);
        }
        minute.through = number;
        minute.samples += 1;
    }
    if let Some(minute) = open.filter(|_| ended) {
        folded.close(minute);
    }
    folded
}

impl Folded {
    fn close(&mut self, minute: Minute) {
        self.through = minute.through;
        self.minutes.push(minute);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(second: i64, percent: f64) -> String {
        let time = (1_800_000_000 + second) * 1_000_000_000;
        format!(
            r#"{{"version":1,"timestamp":{time},"cpu":{{"usage_usec":1,"usage_percent":{percent}}},"memory":{{"current":3145728}},"io":{{"rbytes":4096,"wbytes":1,"rios":2,"wios":3,"devices":{{}}}},"network":{{"rx_bytes":2048,"tx_bytes":1024,"interfaces":{{}}}}}}"#
        )
    }

    fn fold(first: u64, lines: &[String], ended: bool) -> Folded {
        let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
        minutes(first, &lines, ended)
    }

    #[test]
    fn a_minute_is_complete_when_the_next_begins_or_the_job_ends() {
        let lines = [line(0, 50.0), line(5, 150.0), line(60, 10.0)];
        let folded = fold(1, &lines, false);
        assert_eq!((folded.minutes.len(), folded.through), (1, 2));
        let cpu = folded.minutes[0].values[0];
        assert_eq!((cpu.minimum, cpu.maximum, cpu.sum, cpu.count), (0.5, 1.5, 2.0, 2.0));
        assert_eq!(cpu.average(), 1.0);
        let ended = fold(1, &lines, true);
        assert_eq!((ended.minutes.len(), ended.through), (2, 3));
        assert_eq!(fold(3, &lines[2..], false).minutes, []);
    }

    #[test]
    fn values_have_the_documented_units() {
        let folded = fold(1, &[line(0, 45.0)], true);
        let sums = folded.minutes[0].values.map(|values| values.sum);
        assert_eq!(sums, [0.45, 3.0, 0.0, 4096.0, 1.0, 2.0, 3.0, 2.0, 1.0]);
        let bare = [r#"{"timestamp":1800000000000000000}"#.to_owned()];
        assert_eq!(fold(1, &bare, true).minutes[0].values.map(|values| values.sum), [0.0; 9]);
    }

    #[test]
    fn lines_that_are_no_samples_are_counted_and_passed() {
        let lines = ["{".to_owned(), line(0, 1.0), "x".to_owned(), line(61, 1.0)];
        let folded = fold(11, &lines, false);
        assert_eq!((folded.unreadable, folded.through, folded.minutes.len()), (2, 13, 1));
        assert_eq!(fold(1, &lines[..1], false).through, 1);
    }

    proptest! {
        #[test]
        fn every_sample_is_counted_once_however_lines_are_cut(
            gaps in proptest::collection::vec(0..90_i64, 1..60),
            cuts in proptest::collection::vec(1..9_usize, 1..60),
        ) {
            let mut second = 0;
            let lines: Vec<_> = gaps.iter().map(|gap| { second += gap; line(second, 1.0) }).collect();
            let (mut done, mut seen, mut counted) = (0, 0, 0);
            for cut in cuts.iter().chain([&lines.len()]) {
                seen = (seen + cut).min(lines.len());
                let ended = seen == lines.len();
                let folded = fold(done as u64 + 1, &lines[done..seen], ended);
                counted += folded.minutes.iter().map(|minute| minute.samples).sum::<u64>();
                done = done.max(folded.through as usize);
            }
            prop_assert_eq!((done, counted as usize), (lines.len(), lines.len()));
        }
    }
}
