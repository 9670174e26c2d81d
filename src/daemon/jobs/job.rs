//! One job, with everything that exists because of it.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::daemon::command::request::CommandError;
use crate::daemon::evidence::Evidence;
use crate::daemon::provision::{Network, Resources};
use crate::daemon::sources::Registered;
use crate::daemon::spawner::HeldWork;
use crate::job::egress::List;
use crate::job::exit::StopCause;
use crate::job::publish::Published;
use crate::job::state::Fact;
use crate::job::{Denials, GpuLease, JobClock, JobId, JobSpec, JobView, State, Status, WireLease};
use crate::network::Lease;
use crate::network::ipv6::image;
use crate::output::{Full, Watermark};
use crate::state::record::Process;
use crate::state::{Pause, Record, Stage};
use crate::stream;
use crate::sys::clock::{monotonic_ns, now_ns};

use super::durability::Durability;
use super::slots::Slots;
use super::standing::Standing;
use super::waiters::Waiters;

/// One job. [`Run`] has the things that exist only while it has a process, [`Resources`] those that are given back.
#[derive(Debug)]
pub(in crate::daemon) struct Job {
    /// The job's identity.
    pub(in crate::daemon) id: JobId,
    /// Number in the order of acceptance; set by [`JobTable::insert`](super::JobTable::insert).
    pub(super) serial: u64,
    /// The request, without the values of secrets.
    pub(in crate::daemon) spec: Arc<JobSpec>,
    /// Where it is in its life.
    pub(in crate::daemon) state: State,
    /// When things happened to it.
    pub(in crate::daemon) times: Times,
    /// How much of it is on disk.
    pub(in crate::daemon) durability: Durability,
    /// Its right to run, or its place in the queue for one.
    pub(in crate::daemon) standing: Standing,
    /// Its output, and how far that has come.
    pub(in crate::daemon) output: Output,
    /// Its process, from the clone to the end of the job.
    pub(in crate::daemon) run: Option<Run>,
    /// The resources that it holds until its end; while a spawner starts it, that has them.
    pub(in crate::daemon) held: Resources,
    /// By what a later daemon finds its processes.
    pub(in crate::daemon) trace: Trace,
    /// Its use of memory and processor, and the limits that the host cannot keep.
    pub(in crate::daemon) usage: Usage,
    /// Destinations that it may reach, and those that it was refused.
    pub(in crate::daemon) reach: Reach,
    /// Calls that wait for it.
    pub(in crate::daemon) waiters: Waiters,
}

/// The word about a job whose wire is gone.
const LOST_NETWORK: &str = "network: lost; its wire was gone when the daemon came back, and it has none any more. Run it \
    again where it needs its network";

/// Moments of a job's life, ns since the epoch.
#[derive(Debug, Clone, Default)]
pub(in crate::daemon) struct Times {
    /// When the request was accepted.
    pub(in crate::daemon) created_ns: i64,
    /// When it began to wait for a slot.
    pub(in crate::daemon) queued_ns: Option<i64>,
    /// When the payload started.
    pub(in crate::daemon) started_ns: Option<i64>,
    /// When the job became terminal.
    pub(in crate::daemon) ended_ns: Option<i64>,
    /// When its timeout is over: ns of CLOCK_MONOTONIC, not of the epoch.
    pub(in crate::daemon) timeout_at_ns: Option<i64>,
    /// Its timeout since the start, where it was changed after that.
    pub(in crate::daemon) timeout: Option<Duration>,
    /// The pause that it is in. Its timeout stands still meanwhile.
    pub(in crate::daemon) paused: Option<Pause>,
    /// From TERM to KILL, as a StopJob asked.
    pub(in crate::daemon) stop_grace: Option<Duration>,
    /// When the first timer for the KILL of a stop fires.
    pub(in crate::daemon) kill_at: Option<Instant>,
}

