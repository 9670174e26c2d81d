//! From the description of a sandbox to the steps of its child: pure, tested as data, printable.

use std::ffi::{CStr, CString};
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

use super::capability::Capabilities;
use super::parts::{NEW, Part, WORK};
use super::rootfs::{ProcMasks, RootOverlay};
use super::spec::Network;
use super::step::Step;
use crate::init_abi::slot;
use crate::job::{Profile, User};

/// The inputs of a plan. Descriptors are open until the clone is over.
#[derive(Debug)]
pub struct PlanSpec<'a> {
    /// The network of the job.
    pub network: Network<'a>,
    /// The overlay that the root begins with.
    pub root: &'a RootOverlay,
    /// Mounts of the root beside the root itself.
    pub parts: &'a [Part],
    /// procfs shows pids only (`filesystem.proc: pid`).
    pub proc_pids_only: bool,
    /// Paths of procfs to close.
    pub masks: &'a ProcMasks,
    /// Bytes each of /tmp, /dev/shm and /run may take.
    pub scratch_bytes: u64,
    /// The filled /work, or with `writable` the mount that has it and the layer over the root.
    pub work: BorrowedFd<'a>,
    /// Whether the job may write its root.
    pub writable: bool,
    /// The user namespace by which owners in the layers of a runtime become the job's.
    pub layer_ids: BorrowedFd<'a>,
    /// The host name inside the sandbox.
    pub hostname: CString,
    /// Processes and threads (the uid is the job's alone, so this bounds the job even without a pids
    /// controller).
    pub pids: u64,
    /// The daemon's own hard limits by resource number: without CAP_SYS_RESOURCE none can be raised.
    pub ceilings: &'a [u64; 16],
    /// The daemon's oom score is not zero: the job must not inherit it.
    pub reset_oom_score: bool,
    /// Numbers of the first and the last of all descriptors below.
    pub numbers: (i32, i32),
    /// The descriptors of joblet-init by slot.
    pub descriptors: [BorrowedFd<'a>; slot::COUNT],
    /// The root of the host's procfs.
    pub proc: BorrowedFd<'a>,
    /// The user that the job is inside.
    pub user: User,
    /// The profile of its walls.
    pub profile: Profile,
    /// User namespace of the lease, for that user or that profile.
    pub user_namespace: BorrowedFd<'a>,
    /// The compiled system call policy.
    pub filter: &'a [libc::sock_filter],
    /// Seconds that joblet-init waits for a new daemon, decimal.
    pub linger_s: &'a CStr,
}

/// Limits of open files: the soft limit of login shells, and the hard limit that a program may raise it to.
const NOFILE_SOFT: u64 = 1024;
const NOFILE_HARD: u64 = 1 << 20;
/// Microseconds that a real-time thread may compute without sleeping (setrlimit(2)); the kernel counts in ticks of up to
/// 10 ms. The first turn takes less than one, unless the processor of joblet-init, which ends it, is taken away meanwhile:
/// hypervisors that have sold too many do that for a tenth of a second and more.
const RTTIME_USEC: u64 = 500_000;
/// Where a job reads what its network has refused.
const DENIALS: &CStr = c"/run/joblet/denials";
/// The file that /etc/hosts leads to.
pub(super) const HOSTS: &CStr = c"/run/hosts";
const SAFE: u64 = libc::MS_NOSUID | libc::MS_NODEV;

/// Settings of a new network namespace: every port is the job's own, and so is every echo socket (ip(7), icmp(7)). The
/// group is the kernel's largest, because the leased id is not in the plan.
const NETWORK_SETTINGS: [(&CStr, &CStr); 2] =
    [(c"sys/net/ipv4/ip_unprivileged_port_start", c"0"), (c"sys/net/ipv4/ping_group_range", c"0 2147483647")];

