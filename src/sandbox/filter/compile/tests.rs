//! The program against the plain reading of the policy, and the policy against its promises.

use super::*;
use crate::job::{Profile, User};
use crate::sandbox::filter::{
    ARCH_X86_64, JOB, JOB_OF_CONTAINER, JOB_OF_USER, Row, policy_of, program, verdict,
};
use libc::{EAFNOSUPPORT, ENOSYS, EPERM};
use proptest::prelude::*;

const ARCH_I386: u32 = 0x4000_0003;
const ARCH_AARCH64: u32 = 0xc000_00b7;
const X32: u32 = 0x4000_0000;

/// Runs a program as the kernel would, and counts the instructions. Refuses, by panicking, whatever the
/// kernel's verifier refuses: unknown instructions, jumps and loads out of bounds, running off the end.
fn run(program: &[sock_filter], nr: u32, arch: u32, args: &[u64; 6]) -> (Action, usize) {
    let mut packet = Vec::new();
    packet.extend(nr.to_le_bytes());
    packet.extend(arch.to_le_bytes());
    packet.extend(0u64.to_le_bytes());
    packet.extend(args.iter().flat_map(|arg| arg.to_le_bytes()));
    let (mut a, mut pc, mut executed) = (0u32, 0usize, 0usize);
    loop {
        let at = program[pc];
        executed += 1;
        pc += 1;
        let jump = |yes: bool| usize::from(if yes { at.jt } else { at.jf });
        match u32::from(at.code) {
            c if c == BPF_LD | BPF_W | BPF_ABS => {
                assert_eq!(at.k % 4, 0);
                a = u32::from_le_bytes(packet[at.k as usize..][..4].try_into().unwrap());
            }
            c if c == BPF_ALU | BPF_AND | BPF_K => a &= at.k,
            c if c == BPF_JMP | BPF_JA => pc += at.k as usize,
            c if c == BPF_JMP | BPF_JEQ | BPF_K => pc += jump(a == at.k),
            c if c == BPF_JMP | BPF_JGE | BPF_K => pc += jump(a >= at.k),
            c if c == BPF_JMP | BPF_JSET | BPF_K => pc += jump(a & at.k != 0),
            c if c == BPF_RET | BPF_K => return (action(at.k), executed),
            other => panic!("instruction {other:#x} is none of ours"),
        }
    }
}

fn action(answer: u32) -> Action {
    match answer {
        SECCOMP_RET_ALLOW => Action::Allow,
        SECCOMP_RET_KILL_PROCESS => Action::KillProcess,
        SECCOMP_RET_ERRNO => Action::Pretend,
        _ => {
            assert_eq!(answer & !SECCOMP_RET_DATA, SECCOMP_RET_ERRNO);
            Action::Errno((answer & SECCOMP_RET_DATA) as i32)
        }
    }
}

/// Values of each argument at which a rule may change its mind: the values that it compares with, one bit beside
/// that, and the same with the upper half filled.
fn corners(rule: &Rule, into: &mut [Vec<u64>; 6]) {
    let Rule::If { arg, test, then, otherwise } = rule else { return };
    let values = match *test {
        Test::Is(value) => vec![value, value ^ 1, value.wrapping_add(1)],
        Test::HasAny(bits) => (0..32).map(|bit| 1 << bit).chain([bits, !bits]).collect(),
        Test::Field { mask, value } => vec![value, value | !mask, value ^ 1, value ^ (1 << 31), mask],
        Test::IsNull => vec![0, 1],
    };
    for value in values.into_iter().chain([0, u32::MAX]) {
        into[*arg].push(u64::from(value));
        into[*arg].push(u64::from(value) | 0xdead_beef << 32);
    }
    corners(then, into);
    corners(otherwise, into);
}

fn corner_values(rule: &Rule) -> [Vec<u64>; 6] {
    let mut values: [Vec<u64>; 6] = Default::default();
    corners(rule, &mut values);
    values.iter_mut().for_each(|values| {
        values.sort_unstable();
        values.dedup();
    });
    values
}

