//! The thread of the GPUs: it waits for the driver, so that nobody else does.
//!
//! It measures at an interval and when something changes, looks at GPUs between two jobs, and writes down which are lost. Nothing
//! here waits for longer than the bounds below, whatever the driver does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use log::Level;

use super::fact::GpuFact;
use crate::daemon::command::{Answer, CommandError, GpusView};
use crate::diag;
use crate::gpu::{
    self, Board, Device, GpuError, GpuReading, Inventory, Kept, Leaving, LostGpu, Measured, PROGRAM,
    Standing, Watch, Zeroing,
};
use crate::job::{GpuLease, GpuScrub};
use crate::sys::clock::now_ns;

/// How long the driver has for the first reading of a process, which initialises its GPUs, and for each later one.
const BOUNDS: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(5));
/// How long a GPU is looked at before it counts as held back: the driver frees memory a moment after a process has ended.
const PATIENCE: Duration = Duration::from_secs(5);
/// From one look at a GPU to the next, within that time.
const AGAIN: Duration = Duration::from_millis(250);
/// How long /proc may take.
const PROC_BOUND: Duration = Duration::from_secs(5);
/// How long the memory of a GPU may take to be overwritten: 141 GB take a second or two.
const ZERO_BOUND: Duration = Duration::from_secs(60);
/// Bytes by which the idle value of a GPU moves of itself.
const SLACK: u64 = 32 << 20;
/// Xid errors after which a GPU computes no more until it is reset (docs.nvidia.com, Xid Errors). Others are errors of programs, or
/// are mended by the driver.
const FATAL: [(u64, &str); 7] = [
    (48, "an uncorrectable memory error"),
    (64, "a memory row that could not be remapped"),
    (74, "an error of NVLink"),
    (79, "it has fallen off the bus"),
    (95, "an uncontained memory error"),
    (119, "its system processor does not answer"),
    (120, "an error of its system processor"),
];

/// An order of the loop.
#[derive(Debug)]
pub(super) enum Order {
    /// Look at this GPU, which nobody has.
    Check(usize),
    /// Show that they stand so.
    Stand(Vec<Standing>),
    /// Forget that this GPU is lost or held back.
    Reset(usize, Answer<GpusView>),
}

/// The rules of the thread.
#[derive(Debug)]
pub(super) struct Rules {
    /// From one reading to the next.
    pub(super) interval: Duration,
    /// The treatment of memory between two jobs.
    pub(super) scrub: GpuScrub,
    /// Where the file of lost GPUs is.
    pub(super) dir: PathBuf,
    /// Whether NVML is there.
    pub(super) watches: bool,
}

/// A GPU that is looked at.
#[derive(Debug)]
struct Pending {
    since: Instant,
    next: Instant,
    zeroing: Option<Zeroing>,
    /// The reason that was reported last.
    said: String,
}

/// All that the thread has.
#[derive(Debug)]
pub(super) struct Worker {
    devices: Vec<Device>,
    driver: Option<String>,
    board: Board,
    kept: Kept,
    rules: Rules,
    watch: Option<Watch>,
    /// A process that did not answer. There is never a second one beside it.
    leaving: Option<Leaving>,
    pending: BTreeMap<usize, Pending>,
    /// Xid errors of each so far.
    xids: Vec<u64>,
    /// Whether the last reading failed.
    is_ill: bool,
}

impl Worker {
    pub(super) fn new(found: &Inventory, board: Board, kept: Kept, rules: Rules) -> Worker {
        Worker {
            devices: found.devices.clone(),
            driver: found.driver.clone(),
            board,
            kept,
            rules,
            watch: None,
            leaving: None,
            pending: BTreeMap::new(),
            xids: vec![0; found.devices.len()],
            is_ill: false,
        }
    }

