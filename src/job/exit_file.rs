//! The daemon's side of the exit file ([`crate::init_abi::exit_file`] has the layout): reading it.

pub use crate::init_abi::exit_file::{Begun, Defect, ExitFile, OWN_DISKS, SIZE};

use crate::init_abi::exit_file::{BEGUN, MAGIC, WAITING};

/// The progress of a payload, as far as its exit file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// joblet-init waits for its exec request, or has not come to it.
    Waiting,
    /// joblet-init goes on to start it, or has.
    Begun,
    /// It has ended.
    Ended,
    /// The file of an earlier version, whose payload may have begun.
    Unknown,
}

/// The block of a file whose job has not begun.
pub fn waiting() -> [u8; SIZE] {
    let mut block = [0; SIZE];
    block[..WAITING.len()].copy_from_slice(&WAITING);
    block
}

/// The progress of the payload of a file with this block.
pub fn progress(block: &[u8; SIZE]) -> Progress {
    match block.first_chunk() {
        Some(&WAITING) => Progress::Waiting,
        Some(&BEGUN) => Progress::Begun,
        Some(&MAGIC) => Progress::Ended,
        _ => Progress::Unknown,
    }
}

impl ExitFile {
    /// Reads a block; `None` where no complete one stands (the job is alive, or its joblet-init was killed).
    pub fn decode(block: &[u8]) -> Option<Self> {
        if block.get(..8)? != MAGIC {
            return None;
        }
        let word = |at: usize| Some(i32::from_le_bytes(block.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(block.get(at..at + 8)?.try_into().ok()?));
        Some(ExitFile {
            wait_status: word(8)?,
            begun: match block.get(12)? {
                0 => Begun::Executed,
                2 => Begun::NotEntered,
                _ => Begun::NotExecuted,
            },
            defect: match block.get(13)? {
                1 => Defect::Elf32,
                2 => Defect::OtherMachine,
                3 => Defect::NoFormat,
                4 => Defect::CarriageReturn,
                5 => Defect::NoInterpreter,
                // Those of a later joblet-init too.
                _ => Defect::None,
            },
            full: *block.get(14)?,
            crowded: *block.get(15)?,
            errno: word(16)?,
            pid: word(20)?,
            user_usec: long(24)?,
            system_usec: long(32)?,
            max_rss_kib: long(40)?,
            started_ns: long(48)?.cast_signed(),
            ended_ns: long(56)?.cast_signed(),
        })
    }
}
