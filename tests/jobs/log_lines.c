/*
 * log_lines KIND LINES [LINES_A_SECOND]: writes lines of 100 bytes to standard output in pieces of 4 KiB, as fast as it
 * can or at a pace, and then the times of the first and behind the last write to standard error, ns since the epoch.
 *
 * KIND is `app`, half of each line random, or the path of a file whose bytes are repeated. The bytes are made before the
 * clock runs.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 100, PIECE = 4096, LINES = 40960 };

/* Whole pieces and whole lines: 1000 pieces. */
static char app[LINE * LINES];

static uint64_t now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static void fill(void)
{
    uint64_t state = 88172645463325252u;
    for (int n = 0; n < LINES; n++) {
        char *line = app + (size_t)n * LINE;
        int length = snprintf(line, LINE, "2026-11-30T12:%02d:%02d.%03dZ INFO  worker: request done, status=200 id=",
                              n / 60000 % 60, n / 1000 % 60, n % 1000);
        for (; length < LINE - 1; length++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            line[length] = "0123456789abcdef"[state >> 60];
        }
        line[LINE - 1] = '\n';
    }
}

static char *load(const char *path, size_t *length)
{
    FILE *file = fopen(path, "r");
    if (!file) {
        perror(path);
        exit(1);
    }
    char *bytes = malloc(1 << 24);
    *length = bytes ? fread(bytes, 1, 1 << 24, file) : 0;
    if (*length == 0)
        exit(1);
    fclose(file);
    return bytes;
}

static void put(const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t done = write(1, bytes, length);
        if (done < 0 && errno != EINTR)
            exit(1);
        if (done > 0) {
            bytes += done;
            length -= (size_t)done;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    const char *bytes = app;
    size_t length = sizeof app;
    if (strcmp(argv[1], "app") == 0)
        fill();
    else
        bytes = load(argv[1], &length);
    uint64_t left = strtoull(argv[2], NULL, 10) * LINE, all = left;
    uint64_t a_second = argc > 3 ? strtoull(argv[3], NULL, 10) * LINE : 0;
    uint64_t start = now();
    for (size_t at = 0; left > 0;) {
        size_t piece = PIECE < length - at ? PIECE : length - at;
        if (piece > left)
            piece = (size_t)left;
        put(bytes + at, piece);
        left -= piece;
        at = (at + piece) % length;
        if (a_second) {
            uint64_t due = start + (all - left) * 1000000000u / a_second;
            uint64_t is = now();
            if (due > is + 1000000) {
                struct timespec wait = {0, (long)((due - is) % 1000000000u)};
                nanosleep(&wait, NULL);
            }
        }
    }
    fprintf(stderr, "%llu %llu\n", (unsigned long long)start, (unsigned long long)now());
    return 0;
}
