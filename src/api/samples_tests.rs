use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::metrics::series::{FILE, Series};
use crate::metrics::{How, JobSamples, OpenSamples, Sample, SampleHistory, SeriesReader};
use crate::stream::{Next, Source, Watermark};

type Messages = JobSource<SampleStream, JobMetricsSample>;

/// The two golden samples: one with everything, five seconds later one of a host without controllers.
fn golden() -> Vec<Sample> {
    let dir = Path::new("tests/golden/metrics-1");
    let mut reader = SeriesReader::open(dir).unwrap().unwrap();
    std::iter::from_fn(|| reader.next(u64::MAX).unwrap()).collect()
}

struct Job {
    source: SampleSource,
    series: Series,
    _dir: tempfile::TempDir,
}

impl Job {
    fn new() -> Job {
        let dir = tempfile::tempdir().unwrap();
        let watermark = Watermark::new();
        let source = SampleSource {
            id: JobId::random(),
            dir: dir.path().to_owned(),
            history: None,
            is_known: true,
            watermark,
        };
        Job { source, series: Series::open(dir.path()).unwrap().0, _dir: dir }
    }

    /// Adds a sample, so many seconds after the first golden one.
    fn add(&mut self, seconds: i64) {
        let mut sample = golden().remove(0);
        sample.time_ns += seconds * 1_000_000_000;
        sample.cpu.as_mut().unwrap().usage_usec = seconds.unsigned_abs();
        self.series.append(&sample).unwrap();
        self.source.watermark.publish(self.series.bytes());
    }

    fn stream(&self, query: SampleQuery) -> Messages {
        stream(self.source.clone(), query, at(1000))
    }
}

fn at(seconds: i64) -> i64 {
    golden()[0].time_ns + seconds * 1_000_000_000
}

/// Seconds and usage of each sample of the stream, and whether it has ended.
fn all(stream: &mut Messages) -> (Vec<(i64, u64)>, bool) {
    let mut found = Vec::new();
    loop {
        match stream.next().unwrap() {
            Next::Item(m) => found.push((m.timestamp - at(0) / 1_000_000_000, m.cpu.usageUsec)),
            Next::Yield => {}
            Next::Pending => return (found, false),
            Next::End => return (found, true),
        }
    }
}

#[test]
fn a_stream_has_the_stored_samples_then_what_comes_then_the_end() {
    let mut job = Job::new();
    let mut early = job.stream(SampleQuery::default());
    assert_eq!(all(&mut early), (vec![], false));
    job.add(0);
    job.add(5);
    assert_eq!(all(&mut early), (vec![(0, 0), (5, 5)], false));
    job.add(10);
    job.source.watermark.end();
    assert_eq!(all(&mut early), (vec![(10, 10)], true));
    assert_eq!(all(&mut job.stream(SampleQuery::default())).0.len(), 3);
}

#[test]
fn never_run_job_has_no_samples_and_earlier_daemons_job_has_all() {
    let job = Job::new();
    std::fs::remove_file(job.source.dir.join(FILE)).unwrap();
    job.source.watermark.end();
    assert_eq!(all(&mut job.stream(SampleQuery::default())), (vec![], true));
    let mut job = Job::new();
    job.add(1);
    job.source.watermark = Watermark::new();
    job.source.watermark.end();
    assert_eq!(all(&mut job.stream(SampleQuery::default())), (vec![(1, 1)], true));
}

/// Samples that another store keeps, the second of which is gone.
#[derive(Debug)]
struct Kept(Vec<Sample>);

impl SampleHistory for Kept {
    fn lines(&mut self) -> Result<u64, MetricsError> {
        Ok(self.0.len() as u64)
    }

    fn line(&mut self, number: u64) -> Result<Option<Vec<u8>>, MetricsError> {
        Ok((number != 2).then(|| serde_json::to_vec(&self.0[number as usize - 1]).unwrap()))
    }
}

