/* Measures how fast a file can be written or read: prints the bytes per second of one way.
 *
 *   disk_rate direct|synced write|read PATH MIB      direct: past the page cache; synced: through it, and to the disk before
 *                                                    the clock is read. The file has 4 MiB and is used again and again */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MIB (1 << 20)
#define FILE_MIB 4

static void check(const char *what, ssize_t result)
{
    if (result >= 0)
        return;
    printf("%s: %s\n", what, strerrorname_np(errno));
    exit(3);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (!getenv("JOB_ID") || argc != 5) {
        fprintf(stderr, "disk_rate would wear out the disk of this machine: it runs in a job only\n");
        return 2;
    }
    int direct = strcmp(argv[1], "direct") == 0, writes = strcmp(argv[2], "write") == 0, mib = atoi(argv[4]);
    int file = open(argv[3], O_RDWR | O_CREAT | O_CLOEXEC | (direct ? O_DIRECT : 0), 0600);
    char *block = aligned_alloc(4096, MIB);
    check("open", file);
    memset(block, 7, MIB);
    double start = now();
    for (int i = 0; i < mib; i++) {
        off_t at = (off_t)(i % FILE_MIB) * MIB;
        /* Cached pages show nothing about the disk: drop them, so that reads reach it. */
        if (!direct && !writes && at == 0)
            check("fadvise", -posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED));
        ssize_t n = writes ? pwrite(file, block, MIB, at) : pread(file, block, MIB, at);
        check(argv[2], n);
        if (n != MIB)
            return 4;
        if (writes && !direct && at == (FILE_MIB - 1) * MIB)
            check("fsync", fsync(file));
    }
    if (writes)
        check("fsync", fsync(file));
    printf("%.0f\n", mib * (double)MIB / (now() - start));
    return 0;
}
