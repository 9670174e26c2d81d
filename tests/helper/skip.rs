//! Honest skips: a test that cannot run here says why, and `tests/run.sh` counts it as skipped instead of passed.

use std::fs::OpenOptions;
use std::io::Write;

/// Writes down that the test `name` was skipped; [`skip!`] and [`needs!`] call this.
pub fn record(name: &str, reason: &str) {
    println!("skipped {name}: {reason}");
    let Ok(path) = std::env::var("JOBLET_SKIP_LOG") else { return };
    let mut log =
        OpenOptions::new().append(true).create(true).open(&path).expect("the skip log can be written");
    // One write a line, so that lines of parallel tests stay whole.
    log.write_all(format!("{name}\t{reason}\n").as_bytes()).expect("the skip log can be written");
}

/// Ends the running test as skipped, for the reason given.
macro_rules! skip {
    ($reason:expr) => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here).trim_end_matches("::here");
        crate::helper::skip::record(name, &$reason);
        return;
    }};
}

/// Continues only where the condition holds; otherwise the test is skipped for the reason given.
macro_rules! needs {
    ($condition:expr, $reason:expr) => {
        if !$condition {
            skip!($reason);
        }
    };
}

/// Whether this process is root, which all tiers but unit need.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether there is a shell that needs no other file, for roots that have nothing else.
pub fn static_busybox() -> bool {
    // elf(5): the program header that names a loader.
    const INTERPRETER: u32 = 3;
    let program = std::fs::read("/bin/busybox").unwrap_or_default();
    let number =
        |at: usize| program.get(at..at + 8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    let Some((headers, sizes)) = number(0x20).zip(number(0x36)) else { return false };
    let (size, count) = ((sizes & 0xffff) as usize, (sizes >> 16 & 0xffff) as usize);
    let kinds = (0..count).filter_map(|n| number(headers as usize + n * size));
    kinds.map(|word| word as u32).all(|kind| kind != INTERPRETER)
}

/// Whether the host has a cgroup v2 hierarchy that can delegate this controller.
pub fn has_cgroup_controller(name: &str) -> bool {
    let Some(mount) = super::residue::cgroup2_mount() else { return false };
    let controllers = std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    controllers.split_whitespace().any(|c| c == name)
}
