//! The second wall around devices: a program of the kernel's that decides for a group which devices its processes may open.
//!
//! The first wall is the mount namespace, which has no other nodes. This one holds for a process that gets a node in another
//! way, through a descriptor's directory or from somebody outside. One program hangs at the group of all jobs, so that
//! a start costs nothing more; a job with GPUs has one of its own instead, at its own group. Programs of groups above, as
//! those of systemd's `DevicePolicy=`, go on to decide too.
//!
//! A program is read back by its tag, the kernel's digest of its instructions.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use crate::job::{DeviceNode, Layer};
use crate::sys::bpf;

/// Devices of every job: those of its /dev, and its terminals (Documentation/admin-guide/devices.txt). `None`: any minor.
const EVERY_JOB: [(u32, Option<u32>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];
/// The name of the layer that shows it.
const LAYER: &str = "devices.program";
/// The name of the program, as `bpftool prog` shows it.
const NAME: &str = "joblet_devices";

// Opcodes (linux/bpf.h, linux/bpf_common.h).
const LOAD_WORD: u64 = 0x61;
const AND: u64 = 0x57;
const SHIFT_RIGHT: u64 = 0x77;
const MOVE: u64 = 0xb7;
const JUMP_UNLESS_EQUAL: u64 = 0x55;
const JUMP_IF_SET: u64 = 0x45;
const JUMP: u64 = 0x05;
const EXIT: u64 = 0x95;
/// `BPF_DEVCG_DEV_CHAR` and `BPF_DEVCG_ACC_MKNOD`.
const CHARACTER: u32 = 2;
const MAKE_NODE: u32 = 1;

/// One `struct bpf_insn`: opcode, destination and source register, offset, immediate.
fn instruction(code: u64, to: u64, from: u64, offset: i16, value: u32) -> u64 {
    code | to << 8 | from << 12 | u64::from(offset.cast_unsigned()) << 16 | u64::from(value) << 32
}

/// Allows to read and write these character devices, and no other access to any device.
fn program(added: &[DeviceNode]) -> Vec<u64> {
    let allowed = EVERY_JOB.into_iter().chain(added.iter().map(|node| (node.major, Some(node.minor))));
    // The context is in r1: access and type in one word, major, minor (`struct bpf_cgroup_dev_ctx`). r2 becomes the type,
    // r3 the access, r4 and r5 the numbers.
    let mut all = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(LOAD_WORD, 3, 1, 0, 0),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(JUMP_UNLESS_EQUAL, 2, 0, 2, CHARACTER),
        instruction(JUMP_IF_SET, 3, 0, 1, MAKE_NODE),
        instruction(JUMP, 0, 0, 2, 0),
        instruction(MOVE, 0, 0, 0, 0),
        instruction(EXIT, 0, 0, 0, 0),
    ];
    for (major, minor) in allowed {
        let rest = if minor.is_some() { 3 } else { 2 };
        all.push(instruction(JUMP_UNLESS_EQUAL, 4, 0, rest, major));
        all.extend(minor.map(|minor| instruction(JUMP_UNLESS_EQUAL, 5, 0, 2, minor)));
        all.push(instruction(MOVE, 0, 0, 0, 1));
        all.push(instruction(EXIT, 0, 0, 0, 0));
    }
    all.push(instruction(MOVE, 0, 0, 0, 0));
    all.push(instruction(EXIT, 0, 0, 0, 0));
    all
}

/// Loads the program of jobs with these devices beside those of every job.
///
/// # Errors
/// The kernel has no such programs, or refuses it.
pub(super) fn load(added: &[DeviceNode]) -> io::Result<OwnedFd> {
    bpf::load_device_program(&program(added), NAME)
}

/// Most programs that are kept; beyond them the one goes that was loaded first.
const MOST: usize = 64;

/// Programs by the devices that they add. The kernel checks and compiles one when it is loaded, so that is done once.
#[derive(Debug, Default)]
pub(super) struct Programs {
    kept: Mutex<Vec<(Vec<DeviceNode>, OwnedFd)>>,
}

