//! The policy of every job on x86_64: numbers 0..=469, as of Linux 6.18.
//!
//! Read it as a table in the kernel's own order. Gaps are numbers that the kernel never gave out.

use super::Action::{Allow, Errno, KillProcess, Pretend};
use super::{ARCH_X86_64, Policy, Row, Rule, Test};
use crate::job::User;
use libc::{EAFNOSUPPORT, EINVAL, ENOMEM, ENOPROTOOPT, ENOSYS, ENOTTY, EPERM};

/// The policy of every job that is uid 0 inside.
pub const JOB: Policy = Policy {
    arch: ARCH_X86_64,
    foreign: KillProcess,
    unknown: Errno(ENOSYS),
    rows: Table::<{ User::Root.id() }, false>::ROWS,
};

/// The policy of every job of the ordinary user. It differs in the owners that a file may get.
pub const JOB_OF_USER: Policy = Policy { rows: Table::<{ User::Job.id() }, false>::ROWS, ..JOB };

/// The policy of every job of the profile `container`: files may get any owner that exists in the job, and a process another
/// root directory.
pub const JOB_OF_CONTAINER: Policy = Policy { rows: Table::<{ User::Root.id() }, true>::ROWS, ..JOB };

const YES: Rule = Rule::Do(Allow);
const REFUSED: Rule = Rule::Do(Errno(EPERM));
const NO_SUCH_FAMILY: Rule = Rule::Do(Errno(EAFNOSUPPORT));
const UNKNOWN: Rule = Rule::Do(Errno(EINVAL));
const NO_SUCH_REQUEST: Rule = Rule::Do(Errno(ENOTTY));
const NO_MEMORY: Rule = Rule::Do(Errno(ENOMEM));

/// Calls that every program may make; the other layers guard the little that they can reach.
const fn allow(first: u32, names: &'static str) -> Row {
    Row { first, names, rule: YES, reason: "" }
}

/// A call that is allowed although it deserves a second thought, with that thought.
const fn allow_because(first: u32, names: &'static str, reason: &'static str) -> Row {
    Row { first, names, rule: YES, reason }
}

const fn refuse(first: u32, names: &'static str, errno: i32, reason: &'static str) -> Row {
    Row { first, names, rule: Rule::Do(Errno(errno)), reason }
}

const fn check(first: u32, names: &'static str, rule: Rule, reason: &'static str) -> Row {
    Row { first, names, rule, reason }
}

const fn when(arg: usize, test: Test, then: &'static Rule, otherwise: &'static Rule) -> Rule {
    Rule::If { arg, test, then, otherwise }
}

/// Namespaces asked of clone(2). CLONE_NEWTIME is absent: clone takes these bits for the exit signal.
const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// The parts that unshare(2) may separate: things of this process. Everything else is a namespace, today's or a later one.
const PROCESS_PARTS: u32 = (libc::CLONE_FILES
    | libc::CLONE_FS
    | libc::CLONE_SYSVSEM
    | libc::CLONE_THREAD
    | libc::CLONE_SIGHAND
    | libc::CLONE_VM) as u32;

const CLONE: Rule = when(0, Test::HasAny(NEW_NAMESPACES), &REFUSED, &YES);
const UNSHARE: Rule = when(0, Test::HasAny(!PROCESS_PARTS), &REFUSED, &YES);

/// The kernel takes the mode as 16 bits and its file type from four of them.
const fn type_of_node(is: u32) -> Test {
    Test::Field { mask: libc::S_IFMT, value: is }
}
const CHARACTERS: Test = type_of_node(libc::S_IFCHR);
const BLOCKS: Test = type_of_node(libc::S_IFBLK);
const MKNOD: Rule = when(1, CHARACTERS, &REFUSED, &when(1, BLOCKS, &REFUSED, &YES));
const MKNODAT: Rule = when(2, CHARACTERS, &REFUSED, &when(2, BLOCKS, &REFUSED, &YES));

