//! The description of a job and its life: pure data and functions, no I/O, no clock, no kernel.
//!
//! The API makes a [`JobSpec`] of a request once; every range and syntax rule stands in the constructors of this room,
//! so no later code checks again. A job's life is the pure function [`state::step`]: the loop collects facts, calls
//! `step`, and carries out the effects. The end of a job is an [`exit::Ending`], decided in one place from the
//! witnesses that the loop has gathered.

pub mod client;
pub mod denial;
pub mod egress;
pub mod env;
pub mod exec;
pub mod exit;
pub mod exit_file;
mod given_name;
pub mod gpu;
pub mod id;
mod invalid_field;
pub mod layer;
pub mod limits;
mod network;
pub mod own_disk;
pub mod part;
pub mod policy;
mod profile;
pub mod publish;
mod rate;
mod run_as;
pub mod runtime;
pub mod spec;
pub mod state;
mod status;
pub mod units;
pub mod user;
pub mod view;
pub mod volume;

pub use client::ClientId;
pub use denial::{Denial, Denials};
pub use env::Secret;
pub use exit::{Ending, ExitReason};
pub use gpu::{
    DeviceNode, DriverFiles, DriverLibrary, DriverParts, GpuLease, GpuScrub, GpuStrategy, GpuWish,
};
pub use id::{JobId, JobRef};
pub use invalid_field::InvalidField;
pub use layer::{Layer, Verdict};
pub use limits::Limits;
pub use network::{NetworkMode, NetworkName, WireLease};
pub use part::{Part, WorkflowId};
pub use policy::{Controller, Enforcement, SpoolPolicy};
pub use profile::{CONTAINER_IDS, Profile, ranges};
pub use rate::NetRate;
pub use run_as::{Found, RunAs, UserName};
pub use runtime::{RuntimeId, RuntimeName, RuntimeSpec};
pub use spec::JobSpec;
pub use state::{Effect, Fact, State};
pub use status::Status;
pub use user::User;
pub use view::{JobClock, JobView};
pub use volume::{VolumeKind, VolumeName, VolumeUse};
