//! Tier 4, VM: the limits, on a machine whose cgroup v2 hierarchy has every controller, in strict mode. The guest is booted
//! once for all tests (`vm/image.sh` packs it, `vm/init` runs in it); its serial console says what passed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "helper/mod.rs"]
#[macro_use]
mod helper;

mod vm {
    mod guest;
}