/// The output of a job.
#[derive(Debug)]
pub(in crate::daemon) struct Output {
    /// How far it has come.
    pub(in crate::daemon) watermark: Arc<Watermark>,
    /// Whether all of it is in the spool. The collector may say so before the spawner has answered.
    pub(in crate::daemon) complete: bool,
}

/// The daemon's side of a job's process.
#[derive(Debug)]
pub(in crate::daemon) struct Run {
    /// PID 1 of the job, watched for its end.
    pub(in crate::daemon) init: Registered,
    /// Its number on the host.
    pub(in crate::daemon) pid: i32,
    /// Read end of the report pipe, watched until it has said its word.
    pub(in crate::daemon) report: Option<Registered>,
    /// The exit file, which PID 1 writes at the job's end.
    pub(in crate::daemon) exit_file: Arc<File>,
    /// `/proc/PID/oom_score_adj` of PID 1, until that is spared from the out-of-memory killer.
    pub(in crate::daemon) oom_score: Option<File>,
    /// Its /work, where files of it are to be kept, until joblet-init may end.
    pub(in crate::daemon) work: Option<HeldWork>,
    /// When its payload was permitted, until it runs.
    pub(in crate::daemon) permitted: Option<Instant>,
    /// Whether files of it are being kept, for which its end waits.
    pub(in crate::daemon) is_collecting: bool,
    /// How PID 1 itself ended, in words; `None` while it lives.
    pub(in crate::daemon) init_end: Option<String>,
    /// The evidence of its end, once it is read.
    pub(in crate::daemon) evidence: Option<Evidence>,
}

impl Run {
    /// Nobody needs its /work any more.
    pub(in crate::daemon) fn give_up_work(&mut self, id: JobId) {
        if let Some(release) = self.work.take().and_then(|work| work.release) {
            release.give(id);
        }
    }
}

/// By what a later daemon finds the processes of a job.
#[derive(Debug, Clone, Default)]
pub(in crate::daemon) struct Trace {
    /// The host id that they run as.
    pub(in crate::daemon) host_id: Option<u32>,
    /// Its address and its wire.
    pub(in crate::daemon) wire: Option<WireLease>,
    /// The GPUs that it has.
    pub(in crate::daemon) gpus: Vec<GpuLease>,
    /// Whether the wire was gone when this daemon took the job over.
    pub(in crate::daemon) lost_network: bool,
    /// PID 1 of the job.
    pub(in crate::daemon) process: Option<Process>,
}

/// The use of a job, and its unenforced limits.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Usage {
    /// How far its samples have come.
    pub(in crate::daemon) samples: Arc<stream::Watermark>,
    /// Peak memory in bytes.
    pub(in crate::daemon) peak_bytes: Option<u64>,
    /// Processor time in microseconds.
    pub(in crate::daemon) cpu_usec: Option<u64>,
    /// Limits that the host cannot keep, in words.
    pub(in crate::daemon) unenforced: Vec<String>,
}

impl Usage {
    /// Nothing was measured yet.
    fn new(samples: Arc<stream::Watermark>) -> Self {
        Usage { samples, peak_bytes: None, cpu_usec: None, unenforced: Vec::new() }
    }
}

/// The egress of a job.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Reach {
    /// Its list, where that was changed after the start.
    pub(in crate::daemon) changed: Option<Arc<List>>,
    /// Whether a change is under way.
    pub(in crate::daemon) changing: bool,
    /// How much a running job was refused.
    pub(in crate::daemon) counted: Arc<AtomicU64>,
    /// Destinations that it was refused, once it is over.
    pub(in crate::daemon) denials: Option<Arc<Denials>>,
}

impl Reach {
    /// Packets and questions that were refused.
    fn total(&self) -> u64 {
        let counted = self.counted.load(Ordering::Relaxed);
        self.denials.as_ref().map_or(counted, |denials| denials.total())
    }
}

