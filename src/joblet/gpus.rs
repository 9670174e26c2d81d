//! `joblet gpus`: prints what the driver says of this host's GPUs, as JSON. The daemon asks in this way too: a driver
//! that hangs, or a library that crashes, then ends this process and no other.

use std::io;

use super::{Failure, flags, print};
use crate::gpu;
use crate::sys::cuda;

/// Runs `joblet gpus` with the arguments after that word.
pub(super) fn run(args: &[String]) -> Result<i32, Failure> {
    let about = "Usage: joblet gpus [--watch | --zero UUID | --can-zero]\n\nPrints the GPUs of this host as JSON: what NVML \
                 says of them, or where that is not installed, /proc/driver/nvidia. Exit code 1: no driver.";
    let mut options = getopts::Options::new();
    options
        .optflag("", gpu::WATCH, "answer each line of the input with a line of JSON: what NVML measures")
        .optopt("", gpu::ZERO, "overwrite with zeros what is free of the memory of a GPU", "UUID")
        .optflag("", gpu::CAN_ZERO, "whether --zero could: libcuda.so.1 is there");
    let given = match flags::subcommand("gpus", about, options, args)? {
        Err(help) => return print(&help),
        Ok(given) => given,
    };
    if given.opt_present(gpu::WATCH) {
        gpu::answer(io::stdin().lock(), io::stdout().lock())?;
        return Ok(0);
    }
    if given.opt_present(gpu::CAN_ZERO) {
        cuda::probe()?;
        return Ok(0);
    }
    if let Some(uuid) = given.opt_str(gpu::ZERO) {
        let bytes = cuda::zero(&uuid)?;
        return print(&format!("{bytes}\n"));
    }
    print(&format!("{}\n", serde_json::to_string(&gpu::look()?)?))
}
