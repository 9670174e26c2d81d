//! The thread that takes the samples of all jobs.
//!
//! A job's end waits for its last sample, so [`Sampler::last`] lends the thread a real-time priority: on a busy machine
//! it then runs before ordinary load, as the threads do that start jobs, until all last samples are taken. Otherwise the
//! thread is scheduled ordinarily: reading a job with a thousand processes must not slow down its neighbours.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::Level;
use mio::{Events, Poll, Token, Waker};
use rustix::time::{ClockId, clock_gettime};

use super::sample::{Gpu, Limits, Sample, VERSION};
use super::series::{Series, interval};
use super::source::{Readings, Scratch, Source};
use super::{MetricsError, rates};
use crate::diag;
use crate::job::{self, JobId};
use crate::sys::clock::now_ns;
use crate::sys::mailbox::{Inbox, Mailbox, SendError, mailbox};
use crate::sys::thread::{schedule_first_also, schedule_ordinarily};

const WAKE: Token = Token(0);
/// Most commands that wait for the thread. Admission keeps far below: one `Watch` and one `Last` for each live job.
const COMMANDS: usize = 1 << 20;
/// The part of an interval within which due samples are taken together, so that a thousand jobs wake the thread fifty
/// times in an interval and not a thousand times.
const TOGETHER: u32 = 50;

/// Called with the number of bytes of a job's samples that may be read. It must not block.
pub type Publish = Box<dyn Fn(u64) + Send>;

/// Tells of a job's GPUs what was measured last; it gets the ids of the job's processes. It must not wait.
pub type GetGpus = Box<dyn Fn(&[i32]) -> Vec<Gpu> + Send>;

/// A running job to be sampled.
pub struct Watched {
    /// The id of the job.
    pub id: JobId,
    /// Its PID 1, by the host's process id.
    pub pid: i32,
    /// The directory of its cgroup.
    pub group: PathBuf,
    /// The limits that each sample repeats.
    pub limits: job::Limits,
    /// The directory of its spool, where the samples go.
    pub dir: PathBuf,
    /// How much its network has refused it.
    pub denials: Arc<AtomicU64>,
    /// Where the figures of its GPUs come from; `None`: it has none.
    pub gpus: Option<GetGpus>,
    /// The receiver of the number of readable bytes.
    pub publish: Publish,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watched({}, {})", self.id, self.group.display())
    }
}

/// Takes the last sample of a job and returns the most memory that a sample of the job has shown.
pub type TakeLast<'s> = &'s mut dyn FnMut() -> Option<u64>;

/// Reads the caller's evidence at the end of a job, before and after the last sample.
type ReadAtEnd<E> = Box<dyn FnOnce(TakeLast<'_>) -> E + Send>;

enum Command<E> {
    Watch(Box<Watched>),
    Last(JobId, ReadAtEnd<E>),
    Stop,
}

/// The handle of the sampler thread. `E` is the evidence that the caller reads at a job's end, see [`Sampler::last`].
pub struct Sampler<E> {
    commands: Mailbox<Command<E>>,
    /// The thread's id, to lend it a priority.
    thread: i32,
}

impl<E> fmt::Debug for Sampler<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sampler(thread {})", self.thread)
    }
}

impl<E> Clone for Sampler<E> {
    fn clone(&self) -> Self {
        Sampler { commands: self.commands.clone(), thread: self.thread }
    }
}

