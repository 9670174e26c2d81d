//! The creation of one job's sandbox and its first process.
//!
//! [`Sandbox`] holds the parts that all jobs share and is made once, at the daemon's start; a thread of ours calls
//! [`Sandbox::create`] with one job's [`SandboxParts`]. The result is complete and waits: joblet-init executes
//! in the sandbox, and takes its exec request by [`super::start`]. So a sandbox can be created before there is a job.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::Level;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fchmod, fcntl_add_seals, makedev, memfd_create};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::child;
use super::child::Walked;
use super::clone_context::{CloneContext, SLOTS};
use super::error::{SandboxError, preparing};
use super::gpu_tree::GpuTree;
use super::identity;
use super::plan::{PlanSpec, plan, rlimits};
use super::rootfs::{HostPath, ProcMasks, Template, default_paths};
use super::roots::Roots;
use super::runtime_root::RuntimeRoot;
use super::spec::{Messages, Network, Root, SandboxParts, SandboxSpec, WireSpec};
use super::start::Init;
use super::step::Step;
use crate::diag;
use crate::job::{Profile, User, exit_file};
use crate::sys::{
    self,
    clone::{ChildStack, Watch},
};

/// joblet-init, built by `build.rs` from `src/init`.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/joblet-init"));

/// The node's configuration for the sandboxes of all jobs.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Host paths shown read-only; `None` is the built-in list.
    pub mounts: Option<Vec<PathBuf>>,
    /// Host paths shown beside these.
    pub extra_mounts: Vec<PathBuf>,
    /// procfs shows pids only (`filesystem.proc: pid`).
    pub proc_pids_only: bool,
    /// `<dataDir>/run`, which holds the exit files.
    pub run_dir: PathBuf,
    /// Seconds joblet-init waits for a new daemon after the daemon's death.
    pub orphan_linger_s: u64,
}

/// The parts of a sandbox that all jobs share.
#[derive(Debug)]
pub struct Sandbox {
    pub(super) config: SandboxConfig,
    pub(super) template: Template,
    roots: Roots,
    // The nodes and files that jobs with GPUs see; `None`: no job has any.
    pub(super) gpu_tree: Option<GpuTree>,
    pub(super) host_mounts: OwnedFd,
    init: OwnedFd,
    linger_s: CString,
    dev_null: File,
    proc: File,
    // The system call policy for jobs of each profile and each user.
    filters: [[Vec<libc::sock_filter>; User::ALL.len()]; Profile::ALL.len()],
    pub(super) masks: ProcMasks,
    ceilings: [u64; 16],
    reset_oom_score: bool,
    watches: Mutex<Vec<Arc<Watch>>>,
}

/// A sandbox that [`Sandbox::create`] has made.
#[derive(Debug)]
pub struct Created {
    /// PID 1 of the job, which waits for its exec request.
    pub init: Init,
    /// The job's mount namespace. While it is open the kernel does not take the mounts apart, for which the end of
    /// PID 1 would wait otherwise (up to a millisecond of RCU).
    pub mounts: OwnedFd,
    /// Read end of the job's stdout, non-blocking.
    pub stdout: OwnedFd,
    /// Read end of the job's stderr, non-blocking.
    pub stderr: OwnedFd,
}

impl Sandbox {
    /// Prepares the parts that all jobs share: the template root, joblet-init in a sealed memfd, the system call policy.
    ///
    /// # Errors
    /// The step that the host refused; no job can run then.
    pub fn new(config: SandboxConfig) -> Result<Self, SandboxError> {
        let template = Template::build(&host_paths(&config), &config.run_dir)?;
        for note in &template.notes {
            diag::event!(Level::Warn, "jobs do not see a host path as asked", reason = note);
        }
        let exits = exit_files(&config.run_dir);
        preparing(std::fs::create_dir_all(&exits), &format!("make {}", exits.display()))?;
        let score = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        Ok(Sandbox {
            template,
            roots: Roots::default(),
            gpu_tree: None,
            host_mounts: preparing(File::open("/proc/self/ns/mnt"), "open our mount namespace")?.into(),
            init: sealed_init()?,
            linger_s: text(&config.orphan_linger_s.to_string())?,
            dev_null: null_device()?,
            proc: preparing(File::open("/proc"), "open /proc")?,
            filters: Profile::ALL.map(|profile| User::ALL.map(|user| super::filter::program(user, profile))),
            masks: ProcMasks::probe(),
            ceilings: hard_limits(),
            reset_oom_score: score.trim() != "0",
            watches: Mutex::default(),
            config,
        })
    }

