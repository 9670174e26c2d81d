//! The system call policy, tested from inside: raw calls, and the errno of each.

use joblet::job::{Profile, User};
use joblet::sandbox::filter::{ARCH_X86_64, Action, policy_of, verdict};
use libc::{EAFNOSUPPORT, EINVAL, ENOMEM, ENOPROTOOPT, ENOSYS, ENOTTY, EPERM};

use crate::helper::skip::is_root;
use crate::job::{Bench, Order};

/// Name, number, arguments as `tests/jobs/calls.c` reads them, and the errno that the policy promises.
type Call = (&'static str, libc::c_long, &'static str, i32);

const NEWUSER: &str = "0x10000011";

#[rustfmt::skip] // one row a line is what makes it a table
const REFUSED: &[Call] = &[
    // Mounts and roots.
    ("mount",             libc::SYS_mount,             "sx,s/tmp,stmpfs", EPERM),
    ("mount cgroup",      libc::SYS_mount,             "scgroup,s/tmp,scgroup,0,smemory", EPERM),
    ("remount",           libc::SYS_mount,             "s,s/usr,s,4128", EPERM),
    ("umount2",           libc::SYS_umount2,           "s/usr,2", EPERM),
    ("open_tree",         libc::SYS_open_tree,         "-100,s/usr,1", EPERM),
    ("move_mount",        libc::SYS_move_mount,        "-100,s/usr,-100,s/tmp", EPERM),
    ("fsopen",            libc::SYS_fsopen,            "stmpfs", EPERM),
    ("fsconfig",          libc::SYS_fsconfig,          "1,6", EPERM),
    ("fsmount",           libc::SYS_fsmount,           "1", EPERM),
    ("fspick",            libc::SYS_fspick,            "-100,s/usr", EPERM),
    ("mount_setattr",     libc::SYS_mount_setattr,     "-100,s/usr", EPERM),
    ("pivot_root",        libc::SYS_pivot_root,        "s/tmp,s/tmp", EPERM),
    // Device nodes.
    ("mknod block",       libc::SYS_mknod,             "s/tmp/a,0x6180,0x800", EPERM),
    ("mknod char",        libc::SYS_mknod,             "s/tmp/b,0x2180,0x101", EPERM),
    ("mknodat block",     libc::SYS_mknodat,           "-100,s/tmp/c,0x6180,0x800", EPERM),
    ("mknodat char",      libc::SYS_mknodat,           "-100,s/tmp/d,0x2180,0x101", EPERM),
    // New namespaces.
    ("unshare user",      libc::SYS_unshare,           "0x10000000", EPERM),
    ("unshare net",       libc::SYS_unshare,           "0x40000000", EPERM),
    ("unshare mounts",    libc::SYS_unshare,           "0x20000", EPERM),
    ("clone user",        libc::SYS_clone,             NEWUSER, EPERM),
    ("clone3",            libc::SYS_clone3,            "0,88", ENOSYS),
    ("setns",             libc::SYS_setns,             "0,0", EPERM),
    ("setns into mounts", libc::SYS_setns,             "0,0x20000", EPERM),
    ("setns, all kinds",  libc::SYS_setns,             "0,0x7e020080", EPERM),
    // Key rings, io_uring.
    ("add_key",           libc::SYS_add_key,           "suser,sx,sy,1,-2", ENOSYS),
    ("request_key",       libc::SYS_request_key,       "suser,sx,0,-2", ENOSYS),
    ("keyctl",            libc::SYS_keyctl,            "0,-3,0", ENOSYS),
    ("io_uring_setup",    libc::SYS_io_uring_setup,    "8", ENOSYS),
    ("io_uring_enter",    libc::SYS_io_uring_enter,    "0", ENOSYS),
    ("io_uring_register", libc::SYS_io_uring_register, "0", ENOSYS),
    // Priority and processors of joblet-init, by number, by group and by user.
    ("sched_setscheduler", libc::SYS_sched_setscheduler, "1,0,0", EPERM),
    ("sched_setparam",    libc::SYS_sched_setparam,    "1,0", EPERM),
    ("sched_setattr",     libc::SYS_sched_setattr,     "1,0,0", EPERM),
    ("sched_setattr own", libc::SYS_sched_setattr,     "0,0,0", EPERM),
    ("sched_setaffinity", libc::SYS_sched_setaffinity, "1,8,0", EPERM),
    ("setpriority",       libc::SYS_setpriority,       "0,1,19", EPERM),
    ("setpriority, disguised", libc::SYS_setpriority,  "0,0x100000001,19", EPERM),
    ("setpriority group", libc::SYS_setpriority,       "1,1,19", EPERM),
    ("setpriority user",  libc::SYS_setpriority,       "2,0,19", EPERM),
    ("ioprio_set",        libc::SYS_ioprio_set,        "1,1,24576", EPERM),
    ("ioprio_set group",  libc::SYS_ioprio_set,        "2,1,24576", EPERM),
    ("ioprio_set user",   libc::SYS_ioprio_set,        "3,0,24576", EPERM),
    // Interfaces to the kernel and to the host.
    ("bpf",               libc::SYS_bpf,               "0", EPERM),
    ("perf_event_open",   libc::SYS_perf_event_open,   "0,0,-1,-1", EPERM),
    ("userfaultfd",       libc::SYS_userfaultfd,       "1", EPERM),
    ("fanotify_init",     libc::SYS_fanotify_init,     "0", EPERM),
    ("lookup_dcookie",    libc::SYS_lookup_dcookie,    "0", EPERM),
    ("quotactl",          libc::SYS_quotactl,          "0", EPERM),
    ("acct",              libc::SYS_acct,              "s/tmp/a", EPERM),
    ("swapon",            libc::SYS_swapon,            "s/tmp/a", EPERM),
    ("swapoff",           libc::SYS_swapoff,           "s/tmp/a", EPERM),
    ("reboot",            libc::SYS_reboot,            "0", EPERM),
    ("kexec_load",        libc::SYS_kexec_load,        "0", EPERM),
    ("kexec_file_load",   libc::SYS_kexec_file_load,   "-1", EPERM),
    ("init_module",       libc::SYS_init_module,       "0", EPERM),
    ("finit_module",      libc::SYS_finit_module,      "0", EPERM),
    ("delete_module",     libc::SYS_delete_module,     "sx", EPERM),
    ("iopl",              libc::SYS_iopl,              "3", EPERM),
    ("ioperm",            libc::SYS_ioperm,            "0,1,1", EPERM),
    ("open_by_handle_at", libc::SYS_open_by_handle_at, "-100,0", EPERM),
    ("name_to_handle_at", libc::SYS_name_to_handle_at, "-100,s/,0", EPERM),
    ("settimeofday",      libc::SYS_settimeofday,      "0,0", EPERM),
    ("clock_settime",     libc::SYS_clock_settime,     "0,0", EPERM),
    ("adjtimex",          libc::SYS_adjtimex,          "0", EPERM),
    ("clock_adjtime",     libc::SYS_clock_adjtime,     "0,0", EPERM),
    ("sethostname",       libc::SYS_sethostname,       "sevil,4", EPERM),
    ("setdomainname",     libc::SYS_setdomainname,     "sevil,4", EPERM),
    ("syslog",            libc::SYS_syslog,            "10", EPERM),
    ("vhangup",           libc::SYS_vhangup,           "0", EPERM),
    ("nfsservctl",        libc::SYS_nfsservctl,        "0", ENOSYS),
    ("personality",       libc::SYS_personality,       "8", EPERM),
    ("move_pages",        libc::SYS_move_pages,        "1", EPERM),
    ("migrate_pages",     libc::SYS_migrate_pages,     "1", EPERM),
    ("prlimit64 of init", libc::SYS_prlimit64,         "1,7,0,0", EPERM),
    ("prlimit64, disguised", libc::SYS_prlimit64,      "0x100000001,7,0,0", EPERM),
    ("process_madvise",   libc::SYS_process_madvise,   "0", EPERM),
    ("pidfd_getfd",       libc::SYS_pidfd_getfd,       "0,0", EPERM),
    ("kcmp",              libc::SYS_kcmp,              "1,2", EPERM),
    ("modify_ldt",        libc::SYS_modify_ldt,        "0", EPERM),
    // Families and kinds of sockets.
    ("packet",            libc::SYS_socket,            "17,3,0", EAFNOSUPPORT),
    ("netlink audit",     libc::SYS_socket,            "16,3,9", EAFNOSUPPORT),
    ("netlink netfilter", libc::SYS_socket,            "16,3,12", EAFNOSUPPORT),
    ("vsock",             libc::SYS_socket,            "40,1,0", EAFNOSUPPORT),
    ("alg",               libc::SYS_socket,            "38,5,0", EAFNOSUPPORT),
    ("key",               libc::SYS_socket,            "15,3,2", EAFNOSUPPORT),
    ("bluetooth",         libc::SYS_socket,            "31,3,1", EAFNOSUPPORT),
    ("raw icmp",          libc::SYS_socket,            "2,3,1", EPERM),
    ("raw icmp6",         libc::SYS_socket,            "10,3,58", EPERM),
    ("sctp",              libc::SYS_socket,            "2,1,132", EPERM),
    ("dccp",              libc::SYS_socket,            "2,6,33", EPERM),
    ("pair of tipc",      libc::SYS_socketpair,        "30,1,0,0", EAFNOSUPPORT),
    // Input into terminals (TIOCSTI), also with junk in the half of the register that the kernel ignores.
    ("TIOCSTI",           libc::SYS_ioctl,             "0,0x5412,sx", EPERM),
    ("TIOCSTI, disguised", libc::SYS_ioctl,            "0,0x100005412,sx", EPERM),
    ("TIOCLINUX",         libc::SYS_ioctl,             "0,0x541c,sx", EPERM),
    ("TIOCSETD",          libc::SYS_ioctl,             "0,0x5423,sx", EPERM),
    // Calls that sleep with the lock of a pipe; stdout is one.
    ("splice",            libc::SYS_splice,            "0,0,1,0,1,0", EINVAL),
    ("tee",               libc::SYS_tee,               "0,1,1,0", EINVAL),
    ("vmsplice",          libc::SYS_vmsplice,          "1,0,0,0", EINVAL),
    ("sendfile, no offset", libc::SYS_sendfile,        "1,0,0,1", EINVAL),
    // Pools of the whole host: asynchronous IO, huge pages, compiled programs; and pages that jobs share unasked.
    ("io_setup",          libc::SYS_io_setup,          "1,0", ENOSYS),
    ("io_destroy",        libc::SYS_io_destroy,        "0", ENOSYS),
    ("io_getevents",      libc::SYS_io_getevents,      "0,1,1,0,0", ENOSYS),
    ("io_submit",         libc::SYS_io_submit,         "0,1,0", ENOSYS),
    ("io_cancel",         libc::SYS_io_cancel,         "0,0,0", ENOSYS),
    ("io_pgetevents",     333,                           "0,1,1,0,0,0", ENOSYS),
    ("huge pages",        libc::SYS_mmap,              "0,0x200000,3,0x40022,-1,0", ENOMEM),
    ("huge memory file",  libc::SYS_memfd_create,      "sx,4", EINVAL),
    ("socket filter",     libc::SYS_setsockopt,        "0,1,26,0,0", EPERM),
    ("socket program",    libc::SYS_setsockopt,        "0,1,50,0,0", EPERM),
    ("port group filter", libc::SYS_setsockopt,        "0,1,51,0,0", EPERM),
    ("port group program", libc::SYS_setsockopt,       "0,1,52,0,0", EPERM),
    ("key of TCP",        libc::SYS_setsockopt,        "0,6,38,0,0", ENOPROTOOPT),
    ("seccomp listener",  libc::SYS_seccomp,           "1,8,0", EINVAL),
    ("seccomp log",       libc::SYS_seccomp,           "1,2,0", EINVAL),
    ("log of all threads", libc::SYS_seccomp,          "1,3,0", EINVAL),
    ("merged pages",      libc::SYS_madvise,           "0,0,12", EINVAL),
    ("all pages merged",  libc::SYS_prctl,             "67,1", EINVAL),
    ("core scheduling",   libc::SYS_prctl,             "62,1,0,0,0", EINVAL),
    // Names of the host's disks.
    ("uuid",              libc::SYS_ioctl,             "0,0x80111500,0", ENOTTY),
    ("uuid of ext4",      libc::SYS_ioctl,             "0,0x8008662c,0", ENOTTY),
    ("name in sysfs",     libc::SYS_ioctl,             "0,0x80811501,0", ENOTTY),
    ("label",             libc::SYS_ioctl,             "0,0x81009431,0", ENOTTY),
    // Numbers that the policy does not know: those of a later kernel and of the x32 convention.
    ("number 9999",       9999,                        "0", ENOSYS),
    ("x32 write",         0x4000_0001,                 "1,sx,1", ENOSYS),
];