/// Every combination of the corner values of the arguments that a rule looks at.
fn corner_cases(rule: &Rule) -> Vec<[u64; 6]> {
    let mut cases = vec![[0; 6], [u64::MAX; 6]];
    for (arg, values) in corner_values(rule).iter().enumerate().filter(|(_, values)| !values.is_empty()) {
        let with = |mut case: [u64; 6], value| {
            case[arg] = value;
            case
        };
        cases = cases.iter().flat_map(|case| values.iter().map(move |value| with(*case, *value))).collect();
    }
    cases
}

fn rule_of(policy: &Policy, nr: u32) -> Rule {
    let row = policy.rows.iter().find(|row| row.first <= nr && nr < row.end());
    row.map_or(Rule::Do(policy.unknown), |row| row.rule)
}

/// Numbers up to beyond the last row, and those at which 32 bits turn.
fn numbers(policy: &Policy) -> Vec<u32> {
    let beyond = policy.rows.last().map_or(0, |row| row.end()) + 40;
    (0..beyond).chain([X32 - 1, i32::MAX as u32, i32::MAX as u32 + 1, u32::MAX - 1, u32::MAX]).collect()
}

/// The program against the plain reading, everywhere.
fn check(policy: &Policy) {
    let program = compile(policy);
    for nr in numbers(policy) {
        for case in corner_cases(&rule_of(policy, nr)) {
            for (nr, arch) in
                [(nr, policy.arch), (nr | X32, policy.arch), (nr, !policy.arch), (nr, ARCH_I386)]
            {
                let (answer, _) = run(&program, nr, arch, &case);
                assert_eq!(answer, verdict(policy, nr, arch, &case), "call {nr} of {arch:#x} with {case:x?}");
            }
        }
    }
}

#[test]
fn the_program_answers_every_call_as_the_policy_reads() {
    check(&JOB);
    check(&JOB_OF_USER);
    check(&JOB_OF_CONTAINER);
}

#[test]
fn foreign_architectures_are_killed_and_x32_numbers_get_enosys() {
    let program = program(User::Root, Profile::Strict);
    for nr in 0..600 {
        for arch in [ARCH_I386, ARCH_AARCH64, 0, u32::MAX, ARCH_X86_64 & 0xffff] {
            assert_eq!(run(&program, nr, arch, &[0; 6]).0, Action::KillProcess);
        }
        assert_eq!(run(&program, nr | X32, ARCH_X86_64, &[0; 6]).0, Action::Errno(ENOSYS));
    }
}

#[test]
fn no_call_costs_more_than_45_instructions() {
    let program = program(User::Root, Profile::Strict);
    assert!(program.len() <= libc::BPF_MAXINSNS as usize, "{} instructions", program.len());
    let mut worst = (0, 0);
    for nr in numbers(&JOB) {
        for case in corner_cases(&rule_of(&JOB, nr)) {
            let (_, executed) = run(&program, nr, ARCH_X86_64, &case);
            worst = worst.max((executed, nr));
        }
    }
    assert!(worst.0 <= 45, "call {} executes {} instructions", worst.1, worst.0);
}

#[test]
fn rows_are_in_order_and_name_the_calls_that_have_their_numbers() {
    let mut named = std::collections::BTreeMap::new();
    let mut next = 0;
    for Row { first, names, .. } in JOB.rows {
        assert!(*first >= next, "{names} starts inside the row before");
        for (nr, name) in (*first..).zip(names.split_ascii_whitespace()) {
            assert_eq!(named.insert(name, i64::from(nr)), None, "{name} is there twice");
            next = nr + 1;
        }
    }
    for (name, nr) in LIBC {
        let name = name.trim_start_matches("SYS_");
        assert_eq!(named.get(name), Some(nr), "{name}");
    }
}

#[test]
fn every_refusal_gives_its_reason() {
    fn refuses(rule: &Rule) -> bool {
        match rule {
            Rule::Do(action) => *action != Action::Allow,
            Rule::If { then, otherwise, .. } => refuses(then) || refuses(otherwise),
        }
    }
    for row in JOB.rows {
        assert!(!refuses(&row.rule) || !row.reason.is_empty(), "{} is refused without a reason", row.names);
    }
}

