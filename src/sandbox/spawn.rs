//! Building one job's walls and its first process.
//!
//! [`Sandbox`] holds what all jobs share and is made once, at the daemon's start; a spawner thread calls
//! [`Sandbox::start`] with one job's [`Walls`].

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::SandboxError;
use super::child;
use super::identity;
use super::plan::{PlanSpec, plan};
use super::rootfs::{DEFAULT_MOUNTS, ProcMasks, Template};
use super::step::{ExecImage, Step};
use crate::job::exit_record;
use crate::sys::{self, clone::ChildStack};

/// joblet-init, built by `build.rs` from `src/init`.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/joblet-init"));

/// What the node's configuration says about every job's walls.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Host paths shown read-only; `None` is the built-in list.
    pub mounts: Option<Vec<PathBuf>>,
    /// `filesystem.proc: pid`.
    pub proc_pids_only: bool,
    /// `<dataDir>/run`: holds the exit records.
    pub run_dir: PathBuf,
    /// Seconds joblet-init waits for a new daemon after the daemon's death.
    pub orphan_linger_s: u64,
}

/// What all jobs share.
#[derive(Debug)]
pub struct Sandbox {
    config: SandboxConfig,
    template: Template,
    host_mounts: OwnedFd,
    init: OwnedFd,
    dev_null: File,
    filter: Vec<libc::sock_filter>,
    masks: ProcMasks,
    ceilings: [u64; 16],
    reset_oom_score: bool,
}

/// One job's part of its walls.
#[derive(Debug)]
pub struct Walls<'a> {
    /// Name of the exit record: the job's id.
    pub id: &'a str,
    /// Host name inside.
    pub hostname: &'a str,
    /// argv of the payload.
    pub argv: Vec<CString>,
    /// Whole environment of the payload, `NAME=value`.
    pub environment: Vec<CString>,
    /// Working directory inside; made if it is below /work.
    pub work_dir: &'a str,
    /// The filled /work ([`Sandbox::work_tmpfs`], [`super::work::WorkDisk::create`]).
    pub work: BorrowedFd<'a>,
    /// Bytes each of /tmp and /dev/shm may take.
    pub scratch_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Network namespace of its own, or the host's.
    pub own_network: bool,
    /// User namespace of the lease.
    pub user_namespace: BorrowedFd<'a>,
    /// Directory of the job's cgroup.
    pub cgroup: BorrowedFd<'a>,
}

/// A job's PID 1 that exists, and the daemon's ends of its pipes.
#[derive(Debug)]
pub struct Started {
    /// joblet-init.
    pub pidfd: OwnedFd,
    /// Its number on the host.
    pub pid: i32,
    /// Read end of stdout, non-blocking.
    pub stdout: OwnedFd,
    /// Read end of stderr, non-blocking.
    pub stderr: OwnedFd,
    /// Read end of the report pipe, non-blocking.
    pub report: OwnedFd,
    /// Write end of the control pipe; closing it says "the daemon is gone".
    pub control: OwnedFd,
    /// The exit record, as long as the job's entry exists.
    pub record: File,
}

/// Names what was being made when `result` failed.
pub(super) fn preparing<T>(result: Result<T, impl Into<io::Error>>, what: &str) -> Result<T, SandboxError> {
    result.map_err(|e| SandboxError::Prepare { doing: what.to_owned(), source: e.into() })
}

impl Sandbox {
    /// Prepares what all jobs share: the template root, joblet-init in a sealed memfd, the system call policy.
    ///
    /// # Errors
    /// The step that the host refused; no job can run then.
    pub fn new(config: SandboxConfig) -> Result<Self, SandboxError> {
        let built_in = || DEFAULT_MOUNTS.iter().map(PathBuf::from).collect();
        let mounts = config.mounts.clone().unwrap_or_else(built_in);
        let exits = exit_records(&config.run_dir);
        preparing(std::fs::create_dir_all(&exits), &format!("make {}", exits.display()))?;
        let score = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        Ok(Sandbox {
            template: Template::build(&mounts, &config.run_dir)?,
            host_mounts: preparing(File::open("/proc/self/ns/mnt"), "open our mount namespace")?.into(),
            init: sealed_init()?,
            dev_null: preparing(OpenOptions::new().read(true).open("/dev/null"), "open /dev/null")?,
            filter: super::filter::program(),
            masks: ProcMasks::probe(),
            ceilings: hard_limits(),
            reset_oom_score: score.trim() != "0",
            config,
        })
    }