/// The other store, which knows this job alone.
fn history(known: JobId, asked: JobId) -> Option<JobSamples> {
    let open: OpenSamples = Arc::new(move |id| {
        let samples = (0..4).map(|n| {
            let mut sample = golden().remove(0);
            sample.time_ns += n * 1_000_000_000;
            sample.cpu.as_mut().unwrap().usage_usec = n as u64;
            sample
        });
        let kept: Box<dyn SampleHistory> = Box::new(Kept(samples.collect()));
        Ok((id == known).then_some(kept))
    });
    Some(JobSamples { id: asked, open })
}

#[test]
fn complete_jobs_samples_come_from_the_history() {
    let mut job = Job::new();
    job.add(7);
    job.source.watermark.end();
    job.source.history = history(job.source.id, job.source.id);
    assert_eq!(all(&mut job.stream(SampleQuery::default())), (vec![(7, 7)], true), "the spool has them");
    std::fs::remove_file(job.source.dir.join(FILE)).unwrap();
    assert_eq!(all(&mut job.stream(SampleQuery::default())), (vec![(0, 0), (2, 2), (3, 3)], true));
    let range = SampleQuery { since_ns: at(1), limit: Some(1), ..SampleQuery::default() };
    assert_eq!(all(&mut job.stream(range)), (vec![(2, 2)], true));
}

#[test]
fn job_that_only_the_history_may_know_is_found_or_not_found() {
    let mut job = Job::new();
    std::fs::remove_file(job.source.dir.join(FILE)).unwrap();
    job.source.watermark.end();
    job.source.is_known = false;
    job.source.history = history(job.source.id, job.source.id);
    assert_eq!(all(&mut job.stream(SampleQuery::default())).0.len(), 3);
    job.source.history = history(JobId::random(), job.source.id);
    let refused = job.stream(SampleQuery::default()).next().unwrap_err();
    let text = format!("job not found: {}", job.source.id);
    assert_eq!((refused.code(), refused.message()), (RpcStatusCode::NOT_FOUND, text.as_str()));
}

#[test]
fn a_range_has_its_ends_and_waits_for_no_more_than_its_last() {
    let mut job = Job::new();
    for seconds in [0, 5, 10, 15] {
        job.add(seconds);
    }
    let range = SampleQuery { since_ns: at(5), until_ns: Some(at(10)), ..SampleQuery::default() };
    assert_eq!(all(&mut job.stream(range)), (vec![(5, 5), (10, 10)], true));
    let past = SampleQuery { since_ns: at(12), until_ns: Some(at(900)), ..SampleQuery::default() };
    assert_eq!(all(&mut job.stream(past)), (vec![(15, 15)], true), "it is 1000 already");
    let future = SampleQuery { since_ns: at(12), until_ns: Some(at(1005)), ..SampleQuery::default() };
    let mut stream = job.stream(future);
    assert_eq!(all(&mut stream), (vec![(15, 15)], false));
    job.add(1006);
    assert_eq!(all(&mut stream), (vec![], true));
}

#[test]
fn total_fold_is_sent_at_once_and_interval_folds_as_they_end() {
    let mut job = Job::new();
    for seconds in [0, 5, 10, 15] {
        job.add(seconds);
    }
    let whole = SampleQuery { how: Some(How::Sum), ..SampleQuery::default() };
    assert_eq!(all(&mut job.stream(whole)), (vec![(15, 30)], true));
    let mut tens =
        job.stream(SampleQuery { how: Some(How::Most), interval_s: Some(10), ..SampleQuery::default() });
    assert_eq!(all(&mut tens), (vec![(5, 5)], false));
    job.add(22);
    assert_eq!(all(&mut tens), (vec![(15, 15)], false));
    job.source.watermark.end();
    assert_eq!(all(&mut tens), (vec![(22, 22)], true));
    assert_eq!(all(&mut Job::new().stream(whole)), (vec![], true));
}