    /// Prepares the calling thread for [`Sandbox::create`]; once per spawner thread, which must start no
    /// threads of its own afterwards (they would share its root, and setns(2) would refuse).
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn adopt_thread(&self) -> Result<CloneContext, SandboxError> {
        preparing(sys::thread::unshare_fs(), "give the spawner its own root")?;
        let context = preparing(CloneContext::new(self.dev_null.as_fd()), "prepare a thread for children")?;
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).push(context.watch.clone());
        Ok(context)
    }

    /// Kills children, on any thread, that have not come to execute joblet-init within `bound`; their starts fail,
    /// with the step that does not return. The number of them.
    pub fn end_stuck(&self, bound: Duration) -> usize {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.iter().filter(|watch| watch.kill_if_older(bound)).count()
    }

    /// Starts a job's PID 1 in its sandbox. When this returns, joblet-init executes and waits for its exec request.
    ///
    /// # Errors
    /// The step that failed, by name. Nothing of the job is left then.
    pub fn create(
        &self,
        context: &mut CloneContext,
        parts: &SandboxParts<'_>,
    ) -> Result<Created, SandboxError> {
        let (stdout, out) = output_pipe()?;
        let (stderr, err) = output_pipe()?;
        let (report, report_end) = preparing(pipe_with(PipeFlags::CLOEXEC), "make the report pipe")?;
        preparing(rustix::io::ioctl_fionbio(&report, true), "make the report pipe non-blocking")?;
        let (control_end, control) = preparing(pipe_with(PipeFlags::CLOEXEC), "make the control pipe")?;
        let exec_request = exec_request_file()?;
        let (orders, order_source) = preparing(order_socket(), "make the order socket")?;
        let exit_file = self.exit_file(parts.id)?;
        let filled = context.slots.fill([
            self.dev_null.as_fd(),
            out.as_fd(),
            err.as_fd(),
            exit_file.as_fd(),
            report_end.as_fd(),
            control_end.as_fd(),
            stdout.as_fd(),
            stderr.as_fd(),
            exec_request.as_fd(),
            self.init.as_fd(),
            match parts.spec.network {
                Network::Wired(wire) => wire.router,
                _ => self.dev_null.as_fd(),
            },
            orders.as_fd(),
            order_source.as_fd(),
            parts.user_namespace,
            parts.work,
            match parts.spec.network {
                Network::Kept(namespace) => namespace,
                _ => self.dev_null.as_fd(),
            },
            self.proc.as_fd(),
            match parts.spec.network {
                Network::Wired(wire) => wire.socket,
                _ => self.dev_null.as_fd(),
            },
            match parts.spec.network {
                Network::Wired(wire) => wire.note,
                _ => self.dev_null.as_fd(),
            },
            parts.layer_ids,
        ]);
        preparing(filled, "fill the slots of a child")?;
        let remove_exit_file = |_: &SandboxError| {
            // The next daemon would take an exit file without a job for a job whose end nobody saw.
            let _ = std::fs::remove_file(self.exit_file_path(parts.id));
        };
        let cloned = self.clone_child(context, parts);
        preparing(context.slots.clear(), "empty the slots of a child")?;
        let cloned = cloned.inspect_err(remove_exit_file)?;
        let mounts = mounts_of(&cloned).inspect_err(remove_exit_file)?;
        let (pidfd, pid, control) = (cloned.pidfd, cloned.pid, Arc::new(control));
        let start_time = sys::pidfd::start_time(pid);
        let oom_score = OpenOptions::new().write(true).open(format!("/proc/{pid}/oom_score_adj")).ok();
        let init = Init { pidfd, pid, start_time, report, control, exit_file, exec_request, oom_score };
        Ok(Created { init, mounts, stdout, stderr })
    }

    /// The clone, from the slots that are filled.
    fn clone_child(
        &self,
        context: &mut CloneContext,
        parts: &SandboxParts<'_>,
    ) -> Result<sys::clone::Cloned, SandboxError> {
        let CloneContext { stack, slots, watch } = context;
        let spec = self.plan_spec(parts.spec, slots.numbers(), slots.filled())?;
        self.clone_into(stack, watch, &plan(&spec), parts)
    }

    /// The inputs of the child's plan; `fds` in the order of the slots.
    fn plan_spec<'a>(
        &'a self,
        spec: SandboxSpec<'a>,
        numbers: (i32, i32),
        fds: [BorrowedFd<'a>; SLOTS],
    ) -> Result<PlanSpec<'a>, SandboxError> {
        let [
            null,
            out,
            err,
            exit_file,
            report,
            control,
            kept_out,
            kept_err,
            exec_request,
            init,
            router,
            orders,
            order_source,
            user,
            work,
            network,
            proc,
            socket,
            note,
            layer_ids,
        ] = fds;
        Ok(PlanSpec {
            numbers,
            network: match spec.network {
                Network::Own => Network::Own,
                Network::Kept(_) => Network::Kept(network),
                Network::Wired(wire) => Network::Wired(WireSpec { router, socket, note, ..wire }),
                Network::Host => Network::Host,
            },
            root: &self.template_of(spec.root).root,
            parts: &self.template_of(spec.root).parts,
            proc_pids_only: self.config.proc_pids_only,
            masks: &self.masks,
            scratch_bytes: spec.scratch_bytes,
            work,
            writable: spec.writable,
            layer_ids,
            hostname: text(spec.hostname)?,
            pids: u64::from(spec.pids),
            ceilings: &self.ceilings,
            reset_oom_score: self.reset_oom_score,
            descriptors: [
                null,
                out,
                err,
                exit_file,
                report,
                control,
                kept_out,
                kept_err,
                exec_request,
                init,
                router,
                orders,
                order_source,
            ],
            proc,
            user: spec.user,
            profile: spec.profile,
            user_namespace: user,
            filter: &self.filters[spec.profile as usize][spec.user.index()],
            linger_s: &self.linger_s,
        })
    }

    /// The template of a runtime's root, made now if there is none. Never call it on the event loop.
    ///
    /// # Errors
    /// A file of the runtime that is missing, or the kernel's refusal.
    pub fn root(&self, root: &RuntimeRoot) -> Result<Arc<Template>, SandboxError> {
        self.roots.get(root, &self.template)
    }

    /// Whether [`Sandbox::root`] has nothing to make. Any thread may ask.
    pub fn has_root(&self, root: &RuntimeRoot) -> bool {
        self.roots.has(root)
    }

    /// Lets the templates of runtimes go that are gone, by their names.
    pub fn forget_roots(&self, is_gone: impl Fn(&str) -> bool) {
        self.roots.forget(is_gone);
    }

    /// Lets templates go that nobody has used for some minutes; the number of those that are left.
    pub fn forget_idle_roots(&self, now: Instant) -> usize {
        self.roots.forget_idle(now)
    }

    fn template_of<'a>(&'a self, root: Root<'a>) -> &'a Template {
        match root {
            Root::Host => &self.template,
            Root::Runtime(template) => template,
        }
    }

    /// The steps of a start in words and in their order: those of the very plan that a child would walk.
    ///
    /// # Errors
    /// A NUL in the host name.
    pub fn explain(&self, spec: SandboxSpec<'_>) -> Result<Vec<String>, SandboxError> {
        let spec = self.plan_spec(spec, (0, 0), [self.dev_null.as_fd(); SLOTS])?;
        Ok(plan(&spec).iter().map(ToString::to_string).collect())
    }

    /// A wire for [`Sandbox::explain`], which is never made.
    pub fn shown_wire<'a>(&'a self, what: &'a str) -> WireSpec<'a> {
        let (nothing, messages) = (self.dev_null.as_fd(), Messages { bytes: &[], first: 0, last: 0 });
        WireSpec {
            what,
            address: std::net::Ipv4Addr::UNSPECIFIED,
            router: nothing,
            socket: nothing,
            outer: messages,
            inner: messages,
            note: nothing,
        }
    }

    /// The clone itself, between entering and leaving the template.
    fn clone_into(
        &self,
        stack: &mut ChildStack,
        watch: &Watch,
        steps: &[Step<'_>],
        parts: &SandboxParts<'_>,
    ) -> Result<sys::clone::Cloned, SandboxError> {
        let mut namespaces = libc::CLONE_NEWPID
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP;
        if matches!(parts.spec.network, Network::Own | Network::Wired(_)) {
            namespaces |= libc::CLONE_NEWNET;
        }
        let template = self.template_of(parts.spec.root);
        preparing(sys::thread::join_mounts(template.namespace.as_fd()), "enter the template root")?;
        let Walked { cloned, at, failed } =
            child::run(stack, watch, namespaces as u64, Some(parts.cgroup), steps);
        let back = sys::thread::join_mounts(self.host_mounts.as_fd());
        let cloned = preparing(cloned, "clone the job's first process")?;
        let step = || steps.get(at).map_or_else(String::new, ToString::to_string);
        if let Some(errno) = failed {
            let _ = waitid(WaitId::PidFd(cloned.pidfd.as_fd()), WaitIdOptions::EXITED);
            return Err(SandboxError::Step { step: step(), source: io::Error::from_raw_os_error(errno) });
        }
        if watch.has_killed() {
            let _ = waitid(WaitId::PidFd(cloned.pidfd.as_fd()), WaitIdOptions::EXITED);
            return Err(SandboxError::Stuck { step: step() });
        }
        preparing(back, "leave the template root")?;
        Ok(cloned)
    }

    fn exit_file(&self, id: &str) -> Result<File, SandboxError> {
        let path = self.exit_file_path(id);
        let open = || -> io::Result<File> {
            let mut file =
                OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            // Written now, so that the page exists and is ours: a job at its memory limit can still write it.
            file.write_all(&exit_file::waiting())?;
            Ok(file)
        };
        preparing(open(), &format!("make the exit file {}", path.display()))
    }

    /// The path of a job's exit file.
    pub fn exit_file_path(&self, id: &str) -> PathBuf {
        exit_file_path(&self.config.run_dir, id)
    }
}

