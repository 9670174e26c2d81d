// Prints the usage and the limits of projects on a file system, for guests, which have no quota(8): a line for each that has any,
// with its number, bytes, files, the limit of bytes and that of files.
//
//   project_quota DIRECTORY FIRST COUNT
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/quota.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PRJQUOTA
#define PRJQUOTA 2
#endif

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: project_quota DIRECTORY FIRST COUNT\n");
        return 2;
    }
    int dir = open(argv[1], O_RDONLY | O_DIRECTORY);
    unsigned long first = strtoul(argv[2], NULL, 10), count = strtoul(argv[3], NULL, 10);
    for (unsigned long project = first; project < first + count; project++) {
        struct dqblk found = {0};
        if (syscall(443 /* quotactl_fd */, dir, QCMD(Q_GETQUOTA, PRJQUOTA), (unsigned)project, &found) != 0) {
            if (errno == ENOENT)
                continue;
            perror("quotactl_fd");
            return 1;
        }
        if (found.dqb_curspace || found.dqb_curinodes || found.dqb_bhardlimit || found.dqb_ihardlimit)
            printf("%lu %llu %llu %llu %llu\n", project, (unsigned long long)found.dqb_curspace,
                   (unsigned long long)found.dqb_curinodes, (unsigned long long)found.dqb_bhardlimit * 1024,
                   (unsigned long long)found.dqb_ihardlimit);
    }
    return 0;
}