    /// Works until the loop is gone.
    pub(super) fn run(mut self, orders: &Receiver<Order>, report: &dyn Fn(GpuFact)) {
        let mut due = Instant::now();
        loop {
            let looks = self.pending.values().map(|pending| pending.next);
            match orders.recv_deadline(looks.min().unwrap_or(due).min(due)) {
                Ok(order) => self.take(order, report),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(order) = orders.try_recv() {
                self.take(order, report);
            }
            let now = Instant::now();
            if now >= due || self.pending.values().any(|pending| pending.next <= now) {
                let readings = self.measure(report);
                self.check_pending(&readings, report);
                due = Instant::now() + self.rules.interval;
            }
        }
    }

    fn take(&mut self, order: Order, report: &dyn Fn(GpuFact)) {
        match order {
            Order::Check(at) => {
                let now = Instant::now();
                let pending = Pending { since: now, next: now, zeroing: None, said: String::new() };
                self.pending.insert(at, pending);
            }
            Order::Stand(standings) => self.board.stand(standings),
            Order::Reset(at, answer) => match self.restore(at) {
                Ok(()) => report(GpuFact::Restored(at, answer)),
                Err(why) => drop(answer.send(Err(why))),
            },
        }
    }

    /// A reading of all GPUs, which goes to the board. Those that are lost are reported.
    fn measure(&mut self, report: &dyn Fn(GpuFact)) -> Result<Vec<GpuReading>, String> {
        if !self.rules.watches {
            return Ok(Vec::new());
        }
        let readings = self.read();
        match &readings {
            Ok(readings) => {
                self.is_ill = false;
                self.note_losses(readings, report);
                let measured = (0..self.devices.len()).map(|at| self.measured(at, readings)).collect();
                self.board.measure(measured, self.rules.interval * 2 + BOUNDS.1);
            }
            Err(why) if !std::mem::replace(&mut self.is_ill, true) => {
                diag::event!(Level::Error, "GPUs are not measured", error = why);
            }
            Err(_) => {}
        }
        readings.map_err(|why| why.to_string())
    }

    fn read(&mut self) -> Result<Vec<GpuReading>, GpuError> {
        if self.leaving.as_mut().is_some_and(|leaving| !leaving.is_gone()) {
            return Err(GpuError::StillHangs);
        }
        let (mut watch, bound) = match self.watch.take() {
            Some(watch) => (watch, BOUNDS.1),
            None => (Watch::start(Path::new(PROGRAM))?, BOUNDS.0),
        };
        match watch.read(bound) {
            Ok(readings) => {
                self.watch = Some(watch);
                Ok(readings)
            }
            // It is of no use any more; the next reading starts another one.
            Err(why) => {
                self.leaving = Some(watch.abandon());
                Err(why)
            }
        }
    }

    fn measured(&self, at: usize, readings: &[GpuReading]) -> Option<Measured> {
        let reading = of(&self.devices[at], readings).filter(|reading| reading.lost.is_none())?;
        let (figures, processes) = (reading.figures.clone(), reading.processes.clone());
        Some(Measured { figures, processes, xids: self.xids[at] })
    }

    fn note_losses(&mut self, readings: &[GpuReading], report: &dyn Fn(GpuFact)) {
        for at in 0..self.devices.len() {
            let device = self.devices[at].clone();
            let reading = of(&device, readings);
            let xids = reading.map(|reading| reading.xids.as_slice()).unwrap_or_default();
            self.xids[at] += xids.len() as u64;
            if self.kept.lost.contains_key(&device.uuid) {
                continue;
            }
            let Some(reason) = loss(&device, reading, xids) else { continue };
            diag::event!(
                Level::Error,
                "a GPU is lost and given to no job",
                gpu = device.uuid,
                reason = reason
            );
            let lost = LostGpu { device: device.clone(), reason: reason.clone(), since_ns: now_ns() };
            self.kept.lost.insert(device.uuid.clone(), lost);
            if let Err(why) = self.kept.write(&self.rules.dir) {
                diag::event!(
                    Level::Error,
                    "a lost GPU cannot be remembered; the next daemon may give it to a job",
                    gpu = device.uuid,
                    error = why
                );
            }
            report(GpuFact::Lost(at, reason));
        }
    }

    /// The driver answers for it, and it is in the file no more.
    fn restore(&mut self, at: usize) -> Result<(), CommandError> {
        let device = self.devices[at].clone();
        if self.rules.watches {
            // Handles of the driver from before a reset of the GPU are of no use.
            self.watch = None;
            let readings =
                self.read().map_err(|why| CommandError::WrongState(still(&device, &why.to_string())))?;
            let reading = of(&device, &readings);
            if let Some(why) = loss(&device, reading, &[]) {
                return Err(CommandError::WrongState(still(&device, &why)));
            }
        }
        if let Some(lost) = self.kept.lost.remove(&device.uuid)
            && let Err(why) = self.kept.write(&self.rules.dir)
        {
            self.kept.lost.insert(device.uuid.clone(), lost);
            return Err(CommandError::SetUp(format!(
                "cannot reset the state of GPU {}: {why}",
                device.index
            )));
        }
        self.pending.remove(&at);
        diag::event!(
            Level::Warn,
            "a GPU is given to jobs again, as an administrator wants",
            gpu = device.uuid
        );
        Ok(())
    }

    fn check_pending(&mut self, readings: &Result<Vec<GpuReading>, String>, report: &dyn Fn(GpuFact)) {
        let now = Instant::now();
        let due: Vec<usize> =
            self.pending.iter().filter(|(_, pending)| pending.next <= now).map(|(at, _)| *at).collect();
        for at in due {
            let Some(mut pending) = self.pending.remove(&at) else { continue };
            match self.look(at, readings, &mut pending) {
                Ok(true) => report(GpuFact::Clean(at)),
                Ok(false) => {
                    pending.next = now + AGAIN;
                    self.pending.insert(at, pending);
                }
                Err(why) => {
                    let is_patient = pending.since.elapsed() < PATIENCE;
                    pending.next = now + if is_patient { AGAIN } else { self.rules.interval.max(AGAIN) };
                    if !is_patient && pending.said != why {
                        let gpu = &self.devices[at].uuid;
                        diag::event!(Level::Error, "a GPU is held back from jobs", gpu = gpu, reason = why);
                        pending.said.clone_from(&why);
                        report(GpuFact::HeldBack(at, why));
                    }
                    self.pending.insert(at, pending);
                }
            }
        }
    }

    /// Whether the next job can have it; `false`: not yet.
    fn look(
        &mut self,
        at: usize,
        readings: &Result<Vec<GpuReading>, String>,
        pending: &mut Pending,
    ) -> Result<bool, String> {
        if let Some(zeroing) = &mut pending.zeroing {
            let Some(done) = zeroing.look() else { return Ok(false) };
            if !matches!(done, Err(GpuError::Hangs(_))) {
                pending.zeroing = None;
            }
            return done.map(|()| true).map_err(|why| format!("its memory cannot be overwritten: {why}"));
        }
        let device = self.devices[at].clone();
        no_process_has(&device)?;
        let reading = of(&device, readings.as_ref().map_err(Clone::clone)?);
        let mut processes = reading.and_then(|reading| reading.processes.as_ref()).into_iter().flatten();
        if let Some(process) = processes.find(|process| !gpu::is_of_host(Path::new("/proc"), process.pid)) {
            return Err(format!(
                "process {} still computes on it",
                gpu::process_name(Path::new("/proc"), process.pid)
            ));
        }
        self.check_memory(&device, reading)?;
        if self.rules.scrub == GpuScrub::Zero {
            let begun = Zeroing::start(Path::new(PROGRAM), &device.uuid, ZERO_BOUND);
            pending.zeroing = Some(begun.map_err(|why| why.to_string())?);
            return Ok(false);
        }
        Ok(true)
    }

    /// Its memory in use is that of an idle GPU. The idle value is learned when it is seen idle for the first time.
    fn check_memory(&mut self, device: &Device, reading: Option<&GpuReading>) -> Result<(), String> {
        if self.rules.scrub == GpuScrub::None {
            return Ok(());
        }
        let used = reading.and_then(|reading| reading.figures.memory_used);
        let used = used.ok_or("the driver does not tell how much of its memory is in use")?;
        let Some(idle) = self.kept.idle(&device.uuid, self.driver.as_deref()) else {
            let mut processes = reading.and_then(|reading| reading.processes.as_ref()).into_iter().flatten();
            if let Some(process) = processes.next() {
                let name = gpu::process_name(Path::new("/proc"), process.pid);
                return Err(format!(
                    "the memory that it uses when idle is not known yet, and process {name} is on it"
                ));
            }
            self.kept.set_idle(&device.uuid, self.driver.as_deref(), used);
            let kept = self.kept.write(&self.rules.dir);
            return kept
                .map_err(|why| format!("the memory that it uses when idle cannot be remembered: {why}"));
        };
        if used <= idle.saturating_add(SLACK) {
            return Ok(());
        }
        let mib = |bytes: u64| bytes >> 20;
        Err(format!(
            "{} MiB of its memory are in use, and nobody has it; {} MiB are when it is idle",
            mib(used),
            mib(idle)
        ))
    }
}

/// The reading of a device. Parts of a GPU have none.
fn of<'r>(device: &Device, readings: &'r [GpuReading]) -> Option<&'r GpuReading> {
    readings.iter().find(|reading| reading.uuid.as_deref() == Some(&device.uuid))
}

