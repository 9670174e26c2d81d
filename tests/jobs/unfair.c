/* Tries to get more than its share of the processors: requests priority and other cores, prints the result of each attempt, then
 * computes with many threads and prints when one of them runs on a core outside of its set.
 *
 *   unfair CORE THREADS        CORE is the only one that the job was given */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int own;

static void told(const char *what, int result)
{
    printf("%s %s\n", what, result == 0 ? "granted" : strerrorname_np(errno));
}

static void realtime(const char *what, int policy)
{
    struct sched_param most = {.sched_priority = sched_get_priority_max(policy)};
    told(what, sched_setscheduler(0, policy, &most));
}

/* On every core but its own, then on all of them. */
static void wander(void)
{
    cpu_set_t cores;
    CPU_ZERO(&cores);
    for (int core = 0; core < CPU_SETSIZE; core++)
        if (core != own)
            CPU_SET(core, &cores);
    told("others", sched_setaffinity(0, sizeof cores, &cores));
    CPU_SET(own, &cores);
    told("all", sched_setaffinity(0, sizeof cores, &cores));
    sched_getaffinity(0, sizeof cores, &cores);
    printf("cores %d, own %s\n", CPU_COUNT(&cores), CPU_ISSET(own, &cores) ? "yes" : "no");
}

static void *burn(void *nothing)
{
    for (unsigned long n = 0;; n++) {
        if (n % 1000 == 0 && sched_getcpu() != own)
            printf("strayed to %d\n", sched_getcpu());
        if (n % 100000000 == 99999999)
            wander();
    }
    return nothing;
}

int main(int argc, char **argv)
{
    int threads = argc > 2 ? atoi(argv[2]) : 0;
    if (!getenv("JOB_ID") || threads < 1) {
        fprintf(stderr, "unfair would take the processors of this machine: it runs in a job only\n");
        return 2;
    }
    own = atoi(argv[1]);
    setvbuf(stdout, 0, _IOLBF, 0);
    realtime("fifo", SCHED_FIFO);
    realtime("rr", SCHED_RR);
    told("nice", setpriority(PRIO_PROCESS, 0, -20));
    wander();
    for (int i = 1; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, burn, NULL) != 0)
            return 1;
    }
    printf("burning\n");
    burn(NULL);
}
