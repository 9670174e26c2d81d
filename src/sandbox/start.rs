//! The last part of a start: giving the joblet-init that waits behind finished walls what to run.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::mount::{MountFlags, mount_remount};

use super::create::preparing;
use super::exec_request::{ADDRESS, Head};
use super::plan::{scratch, size};
use super::{Init, Sandbox, SandboxError};
use crate::sys;

/// What a job runs.
#[derive(Debug)]
pub struct Payload {
    /// Its argv, the command first.
    pub argv: Vec<CString>,
    /// Its whole environment, `NAME=value`.
    pub environment: Vec<CString>,
    /// Its working directory inside.
    pub work_dir: CString,
}

impl Init {
    /// Has joblet-init start the payload. Whether that can be executed is told by the report pipe.
    ///
    /// # Errors
    /// joblet-init is gone, or there is no memory for the order.
    pub fn start(&self, payload: &Payload) -> Result<(), SandboxError> {
        let order = encode(payload);
        // A tuning: where the host refuses it, a start waits its turn among all other load. joblet-init gives it up
        // when the payload has been executed (`init/exec.rs`).
        let _ = sys::thread::schedule_above(self.pid);
        let give = || -> io::Result<()> {
            self.order.write_all_at(&order, 0)?;
            rustix::io::write(&*self.control, &(order.len() as u64).to_ne_bytes())?;
            Ok(())
        };
        preparing(give(), "give joblet-init its order")
    }
}

impl Sandbox {
    /// Changes how much the file systems of walls that stand may take: /tmp and /dev/shm `scratch_bytes` each, a
    /// /work in memory `work_bytes`. On a thread of [`Sandbox::adopt_thread`], before the launch.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn resize(
        &self,
        init: &Init,
        scratch_bytes: u64,
        work_bytes: Option<u64>,
    ) -> Result<(), SandboxError> {
        let resize = || -> io::Result<()> {
            let safe = MountFlags::NOSUID | MountFlags::NODEV;
            let shared = scratch(scratch_bytes);
            mount_remount("/tmp", safe, shared.as_c_str())?;
            mount_remount("/dev/shm", safe | MountFlags::NOEXEC, shared.as_c_str())?;
            if let Some(bytes) = work_bytes {
                mount_remount("/work", safe, size(bytes))?;
            }
            Ok(())
        };
        preparing(sys::thread::join_mounts(init.mounts.as_fd()), "enter the job's mounts")?;
        let resized = resize();
        preparing(sys::thread::join_mounts(self.host_mounts.as_fd()), "leave the job's mounts")?;
        preparing(resized, "set the size of /tmp, /dev/shm and /work")
    }
}

/// The order as joblet-init maps it: head, the two arrays, the strings (`exec_request.rs`).
fn encode(payload: &Payload) -> Vec<u8> {
    let Payload { argv, environment, work_dir } = payload;
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
    let mut order: Vec<u8> = pointers.into_iter().flat_map(usize::to_ne_bytes).collect();
    order.append(&mut text);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pointer_of_an_exec_request_leads_to_its_string() {
        let c = |s: &str| CString::new(s).unwrap();
        let payload =
            Payload { argv: vec![c("cat"), c("")], environment: vec![c("A=b")], work_dir: c("/work/x") };
        let order = encode(&payload);
        let word = |at: usize| usize::from_ne_bytes(order[at..at + 8].try_into().unwrap());
        let string =
            |at: usize| CStr::from_bytes_until_nul(&order[at - ADDRESS..]).unwrap().to_str().unwrap();
        assert_eq!(string(word(0)), "/work/x");
        let (argv, environment) = (word(8) - ADDRESS, word(16) - ADDRESS);
        assert_eq!([string(word(argv)), string(word(argv + 8))], ["cat", ""]);
        assert_eq!((word(argv + 16), string(word(environment)), word(environment + 8)), (0, "A=b", 0));
    }
}
