//! Searching history for the clients of PersistService, and samples as messages.

use std::path::PathBuf;

use grpcio::{RpcStatus, RpcStatusCode};
use protobuf::{EnumOrUnknown, Message, MessageField};

pub use super::sample_message::{event, message};
use super::store::LocalStore;
use crate::diag;
use crate::job::JobId;
use crate::metrics::{Fold, How, Sample};
use crate::output::lines::Needle;
use crate::output::{JobHistory, LogCursor, LogQuery, OutputReader, Stream};
use crate::pb::persist::{
    DiskIO, LogLine, Metric, MetricData, NetworkIO, QueryLogsRequest, QueryMetricsRequest, StreamType,
};
use crate::stream::Next;

/// The range that a query asks for.
struct Range {
    job: JobId,
    since_ns: Option<i64>,
    until_ns: Option<i64>,
    offset: u64,
    limit: u64,
}

impl Range {
    fn of(job: &str, start: i64, end: i64, limit: i32, offset: i32) -> Result<Range, RpcStatus> {
        let job = JobId::parse(job).ok_or_else(|| invalid(&format!("{job:?} is no job id")))?;
        if limit < 0 || offset < 0 || start < 0 || end < 0 {
            return Err(invalid("limit, offset and times must not be negative"));
        }
        let (since_ns, until_ns) = (nanoseconds(start), nanoseconds(end));
        if let (Some(since), Some(until)) = (since_ns, until_ns)
            && since > until
        {
            return Err(invalid("start_time is behind end_time"));
        }
        let limit = if limit == 0 { u64::MAX } else { limit.unsigned_abs().into() };
        Ok(Range { job, since_ns, until_ns, offset: offset.unsigned_abs().into(), limit })
    }

    fn has(&self, time_ns: i64) -> bool {
        self.since_ns.is_none_or(|since| time_ns >= since)
            && self.until_ns.is_none_or(|until| time_ns <= until)
    }

    /// Counts one match: whether it is wanted, and whether more may be.
    fn count(&mut self) -> (bool, bool) {
        if self.offset > 0 {
            self.offset -= 1;
            return (false, true);
        }
        self.limit -= 1;
        (true, self.limit > 0)
    }
}

/// A time of a query: nanoseconds, or milliseconds below 10^15, or seconds below 10^12; 0 is none.
pub(super) fn nanoseconds(time: i64) -> Option<i64> {
    match time {
        0 => None,
        seconds if seconds < 1_000_000_000_000 => Some(seconds.saturating_mul(1_000_000_000)),
        milliseconds if milliseconds < 1_000_000_000_000_000 => Some(milliseconds.saturating_mul(1_000_000)),
        nanoseconds => Some(nanoseconds),
    }
}

fn invalid(why: &str) -> RpcStatus {
    RpcStatus::with_message(RpcStatusCode::INVALID_ARGUMENT, why.to_owned())
}

fn missing(job: JobId) -> RpcStatus {
    RpcStatus::with_message(RpcStatusCode::NOT_FOUND, format!("no history of job {job}"))
}

fn unreadable(job: JobId, why: &dyn std::fmt::Display) -> RpcStatus {
    diag::limited!(log::Level::Error, "cannot read history", jobId = job, error = why);
    RpcStatus::with_message(RpcStatusCode::INTERNAL, format!("cannot read history: {why}"))
}

