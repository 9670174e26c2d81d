//! The state and the figures of each GPU at this moment, for their readers: samples of jobs, clients, the metrics endpoint.
//!
//! One thread writes it, that of the GPUs; the loop does not touch it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::device::Device;
use crate::job::JobId;
use crate::sys::nvml_figures::{GpuFigures, GpuProcess};

/// Whether a job can have a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GpuState {
    /// Nobody has it.
    Free,
    /// A job has it.
    InUse,
    /// A job has given it back, or the daemon has started: it is looked at before the next job gets it.
    #[default]
    Checking,
    /// That look has found something, and is repeated.
    HeldBack,
    /// It is of no use until an administrator says otherwise.
    Lost,
}

impl GpuState {
    /// All of them.
    pub const ALL: [GpuState; 5] =
        [GpuState::Free, GpuState::InUse, GpuState::Checking, GpuState::HeldBack, GpuState::Lost];

    /// Its word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            GpuState::Free => "free",
            GpuState::InUse => "in_use",
            GpuState::Checking => "checking",
            GpuState::HeldBack => "held_back",
            GpuState::Lost => "lost",
        }
    }
}

/// Where a GPU stands, as the loop knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The state that it is in.
    pub state: GpuState,
    /// The job that has it.
    pub job: Option<JobId>,
    /// Why no job can have it; empty: one can.
    pub reason: String,
}

/// The last measurement of a GPU.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// The numbers of this reading.
    pub figures: GpuFigures,
    /// The processes on it; `None`: not told.
    pub processes: Option<Vec<GpuProcess>>,
    /// Xid errors since the daemon watches it.
    pub xids: u64,
}

/// One GPU with all that the board has of it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The device as the driver describes it.
    pub device: Device,
    /// Where it stands.
    pub standing: Standing,
    /// The last measurement; `None`: there is none, or it is too old.
    pub measured: Option<Measured>,
}

#[derive(Debug, Default)]
struct Contents {
    gpus: Vec<Seen>,
    driver: Option<String>,
    /// When the measurements were taken, and how long they hold.
    taken: Option<(Instant, Duration)>,
}

/// The board. Its copies are the same one.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<Contents>>);

impl Board {
    /// A board of these GPUs.
    pub fn new(devices: &[Device], driver: Option<String>) -> Board {
        let seen = |device: &Device| Seen { device: device.clone(), ..Seen::default() };
        let gpus = devices.iter().map(seen).collect();
        Board(Arc::new(Mutex::new(Contents { gpus, driver, taken: None })))
    }

    /// The version of the driver, where it is known.
    pub fn driver(&self) -> Option<String> {
        self.lock().driver.clone()
    }

    /// All GPUs. Measurements that are too old are left out.
    pub fn all(&self) -> Vec<Seen> {
        let contents = self.lock();
        let is_fresh = contents.taken.is_some_and(|(at, life)| at.elapsed() <= life);
        let seen =
            |seen: &Seen| Seen { measured: seen.measured.clone().filter(|_| is_fresh), ..seen.clone() };
        contents.gpus.iter().map(seen).collect()
    }

    /// Puts the standings there, in the order of the devices.
    pub fn stand(&self, standings: Vec<Standing>) {
        for (seen, standing) in self.lock().gpus.iter_mut().zip(standings) {
            seen.standing = standing;
        }
    }

    /// Puts measurements there, in the order of the devices, which hold for so long.
    pub fn measure(&self, measured: Vec<Option<Measured>>, life: Duration) {
        let mut contents = self.lock();
        for (seen, measured) in contents.gpus.iter_mut().zip(measured) {
            seen.measured = measured;
        }
        contents.taken = Some((Instant::now(), life));
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_vanish_when_they_are_old() {
        let device = Device { uuid: "GPU-1".into(), ..Device::default() };
        let board = Board::new(&[device], None);
        assert!(board.all()[0].measured.is_none());
        board.measure(vec![Some(Measured::default())], Duration::from_secs(600));
        assert!(board.all()[0].measured.is_some());
        board.measure(vec![Some(Measured::default())], Duration::ZERO);
        assert!(board.all()[0].measured.is_none());
    }
}