/// The paths that jobs see, each with its key.
fn host_paths(config: &SandboxConfig) -> Vec<HostPath> {
    let with = |key| move |path: PathBuf| HostPath { path, key };
    let listed: Vec<HostPath> = match &config.mounts {
        Some(mounts) => mounts.iter().cloned().map(with(Some("filesystem.allowedMounts"))).collect(),
        None => default_paths().into_iter().map(with(None)).collect(),
    };
    let extra = config.extra_mounts.iter().cloned().map(with(Some("filesystem.extraMounts")));
    listed.into_iter().chain(extra).collect()
}

/// The null device for standard input until a child opens its own. Were it another file, or a link to one, that would be
/// readable for every job (CVE-2025-31133).
fn null_device() -> Result<File, SandboxError> {
    let open = || -> io::Result<File> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open("/dev/null");
        let null = file.ok().filter(|file| {
            file.metadata().is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == makedev(1, 3))
        });
        null.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is not the character device 1:3"))
    };
    open().map_err(|source| SandboxError::Template { doing: "open /dev/null".into(), source })
}

/// The directory of the exit files, below `<dataDir>/run`.
pub fn exit_files(run_dir: &Path) -> PathBuf {
    run_dir.join("exit")
}

/// The path of a job's exit file, below `<dataDir>/run`.
pub fn exit_file_path(run_dir: &Path, id: &str) -> PathBuf {
    exit_files(run_dir).join(id)
}

