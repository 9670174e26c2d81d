/* Calls every system call that jobs must not use, once, with arguments that would do no lasting harm without the filter, and
 * prints "name ERRNO", "name OK", or "name KILLED signal". Each call runs in a child of its own. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char zeros[4096];

/* Runs one attempt in a child, which returns errno as its exit code (0: it worked). */
#define ATTEMPT(name, call)                                         \
    do {                                                            \
        fflush(stdout);                                             \
        pid_t child = fork();                                       \
        if (child == 0) {                                           \
            errno = 0;                                              \
            long got = (call);                                      \
            _exit(got == -1 ? errno : 0);                           \
        }                                                           \
        report(name, child);                                        \
    } while (0)

static void report(const char *name, pid_t child)
{
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child)
        printf("%s LOST\n", name);
    else if (WIFSIGNALED(status))
        printf("%s KILLED %d\n", name, WTERMSIG(status));
    else if (WEXITSTATUS(status) == 0)
        printf("%s OK\n", name);
    else
        printf("%s %s\n", name, strerrorname_np(WEXITSTATUS(status)));
}

static long clone3_user(void)
{
    struct { uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls; } args = {
        .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };
    long got = syscall(SYS_clone3, &args, sizeof args);
    if (got == 0)
        _exit(0);
    return got;
}

static long clone_user(void)
{
    long got = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (got == 0)
        _exit(0);
    return got;
}

static long read_other(void)
{
    struct iovec here = { zeros, 16 }, there = { (void *)0x400000, 16 };
    return syscall(SYS_process_vm_readv, 1, &here, 1, &there, 1, 0);
}

static long set_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return syscall(SYS_clock_settime, CLOCK_REALTIME, &now);
}

static long set_day(void)
{
    struct timeval now;
    gettimeofday(&now, 0);
    return syscall(SYS_settimeofday, &now, 0);
}

static long adjust_clock(void)
{
    struct timex wish = { .modes = ADJ_TICK, .tick = 10000 };
    return syscall(SYS_adjtimex, &wish);
}

static long enter(const char *path, int kind)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -1 : syscall(SYS_setns, fd, kind);
}

static long push_input(void)
{
    /* A new terminal replaces the client's: TIOCSTI must be refused on any. */
    int terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    return ioctl(terminal < 0 ? 0 : terminal, TIOCSTI, "x");
}

static long console_paste(void)
{
    char subcode = 3;
    return ioctl(0, TIOCLINUX, &subcode);
}

