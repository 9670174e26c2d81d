/* lines COUNT CODE EVERY_MS: numbered lines with a checksum on both streams, then the line "end N", then exit(CODE).
 * COUNT 0: until SIGUSR1 comes. tests/e2e/faults.rs computes each line too. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t enough;

static void stop(int number) {
    (void)number;
    enough = 1;
}

static void put(int fd, const char *text, size_t size) {
    while (size > 0) {
        ssize_t n = write(fd, text, size);
        if (n < 0)
            continue;
        text += n;
        size -= (size_t)n;
    }
}

static void line(int fd, const char *stream, unsigned number) {
    char text[256];
    int size = snprintf(text, sizeof text, "%s %08u ", stream, number);
    for (unsigned i = 0; i < number * 7919u % 97u; i++)
        text[size++] = 'x';
    uint32_t sum = 2166136261u;
    for (int i = 0; i < size; i++)
        sum = (sum ^ (unsigned char)text[i]) * 16777619u;
    size += snprintf(text + size, sizeof text - (size_t)size, " %08x\n", sum);
    put(fd, text, (size_t)size);
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 99;
    unsigned count = (unsigned)atoi(argv[1]), number = 0;
    long every = atol(argv[3]);
    struct timespec pause = {every / 1000, every % 1000 * 1000000};
    signal(SIGUSR1, stop);
    while (count ? number < count : !enough) {
        number++;
        line(1, "out", number);
        line(2, "err", number);
        nanosleep(&pause, NULL);
    }
    char text[32];
    int size = snprintf(text, sizeof text, "end %08u\n", number);
    put(1, text, (size_t)size);
    put(2, text, (size_t)size);
    return atoi(argv[2]);
}