impl<E: Send + 'static> Sampler<E> {
    /// Starts the thread, which samples each watched job at once and then every `base`. `sampled` is called on it
    /// once for each [`Sampler::last`], with what its closure read.
    ///
    /// # Errors
    /// The system refuses an epoll instance or a thread.
    pub fn start(
        base: Duration,
        sampled: impl Fn(JobId, E) + Send + 'static,
    ) -> Result<(Sampler<E>, JoinHandle<()>), MetricsError> {
        let poll = Poll::new().map_err(MetricsError::Start)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(MetricsError::Start)?);
        let (commands, inbox) = mailbox(COMMANDS, waker);
        let sampler_thread = SamplerThread {
            poll,
            inbox,
            base,
            jobs: HashMap::new(),
            due: BinaryHeap::new(),
            scratch: Scratch::default(),
        };
        let (send_id, thread_id) = crossbeam_channel::bounded(1);
        let work = move || {
            let _ = send_id.send(rustix::thread::gettid().as_raw_nonzero().get());
            sampler_thread.run(&sampled);
        };
        let spawned = std::thread::Builder::new().name("sampler".into()).spawn(work);
        let handle = spawned.map_err(MetricsError::Start)?;
        let thread = thread_id.recv().map_err(|e| MetricsError::Start(io::Error::other(e)))?;
        Ok((Sampler { commands, thread }, handle))
    }

    /// Samples a job from now on, which has just started or was started by an earlier daemon. Its older samples stay, and
    /// the next rates start from the last of them.
    pub fn watch(&self, job: Watched) {
        self.send(Command::Watch(Box::new(job)));
    }

    /// Takes one last sample of a job that has ended and whose group is still there, then no more. `read` runs on the
    /// sampler's thread and has that sample taken and stored by calling what it gets, which returns the most memory that
    /// the samples have shown, in bytes; nothing is sampled where the job is unknown. `sampled` gets the result of `read`.
    /// It may read files, but it delays the samples of all other jobs.
    pub fn last(&self, id: JobId, read: impl FnOnce(TakeLast<'_>) -> E + Send + 'static) {
        // Where the host refuses it, the loop has logged that at its own start.
        let _ = schedule_first_also(self.thread);
        self.send(Command::Last(id, Box::new(read)));
    }

    /// Ends the sampler thread.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    fn send(&self, command: Command<E>) {
        // The thread closes its inbox only after Stop, when no command matters any more.
        if let Err(SendError::Full(_)) = self.commands.try_send(command) {
            diag::limited!(Level::Error, "the sampler lags behind: a command is lost", limit = COMMANDS);
        }
    }
}

struct Job {
    source: Source,
    series: Series,
    before: Option<Sample>,
    limits: Limits,
    group: String,
    denials: Arc<AtomicU64>,
    gpus: Option<GetGpus>,
    publish: Publish,
}

struct SamplerThread<E> {
    poll: Poll,
    inbox: Inbox<Command<E>>,
    base: Duration,
    jobs: HashMap<JobId, Job>,
    // One entry for each job, also for a job that ended within the last interval.
    due: BinaryHeap<Reverse<(Instant, JobId)>>,
    scratch: Scratch,
}

impl<E> SamplerThread<E> {
    fn run(mut self, sampled: &dyn Fn(JobId, E)) {
        let mut events = Events::with_capacity(4);
        loop {
            let now = Instant::now();
            let timeout = self.due.peek().map(|Reverse((at, _))| at.saturating_duration_since(now));
            if let Err(why) = self.poll.poll(&mut events, timeout)
                && why.kind() != io::ErrorKind::Interrupted
            {
                diag::limited!(Level::Error, "the sampler cannot wait", error = why);
            }
            let together = Instant::now() + self.base / TOGETHER;
            loop {
                // Jobs that end come first, because their end waits for the sample.
                if !self.handle(sampled) {
                    return;
                }
                let Some((at, id)) = self.next_due(together) else { break };
                self.sample_due(at, id);
            }
        }
    }

    /// Carries out the commands so far; false when the thread must end.
    fn handle(&mut self, sampled: &dyn Fn(JobId, E)) -> bool {
        let mut lent = false;
        while let Some(command) = self.inbox.take() {
            match command {
                Command::Watch(job) => self.watch(*job),
                Command::Last(id, read) => {
                    let mut job = self.jobs.remove(&id);
                    let evidence = read(&mut || {
                        let job = job.as_mut()?;
                        job.sample(self.base, &mut self.scratch, id);
                        job.before.as_ref()?.memory.as_ref()?.peak
                    });
                    sampled(id, evidence);
                    lent = true;
                }
                Command::Stop => return false,
            }
        }
        if lent {
            // A thread's way back never fails; a failure would only keep the priority.
            let _ = schedule_ordinarily();
        }
        true
    }

    fn watch(&mut self, job: Watched) {
        let id = job.id;
        match Job::open(job) {
            Ok(mut job) => {
                let next = job.sample(self.base, &mut self.scratch, id);
                self.jobs.insert(id, job);
                self.due.push(Reverse((Instant::now() + next, id)));
            }
            Err(why) => diag::limited!(Level::Warn, "a job is not sampled", jobId = id, error = why),
        }
    }

    /// The next job that is due now or before `until`.
    fn next_due(&mut self, until: Instant) -> Option<(Instant, JobId)> {
        while let Some(Reverse((at, id))) = self.due.peek().copied() {
            if at > until {
                return None;
            }
            self.due.pop();
            if self.jobs.contains_key(&id) {
                return Some((at, id));
            }
        }
        None
    }

    fn sample_due(&mut self, at: Instant, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let next = job.sample(self.base, &mut self.scratch, id);
        let now = Instant::now();
        // Counted from the time it was due, so that nothing drifts. A job that is a whole interval late misses one.
        let next = if at + next > now { at + next } else { now + next };
        self.due.push(Reverse((next, id)));
    }
}