/// Sends the lines of a job that a query wants, until `send` refuses one.
///
/// # Errors
/// The query is wrong, there is no such job, or its files cannot be read.
pub(super) fn logs(
    store: &LocalStore,
    query: &QueryLogsRequest,
    send: &mut dyn FnMut(LogLine) -> bool,
) -> Result<(), RpcStatus> {
    let mut range = Range::of(&query.job_id, query.start_time, query.end_time, query.limit, query.offset)?;
    let job = range.job;
    if store.history(job).map_err(|why| unreadable(job, &why))?.is_none() {
        return Err(missing(job));
    }
    let stream = match query.stream.enum_value_or_default() {
        StreamType::STREAM_TYPE_STDOUT => Some(Stream::Stdout),
        StreamType::STREAM_TYPE_STDERR => Some(Stream::Stderr),
        StreamType::STREAM_TYPE_UNSPECIFIED => None,
    };
    let filter = (!query.filter.is_empty()).then(|| Needle::new(query.filter.as_bytes()));
    let is_filtered = filter.is_some();
    let wanted = LogQuery {
        stream,
        filter,
        since_ns: range.since_ns,
        until_ns: range.until_ns,
        no_follow: true,
        ..LogQuery::default()
    };
    let history = JobHistory { id: job, open: store.open_history() };
    // History alone: this process cannot see the daemon's directories.
    let nowhere = PathBuf::new();
    let failed = |why| unreadable(job, &why);
    let rows = OutputReader::rows_stored(&nowhere, Some(&history)).map_err(failed)?;
    let mut cursor = LogCursor::new(nowhere, Some(history), wanted);
    loop {
        let chunk = match cursor.next(rows, true, i64::MAX).map_err(failed)? {
            Next::Item(chunk) => chunk,
            Next::Yield => continue,
            Next::Pending | Next::End => return Ok(()),
        };
        let pieces: Vec<&[u8]> = match is_filtered {
            true => chunk.bytes.split_inclusive(|byte| *byte == b'\n').collect(),
            false => vec![&chunk.bytes],
        };
        for content in pieces {
            let (is_wanted, more) = range.count();
            let line = LogLine {
                job_id: job.to_string(),
                stream: EnumOrUnknown::from_i32(i32::from(chunk.stream.number())),
                timestamp: chunk.time_ns,
                sequence: chunk.sequence,
                content: content.to_vec(),
                ..Default::default()
            };
            if is_wanted && !send(line) || !more {
                return Ok(());
            }
        }
    }
}