/// The steps, in the order in which the child takes them.
pub fn plan<'a>(spec: &'a PlanSpec<'a>) -> Vec<Step<'a>> {
    let (first, last) = spec.numbers;
    let mut steps = vec![Step::OwnDescriptors { first, last }, Step::ResetSignals, Step::Session];
    steps.extend([Step::Priority, Step::Umask]);
    match spec.network {
        Network::Own => own_network(spec, &mut steps),
        Network::Wired(wire) => {
            own_network(spec, &mut steps);
            steps.push(Step::Wire(wire));
        }
        Network::Kept(namespace) => steps.push(Step::JoinNetwork(namespace)),
        Network::Host => {}
    }
    root(spec, &mut steps);
    filesystems(spec, &mut steps);
    steps.push(Step::Hostname(spec.hostname.clone()));
    limits(spec, &mut steps);
    // Privileges go last: everything above needs them.
    steps.push(Step::ClearGroups);
    steps.push(Step::NoNewPrivileges);
    // The kernel compiles the policy into a pool of the whole host (net.core.bpf_jit_limit). Only as root of the host is
    // the child exempt from its limit; a job could fill it, and every later start would fail (error 524). The policy
    // allows the steps that follow.
    steps.push(Step::Seccomp(spec.filter));
    steps.push(Step::JoinUser(spec.user_namespace));
    steps.push(Step::BecomeUser { id: id_of_init(spec.user, spec.profile) });
    steps.push(Step::DropCapabilities { keep: capabilities(spec.profile) });
    // Overwrites the numbers 0 to 9, the namespace's own among them perhaps: nothing after it names another.
    steps.push(Step::Descriptors(spec.descriptors));
    steps.push(Step::StandardInput);
    steps.push(Step::Exec { linger_s: spec.linger_s });
    steps
}

/// The id inside of PID 1. Where there are others it is root, which may start the payload as any of them.
fn id_of_init(user: User, profile: Profile) -> u32 {
    match profile {
        Profile::Strict => user.id(),
        Profile::Container => User::Root.id(),
    }
}

/// The capabilities that a job of this profile can have, in its own user namespace.
pub(super) fn capabilities(profile: Profile) -> Capabilities {
    match profile {
        Profile::Strict => Capabilities::NONE,
        Profile::Container => Capabilities::CONTAINER,
    }
}

fn own_network<'a>(spec: &'a PlanSpec<'a>, steps: &mut Vec<Step<'a>>) {
    steps.push(Step::LoopbackUp);
    for (file, value) in NETWORK_SETTINGS {
        steps.push(Step::Setting { proc: spec.proc, file, value });
    }
}

/// The root is put together at /new, then entered; from then on paths are the job's.
fn root<'a>(spec: &'a PlanSpec<'a>, steps: &mut Vec<Step<'a>>) {
    match spec.root {
        RootOverlay::Whole { options, written, layers, .. } => {
            let (writable, what) = (spec.writable, "the root of the runtime".into());
            if spec.profile == Profile::Container || writable {
                let ids = spec.layer_ids;
                steps.extend(layers.iter().map(|at| Step::MapIds { at, ids }));
            }
            if writable {
                let what = "the layer of its own";
                steps.push(Step::Place { mount: spec.work, what, at: c"/own" });
            }
            let options = if writable { written } else { options };
            steps.push(Step::Overlay { what, at: c"/new", options, writable });
            if writable {
                let what = "the work directory".into();
                steps.push(Step::Bind { what, from: WORK, at: c"/new/work" });
            }
        }
        RootOverlay::Below(options) => {
            let (what, at, writable) = ("/ and /etc".into(), c"/overlay", false);
            steps.push(Step::Overlay { what, at, options, writable });
            let what = "/ without the host's /etc".into();
            steps.push(Step::Bind { what, from: c"/overlay/root", at: c"/new" });
        }
    }
    for part in spec.parts {
        let (Part::Overlay { at, .. } | Part::Bind { at, .. }) = part;
        let what = at.to_string_lossy().replacen(NEW, "", 1).into();
        steps.push(match part {
            Part::Overlay { at, options } => Step::Overlay { what, at, options, writable: false },
            Part::Bind { from, at } => Step::Bind { what, from, at },
        });
    }
    steps.push(Step::Devices { at: c"/new/dev" });
    steps.push(Step::EnterRoot { at: c"/new" });
}

