//! Samples of a job into CloudWatch metrics, and back as statistics.

use std::collections::BTreeMap;

use rusoto_cloudwatch::{Datapoint, MetricDatum, StatisticSet};

use crate::diag::{Level, limited};
use crate::job::JobId;

use super::backoff::Stop;
use super::call::{self, TimeRange};
use super::cursor::Accepted;
use super::datum::{self, METRICS, Minute, PERIOD_S, Statistics};
use super::error::{CloudError, Kind};
use super::job::CloudJob;
use super::remote::{Attempts, Remote};
use super::stamp::{DAY_MS, Window};

/// Most points of one answer of GetMetricStatistics.
const POINTS: i64 = 1_440;
/// Most bytes of a request with data; AWS takes 1 MB.
const REQUEST: usize = 900_000;
/// The longest range that one read may cover: what CloudWatch keeps, 455 days.
const KEPT_DAYS: i64 = 455;

/// All nine metrics of a job in one period.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricPoint {
    /// The beginning of the period, s since the epoch.
    pub time_s: i64,
    /// Seconds of the period.
    pub period_s: i64,
    /// The values in the order of [`METRICS`]; `None`: CloudWatch has none.
    pub values: [Option<Statistics>; METRICS.len()],
}

impl CloudJob {
    /// Sends lines of samples, the first of which has the number `first` (from 1), and returns how many samples from the
    /// job's first one on are accepted. The last minute stays with the caller, who gives its lines again with the next
    /// ones, until `ended`.
    ///
    /// # Errors
    /// As for [`CloudJob::put`].
    pub fn put_samples(
        &mut self,
        first: u64,
        lines: &[&[u8]],
        ended: bool,
        stop: &Stop,
    ) -> Result<u64, CloudError> {
        let done = self.accepted().samples;
        let known = usize::try_from((done + 1).saturating_sub(first)).unwrap_or(usize::MAX).min(lines.len());
        let (first, lines) = (first + known as u64, lines.get(known..).unwrap_or_default());
        let folded = datum::minutes(first, lines, ended);
        self.remote.aws.counters.lost_samples.add(folded.unreadable);
        let size = self.remote.data_of_a_request(&self.id.to_string());
        for minutes in folded.minutes.chunks((size / METRICS.len()).max(1)) {
            self.put_minutes(minutes, size, stop)?;
            let through = minutes.last().map_or(done, |minute| minute.through);
            self.note_samples(through)?;
        }
        self.note_samples(folded.through)?;
        Ok(self.accepted().samples)
    }

    fn note_samples(&mut self, samples: u64) -> Result<(), CloudError> {
        let accepted = self.accepted();
        self.cursor.save(Accepted { samples: samples.max(accepted.samples), ..accepted })
    }

    fn put_minutes(&mut self, minutes: &[Minute], size: usize, stop: &Stop) -> Result<(), CloudError> {
        let job = self.id.to_string();
        let remote = self.remote.clone();
        let (window, counters) = (remote.window_of_metrics(), &remote.aws.counters);
        let mut data = Vec::new();
        for minute in minutes {
            if window.is_past(minute.start_s.saturating_mul(1000)) {
                counters.lost_samples.add(minute.samples);
                continue;
            }
            let time = call::rfc3339(minute.start_s.min(window.now_ms / 1000));
            data.extend(remote.data(&job, minute, &time));
        }
        for part in data.chunks(size) {
            let action = format!("store metrics of job {job}");
            let put = || remote.aws.put_data(stop, &remote.config.metric_namespace, part.to_vec());
            let mut attempts = Attempts::patient(self.failures);
            let stored = remote.insist(&action, &mut attempts, stop, put);
            self.failures = attempts.failures;
            match stored {
                Err(CloudError::Request { failure, .. }) if failure.kind == Kind::Invalid => {
                    counters.lost_samples.add(part.len().div_ceil(METRICS.len()) as u64);
                    limited!(Level::Error, "CloudWatch refuses metrics", job = job, reason = failure);
                }
                other => {
                    other?;
                    counters.data.add(part.len() as u64);
                }
            }
        }
        Ok(())
    }
}

impl Remote {
    /// Metrics are kept for long: their window is that of an endless retention.
    fn window_of_metrics(&self) -> Window {
        Window::at(self.aws.now_ms(), None)
    }

    fn data(&self, job: &str, minute: &Minute, time: &str) -> impl Iterator<Item = MetricDatum> {
        let dimensions = call::dimensions(self.dimensions(job));
        METRICS.iter().zip(minute.values).map(move |(metric, values)| MetricDatum {
            dimensions: Some(dimensions.clone()),
            metric_name: metric.name.to_owned(),
            statistic_values: Some(StatisticSet {
                minimum: values.minimum,
                maximum: values.maximum,
                sum: values.sum,
                sample_count: values.count,
            }),
            storage_resolution: Some(PERIOD_S),
            timestamp: Some(time.to_owned()),
            unit: Some(metric.unit.to_owned()),
            ..Default::default()
        })
    }

