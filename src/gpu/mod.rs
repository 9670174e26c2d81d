//! GPUs: what the host has, which of them a job gets, and what stands in its /dev for them.
//!
//! **Discovery.** joblet asks the driver through NVML, the vendor's library; where that is not installed, the files below
//! `/proc/driver/nvidia/gpus` tell less (no memory). Either may hang for ever in a driver that is ill, or crash in
//! the vendor's code. So a process of its own asks, `joblet gpus`, and the daemon waits for its answer so long and no
//! longer ([`mod@ask`]). A GPU is known by its UUID; its number may change with a restart, and the number of its node comes from the
//! driver.
//!
//! **Allocation** ([`choose`]) is a pure function. A GPU belongs to one job, wholly. That is counted by the daemon's
//! loop, which owns the list.
//!
//! **Measuring.** A second process of that kind stays, and answers for as long as the daemon lives ([`mod@watch`]). Its answers
//! stand on a [`Board`] for samples, clients and the metrics endpoint.
//!
//! **Between jobs** no process of a job may have the device ([`mod@holders`]), its memory may be overwritten ([`zeroing`]), and a
//! GPU that is lost is remembered as such ([`kept`]).
//!
//! **Exposure.** A job gets the nodes of its GPUs and those that all GPU programs share ([`mod@nodes`]), by the numbers that
//! the host's own nodes have now: the major of `nvidia-uvm` is dynamic. The driver's libraries and programs are the host's too
//! ([`mod@driver`]), by the linker's cache ([`mod@linker_cache`]).

mod allocate;
mod ask;
mod board;
mod device;
mod driver;
mod error;
mod holders;
mod information;
mod inventory;
mod kept;
mod linker_cache;
mod nodes;
mod watch;
mod zeroing;

pub use allocate::{choose, fitting};
pub use ask::{Inquiry, PROGRAM, ask};
pub use board::{Board, GpuState, Measured, Seen, Standing};
pub use device::Device;
pub use driver::{DriverWish, driver_files};
pub use error::GpuError;
pub use holders::{Holder, holder, is_of_host, process_name};
pub use inventory::{Inventory, Source, look};
pub use kept::{Kept, LostGpu};
pub use nodes::nodes;
pub use watch::{Leaving, WATCH, Watch, answer};
pub use zeroing::{CAN_ZERO, ZERO, Zeroing, can_scrub};

pub use crate::sys::nvml_figures::{GpuFigures, GpuProcess, GpuReading};
