//! System calls without libc: no errno in thread-local storage, no cancellation, no allocation.
//!
//! The cloned child shares the daemon's memory (CLONE_VM), so libc's wrappers, which write the *parent
//! thread's* errno, are not for it.

use core::arch::asm;

/// One system call of up to six arguments; a result in -4095..=-1 is a negated errno (syscall(2)).
///
/// # Safety
/// The arguments must satisfy the demands of the call `number`, pointers above all.
#[inline]
pub unsafe fn syscall(number: i64, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the x86_64 convention: number in rax, arguments in rdi, rsi, rdx, r10, r8, r9; the kernel
    // changes rax, rcx and r11 only; the caller vouches for the arguments.
    unsafe {
        asm!("syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// The errno of a raw result, if it is one.
#[inline]
pub fn errno(result: isize) -> Result<usize, i32> {
    if (-4095..0).contains(&result) { Err(-result as i32) } else { Ok(result as usize) }
}
