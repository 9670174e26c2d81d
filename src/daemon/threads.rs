//! The worker threads of the daemon: what each takes and how it answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use log::Level;

use super::cleanup::{self, Cleanup};
use super::core::{Report, Streams};
use super::egress::keeper::{self, Keeper};
use super::events::WorkerEvent;
use super::evidence::Evidence;
use super::execs::{self, Execs};
use super::freezer::Freezer;
use super::gpus::Gpus;
use super::history::History;
use super::inspection::Inspection;
use super::jobs::{Backlog, BacklogLimits};
use super::ledger::Ledger;
use super::networks::{Known, Networks};
use super::outputs::{self, Outputs};
use super::pool::Pool;
use super::provision::Node;
use super::runtimes::Runtimes;
use super::settings::{spool_limits, stores};
use super::spawner::{CreateRequest, Spawner, StartResult, Starts, schedule_first};
use super::staging::{self, Staging};
use super::standing_store::PendingWrite;
use super::token::Token;
use super::volumes::Volumes;
use super::{DaemonError, directories, networks, resolver};
use crate::config::daemon::DaemonConfig;
use crate::diag;
use crate::input::Inputs;
use crate::job::JobId;
use crate::metrics::Sampler;
use crate::output::{Collector, CollectorEvent};
use crate::resolver::protocol::Denial;
use crate::sandbox::work::WorkDisk;
use crate::state::{self, Change, Database, StoredVolume};
use crate::sys::mailbox::Mailbox;
use crate::upload::{Stage, Store};
use crate::volume;

/// The directory of volumes, and the volumes of the database.
pub(super) type StoredVolumes = (volume::Store, Vec<StoredVolume>);

/// Spawner threads: as many as help on small machines; more only queue in the kernel.
const SPAWNERS: usize = 2;

/// Worker threads as they are started, each with its way to the loop.
#[derive(Debug)]
pub(super) struct Threads {
    to_loop: Mailbox<WorkerEvent>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// No thread yet. Their events go `to_loop`.
    pub(super) fn new(to_loop: Mailbox<WorkerEvent>) -> Self {
        Threads { to_loop, handles: Vec::new() }
    }

    /// All of them.
    pub(super) fn into_handles(self) -> Vec<JoinHandle<()>> {
        self.handles
    }

