/* A libnvidia-ml.so.1 of the tests: as much of the API as joblet calls, with GPUs that do not exist.
 *
 * FAKE_GPUS     how many there are (2)
 * FAKE_NVML     crash: dies in nvmlInit_v2. hang: never comes back from it. lie: a UUID with a control character.
 *               lost: the second GPU has fallen off the bus. Else: well-behaved.
 *
 * With -DOLD it lacks nvmlDeviceGetPciInfo_v3, as libraries before 2017 do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
typedef struct { unsigned long long total, free, used; } memory_t;

static int is(const char *mode) {
    const char *set = getenv("FAKE_NVML");
    return set && strcmp(set, mode) == 0;
}

static unsigned number(void *device) { return (unsigned)((unsigned long)device - 1); }

int nvmlInit_v2(void) {
    if (is("crash")) abort();
    while (is("hang")) pause();
    return 0;
}
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) {
    const char *set = getenv("FAKE_GPUS");
    *count = set ? (unsigned)atoi(set) : 2;
    return 0;
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "580.0.fake"); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (is("lost") && index == 1) return 15;
    *device = (void *)(unsigned long)(index + 1);
    return 0;
}
int nvmlDeviceGetUUID(void *device, char *text, unsigned size) {
    snprintf(text, size, is("lie") ? "GPU-\n%u" : "GPU-fake-%u", number(device));
    return 0;
}
int nvmlDeviceGetName(void *device, char *text, unsigned size) {
    (void)device;
    snprintf(text, size, "NVIDIA Fake");
    return 0;
}
/* Other numbers than the index: nothing may take one for the other. */
int nvmlDeviceGetMinorNumber(void *device, unsigned *minor) { *minor = number(device) + 4; return 0; }
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    memory->total = (number(device) % 2 ? 24ull : 80ull) << 30;
    memory->free = memory->total;
    memory->used = 0;
    return 0;
}
#ifndef OLD
int nvmlDeviceGetPciInfo_v3(void *device, pci_t *pci) {
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", number(device) + 4);
    return 0;
}
#endif
