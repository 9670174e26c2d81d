//! The loop that owns every mutable thing.

pub mod commands;