impl Job {
    fn open(job: Watched) -> Result<Job, MetricsError> {
        let Watched { id: _, pid, group, limits, dir, denials, gpus, publish } = job;
        let failed = |source| MetricsError::Group { path: group.clone(), source };
        let source = Source::open(&group, pid).map_err(failed)?;
        let (series, before) = Series::open(&dir)?;
        if series.bytes() > 0 {
            publish(series.bytes());
        }
        let (limits, group) = (Limits::from(&limits), group.to_string_lossy().into_owned());
        Ok(Job { source, series, before, limits, group, denials, gpus, publish })
    }

    /// Takes a sample, stores it and returns the time to the next. A sample that cannot be stored is lost; one without
    /// any number is not stored.
    fn sample(&mut self, base: Duration, scratch: &mut Scratch, id: JobId) -> Duration {
        let wait = interval(base, self.series.bytes());
        let readings = self.source.read(scratch);
        if readings == Readings::default() {
            return wait;
        }
        let Readings { cpu, memory, io, mut network, process } = readings;
        if let Some(network) = &mut network {
            network.denials = self.denials.load(Ordering::Relaxed);
        }
        let gpu = self.gpus.as_ref().map(|gpus| gpus(&self.source.processes(scratch)));
        let mut sample = Sample {
            version: VERSION,
            time_ns: now_ns(),
            uptime_ns: uptime_ns(),
            interval_s: u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX),
            cpu,
            memory,
            io,
            network,
            process,
            gpu: gpu.unwrap_or_default(),
            cgroup_path: self.group.clone(),
            limits: self.limits.clone(),
        };
        if let Some(before) = &self.before {
            rates::fill(&mut sample, before);
        }
        keep_peak(&mut sample, self.before.as_ref());
        match self.series.append(&sample) {
            Ok(()) => {
                (self.publish)(self.series.bytes());
                self.before = Some(sample);
            }
            Err(why) => diag::limited!(Level::Warn, "a job's sample is lost", jobId = id, error = why),
        }
        wait
    }
}

/// Where the host keeps no peak of memory (kernels before 5.19, groups without the controller), the samples keep the
/// most that one of them has shown.
fn keep_peak(now: &mut Sample, before: Option<&Sample>) {
    let Some(memory) = &mut now.memory else { return };
    let earlier = before.and_then(|sample| sample.memory.as_ref()?.peak).unwrap_or(0);
    memory.peak.get_or_insert(earlier.max(memory.current));
}

