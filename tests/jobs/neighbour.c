/* A well-behaved job: starts a child again and again, with a pause after each, and prints the time of a start: median and
 * 99th percentile in microseconds.
 *
 *   neighbour ROUNDS */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 0;
    double *took = calloc((size_t)rounds + 1, sizeof *took);
    if (rounds < 100 || !took)
        return 2;
    for (int i = 0; i < rounds; i++) {
        double start = now();
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        if (child < 0 || waitpid(child, NULL, 0) != child)
            return 3;
        took[i] = now() - start;
        usleep(5000);
    }
    qsort(took, (size_t)rounds, sizeof *took, compare);
    printf("%.0f %.0f\n", took[rounds / 2], took[rounds * 99 / 100]);
    return 0;
}