/// Refused in the profile `strict` alone: a root of its own, and owners that do not exist in such a job. In a container the
/// kernel answers, and /tmp and the pipes belong to nobody there.
#[rustfmt::skip]
const REFUSED_IF_STRICT: &[Call] = &[
    ("chroot",            libc::SYS_chroot,            "s/tmp", EPERM),
    ("chown user",        libc::SYS_chown,             "s/tmp,1000,0", EPERM),
    ("chown group",       libc::SYS_chown,             "s/tmp,0,1000", EPERM),
    ("lchown group alone", libc::SYS_lchown,           "s/tmp,-1,65534", EPERM),
    ("fchown",            libc::SYS_fchown,            "1,1,1", EPERM),
    ("fchownat user",     libc::SYS_fchownat,          "-100,s/tmp,1,-1,0", EPERM),
    ("fchownat group",    libc::SYS_fchownat,          "-100,s/tmp,0,1,0", EPERM),
];

#[rustfmt::skip]
const ALLOWED: &[Call] = &[
    ("setpriority own",   libc::SYS_setpriority,             "0,0,19", 0),
    ("setpriority group", libc::SYS_setpriority,             "1,0,19", 0),
    ("socket",            libc::SYS_socket,                  "2,1,0", 0),
    ("socket6 udp",       libc::SYS_socket,                  "10,2,17", 0),
    ("unix socket",       libc::SYS_socket,                  "1,0x80801,0", 0),
    ("netlink route",     libc::SYS_socket,                  "16,3,0", 0),
    ("fifo",              libc::SYS_mknod,                   "s/tmp/fifo,0x1180,0", 0),
    ("sendfile",          libc::SYS_sendfile,                "1,0,4096,1", 0),
    ("clone",             libc::SYS_clone,                   "17", 0),
    ("unshare files",     libc::SYS_unshare,                 "0x400", 0),
    ("seccomp",           libc::SYS_seccomp,                 "2,0,0x7ffc0000", 0),
    ("filter of its own", libc::SYS_seccomp,                 "1,1,0", 0),
    ("filter by prctl",   libc::SYS_prctl,                   "22,2,0", 0),
    ("socket option",     libc::SYS_setsockopt,              "0,1,2,0,4", 0),
    ("option of TCP",     libc::SYS_setsockopt,              "0,6,26,0,4", 0),
    ("chown to itself",   libc::SYS_chown,                   "s/work,0,0", 0),
    ("chown of nothing",  libc::SYS_fchownat,                "-100,s/work,-1,-1,0", 0),
    ("memory",            libc::SYS_mmap,                    "0,4096,3,0x22,-1,0", 0),
    ("memory file",       libc::SYS_memfd_create,            "sx,1", 0),
    ("limits by own pid", libc::SYS_prlimit64,               "2,7,0,0", 0),
    ("own pages by pid",  libc::SYS_move_pages,              "2,0,0,0,0,0", 0),
    ("personality query", libc::SYS_personality,             "0xffffffff", 0),
];