fn uptime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::super::SeriesReader;
    use super::super::source::tests::group_with;
    use super::*;
    use crossbeam_channel::{Receiver, unbounded};
    use std::fs;
    use std::path::Path;

    const PATIENCE: Duration = Duration::from_secs(20);

    struct Bench {
        sampler: Sampler<usize>,
        thread: JoinHandle<()>,
        ended: Receiver<(JobId, usize)>,
        spool: tempfile::TempDir,
        id: JobId,
    }

    impl Bench {
        fn new(interval: Duration) -> Bench {
            let (send, ended) = unbounded();
            let (sampler, thread) =
                Sampler::start(interval, move |id, read| send.send((id, read)).unwrap()).unwrap();
            Bench { sampler, thread, ended, spool: tempfile::tempdir().unwrap(), id: JobId::random() }
        }

        /// Samples a cgroup and returns the published numbers of bytes.
        fn watch(&self, group: &Path) -> Receiver<u64> {
            let (publish, published) = unbounded();
            let limits = job::Limits { cpu: None, memory: None, io: None, cores: None, pids: 10 };
            self.sampler.watch(Watched {
                id: self.id,
                pid: std::process::id().cast_signed(),
                group: group.to_owned(),
                limits,
                dir: self.spool.path().to_owned(),
                denials: Arc::default(),
                gpus: Some(Box::new(|pids| {
                    vec![Gpu { index: 3, processes_count: Some(pids.len() as u64), ..Gpu::default() }]
                })),
                publish: Box::new(move |bytes| {
                    let _ = publish.send(bytes);
                }),
            });
            published
        }

        /// Ends the job; its closure counts the samples that are stored when it runs.
        fn end(&self) {
            let dir = self.spool.path().to_owned();
            self.sampler.last(self.id, move |sample| {
                sample();
                samples_in(&dir).len()
            });
            assert_eq!(self.ended.recv_timeout(PATIENCE), Ok((self.id, self.samples().len())));
        }

        fn samples(&self) -> Vec<Sample> {
            samples_in(self.spool.path())
        }
    }

    fn samples_in(dir: &Path) -> Vec<Sample> {
        let Some(mut reader) = SeriesReader::open(dir).unwrap() else { return Vec::new() };
        std::iter::from_fn(|| reader.next(u64::MAX).unwrap()).collect()
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            self.sampler.stop();
        }
    }

    const STAT: &str = "usage_usec 100\nuser_usec 50\nsystem_usec 50\n";
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_job_has_a_sample_at_its_start_and_one_at_its_end() {
        let bench = Bench::new(HOUR);
        let group = group_with(&[("cpu.stat", STAT), ("cgroup.procs", "")]);
        let published = bench.watch(group.path());
        let first = published.recv_timeout(PATIENCE).unwrap();
        fs::write(group.path().join("cpu.stat"), STAT.replace("100", "900")).unwrap();
        bench.end();
        assert!(
            published.recv_timeout(PATIENCE).unwrap() > first,
            "the last sample is published before the end is reported"
        );
        let usage: Vec<u64> = bench.samples().iter().map(|s| s.cpu.as_ref().unwrap().usage_usec).collect();
        assert_eq!(usage, [100, 900]);
        assert_eq!(bench.samples()[0].cpu.as_ref().unwrap().usage_percent, None);
        assert_eq!((bench.samples()[0].interval_s, bench.samples()[0].version), (3600, VERSION));
    }

    #[test]
    fn a_job_is_sampled_at_the_interval_and_later_ones_have_rates() {
        let bench = Bench::new(Duration::from_millis(5));
        let group = group_with(&[("cpu.stat", STAT)]);
        let published = bench.watch(group.path());
        for _ in 0..5 {
            published.recv_timeout(PATIENCE).unwrap();
        }
        bench.end();
        let samples = bench.samples();
        assert!(samples.len() >= 6);
        assert_eq!(samples[3].cpu.as_ref().unwrap().usage_percent, Some(0.0));
        assert!(samples.is_sorted_by_key(|s| s.uptime_ns));
        bench.end();
        assert_eq!(bench.samples().len(), samples.len(), "no more after the last");
    }

    #[test]
    fn sampling_goes_on_behind_what_an_earlier_daemon_stored() {
        let group = group_with(&[("cpu.stat", STAT)]);
        let bench = Bench::new(HOUR);
        bench.watch(group.path()).recv_timeout(PATIENCE).unwrap();
        bench.end();
        let published = bench.watch(group.path());
        let older = published.recv_timeout(PATIENCE).unwrap();
        assert!(published.recv_timeout(PATIENCE).unwrap() > older, "the older ones are published first");
        assert_eq!(bench.samples().len(), 3);
        bench.end();
    }

    #[test]
    fn missing_or_vanished_cgroup_does_not_delay_the_sampler() {
        let bench = Bench::new(HOUR);
        bench.end();
        let group = group_with(&[("cpu.stat", STAT)]);
        let published = bench.watch(group.path());
        published.recv_timeout(PATIENCE).unwrap();
        let path = group.path().to_owned();
        drop(group);
        bench.end();
        assert_eq!(bench.samples().len(), 1, "nothing could be read, so nothing is stored");
        bench.watch(&path);
        bench.end();
        bench.sampler.stop();
    }

    #[test]
    fn samples_keep_a_peak_where_the_host_keeps_none() {
        let bench = Bench::new(HOUR);
        let group = group_with(&[("memory.current", "700\n")]);
        bench.watch(group.path()).recv_timeout(PATIENCE).unwrap();
        fs::write(group.path().join("memory.current"), "20\n").unwrap();
        bench.sampler.last(bench.id, |sample| sample().unwrap_or(0) as usize);
        assert_eq!(bench.ended.recv_timeout(PATIENCE), Ok((bench.id, 700)));
        let peaks: Vec<_> = bench.samples().into_iter().map(|s| s.memory.unwrap().peak).collect();
        assert_eq!(peaks, [Some(700), Some(700)]);
        // The host's own peak is truer.
        fs::write(group.path().join("memory.peak"), "900\n").unwrap();
        bench.watch(group.path()).recv_timeout(PATIENCE).unwrap();
        bench.end();
        assert_eq!(bench.samples().last().unwrap().memory.as_ref().unwrap().peak, Some(900));
    }

    #[test]
    fn sampler_thread_ends_when_stopped() {
        let mut bench = Bench::new(HOUR);
        bench.sampler.stop();
        let thread = std::mem::replace(&mut bench.thread, std::thread::spawn(|| {}));
        thread.join().unwrap();
    }
}