/// Sends the samples of a job that a query wants, until `send` refuses one.
///
/// # Errors
/// The query is wrong, there is no such job, or its files cannot be read.
pub(super) fn metrics(
    store: &LocalStore,
    query: &QueryMetricsRequest,
    send: &mut dyn FnMut(Metric) -> bool,
) -> Result<(), RpcStatus> {
    let mut range = Range::of(&query.job_id, query.start_time, query.end_time, query.limit, query.offset)?;
    let job = range.job;
    if !["", "cpu", "memory", "io", "gpu"].contains(&query.metric_type.as_str()) {
        return Err(invalid("metric_type is cpu, memory, io or gpu"));
    }
    let how = match query.aggregation.as_str() {
        "" => None,
        "avg" => Some(How::Average),
        "min" => Some(How::Least),
        "max" => Some(How::Most),
        "sum" => Some(How::Sum),
        _ => return Err(invalid("aggregation is avg, min, max or sum")),
    };
    let interval = u32::try_from(query.interval_s).map_err(|_| invalid("interval_s must not be negative"))?;
    let mut fold = how.map(|how| Fold::new(how, (interval > 0).then_some(interval)));
    let failed = |why: super::store::StoreError| unreadable(job, &why);
    let mut history = store.history(job).map_err(failed)?.ok_or_else(|| missing(job))?;
    let mut next = 1;
    loop {
        let found = history.sample(next).map_err(failed)?;
        let is_last = found.is_none();
        let ready = match found {
            None => fold.take().and_then(|mut fold| fold.finish()),
            Some((number, line)) => {
                next = number + 1;
                let sample = serde_json::from_slice::<Sample>(&line).ok();
                let sample = sample.filter(|sample| range.has(sample.time_ns));
                match &mut fold {
                    Some(fold) => sample.and_then(|sample| fold.push(sample)),
                    None => sample,
                }
            }
        };
        if let Some(sample) = ready {
            let (is_wanted, more) = range.count();
            let metric = metric(job, next.saturating_sub(1), &sample, &query.metric_type);
            if is_wanted && !send(metric) || !more {
                return Ok(());
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

/// A sample as the contract of history has it.
fn metric(job: JobId, sequence: u64, sample: &Sample, kind: &str) -> Metric {
    let mut metric = Metric {
        job_id: job.to_string(),
        timestamp: sample.time_ns,
        sequence,
        metric_type: kind.to_owned(),
        ..Default::default()
    };
    if kind.is_empty() {
        metric.data = MessageField::some(data(sample));
        metric.sample = message(job, sample).write_to_bytes().unwrap_or_default();
    } else {
        let values =
            values(sample, kind).into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        metric.values = values.collect();
    }
    metric
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn data(sample: &Sample) -> MetricData {
    let disk = sample.io.as_ref().map(|io| io.total);
    let network = sample.network.as_ref().map(|network| network.total);
    MetricData {
        cpu_usage: sample.cpu.as_ref().and_then(|cpu| cpu.usage_percent).unwrap_or_default() / 100.0,
        memory_usage: sample.memory.as_ref().map(|memory| signed(memory.current)).unwrap_or_default(),
        disk_io: MessageField::from_option(disk.map(|total| DiskIO {
            read_bytes: signed(total.read_bytes),
            write_bytes: signed(total.write_bytes),
            read_ops: signed(total.read_ops),
            write_ops: signed(total.write_ops),
            ..Default::default()
        })),
        network_io: MessageField::from_option(network.map(|total| NetworkIO {
            rx_bytes: signed(total.rx_bytes),
            tx_bytes: signed(total.tx_bytes),
            rx_packets: signed(total.rx_packets),
            tx_packets: signed(total.tx_packets),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// The numbers of one group, under the names of the documentation; absent where they were not measured.
fn values(sample: &Sample, kind: &str) -> Vec<(&'static str, Option<f64>)> {
    let seconds = |usec: u64| usec as f64 / 1e6;
    let (cpu, memory) = (sample.cpu.as_ref(), sample.memory.as_ref());
    let io = sample.io.as_ref().map(|io| io.total);
    match kind {
        "cpu" => vec![
            ("cpu_user", cpu.map(|cpu| seconds(cpu.user_usec))),
            ("cpu_system", cpu.map(|cpu| seconds(cpu.system_usec))),
            ("cpu_total", cpu.map(|cpu| seconds(cpu.usage_usec))),
            ("cpu_percent", cpu.and_then(|cpu| cpu.usage_percent)),
        ],
        "memory" => vec![
            ("memory_rss", memory.map(|memory| memory.current as f64)),
            ("memory_percent", memory.and_then(|memory| memory.usage_percent)),
        ],
        "io" => vec![
            ("io_read_bytes", io.map(|io| io.read_bytes as f64)),
            ("io_write_bytes", io.map(|io| io.write_bytes as f64)),
            ("io_read_ops", io.map(|io| io.read_ops as f64)),
            ("io_write_ops", io.map(|io| io.write_ops as f64)),
        ],
        "gpu" => vec![
            ("gpu_utilization", super::sample_message::event_gpus(sample).0),
            ("gpu_memory_used", super::sample_message::event_gpus(sample).1.map(|bytes| bytes as f64)),
            ("gpu_temperature", sample.gpu.iter().filter_map(|gpu| gpu.temperature).reduce(f64::max)),
        ],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_seconds_milliseconds_and_nanoseconds() {
        let ns = Some(1_700_000_000_000_000_000);
        assert_eq!([1_700_000_000, 1_700_000_000_000, 1_700_000_000_000_000_000].map(nanoseconds), [ns; 3]);
        assert_eq!(nanoseconds(0), None);
    }

    #[test]
    fn range_counts_matches_behind_its_offset() {
        let id = JobId::random().to_string();
        let mut range = Range::of(&id, 0, 0, 2, 1).unwrap();
        assert_eq!([(); 3].map(|()| range.count()), [(false, true), (true, true), (true, false)]);
        for (limit, offset, start, end) in [(-1, 0, 0, 0), (0, -1, 0, 0), (0, 0, 2, 1)] {
            assert!(Range::of(&id, start, end, limit, offset).is_err());
        }
        assert!(Range::of("../x", 0, 0, 0, 0).is_err());
    }
}
