//! One job's walls.

pub mod filter;
