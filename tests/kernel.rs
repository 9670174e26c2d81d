//! Tier 2, kernel: one layer of the isolation at a time, with root and namespaces but without a daemon. Each test calls the
//! rooms `sandbox`, `cgroup` and `output` directly and proves with a small program inside that the layer holds.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on panics; figures are printed"
)]
#![allow(unreachable_pub, reason = "a test program is the root of its own crate")]

#[path = "helper/mod.rs"]
#[macro_use]
mod helper;

#[path = "kernel/calls.rs"]
mod calls;
#[path = "kernel/egress.rs"]
mod egress;
#[path = "kernel/event_loop.rs"]
mod event_loop;
#[path = "kernel/exfiltration.rs"]
mod exfiltration;
#[path = "kernel/first_process.rs"]
mod first_process;
#[path = "kernel/guard.rs"]
mod guard;
#[path = "kernel/image.rs"]
mod image;
#[path = "kernel/init.rs"]
mod init;
#[path = "kernel/ipv6.rs"]
mod ipv6;
#[path = "kernel/job.rs"]
mod job;
#[path = "kernel/lab.rs"]
mod lab;
#[path = "kernel/names.rs"]
mod names;
#[path = "kernel/netlink.rs"]
mod netlink;
#[path = "kernel/network.rs"]
mod network;
#[path = "kernel/outputs.rs"]
mod outputs;
#[path = "kernel/pools.rs"]
mod pools;
#[path = "kernel/profiles.rs"]
mod profiles;
#[path = "kernel/refusals.rs"]
mod refusals;
#[path = "kernel/resources.rs"]
mod resources;
#[path = "kernel/root_users.rs"]
mod root_users;
#[path = "kernel/roots.rs"]
mod roots;
#[path = "kernel/spool.rs"]
mod spool;
#[path = "kernel/survival.rs"]
mod survival;
#[path = "kernel/user.rs"]
mod user;
#[path = "kernel/view.rs"]
mod view;
#[path = "kernel/walls.rs"]
mod walls;
#[path = "kernel/writable.rs"]
mod writable;