fn words(text: &str) -> [u64; 6] {
    let mut args = [0; 6];
    for (arg, word) in args.iter_mut().zip(text.split(',')) {
        *arg = match word.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
            // A policy cannot see texts behind addresses.
            None => word.parse::<i64>().map_or(0, i64::cast_unsigned),
        };
    }
    args
}

fn policy(call: &Call, profile: Profile) -> Action {
    verdict(policy_of(User::Root, profile), u32::try_from(call.1).unwrap(), ARCH_X86_64, &words(call.2))
}

/// The errno that each call of a table gets inside a job.
fn tried(calls: &[Call], profile: Profile) -> Vec<(&'static str, i32)> {
    let arguments: Vec<String> =
        calls.iter().map(|(_, number, args, _)| format!("{number},{args}")).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = Bench::of(profile).run(&Order::program("calls", &arguments));
    assert_eq!(done.code, Some(0), "{done:?}");
    calls.iter().map(|call| call.0).zip(done.stdout.lines().map(|line| line.parse().unwrap())).collect()
}

#[test]
fn every_refused_call_gets_the_errno_of_the_policy() {
    needs!(is_root(), "needs root");
    for (profile, calls) in
        [(Profile::Strict, [REFUSED, REFUSED_IF_STRICT].concat()), (Profile::Container, REFUSED.to_vec())]
    {
        for call in &calls {
            assert_eq!(policy(call, profile), Action::Errno(call.3), "the policy's word on {}", call.0);
        }
        let wanted: Vec<_> = calls.iter().map(|call| (call.0, call.3)).collect();
        assert_eq!(tried(&calls, profile), wanted, "{profile:?}");
    }
    // Exactly these are the difference, and the kernel's own checks answer: chroot alone goes on.
    for call in REFUSED_IF_STRICT {
        assert_eq!(policy(call, Profile::Container), Action::Allow, "{}", call.0);
    }
    let got = tried(&REFUSED_IF_STRICT[1..], Profile::Container);
    assert!(got.iter().all(|(_, errno)| *errno == EPERM), "{got:?}");
}