fn filesystems<'a>(spec: &'a PlanSpec<'a>, steps: &mut Vec<Step<'a>>) {
    // The files of joblet-init, which is not dumpable, belong to the uid that the payload has too: without hidepid it
    // could write its autogroup and its oom_score_adj.
    let shown = if spec.proc_pids_only { c"subset=pid,hidepid=invisible" } else { c"hidepid=noaccess" };
    steps.push(mount(c"proc", c"/proc", SAFE | libc::MS_NOEXEC, shown.to_owned()));
    if spec.reset_oom_score {
        steps.push(Step::Write { text: c"0", at: c"/proc/self/oom_score_adj" });
    }
    if !spec.proc_pids_only {
        let masks = spec.masks;
        steps.extend(masks.files.iter().map(|at| Step::Hide { under: c"/dev/null", at: at.clone() }));
        steps.extend(masks.directories.iter().map(|at| Step::HideDirectory { at: at.clone() }));
        steps.extend(masks.read_only.iter().map(|at| Step::ReadOnly { at: at.clone() }));
    }
    steps.push(mount(c"tmpfs", c"/tmp", SAFE, scratch(spec.scratch_bytes)));
    steps.push(mount(c"tmpfs", c"/dev/shm", SAFE | libc::MS_NOEXEC, scratch(spec.scratch_bytes)));
    steps.push(mount(c"tmpfs", c"/run", SAFE, scratch(run_bytes(spec.scratch_bytes))));
    // /var/lock and /var/log lead here.
    steps.push(Step::Directory { at: c"/run/lock" });
    steps.push(Step::Directory { at: c"/run/log" });
    steps.push(Step::NewFile { at: HOSTS, text: hosts(&spec.hostname, &spec.network) });
    steps.push(Step::NewFile { at: c"/run/resolv.conf", text: resolver(&spec.network).to_owned() });
    if let Network::Wired(wire) = spec.network {
        // The file is the daemon's, and the job sees it through this mount alone.
        steps.push(Step::OwnDirectory { at: c"/run/joblet" });
        steps.push(Step::NewFile { at: DENIALS, text: CString::default() });
        steps.push(Step::Place { mount: wire.note, what: "what the network has refused", at: DENIALS });
    }
    // In the job's cgroup namespace its own group is the root, and mount options of the host's tree are ignored.
    let group = SAFE | libc::MS_NOEXEC | libc::MS_RDONLY;
    steps.push(mount(c"cgroup2", c"/sys/fs/cgroup", group, CString::default()));
    // The kernel has 4096 for everybody (kernel.pty.max) and keeps 1024 of them for the host: a hundred jobs share the rest.
    let terminals = c"newinstance,ptmxmode=0666,mode=0620,max=30";
    steps.push(mount(c"devpts", c"/dev/pts", libc::MS_NOSUID | libc::MS_NOEXEC, terminals.to_owned()));
    // One with a writable root has it already.
    if !spec.writable {
        steps.push(Step::Place { mount: spec.work, what: "the work directory", at: c"/work" });
    }
}

fn mount<'a>(kind: &'static CStr, at: &'static CStr, flags: u64, options: CString) -> Step<'a> {
    Step::Mount { kind, at, flags, options }
}

/// The names that every job resolves without a name server. The host name leads to the address by which other jobs reach this
/// one: programs tell it to others. Without a wire it has an address of its own, as Debian gives it (hosts(5)), and stands
/// before localhost at ::1, which a resolver prefers, so that its full name is itself.
fn hosts(hostname: &CStr, network: &Network<'_>) -> CString {
    let name = hostname.to_string_lossy();
    let text = match network {
        Network::Wired(wire) => hosts_of_wired(&name, wire.address),
        Network::Own | Network::Kept(_) | Network::Host => format!(
            "127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n::1\t{name} localhost ip6-localhost ip6-loopback\n"
        ),
    };
    CString::new(text).expect("a C string has no NUL within")
}