    /// Puts the calling thread into shape for [`Sandbox::start`]; once per spawner thread, which must start no
    /// threads of its own afterwards (they would share its root, and setns(2) would refuse).
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn adopt_thread(&self) -> Result<ChildStack, SandboxError> {
        preparing(sys::thread::unshare_fs(), "give the spawner its own root")?;
        preparing(ChildStack::new(), "map a stack for children")
    }

    /// Starts a job's PID 1 behind its walls. When this returns, joblet-init executes; whether the payload
    /// can be executed is told by the report pipe.
    ///
    /// # Errors
    /// A wall that could not be built, named by its step. Nothing of the job is left then.
    pub fn start(&self, stack: &mut ChildStack, walls: &Walls<'_>) -> Result<Started, SandboxError> {
        let (stdout, out) = output_pipe()?;
        let (stderr, err) = output_pipe()?;
        let (report, report_end) = preparing(pipe_with(PipeFlags::CLOEXEC), "make the report pipe")?;
        preparing(rustix::io::ioctl_fionbio(&report, true), "make the report pipe non-blocking")?;
        let (control_end, control) = preparing(pipe_with(PipeFlags::CLOEXEC), "make the control pipe")?;
        let image = self.image(walls)?;
        let (hostname, work_dir) = (text(walls.hostname)?, text(walls.work_dir)?);
        let record = self.exit_record(walls.id)?;
        let spec = PlanSpec {
            own_network: walls.own_network,
            proc_pids_only: self.config.proc_pids_only,
            masks: &self.masks,
            scratch_bytes: walls.scratch_bytes,
            work: walls.work,
            hostname,
            work_dir,
            pids: u64::from(walls.pids),
            ceilings: &self.ceilings,
            reset_oom_score: self.reset_oom_score,
            descriptors: [
                self.dev_null.as_fd(),
                out.as_fd(),
                err.as_fd(),
                record.as_fd(),
                report_end.as_fd(),
                control_end.as_fd(),
                stdout.as_fd(),
                stderr.as_fd(),
                self.init.as_fd(),
            ],
            user_namespace: walls.user_namespace,
            filter: &self.filter,
            image: &image,
        };
        let cloned = self.clone_into(stack, &plan(&spec), walls).inspect_err(|_| {
            // A record without a job would be taken for one whose end nobody saw.
            let _ = std::fs::remove_file(self.record_path(walls.id));
        })?;
        let (pidfd, pid) = (cloned.pidfd, cloned.pid);
        Ok(Started { pidfd, pid, stdout, stderr, report, control, record })
    }

