//! Runtimes: roots of jobs other than the host's, each with a name and versions.
//!
//! ```text
//! <runtime.base_path>/
//!   python-3.11/1.3.1/runtime.yml    what the runtime is ([`description`]); its files lie beside it
//!   .layers/sha256/<64 digits>/      unpacked layers of images, each stored once, whatever runtimes have it
//!   .staging/<random>/               things that are half made, or being removed
//!   .leaving/<random>/               what an earlier daemon had below `.staging`
//! ```
//!
//! # Whole or not at all
//!
//! Whatever is installed is made below `.staging` and moved into place by one rename, and what is removed is moved there by one
//! rename first. So a daemon that is killed at any step leaves a runtime or none; the next one removes what is below
//! `.staging`, and layers that no runtime names ([`Store::clean`]).
//!
//! # Who has it
//!
//! A [`Use`] counts: as long as one lives, its version is neither removed nor replaced. Jobs have one from their acceptance
//! to their end, also those that wait. A [`LayerHold`] keeps layers that no runtime names yet.
//!
//! Nothing of a runtime changes once it is in place, so sizes are measured once ([`Runtime::own_bytes`]).

pub mod description;
mod error;
mod layer;
mod recipe;
mod sharing;
mod staging;
mod store;
mod take;
mod tree;

pub use crate::job::runtime::{RuntimeId, RuntimeName, RuntimeSpec, Version, Wanted};
pub use description::{Base, Description, Image, Mount, Requirements};
pub use error::RuntimeError;
pub use layer::LayerDigest;
pub use recipe::{Language, RECIPE_FILES, RECIPE_PLACE, Recipe};
pub use sharing::Sharing;
pub use staging::Staging;
pub use store::{LayerHold, Removed, Runtime, Store, Use};
pub use take::{Taken, Taker, directory_beneath};