    /// The way in which a thread answers the loop.
    fn answer(&self) -> impl Fn(WorkerEvent) + Send + Sync + Clone + 'static {
        let to_loop = self.to_loop.clone();
        move |event| {
            // The loop is gone only after all of its jobs are.
            let _ = to_loop.send(event);
        }
    }

    /// The threads that take what jobs give, their output and what they use, and that look at them.
    pub(super) fn start_streams(
        &mut self,
        config: &DaemonConfig,
        outputs: PathBuf,
    ) -> Result<Streams, DaemonError> {
        let outputs = self.start_outputs(outputs)?;
        let answer = self.answer();
        let collector = Collector::start(spool_limits(config), move |id, event| {
            answer(match event {
                CollectorEvent::OutputComplete => WorkerEvent::OutputComplete(id),
                CollectorEvent::OutputEmpty => WorkerEvent::OutputEmpty(id),
                CollectorEvent::OverLimit => WorkerEvent::OverLimit(id),
                CollectorEvent::PipeHeld => WorkerEvent::PipeHeld(id),
                CollectorEvent::PipeFree => WorkerEvent::PipeFree,
            });
        })?;
        let answer = self.answer();
        let (sampler, thread) =
            Sampler::start(config.job_metrics.default_sample_rate, move |id, evidence: Evidence| {
                answer(WorkerEvent::Evidence(id, Box::new(evidence)));
            })?;
        self.handles.push(thread);
        let (inspection, thread) = Inspection::start()?;
        self.handles.push(thread);
        let answer = self.answer();
        let (freezer, thread) = Freezer::start(move |frozen| answer(WorkerEvent::NotFrozen(frozen)))?;
        self.handles.push(thread);
        let inputs = Inputs::start().map_err(|source| DaemonError::Thread { name: "inputs", source })?;
        let (report, stores) = (Report::new(Arc::new(self.answer())), stores(config));
        Ok(Streams::new((inputs, collector), sampler, (inspection, freezer), report, outputs, stores))
    }

    /// The history process, and the threads that lead to it.
    pub(super) fn start_history(
        &mut self,
        config: &DaemonConfig,
        path: &Path,
        wishes: Vec<JobId>,
        collector: &Collector,
    ) -> Result<History, DaemonError> {
        let answer = self.answer();
        let report = move |event| answer(WorkerEvent::History(event));
        let (history, threads) = History::start(config, path, wishes, collector.clone(), report)?;
        self.handles.extend(threads);
        Ok(history)
    }

    /// The thread that starts the resolver of jobs' names. It tells of names that jobs were refused.
    pub(super) fn start_resolver(
        &mut self,
        names: resolver::Unstarted,
        config: &DaemonConfig,
        run_dir: PathBuf,
        node: &Node,
    ) -> Result<(), DaemonError> {
        let egress = node.egress.clone();
        let report = move |denial: Denial| {
            egress.name_refused(denial.address, &denial.name, denial.count.into());
        };
        let opened = networks::allowed(config)?;
        self.handles.push(names.start((run_dir, node.tree.clone()), &opened, report)?);
        Ok(())
    }

    fn started(&self) -> impl Fn(StartResult) + Send + 'static {
        let answer = self.answer();
        move |result| answer(WorkerEvent::Started(Box::new(result)))
    }

    /// The threads that start jobs. Their queue holds as many as may run at one time.
    pub(super) fn start_spawners(
        &mut self,
        spawner: &Arc<Spawner>,
        jobs: usize,
    ) -> Result<Starts, DaemonError> {
        let (starts, ordinary, large) = Starts::new(jobs);
        for _ in 0..SPAWNERS {
            self.handles.push(spawner.start_thread(ordinary.clone(), true, self.started())?);
        }
        // A large start copies as many bytes as its client likes, so its thread does not come first.
        self.handles.push(spawner.start_thread(large, false, self.started())?);
        Ok(starts)
    }

    /// The thread that creates sandboxes ahead of jobs.
    pub(super) fn start_pool(&mut self, spawner: &Arc<Spawner>, size: usize) -> Result<Pool, DaemonError> {
        let (requests, queue): (_, Receiver<(Box<CreateRequest>, Token)>) = bounded(size);
        let answer = self.answer();
        let created = move |created: Result<_, _>, under_way| {
            answer(WorkerEvent::Created(created.map(Box::new), under_way));
        };
        self.handles.push(spawner.start_pool_thread(queue, created)?);
        Ok(Pool::new(size, requests))
    }

    /// The thread that writes records, if jobs are remembered on disk.
    pub(super) fn start_ledger(&mut self, database: Option<Database>) -> Result<Ledger, DaemonError> {
        let answer = self.answer();
        let started = database.map(|database| {
            let written = move |outcome| answer(WorkerEvent::Recorded(outcome));
            state::writer::start(database, schedule_first, written)
        });
        let (changes, thread): (Option<Sender<Change<PendingWrite>>>, _) = started.transpose()?.unzip();
        self.handles.extend(thread);
        Ok(Ledger::new(changes))
    }

    /// The thread that makes and removes networks.
    pub(super) fn start_networks(
        &mut self,
        known: Known,
        config: &DaemonConfig,
        node: Arc<Node>,
        ledger: &Ledger,
    ) -> Result<Networks, DaemonError> {
        let answer = self.answer();
        let report = move |changed| answer(WorkerEvent::Network(Box::new(changed)));
        let most = config.network.max_custom_networks as usize;
        let (networks, thread) = Networks::start(known, most, node, ledger.standing(), report)?;
        self.handles.push(thread);
        Ok(networks)
    }

    /// The threads that make and remove volumes, and look at them.
    pub(super) fn start_volumes(
        &mut self,
        (store, stored): StoredVolumes,
        ledger: &Ledger,
    ) -> Result<Volumes, DaemonError> {
        let answer = self.answer();
        let report = move |changed| answer(WorkerEvent::Volume(Box::new(changed)));
        let (volumes, threads) = Volumes::start(store, stored, ledger.standing(), report)?;
        self.handles.extend(threads);
        Ok(volumes)
    }

    /// The thread that waits for the driver of GPUs, where jobs can have some.
    pub(super) fn start_gpus(&mut self, config: &DaemonConfig) -> Result<Gpus, DaemonError> {
        let answer = self.answer();
        let started = Gpus::start(config, move |fact| answer(WorkerEvent::Gpu(fact)));
        let (gpus, thread) =
            started.map_err(|source| DaemonError::Loop { doing: "start the thread of the GPUs", source })?;
        self.handles.extend(thread);
        Ok(gpus)
    }

    /// The thread of commands in running jobs.
    pub(super) fn start_execs(&mut self, dir: PathBuf, streams: &Streams) -> Result<Execs, DaemonError> {
        let (tasks, queue) = unbounded();
        let answer = self.answer();
        let report = move |event| answer(WorkerEvent::Exec(event));
        self.handles.push(execs::worker::start(
            queue,
            streams.collector().clone(),
            streams.inputs().clone(),
            report,
        )?);
        Ok(Execs::new(dir, tasks))
    }

    /// The thread that looks at the disk for runtimes.
    pub(super) fn start_runtimes(
        &mut self,
        config: &DaemonConfig,
        node: Arc<Node>,
    ) -> Result<Runtimes, DaemonError> {
        let base = &config.runtime.base_path;
        // Ours alone, as dataDir is: jobs see what lies there, and others must not write it.
        directories::make(base, ".staging")?;
        let (runtimes, thread) = Runtimes::start(base, node)?;
        self.handles.push(thread);
        Ok(runtimes)
    }

    /// The thread that writes the inputs of waiting jobs.
    pub(super) fn start_staging(
        &mut self,
        stage: Stage,
        store: Arc<Store>,
        limits: BacklogLimits,
    ) -> Result<Staging, DaemonError> {
        let (requests, queue) = unbounded();
        let answer = self.answer();
        let thread = staging::start(stage.clone(), queue, move |staged| answer(WorkerEvent::Staged(staged)))?;
        self.handles.push(thread);
        Ok(Staging::new(stage, store, requests, Backlog::new(limits)))
    }

    /// The threads that keep what jobs leave for others.
    fn start_outputs(&mut self, dir: PathBuf) -> Result<Outputs, DaemonError> {
        let (requests, queue) = unbounded();
        for _ in 0..outputs::THREADS {
            let answer = self.answer();
            let collected = move |collected| answer(WorkerEvent::Collected(collected));
            self.handles.push(outputs::start(queue.clone(), collected)?);
        }
        Ok(Outputs::new(dir, requests))
    }

    /// The thread that looks at what jobs are refused, and removes from the router what they leave there.
    pub(super) fn start_keeper(&mut self, node: &Arc<Node>) -> Result<Keeper, DaemonError> {
        let answer = self.answer();
        let free = move |leases| answer(WorkerEvent::AddressesFree(leases));
        let (keeper, thread) = keeper::start(node.clone(), free)?;
        self.handles.push(thread);
        Ok(keeper)
    }

    /// The threads that remove what jobs leave.
    pub(super) fn start_cleanup(&mut self, work: Arc<WorkDisk>) -> Result<Cleanup, DaemonError> {
        let (tasks, task_queue) = unbounded();
        let (removals, removal_queue) = unbounded();
        let answer = self.answer();
        let done = move |event| answer(WorkerEvent::Cleanup(event));
        self.handles.push(cleanup::start(task_queue, done.clone())?);
        cleanup::start_removal(work, removal_queue, done)?;
        Ok(Cleanup::new(tasks, removals))
    }
}

