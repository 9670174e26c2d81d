//! The profile of jobs, and the ids of a node that has it.

use std::cell::Cell;
use std::ops::Range;

use super::daemon::Node;

thread_local! {
    /// The profile of the jobs that tests run in one line, and of the nodes that this thread sets up.
    static PROFILE: Cell<&'static str> = const { Cell::new("strict") };
}

/// Ranges of ids of a node whose jobs are containers.
const RANGES: u32 = 64;
const IDS_OF_A_RANGE: u32 = 65_536;

/// Runs `act` with nodes that allow containers, and whose jobs are containers unless their test names another profile.
pub fn with_containers<T>(act: impl FnOnce() -> T) -> T {
    let before = PROFILE.replace("container");
    let done = act();
    PROFILE.set(before);
    done
}

/// Whether jobs are containers.
pub fn has_containers() -> bool {
    PROFILE.get() == "container"
}

/// The flag for a job of this thread.
pub fn flag() -> Option<std::ffi::OsString> {
    has_containers().then(|| "--profile=container".into())
}

/// The ids of the node at a port: for this node alone, so that the test can tell leftovers of the node from other processes.
/// The one in front of them is the resolver's.
pub fn ids(port: u16) -> Range<u32> {
    if has_containers() {
        // Between the ids of users and those of other tests.
        let each = RANGES * IDS_OF_A_RANGE;
        let first = 0x1000_0000 + u32::from(port) % 384 * each;
        return first..first + each;
    }
    let first = 1_879_048_193 + u32::from(port) * 512;
    first..first + 511
}

/// Tells a node its ids.
pub fn configure(node: &Node, ids: &Range<u32>) {
    node.set("process.subidBase", ids.start);
    node.set("process.subidCount", ids.end - ids.start);
    if has_containers() {
        node.set("process.idsPerJob", IDS_OF_A_RANGE);
        node.set("process.allowContainerProfile", true);
        node.set("joblet.maxConcurrentJobs", RANGES - 8);
    }
}
