/* Tries to get more out of a volume with a project quota than there may be: by another project, by links and renames out of it, by
 * the quota itself, and by files that have no name any more. Prints a line for each attempt, "kept" where it was refused.
 *
 *   quota_escape VOLUME OUTSIDE BYTES    in an empty VOLUME of so many BYTES; OUTSIDE is another directory
 *
 * It runs in a job only: on a host it would fill a disk. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/quota.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char chunk[1 << 16];

static void told(const char *what, int is_kept) {
    if (is_kept)
        printf("%s: kept\n", what);
    else
        printf("%s: NOT KEPT (%s)\n", what, strerrorname_np(errno));
}

/* Sets the project or the flags of a file; whether that was refused. */
static int is_refused(int file, int other_project, unsigned other_flags) {
    struct fsxattr attributes = {0};
    if (ioctl(file, FS_IOC_FSGETXATTR, &attributes) != 0)
        return 0;
    if (other_project >= 0)
        attributes.fsx_projid = other_project;
    attributes.fsx_xflags ^= other_flags;
    return ioctl(file, FS_IOC_FSSETXATTR, &attributes) != 0;
}

/* Writes until that is refused; the bytes that were written. */
static long long fill(int file) {
    long long all = 0;
    for (ssize_t got; (got = write(file, chunk, sizeof chunk)) > 0;)
        all += got;
    return all;
}

static int is_full(void) { return errno == EDQUOT || errno == ENOSPC; }

int main(int argc, char **argv) {
    if (argc != 4 || access("/volumes", F_OK) != 0) {
        fprintf(stderr, "usage, in a job: quota_escape VOLUME OUTSIDE BYTES\n");
        return 2;
    }
    long long bytes = atoll(argv[3]);
    char outside[256];
    snprintf(outside, sizeof outside, "%s/out", argv[2]);
    memset(chunk, 'x', sizeof chunk);
    if (chdir(argv[1]) != 0 || mkdir("d", 0755) != 0)
        return perror(argv[1]), 2;

    int dir = open("d", O_RDONLY | O_DIRECTORY), root = open(".", O_RDONLY | O_DIRECTORY);
    int file = open("d/f", O_RDWR | O_CREAT, 0644);
    told("project of a file", is_refused(file, 0, 0));
    told("project of a directory", is_refused(dir, 0, 0));
    told("project of the volume", is_refused(root, 0, 0));
    told("another project", is_refused(file, 1, 0));
    told("inheritance", is_refused(dir, -1, FS_XFLAG_PROJINHERIT));
    told("inheritance of the volume", is_refused(root, -1, FS_XFLAG_PROJINHERIT));
    told("link out", link("d/f", outside) != 0 && errno == EXDEV);
    told("rename out", rename("d/f", outside) != 0 && errno == EXDEV);
    told("rename of a directory out", rename("d", outside) != 0 && errno == EXDEV);
    struct dqblk none = {.dqb_valid = QIF_LIMITS};
    told("the quota", syscall(443 /* quotactl_fd */, root, QCMD(Q_SETQUOTA, 2), 0x7ffe0001u, &none) != 0);
    told("preallocation", fallocate(file, 0, 0, bytes * 4) != 0 && is_full());
    ftruncate(file, 0);
    /* Made first, because a full volume may have no room for one more. */
    int removed = open("r", O_RDWR | O_CREAT, 0600);
    unlink("r");

    /* A file without a name counts as long as it is open. */
    int nameless = open(".", O_TMPFILE | O_RDWR, 0600);
    long long first = fill(nameless);
    told("nameless file", is_full() && first <= bytes);
    long long second = fill(file);
    told("file beside it", is_full() && first + second <= bytes);
    long long third = fill(removed);
    told("removed file", is_full() && first + second + third <= bytes);
    close(nameless);
    close(removed);
    ftruncate(file, 0);
    lseek(file, 0, SEEK_SET);
    /* All but what directories and tables take is there again. */
    told("room given back", fill(file) > bytes * 9 / 10);
    ftruncate(file, 0);
    return 0;
}
