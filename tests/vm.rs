//! Tier 4, VM: what this host may not have. A machine whose cgroup v2 hierarchy has every controller, for the limits in strict
//! mode; and systemd as PID 1, for the unit. A guest is booted once for all of its tests (`vm/guest.rs`); its serial console
//! says what passed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "helper/mod.rs"]
#[macro_use]
mod helper;

mod vm {
    #[macro_use]
    mod guest;
    mod limits;
    mod unit;
}
