//! One turn after the other: collect, step, act. It knows sources and facts, not the insides of jobs.

use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use log::Level;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use super::cleanup::CleanupEvent;
use super::command::{self, Command, QUEUE};
use super::core::Core;
use super::events::WorkerEvent;
use super::history::HistoryEvent;
use super::lifecycle;
use super::sources::Source;
use super::spawner::schedule_first;
use super::timers::Timer;
use crate::diag;
use crate::job::JobId;
use crate::job::state::{Fact, State, step};
use crate::sys::mailbox::Inbox;

/// Something that a turn has collected.
enum Event {
    Source(Source),
    Worker(WorkerEvent),
    Timer(Timer),
    Command(Command),
    ShutDown,
}

/// The loop, its sources and its owners.
pub(super) struct EventLoop {
    poll: Poll,
    signals: SignalFd,
    workers: Inbox<WorkerEvent>,
    commands: Inbox<Command>,
    core: Core,
    /// Workflows have more to submit now, or more jobs are to be forgotten.
    goes_on: bool,
}

impl EventLoop {
    /// A loop around these owners; signals are watched from now on.
    ///
    /// # Errors
    /// The signalfd cannot be watched.
    pub(super) fn new(
        poll: Poll,
        signals: SignalFd,
        workers: Inbox<WorkerEvent>,
        commands: Inbox<Command>,
        core: Core,
    ) -> io::Result<Self> {
        let mut source = SourceFd(&signals.as_raw_fd());
        poll.registry().register(&mut source, super::sources::SIGNALS, Interest::READABLE)?;
        Ok(EventLoop { poll, signals, workers, commands, core, goes_on: true })
    }

    /// The owners, before the loop turns and after it.
    pub(super) fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    /// Where signals come in.
    pub(super) fn signals(&self) -> &SignalFd {
        &self.signals
    }

    /// Turns until the daemon shuts down and everything is given back.
    pub(super) fn run(&mut self) {
        schedule_first();
        let mut events = Events::with_capacity(256);
        while !self.is_over() {
            let timeout = if self.goes_on || self.core.jobs.has_facts() {
                Some(Duration::ZERO)
            } else {
                self.core.clock.wait(Instant::now())
            };
            if let Err(why) = self.poll.poll(&mut events, timeout)
                && why.kind() != io::ErrorKind::Interrupted
            {
                diag::limited!(Level::Error, "the event loop cannot wait", error = why);
            }
            let began = self.core.counts.is_on().then(Instant::now);
            self.turn(&events);
            if let Some(began) = began {
                self.core.counts.turned(began.elapsed());
            }
        }
    }

    fn is_over(&self) -> bool {
        self.core.shutdown.gave_up() || self.core.shutdown.has_begun() && lifecycle::is_idle(&self.core)
    }

    /// Steps what the last turn left, then takes in what this one has collected, one by one. Facts left by an
    /// effect are stepped after the next event, or in the next turn, which comes at once then.
    fn turn(&mut self, events: &Events) {
        self.step_facts();
        for event in self.collect(events) {
            self.handle(event);
            self.step_facts();
        }
        // Before the loop waits: a job starts in the turn in which its condition came true.
        let feeds = command::feed_workflows(&mut self.core);
        self.goes_on = lifecycle::forget_some(&mut self.core) || feeds;
        self.step_facts();
        self.core.supply.gpus_mut().settle();
    }

    /// The events of one turn. Nothing is changed, answered or read of a job here.
    fn collect(&mut self, events: &Events) -> Vec<Event> {
        let mut collected = Vec::new();
        let mut stop = false;
        for event in events {
            match self.core.clock.source_of(event.token()) {
                Some(Source::Signals) => stop |= self.read_signals(),
                Some(Source::Mailbox) | None => {}
                Some(source) => collected.push(Event::Source(source)),
            }
        }
        collected.extend(std::iter::from_fn(|| self.workers.take()).map(Event::Worker));
        let now = Instant::now();
        collected.extend(std::iter::from_fn(|| self.core.clock.pop_due(now)).map(Event::Timer));
        // Commands come last, so that they see what has happened, and so many at a time that it does not grow old.
        let before = collected.len();
        collected.extend(std::iter::from_fn(|| self.commands.take()).take(QUEUE).map(Event::Command));
        if collected.len() == before + QUEUE {
            // There may be more, and only a send into an empty mailbox wakes us.
            self.commands.wake();
        }
        collected.extend(stop.then_some(Event::ShutDown));
        collected
    }

    fn read_signals(&mut self) -> bool {
        let mut stop = false;
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = Signal::try_from(info.ssi_signo as i32);
            match signal {
                Ok(Signal::SIGTERM | Signal::SIGINT) => stop = true,
                _ => diag::event!(Level::Info, "signal without effect", number = info.ssi_signo),
            }
        }
        stop
    }

    /// Has owners take an event in; what it means for jobs is left as facts.
    fn handle(&mut self, event: Event) {
        let core = &mut self.core;
        match event {
            Event::Source(Source::Report(id)) => lifecycle::on_report_event(core, id),
            Event::Source(Source::Init(id)) => lifecycle::on_init_event(core, id),
            Event::Source(Source::ExecReport(id)) => lifecycle::on_exec_report(core, id),
            Event::Source(Source::ExecDone(id)) => lifecycle::on_exec_done(core, id),
            Event::Source(Source::Schedule) => lifecycle::on_due(core),
            Event::Source(Source::Mailbox | Source::Signals) => {}
            Event::Worker(event) => handle_worker(core, event),
            Event::Timer(timer) => handle_timer(core, timer),
            Event::Command(command) => command::handle(core, command),
            Event::ShutDown => lifecycle::begin_shutdown(core),
        }
    }

    /// Steps the facts that are there now, and acts on them. Facts left by their effects are not among them.
    fn step_facts(&mut self) {
        for (id, fact) in self.core.jobs.take_facts() {
            self.step(id, fact);
        }
    }

    /// One fact: the pure step, then its effects.
    fn step(&mut self, id: JobId, fact: Fact) {
        let Some(job) = self.core.jobs.get_mut(id).filter(|job| job.still_holds(&fact)) else { return };
        let state = std::mem::replace(&mut job.state, State::Draining(None));
        let (before, because) = (state.word(), fact.word());
        let (state, effects) = step(state, fact);
        if before != state.word() || !effects.is_empty() {
            let after = state.word();
            diag::event!(Level::Debug, "job step", jobId = id, fact = because, from = before, to = after);
        }
        job.state = state;
        for effect in effects {
            lifecycle::act(&mut self.core, id, *effect);
        }
    }
}