    /// The clone itself, between entering and leaving the template.
    fn clone_into(
        &self,
        stack: &mut ChildStack,
        steps: &[Step<'_>],
        walls: &Walls<'_>,
    ) -> Result<sys::clone::Cloned, SandboxError> {
        let mut namespaces = libc::CLONE_NEWPID
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP;
        if walls.own_network {
            namespaces |= libc::CLONE_NEWNET;
        }
        preparing(sys::thread::join_mounts(self.template.namespace.as_fd()), "enter the template root")?;
        let (cloned, failed) = child::run(stack, namespaces as u64, walls.cgroup, steps);
        let back = sys::thread::join_mounts(self.host_mounts.as_fd());
        let cloned = preparing(cloned, "clone the job's first process")?;
        if let Some((at, errno)) = failed {
            let _ = waitid(WaitId::PidFd(cloned.pidfd.as_fd()), WaitIdOptions::EXITED);
            let step = steps.get(at).map_or_else(String::new, ToString::to_string);
            return Err(SandboxError::Step { step, source: io::Error::from_raw_os_error(errno) });
        }
        preparing(back, "leave the template root")?;
        Ok(cloned)
    }

    fn exit_record(&self, id: &str) -> Result<File, SandboxError> {
        let path = self.record_path(id);
        let open = || -> io::Result<File> {
            let mut file =
                OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            // Written now, so that the page exists and is ours: a job at its memory limit can still record.
            file.write_all(&[0; exit_record::SIZE])?;
            Ok(file)
        };
        preparing(open(), &format!("make the exit record {}", path.display()))
    }

    /// Where the exit record of a job is.
    pub fn record_path(&self, id: &str) -> PathBuf {
        record_path(&self.config.run_dir, id)
    }

    /// argv of joblet-init: its name, how long it lingers, then the payload's argv.
    fn image(&self, walls: &Walls<'_>) -> Result<ExecImage, SandboxError> {
        let mut argv = vec![text("joblet-init")?, text(&self.config.orphan_linger_s.to_string())?];
        argv.extend(walls.argv.iter().cloned());
        Ok(ExecImage::new(argv, walls.environment.clone()))
    }
}

/// The directory of the exit records, below `<dataDir>/run`.
pub fn exit_records(run_dir: &Path) -> PathBuf {
    run_dir.join("exit")
}

/// Where the exit record of a job is, below `<dataDir>/run`.
pub fn record_path(run_dir: &Path, id: &str) -> PathBuf {
    exit_records(run_dir).join(id)
}

/// The user namespace of a lease; see [`identity::make_namespace`].
///
/// # Errors
/// The kernel's refusal.
pub fn user_namespace(lease: &mut identity::Lease) -> Result<std::sync::Arc<OwnedFd>, SandboxError> {
    if let Some(namespace) = &lease.namespace {
        return Ok(namespace.clone());
    }
    let namespace = std::sync::Arc::new(identity::make_namespace(lease.id)?);
    lease.namespace = Some(namespace.clone());
    Ok(namespace)
}

fn text(text: &str) -> Result<CString, SandboxError> {
    preparing(CString::new(text).map_err(io::Error::other), "build a string for the kernel")
}

/// A pipe for output: the daemon's end does not block; the job's may be reopened through /proc/self/fd for
/// writing (mode 0222), never for reading.
fn output_pipe() -> Result<(OwnedFd, OwnedFd), SandboxError> {
    let make = || -> io::Result<(OwnedFd, OwnedFd)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&read, true)?;
        fchmod(&write, Mode::from_raw_mode(0o222))?;
        Ok((read, write))
    };
    preparing(make(), "make an output pipe")
}

/// joblet-init in a memfd that nobody can change any more (CVE-2019-5736 overwrote a runtime's binary).
fn sealed_init() -> Result<OwnedFd, SandboxError> {
    let make = || -> io::Result<OwnedFd> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // MFD_EXEC (6.3) satisfies vm.memfd_noexec; older kernels refuse the flag.
        let memfd = memfd_create("joblet-init", flags | MemfdFlags::EXEC)
            .or_else(|_| memfd_create("joblet-init", flags))?;
        let mut file = File::from(memfd);
        file.write_all(INIT)?;
        fchmod(&file, Mode::from_raw_mode(0o555))?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        Ok(file.into())
    };
    preparing(make(), "put joblet-init into a sealed memfd")
}

/// Our hard limits by resource number.
fn hard_limits() -> [u64; 16] {
    use rustix::process::{Resource, getrlimit};
    // In the kernel's order (asm-generic/resource.h): the place is the number.
    [
        Resource::Cpu,
        Resource::Fsize,
        Resource::Data,
        Resource::Stack,
        Resource::Core,
        Resource::Rss,
        Resource::Nproc,
        Resource::Nofile,
        Resource::Memlock,
        Resource::As,
        Resource::Locks,
        Resource::Sigpending,
        Resource::Msgqueue,
        Resource::Nice,
        Resource::Rtprio,
        Resource::Rttime,
    ]
    .map(|resource| getrlimit(resource).maximum.unwrap_or(u64::MAX))
}
