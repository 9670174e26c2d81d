//! The exec request: received, mapped, and unmapped again.

use crate::init_abi::exec_request::{ADDRESS, Head};
use crate::init_abi::slot;
use crate::sys;

/// An exec request in memory; its strings end with NUL, its arrays with null.
pub struct ExecRequest {
    pub work_dir: *const u8,
    pub argv: *const *const u8,
    pub environment: *const *const u8,
    length: usize,
}

/// Waits for the exec request; `None` when none will come.
pub fn wait() -> Option<ExecRequest> {
    let length = sys::read_u64(slot::CONTROL)? as usize;
    let mapped = sys::map(slot::EXEC_REQUEST, ADDRESS, length);
    sys::close(slot::EXEC_REQUEST);
    if !mapped || length < size_of::<Head>() {
        return None;
    }
    // SAFETY: the mapping begins with a Head, and its address is aligned for it.
    let head = unsafe { *(ADDRESS as *const Head) };
    Some(ExecRequest {
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
