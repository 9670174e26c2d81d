//! One job behind its walls, without a daemon: the test plays the spawner and the loop.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use joblet::job::exit_record::ExitRecord;
use joblet::sandbox::identity::Leases;
use joblet::sandbox::spawn::{SandboxConfig, record_path, user_namespace};
use joblet::sandbox::{Sandbox, Started, Walls};

use crate::helper::residue::cgroup2_mount;
use crate::helper::{eventually, wait::holds};

/// Ids that no other test of this host uses at the same time.
const TEST_IDS: u32 = 1_900_000_000;

/// A sandbox in a directory of its own, and a cgroup per job that goes away with it.
pub struct Bench {
    dir: tempfile::TempDir,
    sandbox: Sandbox,
    cgroup: PathBuf,
}

/// A started job.
pub struct Running {
    pub started: Started,
    pub id: String,
    run_dir: PathBuf,
}

/// What a finished job left.
pub struct Finished {
    pub record: Option<ExitRecord>,
    pub stdout: String,
    pub stderr: String,
}

impl Bench {
    pub fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let config = SandboxConfig {
            mounts: None,
            proc_pids_only: false,
            run_dir: dir.path().to_owned(),
            orphan_linger_s: 60,
        };
        let sandbox = Sandbox::new(config).unwrap();
        let name = format!("joblet-kernel-tier-{}", dir.path().file_name().unwrap().to_string_lossy());
        let cgroup = cgroup2_mount().expect("a cgroup v2 mount").join(name);
        fs::create_dir(&cgroup).unwrap();
        Bench { dir, sandbox, cgroup }
    }

    /// Starts a job from a thread of its own, as the daemon's spawner is one.
    pub fn start(&self, argv: &[&str], environment: &[&str]) -> Running {
        let id = uuid::Uuid::new_v4().to_string();
        let started = std::thread::scope(|scope| {
            scope.spawn(|| self.start_here(&id, argv, environment)).join().unwrap()
        });
        Running { started, id, run_dir: self.dir.path().to_owned() }
    }

    fn start_here(&self, id: &str, argv: &[&str], environment: &[&str]) -> Started {
        let mut lease = Leases::new(TEST_IDS, 1).take().unwrap();
        let namespace = user_namespace(&mut lease).unwrap();
        let work = self.sandbox.work_tmpfs(1 << 20, lease.id).unwrap();
        let cgroup: OwnedFd = File::open(&self.cgroup).unwrap().into();
        let strings = |list: &[&str]| list.iter().map(|s| CString::new(*s).unwrap()).collect();
        let walls = Walls {
            id,
            hostname: "job-test",
            argv: strings(argv),
            environment: strings(environment),
            work_dir: "/work",
            work: work.as_fd(),
            scratch_bytes: 1 << 20,
            pids: 64,
            own_network: true,
            user_namespace: namespace.as_fd(),
            cgroup: cgroup.as_fd(),
        };
        let mut stack = self.sandbox.adopt_thread().unwrap();
        self.sandbox.start(&mut stack, &walls).unwrap()
    }

    /// Starts a job and plays the daemon until it has ended.
    pub fn run(&self, argv: &[&str]) -> Finished {
        self.start(argv, &["PATH=/usr/bin:/bin", "A=b"]).finish()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        eventually("the test's cgroup is empty and removed", || fs::remove_dir(&self.cgroup).ok());
    }
}

impl Running {
    /// Drains both pipes, releases joblet-init and reads its record.
    pub fn finish(self) -> Finished {
        let stdout = drain(&self.started.stdout);
        let stderr = drain(&self.started.stderr);
        rustix::io::write(&self.started.control, b"R").unwrap();
        let exited = rustix::process::WaitIdOptions::EXITED;
        rustix::process::waitid(rustix::process::WaitId::PidFd(self.started.pidfd.as_fd()), exited).unwrap();
        Finished { record: read_record(&self.run_dir, &self.id), stdout, stderr }
    }
}

/// Everything in a pipe until its last writer has closed it.
pub fn drain(pipe: &OwnedFd) -> String {
    rustix::io::ioctl_fionbio(pipe, false).unwrap();
    let mut text = String::new();
    File::from(pipe.try_clone().unwrap()).read_to_string(&mut text).unwrap();
    text
}

/// The exit record on disk, once it is complete.
pub fn read_record(run_dir: &Path, id: &str) -> Option<ExitRecord> {
    ExitRecord::decode(&fs::read(record_path(run_dir, id)).unwrap())
}

#[test]
fn a_payload_runs_and_its_output_and_code_come_out() {
    needs!(crate::helper::skip::is_root(), "needs root");
    let bench = Bench::new();
    let done = bench.run(&["sh", "-c", "echo $A; pwd; id -u; hostname; echo err >&2; exit 42"]);
    assert_eq!(done.stdout, "b\n/work\n0\njob-test\n", "stderr: {}", done.stderr);
    assert_eq!(done.stderr, "err\n");
    assert_eq!(done.record.unwrap().wait_status, 42 << 8);
    holds(true).unwrap();
}

#[test]
fn a_view_from_inside() {
    let bench = Bench::new();
    let done = bench.run(&["sh", "-c", "cat /proc/self/status | grep -E 'Cap|NoNew|Seccomp|Groups'; cat /proc/self/mountinfo; ls -la / /dev /etc /proc/self/fd; cat /proc/self/cgroup; cat /proc/1/environ; cat /proc/net/dev; mount; ulimit -a; cat /proc/kcore | head -c 10; echo x > /proc/sys/kernel/core_pattern; touch /usr/x; cat /etc/shadow; python3 -c 'print(5)'; ls -l /proc/1/; cat /proc/self/uid_map"]);
    println!("{}\n----\n{}", done.stdout, done.stderr);
    println!("{:?}", done.record);
}
