//! The kernel made safe.