impl Job {
    /// Number in the order of acceptance.
    pub(in crate::daemon) fn serial(&self) -> u64 {
        self.serial
    }

    /// The egress list in force, if it has one.
    pub(in crate::daemon) fn list(&self) -> Option<&List> {
        self.reach.changed.as_deref().or(self.spec.egress.as_ref())
    }

    /// A job that was accepted now and has nothing yet.
    pub(in crate::daemon) fn new(
        id: JobId,
        spec: Arc<JobSpec>,
        state: State,
        output: Arc<Watermark>,
        samples: Arc<stream::Watermark>,
    ) -> Job {
        output.set_client(spec.client);
        Job {
            id,
            serial: 0,
            spec,
            state,
            times: Times { created_ns: now_ns(), ..Times::default() },
            durability: Durability::default(),
            standing: Standing::default(),
            output: Output { watermark: output, complete: false },
            run: None,
            held: Resources::default(),
            trace: Trace::default(),
            usage: Usage::new(samples),
            reach: Reach::default(),
            waiters: Waiters::default(),
        }
    }

    /// A job that an earlier daemon remembered.
    pub(in crate::daemon) fn from_record(
        record: Record,
        state: State,
        output: Arc<Watermark>,
        samples: Arc<stream::Watermark>,
    ) -> Job {
        Job {
            serial: record.serial,
            times: Times {
                created_ns: record.created_ns,
                queued_ns: record.queued_ns,
                started_ns: record.started_ns,
                ended_ns: record.ended_ns,
                timeout_at_ns: record.timeout_at_ns,
                timeout: record.timeout,
                paused: record.paused,
                stop_grace: record.stop_grace,
                kill_at: None,
            },
            durability: Durability::stored(),
            trace: Trace {
                host_id: record.lease,
                wire: record.wire,
                gpus: record.gpus,
                lost_network: false,
                process: record.process,
            },
            usage: Usage {
                samples: samples.clone(),
                peak_bytes: record.peak_bytes,
                cpu_usec: record.cpu_usec,
                unenforced: record.unenforced,
            },
            reach: Reach {
                changed: record.egress.map(Arc::new),
                denials: record.denials.map(Arc::from),
                ..Reach::default()
            },
            ..Job::new(record.id, record.spec, state, output, samples)
        }
    }

    /// The job as it is stored.
    pub(in crate::daemon) fn to_record(&self, boot: &str) -> Record {
        Record {
            id: self.id,
            serial: self.serial,
            spec: self.spec.clone(),
            stop_grace: self.times.stop_grace,
            stage: match &self.state {
                State::Scheduled => Stage::Scheduled,
                State::Queued => Stage::Queued,
                State::Recording(ending) | State::Finished(ending) => Stage::Ended(ending.clone()),
                other => Stage::Active(other.stop_cause()),
            },
            created_ns: self.times.created_ns,
            queued_ns: self.times.queued_ns,
            started_ns: self.times.started_ns,
            ended_ns: self.times.ended_ns,
            unenforced: self.usage.unenforced.clone(),
            lease: self.trace.host_id,
            wire: self.trace.wire.clone(),
            gpus: self.trace.gpus.clone(),
            egress: self.reach.changed.as_deref().cloned(),
            denials: self.reach.denials.as_deref().cloned().map(Box::new),
            process: self.trace.process.clone(),
            boot: boot.to_owned(),
            timeout_at_ns: self.times.timeout_at_ns,
            timeout: self.times.timeout,
            paused: self.times.paused,
            peak_bytes: self.usage.peak_bytes,
            cpu_usec: self.usage.cpu_usec,
        }
    }

    /// The word that clients see. A job whose payload never ran is not shown as running while its end is found out.
    pub(in crate::daemon) fn status(&self) -> Status {
        match self.state {
            State::Draining(None) if self.times.started_ns.is_none() => Status::Initializing,
            _ => self.state.status(),
        }
    }

