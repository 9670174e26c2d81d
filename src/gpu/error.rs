//! Errors of this room.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A failed attempt with GPUs.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// Neither NVML nor the files of the driver.
    #[error("cannot find GPUs: {nvml}; and {path} is not there: is the NVIDIA driver loaded?", path = path.display())]
    Find {
        /// Why not through NVML.
        nvml: String,
        /// The directory of the driver.
        path: PathBuf,
    },
    /// The process that asks the driver could not be started or read.
    #[error("cannot ask the driver: {program}: {source}", program = program.display())]
    Start {
        /// The program that was run.
        program: PathBuf,
        /// The system's refusal.
        source: io::Error,
    },
    /// It did not answer in time.
    #[error(
        "the GPU driver does not answer within {}s: nvidia-smi would hang too; look at dmesg, and restart the host",
        .0.as_secs()
    )]
    Hangs(Duration),
    /// An earlier one has not come back from the driver.
    #[error("a process that asked the GPU driver hangs in it; look at dmesg, and restart the host")]
    StillHangs,
    /// It answered something else.
    #[error("the process that asks the GPU driver said: {0}")]
    Answer(String),
    /// A device node of the host is not there.
    #[error("{path} is not there ({source}): nvidia-modprobe -c 0 -u makes it", path = path.display())]
    Node {
        /// The path of the node.
        path: PathBuf,
        /// The system's refusal.
        source: io::Error,
    },
    /// Something else stands where a device node should.
    #[error("{} is no character device", .0.display())]
    NoDevice(PathBuf),
}
