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
//! **Exposure.** A job gets the nodes of its GPUs and those that all GPU programs share ([`mod@nodes`]), by the numbers that
//! the host's own nodes have now: the major of `nvidia-uvm` is dynamic.

mod allocate;
mod ask;
mod device;
mod error;
mod information;
mod inventory;
mod nodes;

pub use allocate::{choose, fitting};
pub use ask::{Inquiry, PROGRAM, ask};
pub use device::Device;
pub use error::GpuError;
pub use inventory::{Inventory, Source, look};
pub use nodes::nodes;
