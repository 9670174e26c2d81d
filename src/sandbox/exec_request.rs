//! Where joblet-init finds what to run. Compiled into joblet-init as well, which has no standard library.
//!
//! The exec request is a memory file whose descriptor joblet-init inherits and which the daemon fills when there is a job
//! for it. Its length comes as eight bytes (u64, native) through the control pipe; joblet-init maps it, private and
//! read-only, at [`ADDRESS`]. The pointers in it are absolute for that place, so that nothing has to be moved or
//! allocated there. It starts with the [`Head`]; two null-terminated arrays of pointers follow, then the strings.

/// Where the exec request is mapped: far from a static program at 4 MiB, from its heap, and from the stack and the mappings
/// of the kernel's choice, which grow down from 128 TiB.
pub const ADDRESS: usize = 0x1000_0000_0000;

/// The first bytes of an exec request.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Head {
    /// The payload's working directory, a string.
    pub work_dir: usize,
    /// Its argv, null-terminated.
    pub argv: usize,
    /// Its whole environment, null-terminated.
    pub environment: usize,
}
