//! The exec request: received, mapped, and unmapped again.

use crate::init_abi::exec_request::{ADDRESS, FED, Head, UNCHANGED};
use crate::init_abi::slot;
use crate::sys;

/// An exec request in memory; its strings end with NUL, its arrays with null.
pub struct ExecRequest {
    pub work_dir: *const u8,
    pub argv: *const *const u8,
    pub environment: *const *const u8,
    /// The ids of the payload, where they are not ours.
    pub credentials: Option<Credentials>,
    length: usize,
}

/// The ids of a payload.
#[derive(Clone, Copy)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub groups: usize,
    pub group_count: usize,
}

/// Waits for the exec request, and whether a standard input comes with it; `None` when none will come.
pub fn wait() -> Option<(ExecRequest, bool)> {
    let word = sys::read_u64(slot::CONTROL)?;
    let mapped = map(slot::EXEC_REQUEST, (word & !FED) as usize);
    sys::close(slot::EXEC_REQUEST);
    Some((mapped?, word & FED != 0))
}

/// Maps the exec request in a file; `None` when there is none.
pub fn map(file: i32, length: usize) -> Option<ExecRequest> {
    if length < size_of::<Head>() || !sys::map(file, ADDRESS, length) {
        return None;
    }
    // SAFETY: the mapping begins with a Head, and its address is aligned for it.
    let head = unsafe { *(ADDRESS as *const Head) };
    let Head { uid, gid, groups, group_count, .. } = head;
    let credentials = (uid != UNCHANGED).then_some(Credentials { uid, gid, groups, group_count });
    Some(ExecRequest {
        credentials,
        work_dir: head.work_dir as *const u8,
        argv: head.argv as *const *const u8,
        environment: head.environment as *const *const u8,
        length,
    })
}

impl ExecRequest {
    /// Takes the request out of memory.
    pub fn forget(self) {
        sys::unmap(ADDRESS, self.length);
    }
}