fn answer(nr: i64, args: &[u64]) -> Action {
    let mut six = [0; 6];
    six[..args.len()].copy_from_slice(args);
    run(&program(User::Root, Profile::Strict), nr as u32, ARCH_X86_64, &six).0
}
const NO: Action = Action::Errno(EPERM);
const OLD_PACKET: i32 = 10; // SOCK_PACKET, deprecated since Linux 2.0
const HIGH: u64 = 0x1_0000_0000;

#[test]
fn new_namespaces_are_refused_for_every_call_that_makes_them() {
    for flag in [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000u64] {
        assert_eq!(answer(libc::SYS_clone, &[flag | libc::SIGCHLD as u64]), NO);
        assert_eq!(answer(libc::SYS_clone, &[flag | HIGH]), NO);
        assert_eq!(answer(libc::SYS_unshare, &[flag]), NO);
    }
    assert_eq!(answer(libc::SYS_unshare, &[0x80]), NO, "a new time namespace");
    assert_eq!(answer(libc::SYS_clone3, &[]), Action::Errno(ENOSYS));
    for kind in [0, 0x80, 0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x2000_0000, 0x4000_0000u64] {
        assert_eq!(answer(libc::SYS_setns, &[3, kind]), NO);
        assert_eq!(answer(libc::SYS_setns, &[3, kind | libc::CLONE_NEWUSER as u64]) == NO, kind != 0);
    }
}

#[test]
fn threads_and_children_are_made_as_c_libraries_make_them() {
    let thread = 0x3d_0f00; // VM FS FILES SIGHAND THREAD SYSVSEM SETTLS PARENT_SETTID CHILD_CLEARTID
    let fork = 0x120_0011; // CHILD_SETTID CHILD_CLEARTID and SIGCHLD
    let spawn = 0x4111; // VM VFORK and SIGCHLD
    for flags in [thread, fork, spawn] {
        assert_eq!(answer(libc::SYS_clone, &[flags]), Action::Allow, "{flags:#x}");
    }
    assert_eq!(answer(libc::SYS_unshare, &[libc::CLONE_FILES as u64]), Action::Allow);
}

#[test]
fn terminal_injection_is_refused_whatever_the_upper_32_bits() {
    for request in [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSETD] {
        assert_eq!(answer(libc::SYS_ioctl, &[0, request]), NO);
        assert_eq!(answer(libc::SYS_ioctl, &[0, request | HIGH]), NO);
        assert_eq!(answer(libc::SYS_ioctl, &[0, request | 1 << 63]), NO);
    }
    assert_eq!(answer(libc::SYS_ioctl, &[0, libc::TIOCGWINSZ]), Action::Allow);
}

#[test]
fn sockets_are_local_internet_or_routing_and_never_raw() {
    let socket = |family: i32, kind: i32, protocol: i32| {
        answer(libc::SYS_socket, &[family as u64, kind as u64, protocol as u64])
    };
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let none = Action::Errno(EAFNOSUPPORT);
    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET] {
        assert_eq!(socket(libc::AF_UNIX, kind | flags, 0), Action::Allow);
        for family in [libc::AF_PACKET, libc::AF_VSOCK, libc::AF_ALG, libc::AF_KEY, libc::AF_CAN, 45, -1] {
            assert_eq!(socket(family, kind, 0), none);
        }
    }
    for family in [libc::AF_INET, libc::AF_INET6] {
        assert_eq!(socket(family, libc::SOCK_STREAM | flags, 0), Action::Allow);
        assert_eq!(socket(family, libc::SOCK_STREAM | flags, libc::IPPROTO_TCP), Action::Allow);
        assert_eq!(socket(family, libc::SOCK_DGRAM | flags, libc::IPPROTO_UDP), Action::Allow);
        assert_eq!(socket(family, libc::SOCK_RAW | flags, libc::IPPROTO_ICMP), NO);
        assert_eq!(socket(family, OLD_PACKET, 0), NO);
        assert_eq!(socket(family, libc::SOCK_STREAM, libc::IPPROTO_SCTP), NO);
        assert_eq!(socket(family, libc::SOCK_SEQPACKET, libc::IPPROTO_SCTP), NO);
        assert_eq!(socket(family, libc::SOCK_DCCP, libc::IPPROTO_DCCP), NO);
    }
    assert_eq!(socket(libc::AF_NETLINK, libc::SOCK_RAW | flags, libc::NETLINK_ROUTE), Action::Allow);
    assert_eq!(socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER), none);
    assert_eq!(answer(libc::SYS_socketpair, &[libc::AF_UNIX as u64, 1, 0]), Action::Allow);
    assert_eq!(answer(libc::SYS_socketpair, &[libc::AF_TIPC as u64, 1, 0]), none);
}