static void namespaces_and_mounts(void)
{
    mkdir("/tmp/there", 0755);
    ATTEMPT("unshare_user", syscall(SYS_unshare, CLONE_NEWUSER));
    ATTEMPT("unshare_mount", syscall(SYS_unshare, CLONE_NEWNS));
    ATTEMPT("unshare_net", syscall(SYS_unshare, CLONE_NEWNET));
    ATTEMPT("unshare_cgroup", syscall(SYS_unshare, CLONE_NEWCGROUP));
    ATTEMPT("clone_user", clone_user());
    ATTEMPT("clone3_user", clone3_user());
    ATTEMPT("setns_mount", enter("/proc/1/ns/mnt", CLONE_NEWNS));
    ATTEMPT("setns_user", enter("/proc/1/ns/user", CLONE_NEWUSER));
    ATTEMPT("setns_net", enter("/proc/self/ns/net", CLONE_NEWNET));
    ATTEMPT("mount_tmpfs", mount("none", "/tmp/there", "tmpfs", 0, 0));
    ATTEMPT("mount_proc", mount("none", "/tmp/there", "proc", 0, 0));
    ATTEMPT("mount_cgroup_v1", mount("cgroup", "/tmp/there", "cgroup", 0, "memory"));
    ATTEMPT("mount_cgroup_v2", mount("cgroup", "/tmp/there", "cgroup2", 0, 0));
    ATTEMPT("mount_bind", mount("/usr", "/tmp/there", 0, MS_BIND, 0));
    ATTEMPT("remount_usr_writable", mount(0, "/usr", 0, MS_REMOUNT | MS_BIND, 0));
    ATTEMPT("remount_root_writable", mount(0, "/", 0, MS_REMOUNT | MS_BIND, 0));
    ATTEMPT("umount_proc", syscall(SYS_umount2, "/proc", MNT_DETACH));
    ATTEMPT("umount_work", syscall(SYS_umount2, "/work", MNT_DETACH));
    ATTEMPT("move_mount", syscall(SYS_move_mount, AT_FDCWD, "/tmp", AT_FDCWD, "/tmp/there", 0));
    ATTEMPT("open_tree_clone", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
    ATTEMPT("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
    ATTEMPT("fsmount", syscall(SYS_fsmount, 0, 0, 0));
    ATTEMPT("fsconfig", syscall(SYS_fsconfig, 0, 6, 0, 0, 0));
    ATTEMPT("fspick", syscall(SYS_fspick, AT_FDCWD, "/", 0));
    ATTEMPT("mount_setattr", syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, zeros, 32));
    ATTEMPT("pivot_root", syscall(SYS_pivot_root, "/tmp", "/tmp/there"));
    ATTEMPT("chroot", syscall(SYS_chroot, "/tmp/there"));
    ATTEMPT("mknod_disk", syscall(SYS_mknod, "/tmp/disk", S_IFBLK | 0600, makedev(8, 0)));
    ATTEMPT("mknod_memory", syscall(SYS_mknod, "/tmp/memory", S_IFCHR | 0600, makedev(1, 1)));
    ATTEMPT("mknod_null", syscall(SYS_mknodat, AT_FDCWD, "/work/null", S_IFCHR | 0600, makedev(1, 3)));
}

static void kernel_surface(void)
{
    ATTEMPT("bpf", syscall(SYS_bpf, 0, zeros, 48));
    ATTEMPT("perf_event_open", syscall(SYS_perf_event_open, zeros, 0, -1, -1, 0));
    ATTEMPT("userfaultfd", syscall(SYS_userfaultfd, 0));
    ATTEMPT("fanotify_init", syscall(SYS_fanotify_init, 0, 0));
    ATTEMPT("lookup_dcookie", syscall(SYS_lookup_dcookie, 0L, zeros, 16L));
    ATTEMPT("quotactl", syscall(SYS_quotactl, 0x800001 << 8, "/dev/null", 0, zeros));
    ATTEMPT("acct", syscall(SYS_acct, 0));
    ATTEMPT("swapon", syscall(SYS_swapon, "/tmp/nowhere", 0));
    ATTEMPT("swapoff", syscall(SYS_swapoff, "/tmp/nowhere"));
    ATTEMPT("reboot", syscall(SYS_reboot, 0xfee1dead, 672274793, 0, 0));
    ATTEMPT("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
    ATTEMPT("kexec_file_load", syscall(SYS_kexec_file_load, -1, -1, 0, "", 0));
    ATTEMPT("init_module", syscall(SYS_init_module, zeros, 16, ""));
    ATTEMPT("finit_module", syscall(SYS_finit_module, 0, "", 0));
    ATTEMPT("delete_module", syscall(SYS_delete_module, "no_such_module", 0));
    ATTEMPT("iopl", syscall(SYS_iopl, 3));
    ATTEMPT("ioperm", syscall(SYS_ioperm, 0x80, 1, 1));
    ATTEMPT("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, zeros, 0));
    ATTEMPT("name_to_handle_at", syscall(SYS_name_to_handle_at, AT_FDCWD, "/work", zeros, zeros + 64, 0));
    ATTEMPT("settimeofday", set_day());
    ATTEMPT("clock_settime", set_clock());
    ATTEMPT("adjtimex", adjust_clock());
    ATTEMPT("sethostname", syscall(SYS_sethostname, "evil", 4));
    ATTEMPT("setdomainname", syscall(SYS_setdomainname, "evil", 4));
    ATTEMPT("syslog", syscall(SYS_syslog, 3, zeros, sizeof zeros));
    ATTEMPT("vhangup", syscall(SYS_vhangup));
    ATTEMPT("nfsservctl", syscall(SYS_nfsservctl, 0, 0, 0));
    ATTEMPT("personality_read_implies_exec", syscall(SYS_personality, 0x0400000));
    ATTEMPT("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -3));
    ATTEMPT("request_key", syscall(SYS_request_key, "user", "x", 0, 0));
    ATTEMPT("keyctl_session", syscall(SYS_keyctl, 0, -3, 1));
    ATTEMPT("keyctl_to_parent", syscall(SYS_keyctl, 18));
    ATTEMPT("io_uring_setup", syscall(SYS_io_uring_setup, 4, zeros));
    ATTEMPT("io_uring_enter", syscall(SYS_io_uring_enter, 0, 0, 0, 0, 0, 0));
    ATTEMPT("io_uring_register", syscall(SYS_io_uring_register, 0, 0, 0, 0));
    ATTEMPT("ptrace_attach_init", ptrace(PTRACE_ATTACH, 1, 0, 0));
    ATTEMPT("ptrace_seize_init", ptrace(PTRACE_SEIZE, 1, 0, 0));
    ATTEMPT("process_vm_readv_init", read_other());
    ATTEMPT("move_pages_init", syscall(SYS_move_pages, 1, 0, 0, 0, 0, 0));
    ATTEMPT("kcmp_init", syscall(SYS_kcmp, 1, getpid(), 0, 0, 0));
    ATTEMPT("pidfd_getfd_init", syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, 1, 0), 0, 0));
    ATTEMPT("setuid_other", syscall(SYS_setuid, 1));
    ATTEMPT("setgid_other", syscall(SYS_setgid, 1));
    ATTEMPT("realtime_scheduling", syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, (int[]){ 1 }));
    ATTEMPT("tiocsti", push_input());
    ATTEMPT("tioclinux", console_paste());
}

static void sockets(void)
{
    ATTEMPT("socket_packet", socket(AF_PACKET, SOCK_RAW, 0));
    ATTEMPT("socket_vsock", socket(40, SOCK_STREAM, 0));
    ATTEMPT("socket_alg", socket(38, SOCK_SEQPACKET, 0));
    ATTEMPT("socket_key", socket(15, SOCK_RAW, 2));
    ATTEMPT("socket_netlink_audit", socket(AF_NETLINK, SOCK_RAW, 9));
    ATTEMPT("socket_netlink_uevent", socket(AF_NETLINK, SOCK_RAW, 15));
    ATTEMPT("socket_netlink_netfilter", socket(AF_NETLINK, SOCK_RAW, 12));
    ATTEMPT("socket_raw_icmp", socket(AF_INET, SOCK_RAW, 1));
    ATTEMPT("socket_raw_icmp6", socket(AF_INET6, SOCK_RAW, 58));
    ATTEMPT("socket_sctp", socket(AF_INET, SOCK_STREAM, 132));
    ATTEMPT("socket_xdp", socket(44, SOCK_RAW, 0));
    ATTEMPT("socket_bluetooth", socket(31, SOCK_RAW, 1));
}

#ifdef __x86_64__
/* The 32-bit entries to the same kernel: int 0x80, and the x32 bit of the call number. */
static long by_int80(void)
{
    long got;
    __asm__ volatile("int $0x80" : "=a"(got) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
    if (got < 0) {
        errno = (int)-got;
        return -1;
    }
    return got;
}

static void other_entries(void)
{
    ATTEMPT("int80_getpid", by_int80());
    ATTEMPT("x32_getpid", syscall(0x40000000 | SYS_getpid));
}
#else
static void other_entries(void) {}
#endif

int main(void)
{
    /* As root outside of a job some of these would succeed and damage the machine. */
    if (!getenv("JOB_ID") || getpid() > 100) {
        fprintf(stderr, "syscalls attacks its host: it runs in a job only\n");
        return 2;
    }
    namespaces_and_mounts();
    kernel_surface();
    sockets();
    other_entries();
    return 0;
}
