//! What the kernel asks of anybody: clone3 and execve of the same program, with nothing around it.

#![allow(unsafe_code, reason = "a clone by hand, as the sandbox does it")]

use std::ffi::{CString, c_void};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use joblet::sys::clone::{ChildStack, Watch, spawn};
use joblet::sys::raw::syscall;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::clock;
use crate::figures::Sample;

/// Starts the payload in new namespaces (`CLONE_NEW*` flags, 0 for none) and waits for its end.
pub struct Floor {
    stack: ChildStack,
    program: CString,
}

struct Image {
    program: *const libc::c_char,
    argv: [*const libc::c_char; 2],
    environment: [*const libc::c_char; 1],
    output: i32,
}

impl Floor {
    pub fn new(program: &Path) -> Floor {
        let program = CString::new(program.as_os_str().as_bytes()).expect("paths have no NUL");
        Floor { stack: ChildStack::new().expect("a stack can be mapped"), program }
    }

    pub fn run(&mut self, namespaces: i32) -> Sample {
        let accepted = clock::now();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let program = self.program.as_ptr();
        let mut image = Image {
            program,
            argv: [program, std::ptr::null()],
            environment: [std::ptr::null()],
            output: write.as_raw_fd(),
        };
        let argument = (&raw mut image).cast::<c_void>();
        // SAFETY: `child` makes raw system calls only, and `image` outlives the call.
        let cloned =
            unsafe { spawn(&mut self.stack, &Watch::default(), namespaces as u64, None, child, argument) }
                .expect("clone3 (are we root?)");
        drop(write);
        let started = clock::now();
        let mut word = [0; 8];
        std::fs::File::from(read).read_exact(&mut word).expect("the payload reports");
        waitid(WaitId::PidFd(cloned.pidfd.as_fd()), WaitIdOptions::EXITED).expect("our own child");
        Sample { accepted, started, first: u64::from_ne_bytes(word), ended: clock::now(), stages: Vec::new() }
    }
}

extern "C" fn child(image: *mut c_void) -> ! {
    // SAFETY: `run` passes an Image that outlives us here, and waits meanwhile.
    let image = unsafe { &*image.cast::<Image>() };
    // SAFETY: dup2(2) takes numbers.
    unsafe { syscall(libc::SYS_dup2, [image.output as usize, 1, 0, 0, 0, 0]) };
    let (argv, environment) = (image.argv.as_ptr() as usize, image.environment.as_ptr() as usize);
    // SAFETY: NUL- and null-terminated arrays that outlive the call.
    unsafe { syscall(libc::SYS_execve, [image.program as usize, argv, environment, 0, 0, 0]) };
    loop {
        // SAFETY: exit_group(2) takes a number.
        unsafe { syscall(libc::SYS_exit_group, [127, 0, 0, 0, 0, 0]) };
    }
}