#[test]
fn device_nodes_are_refused_and_fifos_are_not() {
    for (nr, at) in [(libc::SYS_mknod, 1), (libc::SYS_mknodat, 2)] {
        let mknod = |mode: u32| {
            let mut args = [0; 6];
            args[at] = u64::from(mode);
            answer(nr, &args)
        };
        assert_eq!(mknod(libc::S_IFCHR | 0o600), NO);
        assert_eq!(mknod(libc::S_IFBLK | 0o600), NO);
        assert_eq!(mknod(0xffff_0000 | libc::S_IFBLK | 0o600), NO);
        for mode in [0o600, libc::S_IFREG | 0o600, libc::S_IFIFO | 0o666, libc::S_IFSOCK | 0o777] {
            assert_eq!(mknod(mode), Action::Allow);
        }
    }
}

#[test]
fn odd_personalities_are_refused() {
    let personality = |value: u32| answer(libc::SYS_personality, &[u64::from(value)]);
    for fine in [0, u32::MAX, libc::ADDR_NO_RANDOMIZE as u32] {
        assert_eq!(personality(fine), Action::Allow);
    }
    for odd in [libc::MMAP_PAGE_ZERO as u32, libc::READ_IMPLIES_EXEC as u32, 8, 0x20000] {
        assert_eq!(personality(odd), NO);
    }
}

#[test]
fn own_pid_is_as_good_as_none_and_init_is_refused() {
    for nr in [libc::SYS_prlimit64, libc::SYS_move_pages, libc::SYS_migrate_pages] {
        for own in [0, 2, 4711, HIGH] {
            assert_eq!(answer(nr, &[own]), Action::Allow);
        }
        assert_eq!(answer(nr, &[1]), NO);
        assert_eq!(answer(nr, &[1 | HIGH]), NO);
    }
}

#[test]
fn limit_of_core_dumps_is_only_read() {
    let core = u64::from(libc::RLIMIT_CORE);
    let (none, wanted) = (0, 0x7fff_0000_0000);
    for (new, action) in [(none, Action::Allow), (wanted, Action::Pretend), (wanted + 16, Action::Pretend)] {
        assert_eq!(answer(libc::SYS_prlimit64, &[0, core, new, 0]), action, "{new:#x}");
        assert_eq!(answer(libc::SYS_prlimit64, &[2, core | HIGH, new, 0]), action, "{new:#x}");
        assert_eq!(answer(libc::SYS_prlimit64, &[1, core, new, 0]), NO);
        assert_eq!(answer(libc::SYS_prlimit64, &[0, u64::from(libc::RLIMIT_NOFILE), new, 0]), Action::Allow);
    }
    assert_eq!(answer(libc::SYS_setrlimit, &[core, wanted]), Action::Pretend);
    assert_eq!(answer(libc::SYS_setrlimit, &[u64::from(libc::RLIMIT_NOFILE), wanted]), Action::Allow);
}