/// Why a device is of no use any more.
fn loss(device: &Device, reading: Option<&GpuReading>, xids: &[u64]) -> Option<String> {
    let fatal = |xid: &u64| FATAL.iter().find(|(number, _)| number == xid);
    match reading {
        // Parts of GPUs are not read one by one.
        None => device.uuid.starts_with("GPU-").then(|| "the driver does not know it any more".to_owned()),
        Some(GpuReading { lost: Some(why), .. }) => Some(why.clone()),
        Some(_) => xids
            .iter()
            .find_map(fatal)
            .map(|(xid, what)| format!("the driver has reported {what} (Xid {xid})")),
    }
}

fn still(device: &Device, why: &str) -> String {
    format!(
        "GPU {} is still of no use: {why}; reset it with nvidia-smi --gpu-reset, or restart the host",
        device.index
    )
}

/// No process of a job has the device's node open.
fn no_process_has(device: &Device) -> Result<(), String> {
    let lease = GpuLease { index: device.index, uuid: device.uuid.clone(), minor: device.minor, lost: None };
    // Without a node nobody can have it open.
    let Some(node) = gpu::nodes(Path::new("/dev"), &[lease]).ok().and_then(|nodes| nodes.into_iter().next())
    else {
        return Ok(());
    };
    let number = (node.major, node.minor);
    match gpu::holder(Path::new("/proc"), number, Instant::now() + PROC_BOUND) {
        Ok(None) => Ok(()),
        Ok(Some(holder)) => Err(format!(
            "process {} ({}) of a job still has /dev/{} open",
            holder.pid, holder.name, node.name
        )),
        Err(why) => Err(format!("it is not known which processes have /dev/{} open: {why}", node.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fatal_reports_and_silence_are_losses_and_others_are_not() {
        let device = Device { uuid: "GPU-1".into(), ..Device::default() };
        let reading = GpuReading { uuid: Some("GPU-1".into()), ..GpuReading::default() };
        assert_eq!(loss(&device, Some(&reading), &[13, 31, 43]), None);
        assert!(
            loss(&device, Some(&reading), &[13, 79]).is_some_and(|why| why.contains("off the bus (Xid 79)"))
        );
        assert!(loss(&device, None, &[]).is_some());
        let lost = GpuReading { lost: Some("gone".into()), ..reading };
        assert_eq!(loss(&device, Some(&lost), &[]).as_deref(), Some("gone"));
        let part = Device { uuid: "MIG-1".into(), ..Device::default() };
        assert_eq!(loss(&part, None, &[]), None);
    }
}
