//! The host itself: processors, memory, disks, interfaces, processes, and the cloud that it is a part of.
//!
//! The parsers are pure functions of text, one file a subject. [`Files`] reads the texts, a [`Reading`] holds what one
//! look found, and a [`Sample`] is the host between two readings: shares and rates need an interval. The thread of
//! [`Watcher`] takes readings when somebody asks, so a host that nobody looks at costs nothing.
//!
//! # Bounds
//!
//! At most one reading is taken in [`watcher::SHORTEST`], for everybody who is due then. At most [`process::SCANNED`] processes are read and
//! [`process::TOP`] shown by processor time and by memory.

pub mod block;
pub mod cloud;
pub mod cpu;
pub mod disk;
pub mod host;
pub mod interface;
pub mod memory;
mod metadata;
pub mod part;
pub mod process;
pub mod reading;
pub mod sample;
pub mod watcher;

pub use cloud::Cloud;
pub use part::{Part, Parts};
pub use reading::{Files, Reading};
pub use sample::Sample;
pub use watcher::{Feed, Settings, Watcher};