#[test]
fn idle_scheduling_has_no_effect_with_or_without_reset_on_fork() {
    let set = |policy: i32| answer(libc::SYS_sched_setscheduler, &[0, policy as u64, 0]);
    for policy in [libc::SCHED_IDLE, libc::SCHED_IDLE | libc::SCHED_RESET_ON_FORK] {
        assert_eq!(set(policy), Action::Pretend);
    }
    for policy in
        [libc::SCHED_OTHER, libc::SCHED_BATCH, libc::SCHED_RR, libc::SCHED_BATCH | libc::SCHED_RESET_ON_FORK]
    {
        assert_eq!(set(policy), Action::Allow);
    }
    assert_eq!(answer(libc::SYS_sched_setattr, &[0, 0x7fff_0000, 0]), NO);
}

#[test]
fn a_branch_reaches_beyond_255_instructions_on_either_side() {
    let mut long: &'static Rule = &Rule::Do(Action::Errno(1));
    for value in 0..400 {
        let then = Box::leak(Box::new(Rule::Do(Action::Errno(value + 2))));
        long = Box::leak(Box::new(Rule::If { arg: 3, test: Test::Is(value as u32), then, otherwise: long }));
    }
    let both = Rule::If { arg: 1, test: Test::HasAny(4), then: long, otherwise: long };
    let rows = vec![
        Row { first: 7, names: "one two", rule: both, reason: "" },
        Row { first: 9, names: "three", rule: *long, reason: "" },
    ];
    check(&Policy { rows: rows.leak(), ..JOB });
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Allow),
        Just(Action::Pretend),
        Just(Action::KillProcess),
        (1..4095).prop_map(Action::Errno)
    ]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let value = || prop_oneof![any::<u32>(), 0u32..4, Just(u32::MAX)];
    let test = prop_oneof![
        value().prop_map(Test::Is),
        value().prop_map(Test::HasAny),
        Just(Test::IsNull),
        (value(), value()).prop_map(|(mask, value)| Test::Field { mask, value: value & mask }),
    ];
    any_action().prop_map(Rule::Do).prop_recursive(4, 24, 2, move |inner| {
        (0..6usize, test.clone(), inner.clone(), inner).prop_map(|(arg, test, then, otherwise)| {
            let (then, otherwise) = (Box::leak(Box::new(then)), Box::leak(Box::new(otherwise)));
            Rule::If { arg, test, then, otherwise }
        })
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let names = prop_oneof![Just("a"), Just("a b"), Just("a b c d e f g h")];
    let rows = prop::collection::vec((0..20u32, names, any_rule()), 0..60);
    (any::<u32>(), any_action(), any_action(), rows).prop_map(|(arch, foreign, unknown, rows)| {
        let mut next = 0;
        let row = |(gap, names, rule): (u32, &'static str, Rule)| {
            let row = Row { first: next + gap, names, rule, reason: "" };
            next = row.end();
            row
        };
        let rows: Vec<Row> = rows.into_iter().map(row).collect();
        Policy { arch, foreign, unknown, rows: rows.leak() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_policy_becomes_a_program_that_answers_as_it_reads(
        policy in any_policy(),
        calls in prop::collection::vec((0..900u32, any::<[u64; 6]>()), 200),
    ) {
        let program = compile(&policy);
        for (nr, random) in calls {
            // The random numbers pick one corner value of each argument.
            let picks = corner_values(&rule_of(&policy, nr)).map(|mut values| {
                values.push(0);
                values
            });
            let corner = std::array::from_fn(|arg| picks[arg][random[arg] as usize % picks[arg].len()]);
            for (arch, case) in [(policy.arch, random), (policy.arch, corner), (!policy.arch, corner)] {
                prop_assert_eq!(run(&program, nr, arch, &case).0, verdict(&policy, nr, arch, &case));
            }
        }
    }
}

macro_rules! numbers {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name)),*] };
}

