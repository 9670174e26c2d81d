/* Inspects itself from inside a job and prints "what: answer" on each line. Argument: the chapter.
 * The answer of a refused call is the name of its errno. Exit code 0 unless the chapter is unknown. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *result(long returned)
{
    static char text[32];
    if (returned < 0)
        return strerrorname_np(errno);
    snprintf(text, sizeof text, "%ld", returned);
    return text;
}

#define SAY(what, call) (errno = 0, printf("%s: %s\n", what, result(call)))

static void descriptors(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    printf("open:");
    /* Descriptors above the soft limit stay open across an exec: check up to the hard limit. */
    for (long fd = 0; fd < (long)limit.rlim_max; fd++)
        if (fcntl((int)fd, F_GETFD) >= 0)
            printf(" %ld", fd);
    printf("\n");
}

static void signals(void)
{
    sigset_t blocked;
    printf("not default:");
    for (int n = 1; n <= 64; n++) {
        /* The raw call, because the C library hides the two signals that it uses itself. */
        unsigned long action[4] = {0};
        if (syscall(SYS_rt_sigaction, n, NULL, action, 8) == 0 && action[0] != (unsigned long)SIG_DFL)
            printf(" %d", n);
    }
    printf("\nblocked:");
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    for (int n = 1; n <= 64; n++)
        if (sigismember(&blocked, n) == 1)
            printf(" %d", n);
    printf("\n");
}

static void self(void)
{
    char cwd[4096];
    mode_t mask = umask(0);
    printf("umask: %03o\n", (unsigned)mask);
    printf("pid: %d\nparent: %d\n", getpid(), getppid());
    printf("leads its session: %s\n", getsid(0) == getpid() ? "yes" : "no");
    printf("leads its group: %s\n", getpgrp() == getpid() ? "yes" : "no");
    printf("terminal: %s\n", open("/dev/tty", O_RDWR | O_NOCTTY) < 0 ? strerrorname_np(errno) : "yes");
    printf("cwd: %s\n", getcwd(cwd, sizeof cwd) ? cwd : strerrorname_np(errno));
    printf("ids: %d %d %d %d\n", getuid(), geteuid(), getgid(), getegid());
    printf("nice: %d\n", getpriority(PRIO_PROCESS, 0));
    SAY("groups", getgroups(0, NULL));
    SAY("become another user", setresuid(1, 1, 1));
    SAY("become another group", setresgid(1, 1, 1));
    SAY("take a group", setgroups(1, (gid_t[]){1}));
    SAY("be nicer", setpriority(PRIO_PROCESS, 0, -5));
}

static void devices(void)
{
    char buffer[16] = "x";
    SAY("write to null", write(open("/dev/null", O_WRONLY), buffer, 5));
    SAY("read from null", read(open("/dev/null", O_RDONLY), buffer, 5));
    SAY("read from zero", read(open("/dev/zero", O_RDONLY), buffer, 5));
    SAY("write to full", write(open("/dev/full", O_WRONLY), buffer, 5));
    SAY("read from random", read(open("/dev/random", O_RDONLY), buffer, 5));
    SAY("read from urandom", read(open("/dev/urandom", O_RDONLY), buffer, 5));
    SAY("a new terminal", open("/dev/ptmx", O_RDWR | O_NOCTTY) >= 0 ? 0 : -1);
    SAY("write to shm", write(open("/dev/shm/x", O_CREAT | O_RDWR, 0600), buffer, 5));
    SAY("write to tmp", write(open("/tmp/x", O_CREAT | O_RDWR, 0600), buffer, 5));
    SAY("write to work", write(open("/work/x", O_CREAT | O_RDWR, 0600), buffer, 5));
    SAY("make a file in dev", open("/dev/x", O_CREAT | O_RDWR, 0600));
    SAY("make a file in the root", open("/x", O_CREAT | O_RDWR, 0600));
    SAY("make a file in etc", open("/etc/x", O_CREAT | O_RDWR, 0600));
    SAY("change passwd", open("/etc/passwd", O_RDWR));
    SAY("remove a device", unlink("/dev/null"));
    SAY("change a device's mode", chmod("/dev/null", 0));
    SAY("kernel messages", open("/dev/kmsg", O_RDONLY));
    SAY("memory", open("/dev/mem", O_RDONLY));
    SAY("firmware", open("/sys/firmware", O_RDONLY));
}

