//! One job's walls.
