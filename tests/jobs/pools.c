/* The kernel's pools that processes share. "take" takes as much of each as it gets, says how much and why it got no more,
 * and keeps it until it is killed; "ask" takes what an ordinary program takes, and says whether it got it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SIZE (1 << 20)

/* The number of the attempt, which names what has a name. */
static int number;

static int instance(void) { return inotify_init1(0); }

static int queue(void)
{
    char name[64];
    struct mq_attr attr = {.mq_maxmsg = 10, .mq_msgsize = 8192};
    snprintf(name, sizeof name, "/pool.%d.%d", getpid(), number);
    int got = mq_open(name, O_CREAT | O_RDWR, 0600, &attr);
    mq_unlink(name);
    return got;
}

static int timer(void)
{
    timer_t id;
    return timer_create(CLOCK_MONOTONIC, NULL, &id);
}

static int queued_signal(void) { return sigqueue(getpid(), SIGRTMIN, (union sigval){0}); }

/* As large as a pipe is everywhere: past the limit of a user the kernel makes smaller ones without a word. */
static int conduit(void)
{
    int ends[2];
    if (pipe(ends) < 0)
        return -1;
    if (fcntl(ends[0], F_GETPIPE_SZ) < 65536) {
        errno = EMFILE;
        return -1;
    }
    return 0;
}

static int large_conduit(void)
{
    int ends[2];
    return pipe(ends) < 0 ? -1 : fcntl(ends[0], F_SETPIPE_SZ, SIZE);
}

static int watched(void)
{
    static int poller = -1;
    struct epoll_event event = {.events = EPOLLIN};
    if (poller < 0 && (poller = epoll_create1(0)) < 0)
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return fd < 0 ? -1 : epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static int terminal(void) { return posix_openpt(O_RDWR | O_NOCTTY); }

static int asynchronous(void)
{
    unsigned long context = 0;
    return (int)syscall(SYS_io_setup, 1024, &context);
}

static int key(void)
{
    char name[32];
    snprintf(name, sizeof name, "pool.%d", number);
    return (int)syscall(SYS_add_key, "user", name, "x", 1, -2);
}

static int huge_page(void)
{
    void *at = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    return at == MAP_FAILED ? -1 : 0;
}

static int locked(void)
{
    void *at = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? -1 : mlock(at, 16384);
}

static int socket_program(void)
{
    static struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, 65535)};
    struct sock_fprog program = {1, all};
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    return fd < 0 ? -1 : setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

static int watcher_of_mounts(void) { return (int)syscall(SYS_fanotify_init, 0, 0); }

static int namespace(void) { return (int)syscall(SYS_unshare, CLONE_NEWUSER); }

static const struct {
    const char *kind;
    int (*take)(void), (*ask)(void);
    /* The most that is tried: some pools have no end but memory. */
    int most;
} kinds[] = {
    {"inotify", instance, instance, 2000},      {"queues", queue, queue, 300},
    {"timers", timer, timer, 10000},            {"signals", queued_signal, queued_signal, 10000},
    {"pipes", large_conduit, conduit, 300},     {"epoll", watched, watched, 500},
    {"terminals", terminal, terminal, 500},     {"aio", asynchronous, asynchronous, 100},
    {"keys", key, key, 300},                    {"huge", huge_page, huge_page, 100},
    {"locked", locked, locked, 10},             {"programs", socket_program, socket_program, 100},
    {"fanotify", watcher_of_mounts, watcher_of_mounts, 200},
    /* Last: it changes what this process is. */
    {"namespaces", namespace, namespace, 1},
};

int main(int argc, char **argv)
{
    int take = argc == 2 && strcmp(argv[1], "take") == 0;
    if (take && getenv("JOB_ID") == NULL) {
        fprintf(stderr, "pools empties the pools of its host: it takes them in a job only\n");
        return 2;
    }
    /* A timer needs a place for its signal, and queued ones stay queued. */
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int most = take ? kinds[i].most : 1;
        errno = 0;
        for (number = 0; number < most; number++)
            if ((take ? kinds[i].take() : kinds[i].ask()) < 0)
                break;
        printf("%s %d %s\n", kinds[i].kind, number, number < most ? strerrorname_np(errno) : "OK");
        fflush(stdout);
    }
    puts("done");
    fflush(stdout);
    if (take)
        pause();
    return 0;
}
