/* Forks children that wait for ever until fork fails; prints their number and the error. With `stay` it then waits
 * too. With `bomb` every child does the same as its parent, without end. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (!getenv("JOB_ID")) {
        fprintf(stderr, "hog_processes would fill this machine: it runs in a job only\n");
        return 2;
    }
    for (; argc > 1 && strcmp(argv[1], "bomb") == 0;)
        fork();
    for (int children = 0;; children++) {
        pid_t child = fork();
        if (child == 0)
            for (;;)
                pause();
        if (child < 0) {
            printf("%d %s\n", children, strerrorname_np(errno));
            fflush(stdout);
            if (argc > 1 && strcmp(argv[1], "stay") == 0)
                pause();
            return 0;
        }
        if (children > 100000)
            return 1;
    }
}