    /// Whether RunJob may be answered with the job as it is.
    pub(in crate::daemon) fn is_announceable(&self) -> bool {
        let on_its_way = match self.state {
            State::Starting(_) | State::Created | State::Recording(_) => true,
            // It ended before its payload ran: the answer is the failed start, which is being found out.
            State::Draining(_) => self.times.started_ns.is_none(),
            _ => false,
        };
        // The inputs of a job that is over, because it was canceled meanwhile, start nothing any more.
        let staged = !self.durability.is_staging() || self.state.is_finished();
        self.durability.is_durable() && staged && !on_its_way
    }

    /// From TERM to KILL. A client decides for a stop that was requested and for a timeout; a job that writes too much,
    /// and the daemon's own end, have the node's time.
    pub(in crate::daemon) fn grace(&self, usual: Duration) -> Duration {
        match self.state.stop_cause() {
            Some(StopCause::Request | StopCause::Timeout) => {
                self.times.stop_grace.or(self.spec.stop_grace).unwrap_or(usual)
            }
            _ => usual,
        }
    }

    /// Its timeout, counted from its start without pauses.
    pub(in crate::daemon) fn timeout(&self) -> Option<Duration> {
        self.times.timeout.or(self.spec.timeout)
    }

    /// Its clock as clients see it.
    pub(in crate::daemon) fn clock(&self) -> JobClock {
        let running = self.state == State::Running;
        let ends_at = self.times.timeout_at_ns.filter(|_| running && self.times.paused.is_none());
        JobClock {
            timeout: self.timeout(),
            ends_ns: ends_at.map(|at| now_ns().saturating_add(at.saturating_sub(monotonic_ns()))),
            paused_ns: self.times.paused.filter(|_| !self.state.is_finished()).map(|pause| pause.since_ns),
        }
    }

    /// Whether a fact still holds: a newer record may have been asked for since.
    pub(in crate::daemon) fn still_holds(&self, fact: &Fact) -> bool {
        *fact != Fact::Recorded || self.durability.is_newest_durable()
    }

    /// The error for the RunJob caller whose job could not be started.
    pub(in crate::daemon) fn refused(&self, why: String) -> CommandError {
        self.waiters.refusal(why)
    }

    /// Readers of the job end when they have read everything.
    pub(in crate::daemon) fn end_streams(&self) {
        self.output.watermark.end();
        self.usage.samples.end();
    }

    /// The job as clients see it.
    pub(in crate::daemon) fn view(&self, slots: &Slots) -> JobView {
        let position = self.standing.ticket().and_then(|ticket| slots.position(ticket));
        JobView {
            id: self.id,
            spec: self.spec.clone(),
            status: self.status(),
            created_ns: self.times.created_ns,
            started_ns: self.times.started_ns,
            // Not before the ending itself.
            ended_ns: self.times.ended_ns.filter(|_| self.state.is_finished()),
            ending: if let State::Finished(ending) = &self.state { Some(ending.clone()) } else { None },
            peak_memory_bytes: self.usage.peak_bytes,
            cpu_time_usec: self.usage.cpu_usec,
            clock: self.clock(),
            egress: self.reach.changed.clone(),
            denials: self.reach.total(),
            unenforced: self.usage.unenforced.clone(),
            ports: self.ports(),
            gpus: self.trace.gpus.clone(),
            queue_position: position.unwrap_or(0),
            wait_reason: self.wait_reason(position.is_some(), slots),
            address: self.address(),
            note: self.note(),
            dependencies: Vec::new(),
        }
    }

    /// Its losses, which the record tells: its network, or a GPU.
    fn note(&self) -> String {
        let network = self.trace.lost_network.then(|| LOST_NETWORK.to_owned());
        let lost = |gpu: &GpuLease| {
            let why = gpu.lost.as_ref()?;
            Some(format!("GPU {} was lost while the job had it: {why}", gpu.index))
        };
        network.into_iter().chain(self.trace.gpus.iter().filter_map(lost)).collect::<Vec<_>>().join("; ")
    }