fn handle_worker(core: &mut Core, event: WorkerEvent) {
    match event {
        WorkerEvent::Created(created, under_way) => lifecycle::on_created(core, created, under_way),
        WorkerEvent::Started(result) => lifecycle::on_started(core, *result),
        WorkerEvent::OutputComplete(id) if core.execs.job_of(id).is_some() => {
            lifecycle::on_exec_output(core, id, true);
        }
        WorkerEvent::OutputComplete(id) => lifecycle::on_output_complete(core, id),
        WorkerEvent::OutputEmpty(id) => lifecycle::on_exec_output(core, id, false),
        WorkerEvent::Exec(event) => lifecycle::on_exec_event(core, event),
        WorkerEvent::Evidence(id, evidence) => lifecycle::on_evidence(core, id, *evidence),
        WorkerEvent::NotFrozen(frozen) => lifecycle::on_frozen(core, frozen),
        WorkerEvent::OverLimit(id) => lifecycle::on_over_limit(core, id),
        WorkerEvent::PipeHeld(id) => lifecycle::on_pipe_held(core, id),
        WorkerEvent::PipeFree => {}
        WorkerEvent::Recorded(outcome) => lifecycle::on_recorded(core, outcome),
        WorkerEvent::Staged(staged) => lifecycle::on_staged(core, staged),
        WorkerEvent::Collected(collected) => lifecycle::on_collected(core, collected),
        WorkerEvent::TreeTaken(id) => lifecycle::on_tree_taken(core, id),
        WorkerEvent::Network(changed) => core.supply.network_changed(*changed),
        WorkerEvent::Volume(changed) => core.supply.volumes_mut().take_in(*changed),
        WorkerEvent::Gpu(fact) => command::on_gpu_fact(core, fact),
        WorkerEvent::History(HistoryEvent::Complete(id)) => lifecycle::measure(core, id),
        WorkerEvent::History(HistoryEvent::Forgotten(ids)) => core.ledger.history_deleted(ids),
        WorkerEvent::AddressesFree(leases) => core.supply.addresses_free(&leases),
        WorkerEvent::EgressChanged(change) => command::on_egress_changed(core, *change),
        WorkerEvent::Cleanup(CleanupEvent::CgroupDone(pending)) => drop(pending),
        WorkerEvent::Cleanup(CleanupEvent::CgroupBusy(mut cgroup)) => {
            let at = cgroup.next_try(Instant::now(), core.settings.cleanup_timeout);
            core.clock.set(at, Timer::Cgroup(cgroup));
        }
        WorkerEvent::Cleanup(CleanupEvent::NetworkClean(namespace)) => core.supply.keep_namespace(namespace),
        WorkerEvent::Cleanup(CleanupEvent::Evidence(id, evidence)) => {
            lifecycle::on_evidence(core, id, *evidence);
        }
        WorkerEvent::Cleanup(CleanupEvent::Measured(id, bytes)) => core.jobs.measured(id, bytes),
        WorkerEvent::Cleanup(CleanupEvent::WorkDone(lease, _pending)) => {
            if let Some(lease) = lease {
                core.supply.take_back(lease);
            }
        }
    }
}

fn handle_timer(core: &mut Core, timer: Timer) {
    match timer {
        Timer::Grace(id) => core.jobs.note(id, Fact::GraceOver),
        Timer::Timeout(id) => lifecycle::on_timeout(core, id),
        Timer::PauseOver(id) => lifecycle::on_pause_over(core, id),
        Timer::Drain(id) => lifecycle::collect_late(core, id),
        Timer::Cgroup(cgroup) => core.cleanup.try_again(cgroup),
        Timer::Stuck => lifecycle::end_stuck(core),
        Timer::Quiet => lifecycle::refill_if_quiet(core),
        Timer::LiveOver(id) => {
            core.cleanup.remove_directory(core.execs.of_job(id));
            lifecycle::measure(core, id);
        }
        Timer::ExecStuck(id, looks) => lifecycle::end_stuck_exec(core, id, looks),
        Timer::ExecTimeout(id) => lifecycle::on_exec_timeout(core, id),
        Timer::ExecKill(id) => lifecycle::kill_exec(core, id),
        Timer::ExecDrain(id) => lifecycle::drain_exec(core, id),
        Timer::Expired => lifecycle::expire(core),
        Timer::Schedule => lifecycle::on_due(core),
        // The loop only had to wake: it looks at the feeds in each turn.
        Timer::Feed => core.clock.has_fed(),
        Timer::ShutdownOver => {
            let (jobs, groups) = (core.jobs.live(), core.cleanup.pending());
            diag::event!(Level::Error, "shutdown takes too long, leaving", jobs = jobs, groups = groups);
            core.shutdown.give_up();
        }
    }
}
