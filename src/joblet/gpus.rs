//! `joblet gpus`: prints what the driver says of this host's GPUs, as JSON. The daemon asks in this way too: a driver
//! that hangs, or a library that crashes, then ends this process and no other.

use super::{Failure, flags, print};
use crate::gpu;

/// Runs `joblet gpus` with the arguments after that word.
pub(super) fn run(args: &[String]) -> Result<i32, Failure> {
    let about = "Usage: joblet gpus\n\nPrints the GPUs of this host as JSON: what NVML says of them, or where that is \
                 not installed, /proc/driver/nvidia. Exit code 1: no driver.";
    if let Err(help) = flags::subcommand("gpus", about, getopts::Options::new(), args)? {
        return print(&help);
    }
    print(&format!("{}\n", serde_json::to_string(&gpu::look()?)?))
}