    /// The ports of the host that reach it now.
    fn ports(&self) -> Vec<Published> {
        self.held.ports.iter().flat_map(|ports| ports.held()).map(|(port, _)| *port).collect()
    }

    fn address(&self) -> String {
        let lease = self.held.network.as_ref().and_then(Network::lease);
        let text = |lease: &Lease| {
            let four = format!("{}/{}", lease.address, lease.range.prefix());
            if lease.ipv6 { format!("{four},{}/128", image(lease.address)) } else { four }
        };
        lease.map(text).unwrap_or_default()
    }

    fn wait_reason(&self, queued: bool, slots: &Slots) -> String {
        let words = match (&self.state, self.spec.gpus) {
            _ if self.durability.has_failed() => {
                "its record cannot be written: the disk of dataDir is full, read-only or fails"
            }
            (State::Scheduled, _) => "waits for its time",
            (State::Queued, Some(wish)) if queued && slots.free() > 0 => {
                return format!("waits for {wish}: too few are free, or others wait before it");
            }
            (State::Queued, _) if queued => "waits for a place: joblet.maxConcurrentJobs are running",
            _ => self.output.watermark.waits().map_or("", Full::reason),
        };
        words.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        let id = JobId::random();
        let (output, samples) = (Watermark::new(), stream::Watermark::new());
        Job::new(id, Arc::new(JobSpec::bare()), State::Running, output, samples)
    }

    #[test]
    fn ending_that_is_not_recorded_shows_no_end_time() {
        let mut job = job();
        job.times.ended_ns = Some(7);
        job.state = State::Recording(crate::job::exit::canceled());
        assert_eq!(job.view(&Slots::default()).ended_ns, None);
        job.state = State::Finished(crate::job::exit::canceled());
        assert_eq!(job.view(&Slots::default()).ended_ns, Some(7));
    }

    /// The reply to RunJob met the failure of the exec, and showed a job as running that never was.
    #[test]
    fn job_whose_exec_failed_is_never_running() {
        let mut job = job();
        job.durability = Durability::stored();
        for state in [State::Created, State::Draining(None)] {
            job.state = state;
            assert!(!job.is_announceable(), "{:?}", job.state);
            assert_eq!(job.view(&Slots::default()).status, Status::Initializing, "{:?}", job.state);
        }
        job.state = State::Recording(crate::job::exit::start_failure("no such file".into()));
        assert!(!job.is_announceable());
        assert_eq!(job.view(&Slots::default()).status, Status::Initializing);
        (job.state, job.times.started_ns) = (State::Draining(None), Some(1));
        assert!(job.is_announceable());
        assert_eq!(job.view(&Slots::default()).status, Status::Running);
    }

    /// The job was canceled and deleted while its inputs were still being written, and its RunJob caller heard that the
    /// daemon shuts down.
    #[test]
    fn canceled_job_is_announced_before_its_inputs_are_staged() {
        let mut job = job();
        job.durability = Durability::stored();
        job.durability.set_staging(true);
        job.state = State::Scheduled;
        assert!(!job.is_announceable());
        job.state = State::Finished(crate::job::exit::canceled());
        assert!(job.is_announceable());
    }

    /// The job ended in the turn in which the loop heard that its start is on disk: it was shown as terminal before its
    /// ending was there too.
    #[test]
    fn older_record_does_not_stand_for_the_newest_one() {
        let mut job = job();
        job.durability = Durability::stored();
        assert!(job.still_holds(&Fact::Recorded));
        let version = job.durability.next_version();
        assert!(!job.still_holds(&Fact::Recorded) && job.still_holds(&Fact::Unrecorded));
        job.durability.has(version);
        assert!(job.still_holds(&Fact::Recorded));
    }
}