/// The same for a job with a wire.
pub(super) fn hosts_of_wired(name: &str, address: Ipv4Addr) -> String {
    format!("127.0.0.1\tlocalhost\n{address}\t{name}\n::1\tlocalhost ip6-localhost ip6-loopback\n")
}

/// The name servers of a job: that of its router, which has the same address in every network (resolv.conf(5)). The host's
/// own file would lead astray: its 127.0.0.53 is another address in a namespace of its own.
fn resolver(network: &Network<'_>) -> &'static CStr {
    match network {
        Network::Wired(_) => c"nameserver 169.254.1.53\noptions timeout:2 attempts:2\n",
        Network::Own | Network::Kept(_) | Network::Host => c"# jobs have no name server in this network\n",
    }
}

/// Bytes of /run, by those of /tmp: pid files, sockets, locks, and logs of programs that keep one in /var/log.
pub fn run_bytes(scratch_bytes: u64) -> u64 {
    scratch_bytes.min(64 << 20)
}

/// Options of a tmpfs that everybody in the job may write to. An inode costs the kernel about 1 KiB.
pub(super) fn scratch(bytes: u64) -> CString {
    CString::new(format!("mode=1777,{}", size(bytes))).expect("digits have no NUL")
}

/// The size options of a tmpfs of so many bytes.
pub(super) fn size(bytes: u64) -> String {
    format!("size={bytes},nr_inodes={}", inodes_for(bytes))
}

/// Files and directories that go with so many bytes.
pub(super) fn inodes_for(bytes: u64) -> u64 {
    (bytes / 4096).clamp(1024, 1 << 20)
}

fn limits<'a>(spec: &PlanSpec<'a>, steps: &mut Vec<Step<'a>>) {
    for (resource, name, soft, hard) in rlimits(spec.pids, spec.ceilings) {
        steps.push(Step::Rlimit { resource, name, soft, hard });
    }
}

/// Number, name, soft and hard limit of each resource.
pub(super) fn rlimits(
    pids: u64,
    ceilings: &[u64; 16],
) -> impl Iterator<Item = (u32, &'static str, u64, u64)> {
    let wanted = [
        (libc::RLIMIT_NOFILE, "RLIMIT_NOFILE", NOFILE_SOFT, NOFILE_HARD),
        // Not 0: a core handler (core_pattern with a pipe) gets the dump even then; 1 means none at all (core(5)).
        (libc::RLIMIT_CORE, "RLIMIT_CORE", 1, 1),
        // One more than pids.max: where that is, it refuses first, and counts what it refused (pids.events).
        (libc::RLIMIT_NPROC, "RLIMIT_NPROC", pids + 1, pids + 1),
        (libc::RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK", 65_536, 65_536),
        (libc::RLIMIT_MSGQUEUE, "RLIMIT_MSGQUEUE", 819_200, 819_200),
        (libc::RLIMIT_SIGPENDING, "RLIMIT_SIGPENDING", 4096, 4096),
        (libc::RLIMIT_NICE, "RLIMIT_NICE", 0, 0),
        (libc::RLIMIT_RTPRIO, "RLIMIT_RTPRIO", 0, 0),
        // The kernel kills a real-time thread that computes longer than its first turn could last.
        (libc::RLIMIT_RTTIME, "RLIMIT_RTTIME", RTTIME_USEC, RTTIME_USEC),
    ];
    wanted.into_iter().map(|(resource, name, soft, hard)| {
        let ceiling = ceilings.get(resource as usize).copied().unwrap_or(0);
        (resource, name, soft.min(ceiling), hard.min(ceiling))
    })
}
