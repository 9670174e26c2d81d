//! The GPUs of the node: which there are, and which of them are free.
//!
//! The daemon asks the driver once, before the loop turns; it has [`BOUND`] for its answer. A GPU belongs to the job that
//! has its token, so nobody has it when whatever held that is gone, on each path. A job of an earlier daemon has its GPUs
//! by its record; one of them that is not there any more stays with it and is given to nobody.
//!
//! ```text
//! nobody has it any more, or the daemon starts --Check--> worker: processes, memory, scrubbing
//! the next job gets it                         <--Clean--
//!                                              <--HeldBack, Lost-- and nobody gets it
//! rnx gpu reset-state                          --Reset--> worker: does the driver answer for it?
//! ```
//!
//! So no GPU goes from one job to another, or from one daemon to another, that was not looked at in between. The thread `gpus`
//! ([`worker`]) waits for the driver, writes what is to survive, and has the board that shows everything.

mod fact;
mod sampled;
mod worker;

pub(super) use fact::GpuFact;
pub(super) use sampled::source as sample_source;

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError, bounded};
use log::Level;

use self::worker::{Order, Worker};
use super::command::{Answer, CommandError, GpusView};
use super::token::{Counter, Token};
use crate::config::daemon::DaemonConfig;
use crate::diag;
use crate::gpu::{
    self, Board, Device, GpuError, GpuState, Inquiry, Inventory, Kept, PROGRAM, Source, Standing,
};
use crate::job::{GpuLease, GpuScrub, GpuStrategy, GpuWish, JobId};

/// How long the driver has to tell its GPUs: without persistence mode it initialises each of them first.
const BOUND: Duration = Duration::from_secs(20);
/// Orders that may wait for the thread: some for each GPU that a host can have.
const QUEUE: usize = 1024;

/// How far a GPU is that nobody has.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Turn {
    /// A job has it, or had it, or an earlier daemon may have given it to one.
    Used,
    /// The thread looks at it.
    Checking,
    /// It has found this.
    HeldBack(String),
    /// The next job can have it.
    Clean,
}

/// The loop's entry for one GPU.
#[derive(Debug)]
struct Place {
    held: Counter,
    job: Option<JobId>,
    turn: Turn,
    lost: Option<String>,
}

/// The loop's list of GPUs.
#[derive(Debug)]
pub(super) struct Gpus {
    strategy: GpuStrategy,
    /// Why no job can have one; `None`: jobs can.
    off: Option<String>,
    found: Inventory,
    /// In the order of the inventory.
    places: Vec<Place>,
    /// To the thread; `None`: there is none.
    orders: Option<Sender<Order>>,
    /// The standings that the thread was sent last.
    told: Vec<Standing>,
    board: Board,
}

