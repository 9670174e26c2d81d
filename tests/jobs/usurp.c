/* Tries to take hold of its PID 1.
 *
 *   usurp priority CHILDREN    to keep the priority of the start: from joblet-init, by itself and with its children
 *   usurp signal               to pass for the daemon, whose signals joblet-init forwards
 *
 * It runs in a job only: on a host it would change PID 1. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/ioprio.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void told(const char *what, long result)
{
    printf("%s: %s\n", what, result >= 0 ? "granted" : strerrorname_np(errno));
}

/* Everything that could keep joblet-init from its next steps; quick, because those are a fraction of a millisecond away. */
static void hold_init_back(int results[8], int errors[8])
{
    struct sched_param none = {0};
    struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t times[3]; }
        idle = {sizeof idle, SCHED_IDLE, 0, 0, 0, {0, 0, 0}};
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
#define TRY(n, call) (results[n] = (int)(call), errors[n] = errno)
    TRY(0, sched_setscheduler(1, SCHED_IDLE, &none));
    TRY(1, sched_setaffinity(1, sizeof here, &here));
    TRY(2, syscall(SYS_sched_setattr, 1, &idle, 0));
    TRY(3, sched_setparam(1, &none));
    TRY(4, setpriority(PRIO_PROCESS, 1, 19));
    TRY(5, setpriority(PRIO_PGRP, 1, 19));
    TRY(6, setpriority(PRIO_USER, 0, 19));
    TRY(7, syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 1, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)));
}

/* Computes for so many milliseconds of processor time; for ever where that is 0. */
static void burn(long milliseconds)
{
    struct timespec used;
    do
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    while (!milliseconds || used.tv_sec * 1000 + used.tv_nsec / 1000000 < milliseconds);
}

static int keep_priority(int children)
{
    static const char *const names[] = {"policy", "affinity", "attributes", "parameters",
                                        "nice", "nice of the group", "nice of the user", "input and output"};
    int results[8], errors[8];
    struct sched_param one = {.sched_priority = 1};
    hold_init_back(results, errors);
    for (int i = 0; i < children; i++)
        if (fork() == 0) {
            sched_setscheduler(0, SCHED_RR, &one);
            burn(0);
        }
    int round_robin = sched_setscheduler(0, SCHED_RR, &one), why = errno;
    for (int i = 0; i < 8; i++)
        errno = errors[i], told(names[i], results[i]);
    errno = why, told("real-time", round_robin);
    /* Longer than the first turn could last. */
    burn(50);
    printf("computing\n");
    fflush(stdout);
    burn(0);
    return 0;
}

/* A code below 0 leaves pid and uid to the sender. */
static void forge(int number, int uid)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = number;
    info.si_code = SI_QUEUE;
    info.si_uid = uid;
    syscall(SYS_rt_sigqueueinfo, 1, number, &info);
    syscall(SYS_rt_tgsigqueueinfo, 1, 1, number, &info);
    long init = syscall(SYS_pidfd_open, 1, 0);
    syscall(SYS_pidfd_send_signal, init, number, &info, 0);
    syscall(SYS_tkill, 1, number);
    syscall(SYS_tgkill, 1, 1, number);
    kill(1, number);
}

/* Signals of a descriptor have a band where others have a pid. */
static void by_descriptor(int number)
{
    int ends[2];
    if (pipe(ends) < 0 || fcntl(ends[0], F_SETOWN, 1) < 0 || fcntl(ends[0], F_SETSIG, number) < 0)
        return;
    fcntl(ends[0], F_SETFL, O_ASYNC);
    (void)!write(ends[1], "x", 1);
}

static int pass_for_the_daemon(void)
{
    static const int numbers[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2};
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (int full = 0; full < 2; full++) {
        for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
            forge(numbers[i], 0);
            forge(numbers[i], 65534);
            by_descriptor(numbers[i]);
        }
        /* At the limit of pending signals the kernel drops what a signal says. */
        while (sigqueue(getpid(), SIGRTMAX, (union sigval){0}) == 0)
            ;
    }
    printf("ready\n");
    fflush(stdout);
    sigdelset(&all, SIGRTMAX);
    /* The numbers above are lower than TERM's, so joblet-init comes to them first. */
    for (int got = 0; got != SIGTERM;) {
        sigwait(&all, &got);
        if (got != SIGCHLD) {
            printf("got %d\n", got);
            fflush(stdout);
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (getpid() != 2 || getppid() != 1) {
        fprintf(stderr, "usurp would change the PID 1 of this machine: it runs in a job only\n");
        return 2;
    }
    if (argc > 2 && strcmp(argv[1], "priority") == 0)
        return keep_priority(atoi(argv[2]));
    if (argc > 1 && strcmp(argv[1], "signal") == 0)
        return pass_for_the_daemon();
    return 2;
}
