//! The last part of a start: the joblet-init that waits in a complete sandbox receives its exec request.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::error::{SandboxError, preparing};
use crate::init_abi::exec_request::{ADDRESS, FED, Head, UNCHANGED};
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
    /// The payload's ids inside, where they are not those of joblet-init. Only in a sandbox of the profile `container`.
    pub credentials: Option<Credentials>,
}

/// The ids of a payload, as it sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The uid, real, effective and saved; not the number of no id, `u32::MAX`.
    pub uid: u32,
    /// The gid, likewise.
    pub gid: u32,
    /// The supplementary groups, at most 65536 (setgroups(2)).
    pub groups: Vec<u32>,
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
    /// Has joblet-init start the payload; `is_fed`: with the standard input that it was given
    /// ([`Receiver::feed`](super::session::Receiver::feed)), else with an empty one. The report pipe says whether it could be executed.
    ///
    /// # Errors
    /// joblet-init is gone, or there is no memory for the exec request.
    pub fn start(&self, request: &ExecRequest, is_fed: bool) -> Result<(), SandboxError> {
        let request = encode(request);
        let mut word = request.len() as u64;
        if is_fed {
            word |= FED;
        }
        // A tuning: where the host refuses it, a start waits its turn among all other load. joblet-init gives it up
        // when the payload has been executed (`init/exec.rs`).
        let _ = sys::thread::schedule_above(self.pid);
        let give = || -> io::Result<()> {
            self.exec_request.write_all_at(&request, 0)?;
            rustix::io::write(&*self.control, &word.to_ne_bytes())?;
            Ok(())
        };
        preparing(give(), "give joblet-init its exec request")
    }
}

/// The place in the head of the address of the groups, in words.
const GROUPS: usize = std::mem::offset_of!(Head, groups) / size_of::<usize>();

/// The exec request as joblet-init maps it: head, the two arrays, the strings, the groups ([`crate::init_abi::exec_request`]).
pub(super) fn encode(request: &ExecRequest) -> Vec<u8> {
    let ExecRequest { argv, environment, work_dir, credentials } = request;
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
    let (uid, gid) = credentials.as_ref().map_or((UNCHANGED, UNCHANGED), |ids| (ids.uid, ids.gid));
    let groups = credentials.as_ref().map_or(&[][..], |ids| &ids.groups);
    let ids = u64::from(gid) << 32 | u64::from(uid);
    // The address of the groups follows when the strings are known.
    pointers.extend([string(work_dir), argv_at, environment_at, 0, groups.len(), ids as usize]);
    for list in [argv, environment] {
        pointers.extend(list.iter().map(|s| string(s)));
        pointers.push(0);
    }
    text.resize(text.len().next_multiple_of(size_of::<u32>()), 0);
    pointers[GROUPS] = ADDRESS + arrays * size_of::<usize>() + text.len();
    text.extend(groups.iter().flat_map(|group| group.to_ne_bytes()));
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
        let credentials = Some(Credentials { uid: 999, gid: 998, groups: vec![5, 7] });
        let (argv, environment) = (vec![c("cat"), c("")], vec![c("A=b")]);
        let request = ExecRequest { argv, environment, work_dir: c("/work/x"), credentials };
        let bytes = encode(&request);
        let word = |at: usize| usize::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        let string =
            |at: usize| CStr::from_bytes_until_nul(&bytes[at - ADDRESS..]).unwrap().to_str().unwrap();
        assert_eq!(string(word(0)), "/work/x");
        let (argv, environment) = (word(8) - ADDRESS, word(16) - ADDRESS);
        assert_eq!([string(word(argv)), string(word(argv + 8))], ["cat", ""]);
        assert_eq!((word(argv + 16), string(word(environment)), word(environment + 8)), (0, "A=b", 0));
        let half = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let groups = word(24) - ADDRESS;
        assert_eq!((word(32), half(40), half(44), half(groups), half(groups + 4)), (2, 999, 998, 5, 7));
        assert_eq!((groups % 4, groups + 8), (0, bytes.len()));
    }
}