/// Every number that the libc crate has a name for.
#[rustfmt::skip]
const LIBC: &[(&str, i64)] = numbers![
    SYS_read SYS_write SYS_open SYS_close SYS_stat SYS_fstat SYS_lstat SYS_poll SYS_lseek SYS_mmap
    SYS_mprotect SYS_munmap SYS_brk SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_ioctl
    SYS_pread64 SYS_pwrite64 SYS_readv SYS_writev SYS_access SYS_pipe SYS_select SYS_sched_yield SYS_mremap
    SYS_msync SYS_mincore SYS_madvise SYS_shmget SYS_shmat SYS_shmctl SYS_dup SYS_dup2 SYS_pause
    SYS_nanosleep SYS_getitimer SYS_alarm SYS_setitimer SYS_getpid SYS_sendfile SYS_socket SYS_connect
    SYS_accept SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_shutdown SYS_bind SYS_listen
    SYS_getsockname SYS_getpeername SYS_socketpair SYS_setsockopt SYS_getsockopt SYS_clone SYS_fork
    SYS_vfork SYS_execve SYS_exit SYS_wait4 SYS_kill SYS_uname SYS_semget SYS_semop SYS_semctl SYS_shmdt
    SYS_msgget SYS_msgsnd SYS_msgrcv SYS_msgctl SYS_fcntl SYS_flock SYS_fsync SYS_fdatasync SYS_truncate
    SYS_ftruncate SYS_getdents SYS_getcwd SYS_chdir SYS_fchdir SYS_rename SYS_mkdir SYS_rmdir SYS_creat
    SYS_link SYS_unlink SYS_symlink SYS_readlink SYS_chmod SYS_fchmod SYS_chown SYS_fchown SYS_lchown
    SYS_umask SYS_gettimeofday SYS_getrlimit SYS_getrusage SYS_sysinfo SYS_times SYS_ptrace SYS_getuid
    SYS_syslog SYS_getgid SYS_setuid SYS_setgid SYS_geteuid SYS_getegid SYS_setpgid SYS_getppid SYS_getpgrp
    SYS_setsid SYS_setreuid SYS_setregid SYS_getgroups SYS_setgroups SYS_setresuid SYS_getresuid
    SYS_setresgid SYS_getresgid SYS_getpgid SYS_setfsuid SYS_setfsgid SYS_getsid SYS_capget SYS_capset
    SYS_rt_sigpending SYS_rt_sigtimedwait SYS_rt_sigqueueinfo SYS_rt_sigsuspend SYS_sigaltstack SYS_utime
    SYS_mknod SYS_uselib SYS_personality SYS_ustat SYS_statfs SYS_fstatfs SYS_sysfs SYS_getpriority
    SYS_setpriority SYS_sched_setparam SYS_sched_getparam SYS_sched_setscheduler SYS_sched_getscheduler
    SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_sched_rr_get_interval SYS_mlock SYS_munlock
    SYS_mlockall SYS_munlockall SYS_vhangup SYS_modify_ldt SYS_pivot_root SYS__sysctl SYS_prctl
    SYS_arch_prctl SYS_adjtimex SYS_setrlimit SYS_chroot SYS_sync SYS_acct SYS_settimeofday SYS_mount
    SYS_umount2 SYS_swapon SYS_swapoff SYS_reboot SYS_sethostname SYS_setdomainname SYS_iopl SYS_ioperm
    SYS_init_module SYS_delete_module SYS_quotactl SYS_nfsservctl SYS_getpmsg SYS_putpmsg SYS_afs_syscall
    SYS_tuxcall SYS_security SYS_gettid SYS_readahead SYS_setxattr SYS_lsetxattr SYS_fsetxattr SYS_getxattr
    SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr SYS_removexattr SYS_lremovexattr
    SYS_fremovexattr SYS_tkill SYS_time SYS_futex SYS_sched_setaffinity SYS_sched_getaffinity
    SYS_set_thread_area SYS_io_setup SYS_io_destroy SYS_io_getevents SYS_io_submit SYS_io_cancel
    SYS_get_thread_area SYS_lookup_dcookie SYS_epoll_create SYS_epoll_ctl_old SYS_epoll_wait_old
    SYS_remap_file_pages SYS_getdents64 SYS_set_tid_address SYS_restart_syscall SYS_semtimedop SYS_fadvise64
    SYS_timer_create SYS_timer_settime SYS_timer_gettime SYS_timer_getoverrun SYS_timer_delete
    SYS_clock_settime SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_exit_group SYS_epoll_wait
    SYS_epoll_ctl SYS_tgkill SYS_utimes SYS_vserver SYS_mbind SYS_set_mempolicy SYS_get_mempolicy
    SYS_mq_open SYS_mq_unlink SYS_mq_timedsend SYS_mq_timedreceive SYS_mq_notify SYS_mq_getsetattr
    SYS_kexec_load SYS_waitid SYS_add_key SYS_request_key SYS_keyctl SYS_ioprio_set SYS_ioprio_get
    SYS_inotify_init SYS_inotify_add_watch SYS_inotify_rm_watch SYS_migrate_pages SYS_openat SYS_mkdirat
    SYS_mknodat SYS_fchownat SYS_futimesat SYS_newfstatat SYS_unlinkat SYS_renameat SYS_linkat SYS_symlinkat
    SYS_readlinkat SYS_fchmodat SYS_faccessat SYS_pselect6 SYS_ppoll SYS_unshare SYS_set_robust_list
    SYS_get_robust_list SYS_splice SYS_tee SYS_sync_file_range SYS_vmsplice SYS_move_pages SYS_utimensat
    SYS_epoll_pwait SYS_signalfd SYS_timerfd_create SYS_eventfd SYS_fallocate SYS_timerfd_settime
    SYS_timerfd_gettime SYS_accept4 SYS_signalfd4 SYS_eventfd2 SYS_epoll_create1 SYS_dup3 SYS_pipe2
    SYS_inotify_init1 SYS_preadv SYS_pwritev SYS_rt_tgsigqueueinfo SYS_perf_event_open SYS_recvmmsg
    SYS_fanotify_init SYS_fanotify_mark SYS_prlimit64 SYS_name_to_handle_at SYS_open_by_handle_at
    SYS_clock_adjtime SYS_syncfs SYS_sendmmsg SYS_setns SYS_getcpu SYS_process_vm_readv
    SYS_process_vm_writev SYS_kcmp SYS_finit_module SYS_sched_setattr SYS_sched_getattr SYS_renameat2
    SYS_seccomp SYS_getrandom SYS_memfd_create SYS_kexec_file_load SYS_bpf SYS_execveat SYS_userfaultfd
    SYS_membarrier SYS_mlock2 SYS_copy_file_range SYS_preadv2 SYS_pwritev2 SYS_pkey_mprotect SYS_pkey_alloc
    SYS_pkey_free SYS_statx SYS_rseq SYS_pidfd_send_signal SYS_io_uring_setup SYS_io_uring_enter
    SYS_io_uring_register SYS_open_tree SYS_move_mount SYS_fsopen SYS_fsconfig SYS_fsmount SYS_fspick
    SYS_pidfd_open SYS_clone3 SYS_close_range SYS_openat2 SYS_pidfd_getfd SYS_faccessat2 SYS_process_madvise
    SYS_epoll_pwait2 SYS_mount_setattr SYS_quotactl_fd SYS_landlock_create_ruleset SYS_landlock_add_rule
    SYS_landlock_restrict_self SYS_memfd_secret SYS_process_mrelease SYS_futex_waitv
    SYS_set_mempolicy_home_node SYS_fchmodat2 SYS_mseal
];