#[test]
fn system_calls_that_programs_need_are_allowed() {
    needs!(is_root(), "needs root");
    for profile in Profile::ALL {
        for call in ALLOWED {
            assert_eq!(policy(call, profile), Action::Allow, "the policy's word on {}", call.0);
        }
        let got = tried(ALLOWED, profile);
        let refused: Vec<_> =
            got.iter().filter(|(_, errno)| [EINVAL, EPERM, ENOSYS, EAFNOSUPPORT].contains(errno)).collect();
        assert!(refused.is_empty(), "{profile:?}: {refused:?}");
        assert_eq!(got.len(), ALLOWED.len());
    }
}

/// With 0, the kernel starts the host's core handler when a job crashes (core(5)).
#[test]
fn limit_of_core_dumps_stays_when_a_job_lowers_it() {
    needs!(is_root(), "needs root");
    for bench in Bench::each() {
        let python = "from resource import *\n\
                      setrlimit(RLIMIT_CORE, (0, 0))\n\
                      print(getrlimit(RLIMIT_CORE), prlimit(0, RLIMIT_CORE, (0, 1)), open('/proc/self/limits').read())\n\
                      setrlimit(RLIMIT_NOFILE, (99, 99))\n\
                      print(getrlimit(RLIMIT_NOFILE))\n";
        let done = bench.run(&Order::new(&["python3", "-c", python]));
        let core = done.stdout.lines().find(|line| line.starts_with("Max core")).unwrap_or_default();
        assert_eq!(
            core.split_whitespace().collect::<Vec<_>>(),
            ["Max", "core", "file", "size", "1", "1", "bytes"],
            "{done:?}"
        );
        assert!(done.stdout.starts_with("(1, 1)") && done.stdout.ends_with("(99, 99)\n"), "{done:?}");
    }
}

#[test]
fn a_program_of_another_architecture_is_killed() {
    needs!(is_root(), "needs root");
    for bench in Bench::each() {
        // int 0x80: the 32-bit entry to the kernel, which a 64-bit program can use too.
        let python = "import ctypes, mmap\n\
                      m = mmap.mmap(-1, 4096, prot=7)\n\
                      m.write(bytes.fromhex('b814000000cd80c3'))\n\
                      ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()\n";
        let done = bench.run(&Order::new(&["python3", "-c", python]));
        assert_eq!(done.code, Some(128 + libc::SIGSYS), "{done:?}");
    }
}

/// A task of SCHED_IDLE would keep locks of the host while its siblings compute; programs that ask for it go on.
#[test]
fn idle_scheduling_is_accepted_and_has_no_effect() {
    needs!(is_root(), "needs root");
    for bench in Bench::each() {
        let python = "import os\n\
                      os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n\
                      print(os.sched_getscheduler(0) & 7 == os.SCHED_OTHER)";
        let done = bench.run(&Order::new(&["python3", "-c", python]));
        assert_eq!((done.code, done.stdout.as_str()), (Some(0), "True\n"), "{done:?}");
    }
}
