//! clone3 and execve alone: the minimum that the kernel requires, and the start of every compared command, so that its cost
//! is the same for all.

#![allow(unsafe_code, reason = "a clone by hand, as the sandbox does it")]

use std::ffi::{CString, c_void};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use joblet::sys::clone::{ChildStack, Watch, spawn};
use joblet::sys::raw::syscall;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::clock;
use crate::figures::Sample;

/// The program to start, and its namespaces.
#[derive(Debug, Clone)]
pub struct Order {
    /// The path of the program and its arguments.
    pub argv: Vec<String>,
    /// New namespaces: `CLONE_NEW*` flags, 0 for none.
    pub namespaces: i32,
    /// Existing namespaces, two at most, that the child enters before the exec.
    pub join: Arc<Vec<OwnedFd>>,
    /// The program writes the moment of its first instruction to its standard output; else that is /dev/null.
    pub reports: bool,
}

impl Order {
    /// A command without namespaces.
    pub fn plain(argv: &[&str]) -> Order {
        let argv = argv.iter().map(|a| (*a).to_owned()).collect();
        Order { argv, namespaces: 0, join: Arc::default(), reports: false }
    }
}

/// A prepared order, for one thread.
pub struct Launch {
    stack: ChildStack,
    argv: Vec<CString>,
    order: Order,
    null: File,
}

/// The data that the child reads.
struct Image {
    program: *const libc::c_char,
    argv: *const *const libc::c_char,
    environment: *const *const libc::c_char,
    /// A descriptor, or -1 for none.
    join: [RawFd; 2],
    null: RawFd,
    output: RawFd,
}

impl Launch {
    pub fn new(order: &Order) -> Launch {
        let plain = |text: &String| CString::new(text.as_str()).expect("arguments have no NUL");
        Launch {
            stack: ChildStack::new().expect("a stack can be mapped"),
            argv: order.argv.iter().map(plain).collect(),
            order: order.clone(),
            null: File::options().read(true).write(true).open("/dev/null").expect("/dev/null"),
        }
    }

    /// Starts it and waits for its end. A sample without times is a command that failed.
    pub fn run(&mut self) -> Sample {
        let accepted = clock::now();
        let pipe = self.order.reports.then(|| pipe_with(PipeFlags::CLOEXEC).expect("a pipe"));
        let output = pipe.as_ref().map_or(self.null.as_raw_fd(), |(_, write)| write.as_raw_fd());
        let cloned = self.start(output);
        let started = clock::now();
        let first = pipe.map_or(0, |(read, write)| {
            drop(write);
            let mut word = [0; 8];
            File::from(read).read_exact(&mut word).expect("the payload reports");
            u64::from_ne_bytes(word)
        });
        let end = waitid(WaitId::PidFd(cloned.as_fd()), WaitIdOptions::EXITED).expect("our own child");
        let ended = clock::now();
        if end.is_some_and(|end| end.exit_status() == Some(0)) {
            Sample { accepted, started, first, ended }
        } else {
            Sample::FAILED
        }
    }

    fn start(&mut self, output: RawFd) -> OwnedFd {
        let null = std::ptr::null();
        let argv: Vec<_> = self.argv.iter().map(|a| a.as_ptr()).chain([null]).collect();
        let environment =
            [c"PATH=/usr/sbin:/usr/bin:/sbin:/bin".as_ptr(), c"HOME=/".as_ptr(), std::ptr::null()];
        let joined = |at: usize| self.order.join.get(at).map_or(-1, AsRawFd::as_raw_fd);
        let mut image = Image {
            program: argv[0],
            argv: argv.as_ptr(),
            environment: environment.as_ptr(),
            join: [joined(0), joined(1)],
            null: self.null.as_raw_fd(),
            output,
        };
        let argument = (&raw mut image).cast::<c_void>();
        let namespaces = self.order.namespaces as u64;
        // SAFETY: `child` makes raw system calls only, and `image` with all it points to outlives the call.
        let cloned = unsafe { spawn(&mut self.stack, &Watch::default(), namespaces, None, child, argument) };
        cloned.expect("clone3 (are we root?)").pidfd
    }
}

extern "C" fn child(image: *mut c_void) -> ! {
    // SAFETY: `start` passes an Image that outlives us here, and waits meanwhile.
    let image = unsafe { &*image.cast::<Image>() };
    // SAFETY: dup2(2) takes numbers.
    unsafe { syscall(libc::SYS_dup2, [image.null as usize, 0, 0, 0, 0, 0]) };
    // SAFETY: dup2(2) takes numbers.
    unsafe { syscall(libc::SYS_dup2, [image.output as usize, 1, 0, 0, 0, 0]) };
    for namespace in image.join {
        // SAFETY: setns(2) takes numbers; 0 is any kind of namespace.
        if namespace >= 0 && unsafe { syscall(libc::SYS_setns, [namespace as usize, 0, 0, 0, 0, 0]) } != 0 {
            leave();
        }
    }
    let (argv, environment) = (image.argv as usize, image.environment as usize);
    // SAFETY: NUL- and null-terminated arrays that outlive the call.
    unsafe { syscall(libc::SYS_execve, [image.program as usize, argv, environment, 0, 0, 0]) };
    leave()
}

/// The exit code by which a shell reports that a command could not be executed.
fn leave() -> ! {
    loop {
        // SAFETY: exit_group(2) takes a number.
        unsafe { syscall(libc::SYS_exit_group, [127, 0, 0, 0, 0, 0]) };
    }
}
