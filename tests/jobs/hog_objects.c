/* Makes kernel objects of one kind in several processes, each until the first refusal; prints the total number and the first
 * refusal.
 *
 *   hog_objects files|eventfds|epolls|inotify|timers|signals|rights|queues|semaphores|netlink|terminals|randomness PROCESSES
 *   hog_objects inodes|deep|sparse|reserve DIRECTORY    files, directories in each other, sizes, and blocks */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* More than any bound in the tests. */
#define MOST 200000

static int number;

static int file(void) { return open("/dev/null", O_RDONLY); }
static int event(void) { return eventfd(1, 0); }
static int poller(void) { return epoll_create1(0); }
static int netlink(void) { return socket(AF_NETLINK, SOCK_RAW, 0); }
static int terminal(void) { return open("/dev/ptmx", O_RDWR | O_NOCTTY); }
static int queued_signal(void) { return sigqueue(getpid(), SIGRTMIN, (union sigval){0}); }
static int semaphores(void) { return semget(IPC_PRIVATE, 250, 0600); }

static int watch(void)
{
    static int instance = -1;
    char name[64];
    if (instance < 0 && (instance = inotify_init1(0)) < 0)
        return -1;
    snprintf(name, sizeof name, "/tmp/watched.%d.%d", getpid(), number);
    if (mkdir(name, 0700) < 0)
        return -1;
    return inotify_add_watch(instance, name, IN_ALL_EVENTS);
}

static int timer(void)
{
    timer_t id;
    return timer_create(CLOCK_MONOTONIC, NULL, &id);
}

/* A descriptor in flight: sent and never received. */
static int right(void)
{
    static int pair[2] = {-1, -1};
    char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (number % 100 == 0 && socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair) < 0)
        return -1;
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &pair[0], sizeof(int));
    if (sendmsg(pair[1], &message, 0) < 0 && errno == EAGAIN)
        number += 99 - number % 100;
    else if (errno == ETOOMANYREFS)
        return -1;
    return 0;
}

static int queue(void)
{
    char name[64];
    struct mq_attr attr = {.mq_maxmsg = 10, .mq_msgsize = 8192};
    snprintf(name, sizeof name, "/q.%d.%d", getpid(), number);
    return mq_open(name, O_CREAT | O_RDWR, 0600, &attr);
}

/* Never refused: random bytes have no limit and cost only the job's own time. */
static int randomness(void)
{
    char bytes[256];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    errno = 0;
    return number >= 5000 ? -1 : (int)getrandom(bytes, sizeof bytes, 0);
}

static int inode(void)
{
    char name[32];
    snprintf(name, sizeof name, "f%d", number);
    int fd = open(name, O_CREAT | O_WRONLY, 0600);
    return fd < 0 ? -1 : close(fd);
}

static int deeper(void)
{
    if (number >= 10000) {
        errno = 0;
        return -1;
    }
    return mkdir("d", 0700) < 0 ? -1 : chdir("d");
}

/* Once: a size of an EiB, or the largest of the file system, takes no space. */
static int sparse(void)
{
    if (number > 0) {
        errno = 0;
        return -1;
    }
    int fd = open("sparse", O_CREAT | O_WRONLY, 0600);
    if (fd < 0 || ftruncate(fd, 1L << 43) < 0 || pwrite(fd, "x", 1, (1L << 43) - 2) != 1)
        return -1;
    return ftruncate(fd, 1L << 60);
}

static int blocks(void)
{
    static int fd = -1;
    if (fd < 0 && (fd = open("reserve", O_CREAT | O_WRONLY, 0600)) < 0)
        return -1;
    return fallocate(fd, 0, (off_t)number << 20, 1 << 20);
}

static const struct {
    const char *kind;
    int (*make)(void);
} kinds[] = {
    {"files", file},       {"eventfds", event},   {"epolls", poller},       {"inotify", watch},
    {"timers", timer},     {"signals", queued_signal}, {"rights", right},   {"queues", queue},
    {"semaphores", semaphores}, {"netlink", netlink}, {"terminals", terminal}, {"randomness", randomness},
    {"inodes", inode},     {"deep", deeper},      {"sparse", sparse},       {"reserve", blocks},
};

/* The result of one process. */
struct share {
    int made, errnum;
};

static struct share fill(int (*make)(void))
{
    for (number = 0; number < MOST; number++)
        if (make() < 0)
            return (struct share){number, errno};
    return (struct share){number, 0};
}

static void tell(const char *kind, struct share sum)
{
    printf("%s: %d, then %s\n", kind, sum.made, sum.errnum ? strerrorname_np(sum.errnum) : "none");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int (*make)(void) = NULL;
    if (getenv("JOB_ID") == NULL || argc != 3) {
        fprintf(stderr, "this is to be run in a job, with a kind and where or how often\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(argv[1], kinds[i].kind) == 0)
            make = kinds[i].make;
    if (make == NULL)
        return 2;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    if (argv[2][0] == '/') {
        if (chdir(argv[2]) < 0)
            return 2;
        tell(argv[1], fill(make));
        return 0;
    }
    int told[2], held[2], processes = atoi(argv[2]);
    struct share sum = {0}, one;
    if (pipe(told) < 0 || pipe(held) < 0)
        return 2;
    for (int i = 0; i < processes; i++)
        if (fork() == 0) {
            one = fill(make);
            if (write(told[1], &one, sizeof one) != sizeof one)
                _exit(1);
            /* The objects stay until all processes are done. */
            close(held[1]);
            _exit((int)read(held[0], &one, 1));
        }
    close(told[1]);
    for (int i = 0; i < processes && read(told[0], &one, sizeof one) == sizeof one; i++) {
        sum.made += one.made;
        if (sum.errnum == 0)
            sum.errnum = one.errnum;
    }
    tell(argv[1], sum);
    return 0;
}
