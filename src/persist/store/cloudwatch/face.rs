//! CloudWatch as the history process has it: a store beyond this host.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::config::daemon::DaemonConfig;
use crate::diag::{Level, event, limited};
use crate::job::JobId;
use crate::persist::remote::{RemoteFigures, RemoteJob, RemoteRow, RemoteStore};
use crate::persist::store::{Kind, LocalStore, Packer};

use super::{CloudJob, CloudRow, CloudStore, Environment, MetricPoint, Statistics, Stop};

/// The level of compression of a copy.
const LEVEL: u32 = 1;
const SECOND_NS: i64 = 1_000_000_000;

/// The store with the flag that ends its calls.
#[derive(Debug)]
struct Remote {
    store: CloudStore,
    stop: Stop,
}

/// Opens CloudWatch for the history process.
///
/// # Errors
/// The client cannot be made, in words.
pub fn open_remote(config: &DaemonConfig) -> Result<Arc<dyn RemoteStore>, String> {
    let storage = &config.persist.storage;
    let environment = Environment::of_process();
    let opened =
        CloudStore::open(storage.cloudwatch.clone(), &config.server.node_id, &storage.base_dir, &environment);
    let store = opened.map_err(|why| why.to_string())?;
    // Without any, output waits until there are some.
    match store.credentials() {
        Ok(source) => event!(Level::Info, "found credentials for CloudWatch", source = source),
        Err(why) => {
            limited!(Level::Error, "no credentials for CloudWatch; output waits in spools", reason = why)
        }
    }
    Ok(Arc::new(Remote { store, stop: Stop::new() }))
}

fn words(why: impl std::fmt::Display) -> String {
    why.to_string()
}

impl RemoteStore for Remote {
    fn job(&self, id: JobId) -> Result<Box<dyn RemoteJob>, String> {
        let job = self.store.job(id).map_err(words)?;
        Ok(Box::new(Way { job, stop: self.stop.clone() }))
    }

    fn delete(&self, id: JobId) -> Result<(), String> {
        self.store.delete(id, &self.stop).map_err(words)
    }

    fn fetch(&self, id: JobId, local: &LocalStore, (from_ns, to_ns): (i64, i64)) -> Result<bool, String> {
        let found = self.store.fetch_into(id, local, &self.stop).map_err(words)?;
        // The first minute begins before the job.
        let (from_s, to_s) = (from_ns / SECOND_NS - 60, to_ns / SECOND_NS + 60);
        let points = self.store.metrics(id, from_s, to_s, &self.stop).map_err(words)?;
        let mut files = local.job(id).map_err(words)?;
        let (resume, mut packer) = (files.resume(), Packer::new());
        let known = usize::try_from(resume.sequence(Kind::Samples)).unwrap_or(usize::MAX);
        let mut used_usec = 0.0;
        for (n, point) in points.iter().enumerate() {
            let line = sample(point, &mut used_usec).to_string();
            if n >= known {
                files.stage_sample(n as u64 + 1, line.as_bytes(), &mut packer, LEVEL).map_err(words)?;
            }
        }
        files.commit(resume.through, &mut packer, LEVEL).map_err(words)?;
        Ok(found.rows > 0 || !points.is_empty())
    }

    fn expire(&self, is_known: &dyn Fn(JobId) -> bool) -> Result<(), String> {
        self.store.expire_step(is_known).map(drop).map_err(words)
    }

    fn stop(&self) {
        self.stop.set();
    }

    fn figures(&self) -> RemoteFigures {
        self.store.figures()
    }
}

/// The way of one job.
#[derive(Debug)]
struct Way {
    job: CloudJob,
    stop: Stop,
}

impl RemoteJob for Way {
    fn accepted(&self) -> (u64, u64) {
        let accepted = self.job.accepted();
        (accepted.through, accepted.samples)
    }

    fn put(&mut self, rows: &[RemoteRow]) -> Result<(), String> {
        let rows: Vec<CloudRow<'_>> = rows.iter().map(|(row, bytes)| CloudRow { row: *row, bytes }).collect();
        self.job.put(&rows, &self.stop).map(drop).map_err(words)
    }

    fn put_samples(&mut self, first: u64, lines: &[Vec<u8>], is_last: bool) -> Result<(), String> {
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        self.job.put_samples(first, &lines, is_last, &self.stop).map(drop).map_err(words)
    }
}

/// The line of a sample that says what CloudWatch knows of one period: the average of the processor and of memory, and
/// the greatest of what counts from the job's start. `used_usec` is the time of the processor so far.
fn sample(point: &MetricPoint, used_usec: &mut f64) -> Value {
    let average = |n: usize| point.values[n].as_ref().map_or(0.0, Statistics::average);
    let count =
        |n: usize, unit: f64| point.values[n].as_ref().map_or(0, |values| whole(values.maximum * unit));
    *used_usec += average(0) * point.period_s as f64 * 1e6;
    let used = whole(*used_usec);
    let traffic = json!({
        "rbytes": count(3, 1.0), "wbytes": count(4, 1.0), "rios": count(5, 1.0), "wios": count(6, 1.0),
        "dbytes": 0, "dios": 0,
    });
    let network = json!({
        "interfaces": {}, "rx_bytes": count(7, 1024.0), "tx_bytes": count(8, 1024.0), "rx_packets": 0,
        "tx_packets": 0, "rx_errors": 0, "tx_errors": 0, "rx_dropped": 0, "tx_dropped": 0,
    });
    json!({
        "version": 1,
        "timestamp": point.time_s.saturating_mul(SECOND_NS),
        "uptime": point.time_s.saturating_mul(SECOND_NS).max(0),
        "sample_interval": point.period_s,
        "cpu": {"usage_usec": used, "user_usec": used, "system_usec": 0, "usage_percent": average(0) * 100.0},
        "memory": {"current": whole(average(1) * 1_048_576.0)},
        "io": traffic,
        "network": network,
        "cgroup_path": "",
        "limits": {},
    })
}

/// A number of the wire as a count.
fn whole(number: f64) -> u64 {
    // The cast saturates.
    number.round().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::super::METRICS;
    use super::*;

    #[test]
    fn period_becomes_a_sample_that_every_reader_takes() {
        let values = |value| Some(Statistics { minimum: value, maximum: value, sum: value, count: 1.0 });
        let mut point = MetricPoint { time_s: 600, period_s: 60, values: [values(2.0); METRICS.len()] };
        point.values[8] = None;
        let mut used = 0.0;
        let line = sample(&point, &mut used).to_string();
        let read: joblet::metrics::Sample = serde_json::from_str(&line).unwrap();
        assert_eq!((read.time_ns, read.interval_s), (600 * SECOND_NS, 60));
        let cpu = read.cpu.unwrap();
        assert_eq!((cpu.usage_percent, cpu.usage_usec), (Some(200.0), 120_000_000));
        assert_eq!(read.memory.unwrap().current, 2 << 20);
        let network = read.network.unwrap().total;
        assert_eq!((network.rx_bytes, network.tx_bytes), (2048, 0));
        assert_eq!(read.io.unwrap().total.write_ops, 2);
    }
}