/// Requests for the UUID, the label and the path in /sys of a file system (linux/fs.h, fs/ext4/ext4.h).
const FS_IOC_GETFSUUID: u32 = 0x8011_1500;
const FS_IOC_GETFSSYSFSPATH: u32 = 0x8081_1501;
const FS_IOC_GETFSLABEL: u32 = 0x8100_9431;
const EXT4_IOC_GETFSUUID: u32 = 0x8008_662c;
const NAMES_OF_DISKS: Rule = when(
    1,
    Test::Is(FS_IOC_GETFSUUID),
    &NO_SUCH_REQUEST,
    &when(
        1,
        Test::Is(FS_IOC_GETFSSYSFSPATH),
        &NO_SUCH_REQUEST,
        &when(
            1,
            Test::Is(FS_IOC_GETFSLABEL),
            &NO_SUCH_REQUEST,
            &when(1, Test::Is(EXT4_IOC_GETFSUUID), &NO_SUCH_REQUEST, &NETWORK_REQUESTS),
        ),
    ),
);
/// Requests of linux/sockios.h that the libc crate lacks or names otherwise. Those of bridges and VLANs load a module of the
/// host before they look at who asks. The one of ethtool copies a job's memory, which a job can make slow, with the
/// lock of the host's whole network configuration (rtnl_lock).
const SIOCGIFBR: u32 = 0x8940;
const SIOCSIFBR: u32 = 0x8941;
const SIOCETHTOOL: u32 = 0x8946;
const SIOCGIFVLAN: u32 = 0x8982;
const SIOCSIFVLAN: u32 = 0x8983;
const SIOCBRADDBR: u32 = 0x89a0;
const SIOCBRDELBR: u32 = 0x89a1;
const NETWORK_REQUESTS: Rule = when(
    1,
    Test::Is(SIOCETHTOOL),
    &NO_SUCH_REQUEST,
    &when(
        1,
        Test::Is(SIOCGIFVLAN),
        &NO_SUCH_REQUEST,
        &when(
            1,
            Test::Is(SIOCSIFVLAN),
            &NO_SUCH_REQUEST,
            &when(1, Test::Is(SIOCGIFBR), &NO_SUCH_REQUEST, &BRIDGE_REQUESTS),
        ),
    ),
);
const BRIDGE_REQUESTS: Rule = when(
    1,
    Test::Is(SIOCSIFBR),
    &NO_SUCH_REQUEST,
    &when(
        1,
        Test::Is(SIOCBRADDBR),
        &NO_SUCH_REQUEST,
        &when(1, Test::Is(SIOCBRDELBR), &NO_SUCH_REQUEST, &YES),
    ),
);
const IOCTL: Rule = when(
    1,
    Test::Is(libc::TIOCSTI as u32),
    &REFUSED,
    &when(
        1,
        Test::Is(libc::TIOCLINUX as u32),
        &REFUSED,
        &when(1, Test::Is(libc::TIOCSETD as u32), &REFUSED, &NAMES_OF_DISKS),
    ),
);

const fn option(is: i32) -> Test {
    Test::Is(is as u32)
}
const PROGRAM_OPTIONS: Rule = when(
    2,
    option(libc::SO_ATTACH_FILTER),
    &REFUSED,
    &when(
        2,
        option(libc::SO_ATTACH_BPF),
        &REFUSED,
        &when(
            2,
            option(libc::SO_ATTACH_REUSEPORT_CBPF),
            &REFUSED,
            &when(2, option(libc::SO_ATTACH_REUSEPORT_EBPF), &REFUSED, &YES),
        ),
    ),
);
/// The host has 4096 flow labels for all its network namespaces (ip6_flowlabel.c).
const FLOW_LABELS: Rule = when(2, option(libc::IPV6_FLOWLABEL_MGR), &REFUSED, &YES);
/// `TCP_AO_ADD_KEY` of linux/tcp.h. It loads the module of any hash that the caller names, and the host has 25 places for
/// such hashes (tcp_sigpool.c).
const TCP_AO_ADD_KEY: i32 = 38;
const TCP_KEYS: Rule = when(2, option(TCP_AO_ADD_KEY), &Rule::Do(Errno(ENOPROTOOPT)), &YES);
const SETSOCKOPT: Rule = when(
    1,
    Test::Is(libc::SOL_SOCKET as u32),
    &PROGRAM_OPTIONS,
    &when(
        1,
        Test::Is(libc::SOL_IPV6 as u32),
        &FLOW_LABELS,
        &when(1, Test::Is(libc::SOL_TCP as u32), &TCP_KEYS, &YES),
    ),
);

