//! What to run: waited for, mapped, and forgotten again.

use crate::exec_request::{ADDRESS, Head};
use crate::{CONTROL, ORDER, sys};

/// An order in memory; its strings end with NUL, its arrays with null.
pub struct Order {
    pub work_dir: *const u8,
    pub argv: *const *const u8,
    pub environment: *const *const u8,
    length: usize,
}

/// Waits for the order; `None` when there will be none.
pub fn wait() -> Option<Order> {
    let length = sys::read_u64(CONTROL)? as usize;
    let mapped = sys::map(ORDER, ADDRESS, length);
    sys::close(ORDER);
    if !mapped || length < size_of::<Head>() {
        return None;
    }
    // SAFETY: the mapping begins with a Head, and its address is aligned for it.
    let head = unsafe { *(ADDRESS as *const Head) };
    Some(Order {
        work_dir: head.work_dir as *const u8,
        argv: head.argv as *const *const u8,
        environment: head.environment as *const *const u8,
        length,
    })
}

impl Order {
    /// Takes it out of memory.
    pub fn forget(self) {
        sys::unmap(ADDRESS, self.length);
    }
}