/// The user namespace of a lease for jobs of a user and of so many processes; see [`identity::make_namespace`] and
/// [`identity::make_whole_namespace`].
///
/// # Errors
/// The kernel's refusal.
pub fn user_namespace(
    lease: &mut identity::Lease,
    user: User,
    profile: Profile,
    pids: u32,
) -> Result<Arc<OwnedFd>, SandboxError> {
    if profile == Profile::Container {
        return whole_namespace(lease, pids);
    }
    let kept = &mut lease.namespaces[user.index()];
    if let Some(namespace) = kept {
        return Ok(namespace.clone());
    }
    let namespace = Arc::new(identity::make_namespace(lease.id, user)?);
    *kept = Some(namespace.clone());
    Ok(namespace)
}

fn whole_namespace(lease: &mut identity::Lease, pids: u32) -> Result<Arc<OwnedFd>, SandboxError> {
    if let Some((_, namespace)) = lease.whole.as_ref().filter(|(of, _)| *of == pids) {
        return Ok(namespace.clone());
    }
    let namespace = Arc::new(identity::make_whole_namespace(lease.id, &limits_of_all_ids(pids))?);
    lease.whole = Some((pids, namespace.clone()));
    Ok(namespace)
}

/// The limits of the plan that the kernel counts for each id, for all ids of a namespace together.
pub fn limits_of_all_ids(pids: u32) -> Vec<(u32, u64)> {
    const COUNTED: [u32; 4] =
        [libc::RLIMIT_NPROC, libc::RLIMIT_MEMLOCK, libc::RLIMIT_MSGQUEUE, libc::RLIMIT_SIGPENDING];
    let ceilings = hard_limits();
    let limits = rlimits(u64::from(pids), &ceilings).map(|(resource, _, _, hard)| (resource, hard));
    limits.filter(|(resource, _)| COUNTED.contains(resource)).collect()
}