    /// Most data of one request: as configured, or fewer where many long dimensions make them large.
    fn data_of_a_request(&self, job: &str) -> usize {
        // Each letter of a name may be escaped as three in the request; each dimension has two keys around it.
        let pairs = self.dimensions(job).map(|(name, value)| 3 * (name.len() + value.len()) + 140);
        let one = pairs.sum::<usize>() + 800;
        let most = usize::try_from(self.config.metric_batch_size).unwrap_or(usize::MAX);
        most.min(REQUEST / one).max(1)
    }

    /// Reads all metrics of a job between two times, oldest first. The period grows with the age of the first point as
    /// CloudWatch keeps them: 60 s for 15 days, 300 s for 63, 3600 s for 455.
    pub(super) fn read_metrics(
        &self,
        job: JobId,
        from_s: i64,
        to_s: i64,
        stop: &Stop,
    ) -> Result<Vec<MetricPoint>, CloudError> {
        let job = job.to_string();
        let mut points = BTreeMap::new();
        for span in spans(from_s, to_s, self.aws.now_ms() / 1000) {
            for (place, metric) in METRICS.iter().enumerate() {
                let action = format!("read the metric {} of job {job}", metric.name);
                let read = || {
                    let dimensions = call::dimensions(self.dimensions(&job));
                    self.aws.get_statistics(
                        stop,
                        &self.config.metric_namespace,
                        metric.name,
                        dimensions,
                        &span,
                    )
                };
                let found = self.insist(&action, &mut Attempts::few(), stop, read)?;
                for (time_s, values) in found.iter().filter_map(statistics) {
                    let fresh =
                        || MetricPoint { time_s, period_s: span.period_s, values: [None; METRICS.len()] };
                    points.entry(time_s).or_insert_with(fresh).values[place] = Some(values);
                }
            }
        }
        Ok(points.into_values().collect())
    }
}

fn statistics(point: &Datapoint) -> Option<(i64, Statistics)> {
    let time: jiff::Timestamp = point.timestamp.as_deref()?.parse().ok()?;
    let values = Statistics {
        minimum: point.minimum?,
        maximum: point.maximum?,
        sum: point.sum?,
        count: point.sample_count?,
    };
    Some((time.as_second(), values))
}

/// The requests that cover a range: at most [`POINTS`] points each, of a period that still exists.
fn spans(from_s: i64, to_s: i64, now_s: i64) -> Vec<TimeRange> {
    let day = DAY_MS / 1000;
    let from_s = from_s.max(now_s - KEPT_DAYS * day);
    let to_s = to_s.min(now_s + day);
    let period_s = match now_s - from_s {
        age if age <= 15 * day => PERIOD_S,
        age if age <= 63 * day => 300,
        _ => 3600,
    };
    let mut spans = Vec::new();
    let mut at = from_s.div_euclid(period_s) * period_s;
    while at < to_s {
        let end = (at + POINTS * period_s).min(to_s);
        spans.push(TimeRange { from_s: at, to_s: end, period_s });
        at = end;
    }
    spans
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_800_000_000;
    const DAY: i64 = 86_400;

    #[test]
    fn a_range_is_read_in_windows_of_a_period_that_exists() {
        let day = spans(NOW - DAY, NOW, NOW);
        assert_eq!((day.len(), day[0].period_s), (1, 60));
        assert_eq!(spans(NOW - 3 * DAY, NOW, NOW).len(), 3);
        assert_eq!(spans(NOW - 20 * DAY, NOW, NOW)[0].period_s, 300);
        let all = spans(0, i64::MAX, NOW);
        assert_eq!((all[0].period_s, all.len()), (3600, 8));
        assert!(spans(NOW, NOW, NOW).is_empty());
    }

    proptest! {
        #[test]
        fn windows_join_and_keep_the_bound_of_points(from in -600 * DAY..2 * DAY, length in 0..700 * DAY) {
            let (from, to) = (NOW + from, NOW + from + length);
            let spans = spans(from, to, NOW);
            for pair in spans.windows(2) {
                prop_assert_eq!(pair[0].to_s, pair[1].from_s);
            }
            for span in &spans {
                prop_assert!(span.from_s < span.to_s && (span.to_s - span.from_s) <= 1440 * span.period_s);
                prop_assert_eq!(span.from_s % span.period_s, 0);
            }
            prop_assert!(spans.len() <= 25);
        }
    }
}