#[test]
fn groups_without_a_source_are_absent_in_the_message() {
    let [full, bare] = golden().try_into().unwrap();
    let id = JobId::random();
    let (full, bare) = (sample::message(id, &full), sample::message(id, &bare));
    assert_eq!(
        (full.jobId.as_str(), full.timestamp, full.sampleIntervalSeconds),
        (&*id.to_string(), 1_705_314_600, 5)
    );
    assert!(full.cpu.is_some() && full.memory.is_some() && full.io.is_some() && full.network.is_some());
    assert_eq!(
        (full.memory.max, full.memory.peak, full.limits.memory),
        (Some(536_870_912), Some(300_000_000), 536_870_912)
    );
    assert_eq!((full.io.devices["259:0"].writeOps, full.network.interfaces["lo"].rxBytes), (2, 100));
    assert_eq!(
        (full.process.max, full.process.openFDs, full.cpu.pressureSome10),
        (Some(4096), Some(8), Some(1.5))
    );
    assert!(bare.cpu.is_some() && bare.memory.is_none() && bare.io.is_none());
    assert!(bare.network.is_none() && bare.process.is_none() && bare.limits.memory == 0);
}

#[test]
fn unreadable_samples_end_the_stream_with_an_error() {
    let job = Job::new();
    std::fs::write(job.source.dir.join(FILE), "x\n").unwrap();
    job.source.watermark.publish(2);
    let status = match job.stream(SampleQuery::default()).next() {
        Err(status) => status,
        Ok(_) => panic!("not a sample"),
    };
    assert_eq!(status.code(), RpcStatusCode::INTERNAL);
    assert!(status.message().starts_with("failed to stream metrics: cannot read samples from"), "{status:?}");
}

/// A host without controllers shows fewer numbers, not zeros.
#[test]
fn numbers_without_a_source_are_absent_in_the_message() {
    let [full, _] = golden().try_into().unwrap();
    let mut few = full.clone();
    if let (Some(cpu), Some(memory)) = (&mut few.cpu, &mut few.memory) {
        (cpu.throttling, cpu.pressure, cpu.throttle_percent) = (None, None, None);
        (memory.max, memory.oom_events, memory.oom_kill) = (None, None, None);
        (memory.kinds.slab, memory.kinds.pgfault) = (None, None);
    }
    let id = JobId::random();
    let (full, few) = (sample::message(id, &full), sample::message(id, &few));
    assert!(full.cpu.nrPeriods.is_some() && full.memory.pgFault.is_some() && full.memory.oomKill.is_some());
    assert_eq!((few.cpu.nrPeriods, few.cpu.throttledUsec, few.cpu.pressureSome10), (None, None, None));
    assert_eq!((few.memory.pgFault, few.memory.slab, few.memory.max), (None, None, None));
    assert_eq!((few.memory.oomEvents, few.memory.oomKill), (None, None));
}

#[test]
fn events_have_the_history_then_what_comes_then_the_end() {
    let mut job = Job::new();
    job.add(0);
    let mut events = events(job.source.clone(), at(1000));
    let mut next = || match events.next() {
        Ok(Next::Item(event)) => Some(event),
        _ => None,
    };
    let first = next().unwrap();
    assert_eq!((first.timestamp, first.job_uuid.as_str()), (at(0), &*job.source.id.to_string()));
    assert_eq!((first.memory_limit, first.gpu_percent), (Some(536_870_912), None));
    assert_eq!(next(), None);
    job.add(5);
    assert_eq!(next().map(|event| event.timestamp), Some(at(5)));
    job.source.watermark.end();
    assert_eq!(next(), None);
    assert!(matches!(events.next(), Ok(Next::End)));
}

#[test]
fn a_limit_ends_the_stream_behind_so_many_samples() {
    let mut job = Job::new();
    (0..4).for_each(|n| job.add(5 * n));
    let mut two = job.stream(SampleQuery { limit: Some(2), ..SampleQuery::default() });
    assert_eq!(all(&mut two), (vec![(0, 0), (5, 5)], true));
    let mut later = job.stream(SampleQuery { limit: Some(1), since_ns: at(7), ..SampleQuery::default() });
    assert_eq!(all(&mut later), (vec![(10, 10)], true));
}