/// The map of a lease from the owners of files of volumes to its ids; see [`identity::make_volume_map`].
///
/// # Errors
/// The kernel's refusal.
pub fn volume_map(lease: &mut identity::Lease, profile: Profile) -> Result<Arc<OwnedFd>, SandboxError> {
    let kept = &mut lease.volumes[profile as usize];
    if let Some(map) = kept {
        return Ok(map.clone());
    }
    let map = Arc::new(identity::make_volume_map(lease.id, profile.ids())?);
    *kept = Some(map.clone());
    Ok(map)
}

pub(super) fn text(text: &str) -> Result<CString, SandboxError> {
    preparing(CString::new(text).map_err(io::Error::other), "build a string for the kernel")
}

/// The mount namespace of a child that executes joblet-init. The child is ours to wait for where that fails.
fn mounts_of(child: &sys::clone::Cloned) -> Result<OwnedFd, SandboxError> {
    let opened = sys::pidfd::mount_namespace(child.pidfd.as_fd(), child.pid);
    if opened.is_err() {
        sys::pidfd::kill_and_reap(child.pidfd.as_fd());
    }
    preparing(opened, "open the job's mount namespace")
}

/// The memory file that joblet-init maps when the exec request is in it. Nobody may ever execute it.
pub(super) fn exec_request_file() -> Result<File, SandboxError> {
    // MFD_NOEXEC_SEAL (6.3) satisfies every vm.memfd_noexec; older kernels refuse the flag.
    let memfd = memfd_create("exec-request", MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| memfd_create("exec-request", MemfdFlags::CLOEXEC));
    preparing(memfd.map(File::from), "make the file of the exec request")
}

/// The two ends of an order socket: joblet-init's, and the daemon's.
fn order_socket() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// A pipe for output: the daemon's end does not block; the job's may be reopened through /proc/self/fd for
/// writing (mode 0222), never for reading.
pub(super) fn output_pipe() -> Result<(OwnedFd, OwnedFd), SandboxError> {
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
pub(super) fn hard_limits() -> [u64; 16] {
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