impl Programs {
    /// Has a program decide for a group, and for those below it that have no other one.
    ///
    /// # Errors
    /// As [`load`]; or a group above allows no program below it.
    pub(super) fn guard(&self, group: BorrowedFd<'_>, added: &[DeviceNode]) -> io::Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, program)) = kept.iter().find(|(devices, _)| devices == added) {
            return bpf::attach_device_program(group, program.as_fd());
        }
        let program = load(added)?;
        bpf::attach_device_program(group, program.as_fd())?;
        if kept.len() == MOST {
            kept.remove(0);
        }
        kept.push((added.to_vec(), program));
        Ok(())
    }
}

/// Whether the program decides in a group. `missing`: why the tree has none.
pub(super) fn read_back(group: BorrowedFd<'_>, added: &[DeviceNode], missing: Option<&str>) -> Layer {
    let names = added.iter().map(|node| format!(", {}", node.name)).collect::<String>();
    let expected = format!("character devices of every job{names}; no other device, no new node");
    if let Some(why) = missing {
        return Layer::unenforced(LAYER, expected, why);
    }
    let seen = load(added).and_then(|own| Ok((bpf::tag(&own)?, bpf::device_programs(group)?)));
    match seen {
        Err(why) => Layer::new(LAYER, expected, why.to_string(), false),
        Ok((own, found)) => {
            let is_there = found.contains(&own);
            let others = found.iter().filter(|tag| **tag != own).count();
            let words = if is_there { expected.clone() } else { "not this program".to_owned() };
            let beside = if others > 0 { format!(" ({others} others decide too)") } else { String::new() };
            Layer::new(LAYER, expected, words + &beside, is_there)
        }
    }
}

/// Whether this process may load such a program; nothing is attached.
///
/// # Errors
/// As [`load`].
pub fn probe_device_program() -> io::Result<()> {
    load(&[]).map(drop)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The answer of the kernel's machine, for the few instructions that there are.
    fn run(program: &[u64], access: u32, kind: u32, major: u32, minor: u32) -> u32 {
        let context = [access << 16 | kind, major, minor];
        let (mut registers, mut at) = ([0u64; 11], 0usize);
        loop {
            let word = program[at];
            let (code, to, from) = (word & 0xff, (word >> 8 & 0xf) as usize, word >> 12 & 0xf);
            let (offset, value) = ((word >> 16) as u16 as i16, word >> 32);
            at += 1;
            let mut jump =
                |taken: bool| at = at.wrapping_add_signed(if taken { isize::from(offset) } else { 0 });
            match code {
                LOAD_WORD => {
                    assert_eq!(from, 1, "only the context is read");
                    registers[to] = u64::from(context[offset as usize / 4]);
                }
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                MOVE => registers[to] = value,
                JUMP => jump(true),
                JUMP_UNLESS_EQUAL => jump(registers[to] != value),
                JUMP_IF_SET => jump(registers[to] & value != 0),
                EXIT => return registers[0] as u32,
                other => panic!("unknown opcode {other:#x}"),
            }
        }
    }

    fn node(major: u32, minor: u32) -> DeviceNode {
        DeviceNode { name: format!("n{major}-{minor}"), major, minor }
    }

    proptest! {
        #[test]
        fn program_allows_its_devices_to_be_opened_and_nothing_else(
            added in prop::collection::vec((190u32..200, 0u32..6), 0..8),
            access in 1u32..8,
            kind in 1u32..3,
            major in prop_oneof![Just(1u32), Just(5), Just(136), 190u32..200, any::<u32>()],
            minor in prop_oneof![0u32..12, any::<u32>()],
        ) {
            let nodes: Vec<DeviceNode> = added.iter().map(|(major, minor)| node(*major, *minor)).collect();
            let usual = EVERY_JOB.iter().any(|(m, n)| *m == major && n.is_none_or(|n| n == minor));
            let allowed = kind == CHARACTER && access & MAKE_NODE == 0 && (usual || added.contains(&(major, minor)));
            prop_assert_eq!(run(&program(&nodes), access, kind, major, minor), u32::from(allowed));
        }
    }

    #[test]
    fn tree_without_a_program_says_so_and_is_not_broken() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let layer = read_back(null.as_fd(), &[node(195, 0)], Some("EPERM"));
        assert_eq!(layer.verdict, crate::job::Verdict::Unenforced);
        assert!(layer.expected.contains("n195-0"), "{layer:?}");
    }
}
