/* Uses two processors completely until it is killed. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(void)
{
    if (!getenv("JOB_ID")) {
        fprintf(stderr, "hog_cpu would burn this machine: it runs in a job only\n");
        return 2;
    }
    if (fork() < 0)
        return 1;
    for (volatile unsigned long n = 0;; n++)
        ;
}
