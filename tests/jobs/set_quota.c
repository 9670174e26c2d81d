// Sets a user's quota on a file system by quotactl(2), for guests, which have no quota(8).
//
//   set_quota DEVICE user UID BYTES    BYTES: 0 for no limit
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/quota.h>

int main(int argc, char **argv) {
    if (argc != 5 || strcmp(argv[2], "user") != 0) {
        fprintf(stderr, "usage: set_quota DEVICE user UID BYTES\n");
        return 2;
    }
    struct dqblk limits = {.dqb_bhardlimit = strtoull(argv[4], NULL, 10) / 1024, .dqb_valid = QIF_BLIMITS};
    if (quotactl(QCMD(Q_SETQUOTA, USRQUOTA), argv[1], atoi(argv[3]), (caddr_t)&limits) != 0) {
        perror("quotactl");
        return 1;
    }
    return 0;
}
