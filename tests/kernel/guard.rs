//! The child that shares the daemon's memory must not allocate. The whole kernel tier runs on an allocator that ends
//! such a process: a child that allocates never becomes a job, and every test here fails.

#![allow(unsafe_code, reason = "a global allocator and a clone by hand")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_void;
use std::os::fd::AsFd;
use std::ptr::null_mut;

use joblet::sys::clone::{ChildStack, Watch, child_runs, spawn};
use joblet::sys::exit_now;
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// Exit code of a child that allocated.
const CAUGHT: i32 = 134;

struct Guard;

fn check() {
    if child_runs() {
        let _ = rustix::io::write(rustix::stdio::stderr(), b"a cloned child touched the allocator\n");
        exit_now(CAUGHT);
    }
}

// SAFETY: everything is done by the system's allocator.
unsafe impl GlobalAlloc for Guard {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        check();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static GUARD: Guard = Guard;

extern "C" fn allocates(_: *mut c_void) -> ! {
    std::hint::black_box(vec![1u8; 100]);
    exit_now(0)
}

extern "C" fn does_not(_: *mut c_void) -> ! {
    exit_now(0)
}

fn code_of(entry: extern "C" fn(*mut c_void) -> !) -> Option<i32> {
    let mut stack = ChildStack::new().unwrap();
    // SAFETY: both entries make system calls only; the first one's allocation ends in the guard, before the heap.
    let cloned = unsafe { spawn(&mut stack, &Watch::default(), 0, None, entry, null_mut()) }.unwrap();
    let ended = waitid(WaitId::PidFd(cloned.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
    ended.unwrap().exit_status()
}

#[test]
fn a_child_that_allocates_is_caught() {
    assert_eq!(code_of(does_not), Some(0));
    assert_eq!(code_of(allocates), Some(CAUGHT));
}