#[test]
fn container_may_name_any_owner_and_a_root_and_no_call_more() {
    for nr in 0..470 {
        for args in [[0; 6], [1; 6], [0, 1000, 27, 5, 5, 5]] {
            let [strict, container] =
                Profile::ALL.map(|profile| verdict(policy_of(User::Root, profile), nr, ARCH_X86_64, &args));
            let differs = [92, 93, 94, 161, 260].contains(&nr);
            assert!(strict == container || (differs && container == Action::Allow), "{nr} {args:?}");
        }
    }
    let program = program(User::Job, Profile::Container);
    for (nr, args) in [(92, [0, 999, 27, 0, 0, 0]), (260, [0, 0, 999, 27, 0, 0]), (161, [0; 6])] {
        assert_eq!(run(&program, nr, ARCH_X86_64, &args).0, Action::Allow, "{nr}");
    }
}

#[test]
fn each_user_may_give_files_to_itself_and_to_nobody_else() {
    for user in User::ALL {
        let program = program(user, Profile::Strict);
        let answer = |nr: i64, args: [u64; 6]| run(&program, nr as u32, ARCH_X86_64, &args).0;
        for id in [0, 1, 1000, 65534] {
            let wanted = if id == u64::from(user.id()) { Action::Allow } else { NO };
            let same = u64::from(u32::MAX);
            for (owner, group) in [(id, id), (id, same), (same, id)] {
                assert_eq!(answer(libc::SYS_chown, [0, owner, group, 0, 0, 0]), wanted, "{user:?} {id}");
                assert_eq!(answer(libc::SYS_fchownat, [0, 0, owner, group, 0, 0]), wanted, "{user:?} {id}");
            }
        }
    }
}

