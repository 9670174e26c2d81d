//! Tier 4, VM: features that this host may lack. One guest has a cgroup v2 hierarchy with every controller, for the limits in
//! strict mode; another one has an ext4 and an XFS with project
//! quotas, for volumes; three have systemd as PID 1, for the units and for networks. Each guest boots once for all of its tests (`vm/guest.rs`), and
//! its serial console has the verdicts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "helper/mod.rs"]
#[macro_use]
mod helper;

mod vm {
    #[macro_use]
    mod guest;
    mod limits;
    mod unit;
    mod unit_faults;
    mod unit_networks;
    mod volumes;
}