impl Gpus {
    /// Asks the driver, where the configuration wants GPUs, and starts the thread, which ends when this value is gone. A
    /// driver that is ill does not keep the daemon from its other jobs.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start(
        config: &DaemonConfig,
        report: impl Fn(GpuFact) + Send + 'static,
    ) -> std::io::Result<(Gpus, Option<JoinHandle<()>>)> {
        let (strategy, scrub) = (config.gpu.allocation_strategy, config.gpu.scrub);
        if !config.gpu.enabled {
            let off =
                "GPU support is disabled on this node; its configuration would have to say gpu.enabled: true";
            return Ok((Gpus::without(strategy, off.to_owned()), None));
        }
        let program = Path::new(PROGRAM);
        let found = gpu::ask(Inquiry { program, bound: BOUND }).map_err(|why| no_gpus(&why));
        let found = found.and_then(|found| can_scrub(program, scrub, &found).map(|()| found));
        let mut found = match found {
            Ok(found) => found,
            Err(why) => {
                diag::event!(Level::Error, "no job can have GPUs", reason = why);
                return Ok((Gpus::without(strategy, why), None));
            }
        };
        let kept = Kept::read(&config.data_dir).unwrap_or_else(|why| {
            diag::event!(Level::Error, "it is not known which GPUs were lost", error = why);
            Kept::default()
        });
        add_lost(&mut found, &kept);
        let mut gpus = Gpus::with(strategy, found);
        for (place, device) in gpus.places.iter_mut().zip(&gpus.found.devices) {
            place.lost = kept.lost.get(&device.uuid).map(|lost| lost.reason.clone());
            if let Some(why) = &place.lost {
                diag::event!(
                    Level::Error,
                    "a GPU is lost and given to no job",
                    gpu = device.uuid,
                    reason = why
                );
            }
        }
        let (orders, queue) = bounded(QUEUE);
        let interval = config.job_metrics.default_sample_rate;
        let watches = gpus.found.source == Source::Nvml;
        let worker = Worker::new(
            &gpus.found,
            gpus.board.clone(),
            kept,
            worker::Rules { interval, scrub, dir: config.data_dir.clone(), watches },
        );
        let work = move || worker.run(&queue, &report);
        let thread = std::thread::Builder::new().name("gpus".into()).spawn(work)?;
        gpus.orders = Some(orders);
        Ok((gpus, Some(thread)))
    }

    fn with(strategy: GpuStrategy, found: Inventory) -> Gpus {
        for note in &found.notes {
            diag::event!(Level::Warn, "GPUs of this host", reason = note);
        }
        let driver = found.driver.clone().unwrap_or_default();
        diag::event!(Level::Info, "GPUs can be given to jobs", number = found.devices.len(), driver = driver);
        let place = |_: &Device| Place { held: Counter::default(), job: None, turn: Turn::Used, lost: None };
        let places = found.devices.iter().map(place).collect();
        let board = Board::new(&found.devices, found.driver.clone());
        Gpus { strategy, off: None, found, places, orders: None, told: Vec::new(), board }
    }

    fn without(strategy: GpuStrategy, off: String) -> Gpus {
        let found = Inventory { source: Source::Proc, driver: None, devices: Vec::new(), notes: Vec::new() };
        let board = Board::default();
        Gpus { strategy, off: Some(off), found, places: Vec::new(), orders: None, told: Vec::new(), board }
    }

    /// Why no job can have GPUs; `None`: jobs can.
    pub(super) fn off(&self) -> Option<&str> {
        self.off.as_deref()
    }

    /// The inventory by the driver, with those that were lost.
    pub(super) fn found(&self) -> &Inventory {
        &self.found
    }

    /// The order in which free ones are given.
    pub(super) fn strategy(&self) -> GpuStrategy {
        self.strategy
    }

    /// The board with the state and the figures of each GPU.
    pub(super) fn board(&self) -> &Board {
        &self.board
    }

    /// Whether a job can have the GPU at this place of the inventory.
    fn is_free(&self, at: usize) -> bool {
        self.places
            .get(at)
            .is_some_and(|place| place.held.count() == 0 && place.turn == Turn::Clean && place.lost.is_none())
    }

    /// Where each GPU stands.
    pub(super) fn standings(&self) -> Vec<Standing> {
        let standing = |place: &Place| {
            let in_use = place.held.count() > 0;
            let (state, reason) = match (&place.lost, &place.turn) {
                (Some(why), _) => (GpuState::Lost, why.as_str()),
                _ if in_use => (GpuState::InUse, ""),
                (None, Turn::HeldBack(why)) => (GpuState::HeldBack, why.as_str()),
                (None, Turn::Clean) => (GpuState::Free, ""),
                (None, Turn::Used | Turn::Checking) => {
                    (GpuState::Checking, "it is looked at before a job gets it")
                }
            };
            Standing { state, job: place.job.filter(|_| in_use), reason: reason.to_owned() }
        };
        self.places.iter().map(standing).collect()
    }

    /// Why such a wish can never be met here; `None`: it can, if not now.
    pub(super) fn refuses(&self, wish: GpuWish) -> Option<String> {
        if let Some(off) = &self.off {
            return Some(off.clone());
        }
        let is_there = |at: usize| self.places[at].lost.is_none();
        let have = gpu::fitting(&self.found.devices, is_there, wish);
        if have >= wish.count as usize {
            return None;
        }
        let unknown = wish.memory_mib > 0 && self.found.devices.iter().any(|gpu| gpu.memory_mib.is_none());
        let mut why = format!("not enough GPUs available: need {wish}, have {have} on this node");
        if unknown {
            why += "; their memory is not known without NVML";
        }
        let lost = self.places.iter().filter(|place| place.lost.is_some()).count();
        if lost > 0 {
            why += &format!("; {lost} lost, see rnx gpu list");
        }
        Some(why)
    }

    /// Whether such a wish can be met now.
    pub(super) fn can(&self, wish: GpuWish) -> bool {
        self.choose(wish).is_some()
    }

    /// Free GPUs for a job, with the tokens by which it has them; `None` where too few are free.
    pub(super) fn take(&mut self, id: JobId, wish: GpuWish) -> Option<(Vec<GpuLease>, Vec<Token>)> {
        let places = self.choose(wish)?;
        let lease = |at: &usize| {
            let Device { index, uuid, minor, .. } = &self.found.devices[*at];
            GpuLease { index: *index, uuid: uuid.clone(), minor: *minor, lost: None }
        };
        let leases = places.iter().map(lease).collect();
        let tokens = places.iter().map(|at| self.hold(*at, id)).collect();
        Some((leases, tokens))
    }

    /// The PCI addresses of these, by which the driver lists them in /proc; of one that is not there any more, none.
    pub(super) fn addresses(&self, leases: &[GpuLease]) -> Vec<String> {
        let found = |lease: &GpuLease| self.found.devices.iter().find(|gpu| gpu.uuid == lease.uuid);
        leases.iter().filter_map(|lease| Some(found(lease)?.bus_id.clone())).collect()
    }

    /// The tokens of a job that has these already; none for a GPU that is not there any more.
    pub(super) fn inherit(&mut self, id: JobId, leases: &[GpuLease]) -> Vec<Token> {
        let place = |lease: &GpuLease| self.found.devices.iter().position(|gpu| gpu.uuid == lease.uuid);
        let places: Vec<usize> = leases.iter().filter_map(place).collect();
        places.into_iter().map(|at| self.hold(at, id)).collect()
    }

    fn hold(&mut self, at: usize, id: JobId) -> Token {
        let place = &mut self.places[at];
        (place.job, place.turn) = (Some(id), Turn::Used);
        place.held.token()
    }

    fn choose(&self, wish: GpuWish) -> Option<Vec<usize>> {
        gpu::choose(&self.found.devices, |at| self.is_free(at), wish, self.strategy)
    }

    /// The GPUs that nobody has any more, or that were not looked at since the daemon started. They are being looked at from now on.
    fn given_back(&mut self) -> Vec<usize> {
        let mut back = Vec::new();
        for (at, place) in self.places.iter_mut().enumerate() {
            if place.held.count() == 0 && place.turn == Turn::Used {
                (place.job, place.turn) = (None, Turn::Checking);
                back.push(at);
            }
        }
        back
    }

    /// Has the thread look at what was given back, and tells it where each GPU stands. To be called in each turn of the loop.
    pub(super) fn settle(&mut self) {
        let Some(orders) = self.orders.clone() else { return };
        for at in self.given_back() {
            if orders.try_send(Order::Check(at)).is_err() {
                // The thread lags behind; the next turn sends it again.
                self.places[at].turn = Turn::Used;
            }
        }
        let standings = self.standings();
        if standings != self.told && orders.try_send(Order::Stand(standings.clone())).is_ok() {
            self.told = standings;
        }
    }

    /// A GPU is clean.
    pub(super) fn clean(&mut self, at: usize) {
        let turn = self.places.get_mut(at).map(|place| &mut place.turn);
        if let Some(turn) = turn.filter(|turn| matches!(turn, Turn::Checking | Turn::HeldBack(_))) {
            *turn = Turn::Clean;
        }
    }

    /// A GPU is held back.
    pub(super) fn hold_back(&mut self, at: usize, why: String) {
        let turn = self.places.get_mut(at).map(|place| &mut place.turn);
        if let Some(turn) = turn.filter(|turn| matches!(turn, Turn::Checking | Turn::HeldBack(_))) {
            *turn = Turn::HeldBack(why);
        }
    }

    /// A GPU is lost. Returns its UUID and the job that has it.
    pub(super) fn lose(&mut self, at: usize, why: String) -> Option<(String, Option<JobId>)> {
        let place = self.places.get_mut(at)?;
        place.lost = Some(why);
        let job = place.job.filter(|_| place.held.count() > 0);
        Some((self.found.devices.get(at)?.uuid.clone(), job))
    }

    /// These leases, with what became of their GPUs while the job was being started.
    pub(super) fn marked(&self, mut leases: Vec<GpuLease>) -> Vec<GpuLease> {
        for lease in &mut leases {
            let at = self.found.devices.iter().position(|gpu| gpu.uuid == lease.uuid);
            lease.lost = at.and_then(|at| self.places[at].lost.clone());
        }
        leases
    }

    /// A GPU is not lost any more, and not held back.
    pub(super) fn restore(&mut self, at: usize) {
        let Some(place) = self.places.get_mut(at) else { return };
        // A GPU that is held back is given on, as the administrator wants. A lost one is looked at as after any job.
        place.turn = match (place.lost.take(), &place.turn) {
            (None, Turn::HeldBack(_)) => Turn::Clean,
            _ => Turn::Used,
        };
    }

    /// Has a GPU restored that is lost or held back; an answer that cannot wait for it is given at once.
    pub(super) fn reset(&self, named: &str, answer: Answer<GpusView>) {
        let refuse = |why: CommandError, answer: Answer<GpusView>| drop(answer.send(Err(why)));
        if let Some(off) = &self.off {
            return refuse(CommandError::WrongState(off.clone()), answer);
        }
        let is_named = |gpu: &Device| gpu.uuid == named || gpu.index.to_string() == named;
        let Some(at) = self.found.devices.iter().position(is_named) else {
            let why =
                format!("this node has no GPU \"{}\"; rnx gpu list shows those it has", named.escape_debug());
            return refuse(CommandError::Missing(why), answer);
        };
        let place = &self.places[at];
        if place.lost.is_none() && !matches!(place.turn, Turn::HeldBack(_)) {
            let why = format!(
                "GPU {} is neither lost nor held back; there is nothing to reset",
                self.found.devices[at].index
            );
            return refuse(CommandError::WrongState(why), answer);
        }
        let Some(orders) = &self.orders else { return };
        let sent = orders.try_send(Order::Reset(at, answer)).map_err(TrySendError::into_inner);
        if let Err(Order::Reset(_, answer)) = sent {
            let why = "the driver keeps the thread of the GPUs busy; try again";
            refuse(CommandError::Exhausted(why.to_owned()), answer);
        }
    }
}

/// GPUs that were lost and that the driver does not tell any more stand in the list all the same.
fn add_lost(found: &mut Inventory, kept: &Kept) {
    for (uuid, lost) in &kept.lost {
        if !found.devices.iter().any(|gpu| gpu.uuid == *uuid) {
            found.devices.push(lost.device.clone());
        }
    }
    found.devices.sort_by_key(|gpu| gpu.index);
}

/// Why memory cannot be scrubbed here as the configuration wants it.
fn can_scrub(program: &Path, scrub: GpuScrub, found: &Inventory) -> Result<(), String> {
    let refused = |why: String| format!("this node cannot give GPUs to jobs: {why}");
    gpu::can_scrub(program, scrub, found.source).map_err(refused)
}

fn no_gpus(why: &GpuError) -> String {
    format!("this node cannot give GPUs to jobs: {why}; restart joblet when that is mended")
}

#[cfg(test)]
#[path = "gpus_tests.rs"]
mod tests;