/// The calls of libcuda.so.1 and of the CUDA runtime (driver 580): requests of the driver, its memory, pinned pages, threads near
/// the device.
#[test]
fn calls_that_cuda_needs_are_allowed() {
    // NV_ESC_RM_ALLOC, NV_ESC_RM_CONTROL, NV_ESC_RM_MAP_MEMORY, NV_ESC_CARD_INFO, NV_ESC_REGISTER_FD of the open kernel modules
    // (nv_escape.h, nv-ioctl-numbers.h): _IOWR('F', number, size).
    let request = |number: u64, size: u64| 3 << 30 | size << 16 | u64::from(b'F') << 8 | number;
    let resources =
        [(0x2b, 48), (0x2a, 32), (0x4e, 56), (0xc8, 2304), (0xc9, 4)].map(|(n, size)| request(n, size));
    // UVM_INITIALIZE and UVM_DEINITIALIZE (uvm_linux_ioctl.h), then the plain numbers of uvm_ioctl.h.
    let memory = [0x3000_0001, 0x3000_0002].into_iter().chain(1..=80);
    for number in resources.into_iter().chain(memory) {
        assert_eq!(answer(libc::SYS_ioctl, &[3, number]), Action::Allow, "request {number:#x}");
    }
    let shared = (libc::MAP_SHARED | libc::MAP_FIXED) as u64;
    let (read_write, itself) = ((libc::PROT_READ | libc::PROT_WRITE) as u64, 0);
    for (call, args) in [
        (libc::SYS_mmap, vec![0, 4096, read_write, shared, 3]),
        (libc::SYS_munmap, vec![0, 4096]),
        (libc::SYS_mremap, vec![0, 4096, 8192, 0]),
        (libc::SYS_mprotect, vec![0, 4096, read_write]),
        (libc::SYS_madvise, vec![0, 4096, libc::MADV_DONTFORK as u64]),
        (libc::SYS_mlock, vec![0, 4096]),
        (libc::SYS_munlock, vec![0, 4096]),
        (libc::SYS_mbind, vec![0, 4096, 1]),
        (libc::SYS_get_mempolicy, vec![]),
        (libc::SYS_set_mempolicy, vec![1]),
        (libc::SYS_sched_setaffinity, vec![itself, 8]),
        (libc::SYS_sched_getaffinity, vec![itself, 8]),
        (libc::SYS_sched_setscheduler, vec![itself, libc::SCHED_BATCH as u64]),
        (libc::SYS_sched_yield, vec![]),
        (libc::SYS_eventfd2, vec![0, 0]),
        (libc::SYS_poll, vec![0, 1, 0]),
        (libc::SYS_pipe2, vec![0, 0]),
        (libc::SYS_socketpair, vec![libc::AF_UNIX as u64, libc::SOCK_SEQPACKET as u64, 0]),
        (libc::SYS_memfd_create, vec![0, libc::MFD_CLOEXEC as u64]),
        (libc::SYS_sysinfo, vec![]),
        (libc::SYS_membarrier, vec![]),
        (libc::SYS_openat, vec![0, 0, libc::O_RDWR as u64]),
    ] {
        assert_eq!(answer(call, &args), Action::Allow, "call {call}");
    }
}
