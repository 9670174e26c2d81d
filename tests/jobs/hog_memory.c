/* Takes memory and touches it until somebody ends it; prints how much it has, every MiB. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void)
{
    if (!getenv("JOB_ID")) {
        fprintf(stderr, "hog_memory would take all of this machine: it runs in a job only\n");
        return 2;
    }
    setvbuf(stdout, 0, _IONBF, 0);
    for (int mib = 1;; mib++) {
        char *page = malloc(1 << 20);
        if (!page)
            return 3;
        memset(page, mib, 1 << 20);
        printf("%d\n", mib);
    }
}
