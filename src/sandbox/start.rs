//! The last part of a start: the joblet-init that waits in a complete sandbox receives its exec request.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::error::{SandboxError, preparing};
use crate::init_abi::exec_request::{ADDRESS, Head};
use crate::sys;

/// The program that joblet-init executes as the payload.
#[derive(Debug)]
pub struct ExecRequest {
    /// The payload's argv, the command first.
    pub argv: Vec<CString>,
    /// The payload's whole environment, `NAME=value`.
    pub environment: Vec<CString>,
    /// The payload's working directory inside the sandbox.
    pub work_dir: CString,
}

/// A joblet-init that waits in its sandbox, and the daemon's ends of its pipes.
#[derive(Debug)]
pub struct Init {
    /// A pidfd of the process.
    pub pidfd: OwnedFd,
    /// The process id on the host.
    pub pid: i32,
    /// The start time in clock ticks since boot: together with `pid` it identifies one process of this boot.
    pub start_time: Option<u64>,
    /// Read end of the report pipe, non-blocking.
    pub report: OwnedFd,
    /// Write end of the control pipe, for the exec request and the release; closing it says "the daemon is gone".
    pub control: Arc<OwnedFd>,
    /// The exit file, which joblet-init writes when the payload has ended.
    pub exit_file: File,
    /// The memory file for the exec request.
    pub exec_request: File,
    /// `/proc/PID/oom_score_adj`, open for writing; `None` where it cannot be opened.
    pub oom_score: Option<File>,
}

impl Init {
    /// Has joblet-init start the payload. The report pipe says whether it could be executed.
    ///
    /// # Errors
    /// joblet-init is gone, or there is no memory for the exec request.
    pub fn start(&self, request: &ExecRequest) -> Result<(), SandboxError> {
        let request = encode(request);
        // A tuning: where the host refuses it, a start waits its turn among all other load. joblet-init gives it up
        // when the payload has been executed (`init/exec.rs`).
        let _ = sys::thread::schedule_above(self.pid);
        let give = || -> io::Result<()> {
            self.exec_request.write_all_at(&request, 0)?;
            rustix::io::write(&*self.control, &(request.len() as u64).to_ne_bytes())?;
            Ok(())
        };
        preparing(give(), "give joblet-init its exec request")
    }
}

/// The exec request as joblet-init maps it: head, the two arrays, the strings ([`crate::init_abi::exec_request`]).
fn encode(request: &ExecRequest) -> Vec<u8> {
    let ExecRequest { argv, environment, work_dir } = request;
    let words = size_of::<Head>() / size_of::<usize>();
    let arrays = words + argv.len() + 1 + environment.len() + 1;
    let argv_at = ADDRESS + words * size_of::<usize>();
    let environment_at = argv_at + (argv.len() + 1) * size_of::<usize>();
    let (mut pointers, mut text) = (Vec::with_capacity(arrays), Vec::new());
    let mut string = |string: &CStr| {
        let at = ADDRESS + arrays * size_of::<usize>() + text.len();
        text.extend_from_slice(string.to_bytes_with_nul());
        at
    };
    pointers.extend([string(work_dir), argv_at, environment_at]);
    for list in [argv, environment] {
        pointers.extend(list.iter().map(|s| string(s)));
        pointers.push(0);
    }
    let mut bytes: Vec<u8> = pointers.into_iter().flat_map(usize::to_ne_bytes).collect();
    bytes.append(&mut text);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pointer_of_an_exec_request_leads_to_its_string() {
        let c = |s: &str| CString::new(s).unwrap();
        let request =
            ExecRequest { argv: vec![c("cat"), c("")], environment: vec![c("A=b")], work_dir: c("/work/x") };
        let bytes = encode(&request);
        let word = |at: usize| usize::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        let string =
            |at: usize| CStr::from_bytes_until_nul(&bytes[at - ADDRESS..]).unwrap().to_str().unwrap();
        assert_eq!(string(word(0)), "/work/x");
        let (argv, environment) = (word(8) - ADDRESS, word(16) - ADDRESS);
        assert_eq!([string(word(argv)), string(word(argv + 8))], ["cat", ""]);
        assert_eq!((word(argv + 16), string(word(environment)), word(environment + 8)), (0, "A=b", 0));
    }
}
