//! Our pipeline on the calling thread, in the order in which the daemon's spawner, collector and loop go: spool, cgroup,
//! /work, walls, then the output's end, the release of joblet-init and its own end.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use joblet::cgroup::{CgroupTree, ControllerSet, JobCgroup, Removal};
use joblet::job::{JobId, Limits};
use joblet::output::SpoolWriter;
use joblet::sandbox::identity::{Lease, Leases};
use joblet::sandbox::rootfs::DEFAULT_MOUNTS;
use joblet::sandbox::spawn::{SandboxConfig, user_namespace};
use joblet::sandbox::{Cradle, Network, Payload, Sandbox, Started, Walls};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::clock;
use crate::figures::Sample;

/// Names of the stages that a sample of ours has.
pub const STAGES: [&str; 7] =
    ["spool", "cgroup", "/work", "walls (clone to exec)", "init to first", "first to output end", "end seen"];

/// Everything that a daemon prepares once.
pub struct Pipeline {
    sandbox: Sandbox,
    tree: CgroupTree,
    /// Made at the first start: threads that this one spawns later would share its root again.
    stack: Option<Cradle>,
    lease: Lease,
    program: CString,
    dir: tempfile::TempDir,
    own_network: bool,
}

/// Host paths of a job: the usual ones, and the payload's directory.
pub fn mounts(program: &Path) -> Vec<PathBuf> {
    let own = program.parent().expect("the payload is in a directory").to_owned();
    DEFAULT_MOUNTS.iter().map(PathBuf::from).chain([own]).collect()
}

pub fn limits() -> Limits {
    Limits { cpu: None, memory: None, io: None, cores: None, pids: 64 }
}

impl Pipeline {
    /// `number` tells several of one process apart.
    pub fn new(program: &Path, own_network: bool, number: u32) -> Pipeline {
        let dir = tempfile::tempdir().expect("a directory");
        let config = SandboxConfig {
            mounts: Some(mounts(program)),
            proc_pids_only: false,
            run_dir: dir.path().to_owned(),
            orphan_linger_s: 60,
        };
        let sandbox = Sandbox::new(config).expect("a sandbox (are we root?)");
        let name = format!("joblet-bench-{}-{number}", std::process::id());
        let tree = CgroupTree::of_this_process(None, &name, ControllerSet::all()).expect("cgroup v2");
        let mut lease = Leases::new(1_950_000_000 + number, 1).take().expect("there is one");
        user_namespace(&mut lease).expect("a user namespace");
        let program = CString::new(program.to_str().expect("a plain path")).expect("paths have no NUL");
        Pipeline { sandbox, tree, stack: None, lease, program, dir, own_network }
    }

    pub fn run(&mut self) -> Sample {
        if self.stack.is_none() {
            self.stack = Some(self.sandbox.adopt_thread().expect("this thread can have its own root"));
        }
        let accepted = clock::now();
        let id = JobId::random();
        let name = id.to_string();
        let spool = SpoolWriter::create(&self.dir.path().join("spool").join(&name)).expect("a spool");
        let spooled = clock::now();
        let group = self.tree.create(id, &limits(), &[]).expect("a cgroup");
        let grouped = clock::now();
        let work = self.sandbox.work_tmpfs(1 << 20, self.lease.id).expect("a work directory");
        let worked = clock::now();
        let started = self.start(&name, &work, &group);
        let cloned = clock::now();
        let mut word = Vec::new();
        read_all(&started.stdout, &mut word);
        let first = u64::from_ne_bytes(word.try_into().expect("the payload reports eight bytes"));
        read_all(&started.stderr, &mut Vec::new());
        let drained = clock::now();
        rustix::io::write(&*started.init.control, b"R").expect("joblet-init waits");
        waitid(WaitId::PidFd(started.init.pidfd.as_fd()), WaitIdOptions::EXITED).expect("our own child");
        let ended = clock::now();
        let stages = vec![accepted, spooled, grouped, worked, cloned, first, drained, ended];
        drop(spool);
        self.clean(&name, &group);
        Sample { accepted, started: cloned, first, ended, stages }
    }

    fn start(&mut self, id: &str, work: &OwnedFd, group: &JobCgroup) -> Started {
        let namespace = user_namespace(&mut self.lease).expect("made before");
        let walls = Walls {
            id,
            hostname: "job-bench",
            work: work.as_fd(),
            scratch_bytes: 1 << 20,
            pids: 64,
            network: if self.own_network { Network::Own } else { Network::Host },
            user_namespace: namespace.as_fd(),
            cgroup: group.dir_fd(),
        };
        let stack = self.stack.as_mut().expect("made at the first run");
        let started = self.sandbox.raise(stack, &walls).expect("walls");
        let payload = Payload {
            argv: vec![self.program.clone()],
            environment: vec![c"PATH=/usr/bin:/bin".to_owned()],
            work_dir: c"/work".to_owned(),
        };
        started.init.launch(&payload).expect("joblet-init waits");
        started
    }

    /// What the tidier does, out of the measured time. The spool stays, as it does in a daemon until the job is deleted.
    fn clean(&self, id: &str, group: &JobCgroup) {
        std::fs::remove_file(self.sandbox.record_path(id)).expect("the exit record");
        while group.remove().expect("the cgroup can go") == Removal::Busy {
            std::thread::yield_now();
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if let Err(why) = self.tree.remove() {
            eprintln!("{why}");
        }
    }
}

fn read_all(pipe: &OwnedFd, into: &mut Vec<u8>) {
    rustix::io::ioctl_fionbio(pipe, false).expect("a pipe can block");
    let mut file = std::fs::File::from(pipe.try_clone().expect("a descriptor"));
    file.read_to_end(into).expect("a pipe can be read");
}
