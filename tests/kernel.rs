//! Tier 2, kernel: one wall at a time, with root and namespaces but without a daemon. Each test speaks to the rooms
//! `sandbox`, `cgroup` and `output` directly and proves from inside, with a small program, what holds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "helper/mod.rs"]
#[macro_use]
mod helper;

#[path = "kernel/event_loop.rs"]
mod event_loop;
#[path = "kernel/job.rs"]
mod job;
