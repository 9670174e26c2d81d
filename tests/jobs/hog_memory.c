/* Takes memory of one kind until it is killed or no memory is left; prints the amount after every MiB.
 *
 *   hog_memory [anonymous|shared|memfd|sysv|sockets|pipes]
 *   hog_memory file PATH       "full" and an orderly end where the file system ends first
 *   hog_memory children N      N children of a MiB each, and their parent waits */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1 << 20)

static char block[MIB];

static void fail(const char *what)
{
    printf("%s: %s\n", what, strerrorname_np(errno));
    exit(3);
}

static void touch(char *pages)
{
    if (pages == MAP_FAILED || pages == NULL)
        fail("memory");
    memset(pages, 1, MIB);
}

static void private_pages(void)
{
    touch(malloc(MIB));
}

static void shared_pages(void)
{
    touch(mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
}

static void sysv_segment(void)
{
    int segment = shmget(IPC_PRIVATE, MIB, IPC_CREAT | 0600);
    if (segment < 0)
        fail("shmget");
    touch(shmat(segment, NULL, 0));
}

/* Writes a MiB into `file`; ends in order where the file system is full. */
static void into(int file)
{
    for (int done = 0; done < MIB;) {
        ssize_t n = write(file, block, (size_t)(MIB - done));
        if (n < 0 && errno == ENOSPC) {
            printf("full\n");
            exit(0);
        }
        if (n < 0)
            fail("write");
        done += (int)n;
    }
}

/* Writes a MiB into the buffers of new pairs, which have no reader. */
static void buffers(int (*make)(int pair[2]))
{
    for (int done = 0; done < MIB;) {
        int pair[2];
        if (make(pair) < 0)
            fail("a pair");
        for (ssize_t n; (n = write(pair[1], block, 4096)) > 0;)
            done += (int)n;
        if (errno != EAGAIN)
            fail("write");
    }
}

static int pipe_pair(int pair[2])
{
    return pipe2(pair, O_NONBLOCK);
}

static int socket_pair(int pair[2])
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair);
}

static void children(int count)
{
    for (int i = 0; i < count; i++)
        if (fork() == 0) {
            private_pages();
            for (;;)
                pause();
        }
    printf("%d children\n", count);
    while (wait(NULL) > 0)
        ;
}

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "anonymous";
    const char *of = argc > 2 ? argv[2] : "";
    struct rlimit files;
    int file = -1;

    if (!getenv("JOB_ID")) {
        fprintf(stderr, "hog_memory would take all of this machine: it runs in a job only\n");
        return 2;
    }
    setvbuf(stdout, 0, _IONBF, 0);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (strcmp(kind, "children") == 0) {
        children(atoi(of));
        return 0;
    }
    if (strcmp(kind, "memfd") == 0)
        file = memfd_create("hog", MFD_CLOEXEC);
    if (strcmp(kind, "file") == 0)
        file = open(of, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    for (int mib = 1;; mib++) {
        if (strcmp(kind, "shared") == 0)
            shared_pages();
        else if (strcmp(kind, "sysv") == 0)
            sysv_segment();
        else if (strcmp(kind, "sockets") == 0)
            buffers(socket_pair);
        else if (strcmp(kind, "pipes") == 0)
            buffers(pipe_pair);
        else if (strcmp(kind, "memfd") == 0 || strcmp(kind, "file") == 0)
            into(file);
        else if (strcmp(kind, "anonymous") == 0)
            private_pages();
        else
            return 2;
        printf("%d\n", mib);
    }
}