/// A listener keeps its program alive by a descriptor, without a process. The flag for a log has every call logged that
/// the program does not allow, in the host's log.
const REFUSED_FILTERS: u32 = (libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_LOG) as u32;
const SECCOMP: Rule = when(
    0,
    Test::Is(libc::SECCOMP_SET_MODE_FILTER),
    &when(1, Test::HasAny(REFUSED_FILTERS), &UNKNOWN, &YES),
    &YES,
);

/// `PR_SET_MEMORY_MERGE` of linux/prctl.h; the libc crate has no name for it.
const PR_SET_MEMORY_MERGE: u32 = 67;
const PRCTL: Rule = when(
    0,
    Test::Is(PR_SET_MEMORY_MERGE),
    &UNKNOWN,
    &when(0, Test::Is(libc::PR_SCHED_CORE as u32), &UNKNOWN, &YES),
);
const MADVISE: Rule = when(2, Test::Is(libc::MADV_MERGEABLE as u32), &UNKNOWN, &YES);

const MMAP: Rule = when(3, Test::HasAny(libc::MAP_HUGETLB as u32), &NO_MEMORY, &YES);
const MEMFD_CREATE: Rule = when(1, Test::HasAny(libc::MFD_HUGETLB), &UNKNOWN, &YES);

/// The lower bits of socket(2)'s type; the rest are SOCK_CLOEXEC and SOCK_NONBLOCK (linux/net.h).
const SOCKET_TYPE: u32 = 0xf;
const fn kind(of: i32) -> Test {
    Test::Field { mask: SOCKET_TYPE, value: of as u32 }
}
const fn family(is: i32) -> Test {
    Test::Is(is as u32)
}
const fn protocol(is: i32) -> Test {
    Test::Is(is as u32)
}
const STREAM: Rule = when(2, protocol(0), &YES, &when(2, protocol(libc::IPPROTO_TCP), &YES, &REFUSED));
// Echo datagrams (the unprivileged `ping`) are the kernel's to allow: net.ipv4.ping_group_range.
const ECHO: Rule =
    when(2, protocol(libc::IPPROTO_ICMP), &YES, &when(2, protocol(libc::IPPROTO_ICMPV6), &YES, &REFUSED));
const DATAGRAM: Rule = when(2, protocol(0), &YES, &when(2, protocol(libc::IPPROTO_UDP), &YES, &ECHO));
const INTERNET: Rule =
    when(1, kind(libc::SOCK_STREAM), &STREAM, &when(1, kind(libc::SOCK_DGRAM), &DATAGRAM, &REFUSED));
const NETLINK: Rule = when(2, protocol(libc::NETLINK_ROUTE), &YES, &NO_SUCH_FAMILY);
const SOCKET: Rule = when(
    0,
    family(libc::AF_UNIX),
    &YES,
    &when(
        0,
        family(libc::AF_INET),
        &INTERNET,
        &when(
            0,
            family(libc::AF_INET6),
            &INTERNET,
            &when(0, family(libc::AF_NETLINK), &NETLINK, &NO_SUCH_FAMILY),
        ),
    ),
);
const SOCKETPAIR: Rule = when(0, family(libc::AF_UNIX), &YES, &NO_SUCH_FAMILY);

