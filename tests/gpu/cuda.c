/* A libcuda.so.1 of the tests: GPUs with 5 MiB free, whose memory is a file of FAKE_DIR, "memory-N".
 *
 * FAKE_DIR      "cuda-fails": allocations are refused with an odd number. "cuda-hangs": they never come back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t left = 5 << 20;
static unsigned current;

static int there(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", getenv("FAKE_DIR"), name);
    return access(path, F_OK) == 0;
}

int cuInit(unsigned flags) { return flags ? 1 : 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceGetUuid(unsigned char *uuid, int device) { memset(uuid, 0, 16); uuid[15] = (unsigned char)device; return 0; }
int cuCtxCreate_v2(void **context, unsigned flags, int device) { (void)flags; *context = &left; current = (unsigned)device; return 0; }
int cuMemAlloc_v2(unsigned long long *address, size_t bytes) {
    if (there("cuda-fails")) return 999;
    while (there("cuda-hangs")) usleep(10000);
    if (bytes > left) return 2;
    left -= bytes;
    *address = left;
    return 0;
}
int cuMemsetD8_v2(unsigned long long address, unsigned char value, size_t bytes) {
    char path[512];
    snprintf(path, sizeof path, "%s/memory-%u", getenv("FAKE_DIR"), current);
    FILE *memory = fopen(path, "a");
    if (!memory) return 1;
    fprintf(memory, "%llu %d %zu\n", address, value, bytes);
    return fclose(memory);
}
int cuCtxSynchronize(void) { return 0; }