/// Joins threads, so long at most. A thread that hangs in the kernel, such as on a disk that does not answer, ends with
/// the process; the next daemon does what it has left.
pub(super) fn join_all(threads: Vec<JoinHandle<()>>, bound: Duration) {
    let (joined, end) = bounded(1);
    let names: Vec<(String, Arc<AtomicBool>)> =
        threads.iter().map(|t| (t.thread().name().unwrap_or_default().to_owned(), Arc::default())).collect();
    let over: Vec<Arc<AtomicBool>> = names.iter().map(|(_, over)| over.clone()).collect();
    let join = move || {
        for (thread, over) in threads.into_iter().zip(over) {
            if thread.join().is_err() {
                diag::event!(Level::Error, "a thread ended by a panic");
            }
            over.store(true, Ordering::SeqCst);
        }
        let _ = joined.send(());
    };
    if let Err(why) = std::thread::Builder::new().name("join".into()).spawn(join) {
        diag::event!(Level::Warn, "cannot wait for the threads", error = why);
        return;
    }
    if end.recv_timeout(bound).is_err() {
        let hangs = names.iter().find(|(_, over)| !over.load(Ordering::SeqCst));
        let name = hangs.map_or("", |(name, _)| name.as_str());
        diag::event!(
            Level::Error,
            "a thread does not end, leaving",
            thread = name,
            waited = format!("{bound:?}")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_hangs_does_not_keep_the_daemon() {
        let (end, wait) = bounded::<()>(0);
        let hangs = std::thread::spawn(move || _ = wait.recv());
        join_all(vec![std::thread::spawn(|| {}), hangs], Duration::from_millis(1));
        drop(end);
        join_all(vec![std::thread::spawn(|| {})], Duration::from_secs(3600));
    }
}