/// personality(2): plain Linux, and the value that only asks. The libc crate names neither.
const PLAIN_LINUX: u32 = 0;
const QUERY_PERSONALITY: u32 = u32::MAX;
const PERSONALITY: Rule = when(
    0,
    Test::Is(PLAIN_LINUX),
    &YES,
    &when(
        0,
        Test::Is(QUERY_PERSONALITY),
        &YES,
        &when(0, Test::Is(libc::ADDR_NO_RANDOMIZE as u32), &YES, &REFUSED),
    ),
);

/// sendfile(2) without an offset is the only form that reads from sockets, pipes and terminals, which may be silent for
/// ever: with an offset the kernel refuses what cannot seek (ESPIPE). nginx, Apache, Java and Python give one. The filter
/// sees the lower half of an address; one whose lower half is zero is refused too, and the caller falls back.
const SENDFILE: Rule = when(2, Test::Is(0), &Rule::Do(Errno(EINVAL)), &YES);

const SETNS: Rule = when(1, Test::Is(libc::CLONE_NEWUSER as u32), &YES, &REFUSED);

/// The id that chown(2) may name besides the job's own: the one that changes nothing.
const SAME_ID: Test = Test::Is(u32::MAX);

/// The table of jobs whose one id is `OWN` inside, or that have `ALL` ids of a container.
struct Table<const OWN: u32, const ALL: bool>;

impl<const OWN: u32, const ALL: bool> Table<OWN, ALL> {
    const OWN_ID: Test = Test::Is(OWN);
    const CHOWN_GROUP: Rule = when(2, Self::OWN_ID, &YES, &when(2, SAME_ID, &YES, &REFUSED));
    const CHOWN: Rule =
        when(1, Self::OWN_ID, &Self::CHOWN_GROUP, &when(1, SAME_ID, &Self::CHOWN_GROUP, &REFUSED));
    const CHOWNAT_GROUP: Rule = when(3, Self::OWN_ID, &YES, &when(3, SAME_ID, &YES, &REFUSED));
    const CHOWNAT: Rule =
        when(2, Self::OWN_ID, &Self::CHOWNAT_GROUP, &when(2, SAME_ID, &Self::CHOWNAT_GROUP, &REFUSED));

