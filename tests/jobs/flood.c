/* Writes eight-byte records that count up from 0 to standard output as fast as the pipe takes them, for ever or until a given
 * number. A reader can check the output for missing, doubled and torn records. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    uint64_t last = argc > 1 ? strtoull(argv[1], 0, 10) : UINT64_MAX;
    uint64_t chunk[64];
    for (uint64_t next = 0; next < last;) {
        size_t n = 0;
        /* Chunks of changing length, so that their ends differ from those of any buffer. */
        size_t most = 1 + (next * 2654435761u >> 7) % 64;
        while (n < most && next < last)
            chunk[n++] = next++;
        for (size_t done = 0; done < n * 8;) {
            ssize_t got = write(1, (char *)chunk + done, n * 8 - done);
            if (got < 0)
                return 1;
            done += (size_t)got;
        }
    }
    return 0;
}