static void outputs(void)
{
    fflush(stdout);
    int again = open("/dev/stderr", O_WRONLY);
    SAY("write to reopened stderr", write(again, "reopened\n", 9));
    SAY("write to reopened stdout", write(open("/dev/stdout", O_WRONLY | O_APPEND), "", 0));
    SAY("read stdout", open("/proc/self/fd/1", O_RDONLY | O_NONBLOCK));
    SAY("read and write stdout", open("/proc/self/fd/1", O_RDWR | O_NONBLOCK));
    SAY("read stdin", read(0, (char[1]){0}, 1));
    SAY("write stdin", write(0, "x", 1));
}

static long read_init(void)
{
    char here[8];
    struct iovec local = {here, sizeof here}, remote = {(void *)0x400000, sizeof here};
    return process_vm_readv(1, &local, 1, &remote, 1, 0);
}

static long pidfd_signal(int number)
{
    long fd = syscall(SYS_pidfd_open, 1, 0);
    return fd < 0 ? fd : syscall(SYS_pidfd_send_signal, fd, number, NULL, 0);
}

static void init(void)
{
    /* The ids allow sending, but the kernel drops signals for which PID 1 of a namespace has no action. */
    SAY("kill init", kill(1, SIGKILL));
    SAY("stop init", kill(1, SIGSTOP));
    SAY("kill init by pidfd", pidfd_signal(SIGKILL));
    SAY("seize init", ptrace(PTRACE_SEIZE, 1, NULL, NULL));
    SAY("attach to init", ptrace(PTRACE_ATTACH, 1, NULL, NULL));
    SAY("read init's memory", read_init());
    SAY("open init's memory", open("/proc/1/mem", O_RDWR));
    SAY("follow init's descriptors", readlink("/proc/1/fd/6", (char[8]){0}, 8));
    SAY("open init's output", open("/proc/1/fd/6", O_RDONLY));
    SAY("open init's program", open("/proc/1/exe", O_RDONLY));
    SAY("write init's program", open("/proc/1/exe", O_WRONLY));
    SAY("open init's root", open("/proc/1/root", O_RDONLY));
    SAY("open init's environment", open("/proc/1/environ", O_RDONLY));
    SAY("open init's namespaces", open("/proc/1/ns/mnt", O_RDONLY));
    SAY("init's limits", prlimit(1, RLIMIT_NOFILE, &(struct rlimit){0, 0}, NULL));
    SAY("signal somebody else", kill(-1, 0));
    SAY("a process of the host", kill(1000, 0));
}

/* chdir to every descriptor's directory and print the path there (CVE-2024-21626). */
static void ways_out(void)
{
    char path[64], cwd[4096];
    int found = 0;
    for (int fd = 0; fd < 1024; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (chdir(path) == 0)
            found++;
    }
    printf("directories among descriptors: %d\n", found);
    chdir("/");
    for (int up = 0; up < 64; up++)
        chdir("..");
    printf("above the root: %s\n", getcwd(cwd, sizeof cwd) ? cwd : strerrorname_np(errno));
    SAY("old root", open("/.oldroot", O_RDONLY));
    SAY("chroot", chroot("/tmp"));
}

int main(int argc, char **argv)
{
    const struct { const char *name; void (*tell)(void); } chapters[] = {
        {"descriptors", descriptors}, {"signals", signals}, {"self", self}, {"devices", devices},
        {"outputs", outputs}, {"init", init}, {"ways-out", ways_out},
    };
    for (unsigned i = 0; i < sizeof chapters / sizeof *chapters; i++)
        if (argc == 2 && strcmp(argv[1], chapters[i].name) == 0) {
            chapters[i].tell();
            return 0;
        }
    return 2;
}