    /// The rule and its reason: chown, lchown and fchown; fchownat; chroot.
    const OWNER: (Rule, &'static str) = if ALL { (YES, GIVEN) } else { (Self::CHOWN, OWNERS) };
    const OWNERAT: (Rule, &'static str) = if ALL { (YES, GIVEN) } else { (Self::CHOWNAT, OWNERS) };
    const CHROOT: (Rule, &'static str) = if ALL { (YES, ROOTS) } else { (REFUSED, MOUNTS) };
}

/// Every process of a job that a number can name is the job's own, but its first: that is joblet-init, which has the
/// payload's uid.
const JOBLET_INIT: Test = Test::Is(1);
const NOT_INIT: Rule = when(0, JOBLET_INIT, &REFUSED, &YES);

/// Priorities are set by kind and number: of a process, of a group (joblet-init leads group 1), or of all processes of a
/// user, joblet-init among them. The libc crate lacks the kinds of ioprio_set(2), one above those of setpriority(2).
const IOPRIO_WHO_USER: u32 = 3;
const SETPRIORITY: Rule = when(0, Test::Is(libc::PRIO_USER), &REFUSED, &when(1, JOBLET_INIT, &REFUSED, &YES));
const IOPRIO_SET: Rule = when(0, Test::Is(IOPRIO_WHO_USER), &REFUSED, &when(1, JOBLET_INIT, &REFUSED, &YES));

/// A task that runs only when nobody else wants the processor keeps the locks of the kernel that it has, or is handed
/// while it sleeps, for as long as its siblings compute. Programs that ask for it want to disturb nobody: they go on at
/// their policy.
const IDLE: Test = Test::Field { mask: !(libc::SCHED_RESET_ON_FORK as u32), value: libc::SCHED_IDLE as u32 };
const SCHEDULER: Rule = when(0, JOBLET_INIT, &REFUSED, &when(1, IDLE, &Rule::Do(Pretend), &YES));

/// The limit of core dumps is 1, with which the kernel starts no core handler of the host (core(5)); with 0, which a job
/// could lower it to, it does. Programs that want no dump have none.
const LIMIT: u32 = libc::RLIMIT_CORE;
const SETRLIMIT: Rule = when(0, Test::Is(LIMIT), &Rule::Do(Pretend), &YES);
const CORE_LIMIT: Rule = when(2, Test::IsNull, &YES, &Rule::Do(Pretend));
const PRLIMIT: Rule = when(0, JOBLET_INIT, &REFUSED, &when(1, Test::Is(LIMIT), &CORE_LIMIT, &YES));

const INIT: &str = "joblet-init's priority and processors are not the job's to change: it would be late to forward a \
                    stop and to report the end";
const SLOW: &str = "with SCHED_IDLE and busy siblings a job could keep locks of the whole host for seconds: other starts \
                    would wait. And joblet-init's policy is not the job's to change";
const CORES: &str =
    "a lower limit of core dumps than 1 lets crashes of jobs start the host's core handler, as root";
const MOUNTS: &str = "the job's file tree is a wall; mounts are made before the job starts (CVE-2022-0492, \
                      CVE-2022-0185)";
const MODULES: &str = "kernel code";
const TIME: &str = "the clock is the host's, there is no namespace for it";
const KEYS: &str = "key rings are not separated by namespaces other than the user's, and were long a source \
                    of flaws (CVE-2016-0728); libraries do without on ENOSYS";
const URING: &str = "a second system call interface that this filter cannot see into, and the richest source \
                     of kernel flaws of its years; libraries fall back to epoll on ENOSYS";
const GONE: &str = "removed from or never built into x86_64 kernels";
const HANDLES: &str = "opens files by inode number, past every mount (Shocker)";
const WATCH: &str = "watches and may veto file access of a whole mount";
const PIPES: &str = "keeps the lock of a pipe while it waits for its other side; whoever reads the job's output would \
                     wait for that lock. Programs fall back to read and write on EINVAL";
const PAGES: &str = "steers another process's memory, which is a supervisor's business";
const OWNERS: &str = "no id but the job's own exists in it; the kernel answers EINVAL for others, and programs that go on \
                      where they lack the privilege expect EPERM";
const GIVEN: &str = "packages, images and their start scripts give files to their users; the kernel knows the ids of the \
                     job's own user namespace alone, and refuses files that belong to others";
const ROOTS: &str = "package tools, and servers that lock themselves up, choose a root below their own; a process that leaves \
                     it again comes to the job's root and no further";
const AIO: &str = "takes from fs.aio-max-nr, one pool of the whole host without an owner; libraries fall back to \
                   threads or to ordinary reads and writes on ENOSYS";
const HUGE: &str = "the pool of huge pages is the host's, and no memory limit counts them; programs take ordinary \
                    pages where the pool is empty";
const MERGING: &str = "the kernel merges equal pages of different jobs, whose timing tells one what another holds \
                       (PR_SET_MEMORY_MERGE, MADV_MERGEABLE)";

/// Every number of the kernel's table, in its order.
#[rustfmt::skip] // one row a line, as in a table
impl<const OWN: u32, const ALL: bool> Table<OWN, ALL> {
const ROWS: &'static [Row] = &[
    allow(0, "read write open close stat fstat lstat poll lseek"),
    check(9, "mmap", MMAP, HUGE),
    allow(10, "mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn"),
    check(16, "ioctl", IOCTL, "TIOCSTI and TIOCLINUX type into a terminal that others read (CVE-2017-5226); \
               TIOCSETD loads line disciplines, old code with old flaws (CVE-2017-2636, CVE-2023-6546); the \
               host's disks have names that identify the host. Requests of GPU drivers (kind 'F' of nvidiactl and nvidiaN, \
               plain numbers of nvidia-uvm) go on: only a job with GPUs has a node that takes them"),
    allow(17, "pread64 pwrite64 readv writev access pipe select sched_yield mremap msync mincore"),
    check(28, "madvise", MADVISE, MERGING),
    allow(29, "shmget shmat shmctl dup dup2 pause nanosleep getitimer alarm setitimer getpid"),
    check(40, "sendfile", SENDFILE, PIPES),
    check(41, "socket", SOCKET, "local, IPv4, IPv6 and routing sockets; the other families (packet, vsock, \
               crypto, CAN, ...), netlink protocols and transports are modules loaded on first use, and not \
               all of them know of network namespaces; raw sockets forge other hosts' packets"),
    allow(42, "connect accept sendto recvfrom sendmsg recvmsg shutdown bind listen getsockname getpeername"),
    check(53, "socketpair", SOCKETPAIR, "as socket; only local sockets make useful pairs"),
    check(54, "setsockopt", SETSOCKOPT, "programs for sockets are compiled into a pool of the whole host \
               (net.core.bpf_jit_limit); libraries filter by themselves where they cannot attach one"),
    allow(55, "getsockopt"),
    check(56, "clone", CLONE, "a new user namespace gives every capability inside it, and with them the code \
               behind mount, nftables and more; the other namespaces need one"),
    allow(57, "fork vfork execve exit wait4 kill uname semget semop semctl shmdt msgget msgsnd msgrcv msgctl
               fcntl flock fsync fdatasync truncate ftruncate getdents getcwd chdir fchdir rename mkdir rmdir
               creat link unlink symlink readlink chmod fchmod"),
    check(92, "chown fchown lchown", Self::OWNER.0, Self::OWNER.1),
    allow(95, "umask gettimeofday getrlimit getrusage sysinfo times"),
    allow_because(101, "ptrace", "debuggers work on the job's own processes; others cannot be named, since the \
               pid namespace has no number for them, and its init is not dumpable"),
    allow(102, "getuid"),
    refuse(103, "syslog", EPERM, "the kernel's messages belong to the host"),
    allow(104, "getgid setuid setgid geteuid getegid setpgid getppid getpgrp setsid setreuid setregid getgroups
               setgroups setresuid getresuid setresgid getresgid getpgid setfsuid setfsgid getsid capget capset
               rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend sigaltstack utime"),
    check(133, "mknod", MKNOD, "devices are doors to the kernel; fifos, sockets and files are fine"),
    refuse(134, "uselib", ENOSYS, GONE),
    check(135, "personality", PERSONALITY, "asking, plain Linux, and fixed addresses (debuggers, sanitizers) are \
               fine; the others weaken mmap_min_addr and page protection or emulate old systems"),
    refuse(136, "ustat", ENOSYS, "obsolete: tells of any device of the host by number; statfs replaces it"),
    allow(137, "statfs fstatfs"),
    refuse(139, "sysfs", ENOSYS, "obsolete: lists the host's file systems"),
    allow(140, "getpriority"),
    check(141, "setpriority", SETPRIORITY, INIT),
    check(142, "sched_setparam", NOT_INIT, INIT),
    allow(143, "sched_getparam"),
    check(144, "sched_setscheduler", SCHEDULER, SLOW),
    allow(145, "sched_getscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval"),
    allow_because(149, "mlock munlock mlockall munlockall", "GPU drivers and programs with keys keep pages in memory; \
               RLIMIT_MEMLOCK bounds them, and the memory limit counts them"),
    refuse(153, "vhangup", EPERM, "hangs up the terminal for everyone on it"),
    refuse(154, "modify_ldt", EPERM, "segments serve 16 and 32 bit code, which is refused anyway \
               (CVE-2014-9322, CVE-2015-5157)"),
    refuse(155, "pivot_root", EPERM, MOUNTS),
    refuse(156, "_sysctl", ENOSYS, GONE),
    check(157, "prctl", PRCTL, "PR_SET_MEMORY_MERGE: as madvise; PR_SCHED_CORE keeps the other thread of a core \
               idle for everybody else"),
    allow(158, "arch_prctl"),
    refuse(159, "adjtimex", EPERM, TIME),
    check(160, "setrlimit", SETRLIMIT, CORES),
    check(161, "chroot", Self::CHROOT.0, Self::CHROOT.1),
    allow(162, "sync"),
    refuse(163, "acct", EPERM, "writes accounting of the whole host"),
    refuse(164, "settimeofday", EPERM, TIME),
    refuse(165, "mount umount2", EPERM, MOUNTS),
    refuse(167, "swapon swapoff", EPERM, "swap is the host's"),
    refuse(169, "reboot", EPERM, "ends the host, or in a pid namespace its init"),
    refuse(170, "sethostname setdomainname", EPERM, "the job's name is given to it"),
    refuse(172, "iopl ioperm", EPERM, "direct access to devices"),
    refuse(174, "create_module", ENOSYS, GONE),
    refuse(175, "init_module delete_module", EPERM, MODULES),
    refuse(177, "get_kernel_syms query_module", ENOSYS, GONE),
    refuse(179, "quotactl", EPERM, "quotas are what bounds the job's disk"),
    refuse(180, "nfsservctl getpmsg putpmsg afs_syscall tuxcall security", ENOSYS, GONE),
    allow(186, "gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr
               flistxattr removexattr lremovexattr fremovexattr tkill time futex"),
    check(203, "sched_setaffinity", NOT_INIT, INIT),
    allow(204, "sched_getaffinity"),
    refuse(205, "set_thread_area", ENOSYS, GONE),
    refuse(206, "io_setup io_destroy io_getevents io_submit io_cancel", ENOSYS, AIO),
    refuse(211, "get_thread_area", ENOSYS, GONE),
    refuse(212, "lookup_dcookie", EPERM, "a profiler's names for the host's files"),
    allow(213, "epoll_create"),
    refuse(214, "epoll_ctl_old epoll_wait_old", ENOSYS, GONE),
    allow(216, "remap_file_pages getdents64 set_tid_address restart_syscall semtimedop fadvise64 timer_create
               timer_settime timer_gettime timer_getoverrun timer_delete"),
    refuse(227, "clock_settime", EPERM, TIME),
    allow(228, "clock_gettime clock_getres clock_nanosleep exit_group epoll_wait epoll_ctl tgkill utimes"),
    refuse(236, "vserver", ENOSYS, GONE),
    allow_because(237, "mbind set_mempolicy get_mempolicy", "GPU programs place their memory near the device; the policy \
               holds for the caller's own pages"),
    allow(240, "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify
               mq_getsetattr"),
    refuse(246, "kexec_load", EPERM, "another kernel"),
    allow(247, "waitid"),
    refuse(248, "add_key request_key keyctl", ENOSYS, KEYS),
    check(251, "ioprio_set", IOPRIO_SET, INIT),
    allow(252, "ioprio_get inotify_init inotify_add_watch inotify_rm_watch"),
    check(256, "migrate_pages", NOT_INIT, PAGES),
    allow(257, "openat mkdirat"),
    check(259, "mknodat", MKNODAT, "as mknod"),
    check(260, "fchownat", Self::OWNERAT.0, Self::OWNERAT.1),
    allow(261, "futimesat newfstatat unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat
               pselect6 ppoll"),
    check(272, "unshare", UNSHARE, "as clone; a process may part from its own table of descriptors and the like"),
    allow(273, "set_robust_list get_robust_list"),
    refuse(275, "splice tee", EINVAL, PIPES),
    allow(277, "sync_file_range"),
    refuse(278, "vmsplice", EINVAL, PIPES),
    check(279, "move_pages", NOT_INIT, PAGES),
    allow(280, "utimensat epoll_pwait signalfd timerfd_create eventfd fallocate timerfd_settime timerfd_gettime
               accept4 signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev
               rt_tgsigqueueinfo"),
    refuse(298, "perf_event_open", EPERM, "measures more than the job, and had many flaws (CVE-2013-2094)"),
    allow(299, "recvmmsg"),
    refuse(300, "fanotify_init fanotify_mark", EPERM, WATCH),
    check(302, "prlimit64", PRLIMIT, "the limits of the job's first process must not be the job's to lower: \
               without files or file size it could neither be told nor tell the end; and as setrlimit"),
    refuse(303, "name_to_handle_at open_by_handle_at", EPERM, HANDLES),
    refuse(305, "clock_adjtime", EPERM, TIME),
    allow(306, "syncfs sendmmsg"),
    check(308, "setns", SETNS, "a job stays in the namespaces it was put into; the child enters its user namespace \
               behind this filter, and a job that tries the same lacks CAP_SYS_ADMIN in every namespace (EPERM) or \
               names its own (EINVAL)"),
    allow(309, "getcpu"),
    allow_because(310, "process_vm_readv process_vm_writev", "as ptrace, whose permission they ask for"),
    refuse(312, "kcmp", EPERM, "compares kernel addresses: made for checkpointing, a help to attackers"),
    refuse(313, "finit_module", EPERM, MODULES),
    refuse(314, "sched_setattr", EPERM, "the policy stands behind a pointer, where no filter can see SCHED_IDLE; \
               programs set the policies that need no deadline by sched_setscheduler"),
    allow(315, "sched_getattr renameat2"),
    check(317, "seccomp", SECCOMP, "only ever narrows, and browsers and sandboxes inside the job use it; without \
               listeners the programs of a job are bounded by its processes and the kernel's 32768 instructions \
               for each; the log is the host's"),
    allow(318, "getrandom"),
    check(319, "memfd_create", MEMFD_CREATE, HUGE),
    refuse(320, "kexec_file_load", EPERM, "another kernel"),
    refuse(321, "bpf", EPERM, "programs inside the kernel (CVE-2020-8835, CVE-2021-3490)"),
    allow(322, "execveat"),
    refuse(323, "userfaultfd", EPERM, "lets a job halt the kernel at a page fault of its choice, which turns \
               narrow races into sure ones"),
    allow(324, "membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx"),
    refuse(333, "io_pgetevents", ENOSYS, AIO),
    allow(334, "rseq"),
    allow_because(335, "uretprobe uprobe", "made by the kernel's own trampolines when the host traces a program; \
               refusing them would crash it, and from elsewhere they end the caller"),
    allow(424, "pidfd_send_signal"),
    refuse(425, "io_uring_setup io_uring_enter io_uring_register", ENOSYS, URING),
    refuse(428, "open_tree move_mount fsopen fsconfig fsmount fspick", EPERM, MOUNTS),
    allow(434, "pidfd_open"),
    refuse(435, "clone3", ENOSYS, "its flags stand behind a pointer, where no filter can see a new user \
               namespace; C libraries fall back to clone on ENOSYS"),
    allow(436, "close_range openat2"),
    refuse(438, "pidfd_getfd", EPERM, "takes descriptors out of other processes: the daemon's way to adopt jobs"),
    allow(439, "faccessat2"),
    refuse(440, "process_madvise", EPERM, PAGES),
    allow(441, "epoll_pwait2"),
    refuse(442, "mount_setattr", EPERM, MOUNTS),
    refuse(443, "quotactl_fd", EPERM, "quotas are what bounds the job's disk"),
    allow_because(444, "landlock_create_ruleset landlock_add_rule landlock_restrict_self",
               "only ever narrow: sandboxes inside the job use them"),
    refuse(447, "memfd_secret", ENOSYS, "splits the kernel's direct map and forbids the host to hibernate; \
               programs do without, since many kernels have it off"),
    allow(448, "process_mrelease futex_waitv set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack
               futex_wake futex_wait futex_requeue statmount listmount lsm_get_self_attr"),
    refuse(460, "lsm_set_self_attr", EPERM, "labels are set before the job starts"),
    allow(461, "lsm_list_modules mseal setxattrat getxattrat listxattrat removexattrat"),
    refuse(467, "open_tree_attr", EPERM, MOUNTS),
    allow(468, "file_getattr file_setattr"),
];
}
