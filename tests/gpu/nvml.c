/* A libnvidia-ml.so.1 of the tests: as much of the API as joblet calls, with GPUs that do not exist.
 *
 * FAKE_GPUS     how many there are (2)
 * FAKE_NVML     crash: dies in nvmlInit_v2. hang: never comes back from it. lie: a UUID with a control character, more
 *               processes than there is room for, and a name without an end. lost: the second GPU has fallen off the bus.
 *               uuid: UUIDs such as the vendor's. mig: the second GPU is split into MIG instances. Else: well-behaved.
 * FAKE_DIR      a directory by whose files a running library is told more: lost-N: GPU N has fallen off the bus. used-N: bytes
 *               of its memory that are in use. procs-N: processes on it, a line each, "PID BYTES". xid-N: an error to
 *               report once, which removes the file. hang: every call about memory hangs.
 *
 * With -DOLD it lacks nvmlDeviceGetPciInfo_v3, as libraries before 2017 do, and nvmlDeviceGetMigMode. With -DPLAIN it lacks everything that measures, and
 * with -DELDER the calls of the newest version alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } rates_t;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } process_t;
typedef struct { unsigned id, scope; long long time, latency; unsigned kind; int result; unsigned long long value; } field_t;
typedef struct { void *device; unsigned long long kind, number; unsigned gi, ci; } event_t;

static int is(const char *mode) {
    const char *set = getenv("FAKE_NVML");
    return set && strcmp(set, mode) == 0;
}

static unsigned number(void *device) { return (unsigned)((unsigned long)device - 1); }

static char *file(const char *what, unsigned index, char *path, size_t size) {
    const char *dir = getenv("FAKE_DIR");
    snprintf(path, size, "%s/%s-%u", dir ? dir : "/nonexistent", what, index);
    return path;
}

static int lost(unsigned index) {
    char path[512];
    return access(file("lost", index, path, sizeof path), F_OK) == 0;
}

static FILE *told(const char *what, unsigned index) {
    char path[512];
    return fopen(file(what, index, path, sizeof path), "r");
}

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
    if ((is("lost") && index == 1) || lost(index)) return 15;
    *device = (void *)(unsigned long)(index + 1);
    return 0;
}
int nvmlDeviceGetUUID(void *device, char *text, unsigned size) {
    const char *form = is("lie") ? "GPU-\n%u" : is("uuid") ? "GPU-00000000-0000-0000-0000-00000000000%u" : "GPU-fake-%u";
    snprintf(text, size, form, number(device));
    return 0;
}
int nvmlDeviceGetName(void *device, char *text, unsigned size) {
    (void)device;
    if (is("lie")) memset(text, 'x', size);
    else snprintf(text, size, "NVIDIA Fake");
    return 0;
}
/* Other numbers than the index: nothing may take one for the other. */
int nvmlDeviceGetMinorNumber(void *device, unsigned *minor) { *minor = number(device) + 4; return 0; }
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    unsigned index = number(device);
    char path[512];
    const char *dir = getenv("FAKE_DIR");
    snprintf(path, sizeof path, "%s/hang", dir ? dir : "/nonexistent");
    while (access(path, F_OK) == 0) usleep(10000);
    if (lost(index)) return 15;
    memory->total = (index % 2 ? 24ull : 80ull) << 30;
    memory->used = 0;
    FILE *used = told("used", index);
    if (used) {
        if (fscanf(used, "%llu", &memory->used) != 1) memory->used = 0;
        fclose(used);
    }
    memory->free = memory->total - memory->used;
    return 0;
}
#ifndef OLD
int nvmlDeviceGetPciInfo_v3(void *device, pci_t *pci) {
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", number(device) + 4);
    return 0;
}
/* 3: this model has no MIG. */
int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    if (!is("mig")) return 3;
    *current = *pending = number(device) == 1;
    return 0;
}
#endif

#ifndef PLAIN
int nvmlDeviceGetUtilizationRates(void *device, rates_t *rates) { rates->gpu = 40 + number(device); rates->memory = 7; return 0; }
int nvmlDeviceGetEncoderUtilization(void *device, unsigned *use, unsigned *us) { (void)device; *use = 3; *us = 1; return 0; }
/* It has no decoder. */
int nvmlDeviceGetDecoderUtilization(void *device, unsigned *use, unsigned *us) { (void)device; (void)use; (void)us; return 3; }
int nvmlDeviceGetClockInfo(void *device, unsigned kind, unsigned *mhz) { (void)device; *mhz = kind == 1 ? 1980 : 3201; return 0; }
int nvmlDeviceGetPcieThroughput(void *device, unsigned kind, unsigned *kbs) { (void)device; *kbs = kind ? 2500 : 1500; return 0; }
int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *degrees) { (void)sensor; *degrees = 50 + number(device); return 0; }
int nvmlDeviceGetFieldValues(void *device, int count, field_t *fields) {
    (void)device; (void)count;
    fields->result = fields->id == 82 ? 0 : 3;
    fields->value = 61;
    return 0;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *mw) { (void)device; *mw = 412400; return 0; }
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *mw) { (void)device; *mw = 700000; return 0; }
int nvmlDeviceGetTotalEccErrors(void *device, unsigned kind, unsigned since, unsigned long long *count) {
    (void)device; (void)since;
    *count = kind ? 0 : 2;
    return 0;
}
int nvmlDeviceGetRetiredPages(void *device, unsigned cause, unsigned *count, unsigned long long *pages) {
    (void)device; (void)pages;
    *count = cause ? 1 : 0;
    return cause ? 7 : 0;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) { (void)device; *major = 9; *minor = 0; return 0; }
int nvmlDeviceGetComputeMode(void *device, unsigned *mode) { (void)device; *mode = 3; return 0; }

static int processes(void *device, unsigned *count, process_t *list) {
    unsigned room = *count;
    FILE *all = told("procs", number(device));
    *count = is("lie") ? 4000000000u : 0;
    while (all && *count < room && fscanf(all, "%u %llu", &list[*count].pid, &list[*count].used) == 2) (*count)++;
    if (all) fclose(all);
    return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v2(void *device, unsigned *count, process_t *list) { return processes(device, count, list); }
int nvmlDeviceGetGraphicsRunningProcesses_v2(void *device, unsigned *count, process_t *list) { (void)device; (void)list; *count = 0; return 0; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) { (void)device; *reasons = 1; return 0; }

int nvmlEventSetCreate(void **set) { *set = (void *)99; return 0; }
int nvmlDeviceRegisterEvents(void *device, unsigned long long kinds, void *set) { (void)device; return kinds == 8 && set == (void *)99 ? 0 : 2; }
static int event(event_t *found) {
    char path[512];
    for (unsigned index = 0; index < 8; index++) {
        FILE *xid = told("xid", index);
        if (!xid) continue;
        found->device = (void *)(unsigned long)(index + 1);
        found->kind = 8;
        if (fscanf(xid, "%llu", &found->number) != 1) found->number = 0;
        fclose(xid);
        unlink(file("xid", index, path, sizeof path));
        return 0;
    }
    return 10;
}
int nvmlEventSetWait(void *set, event_t *found, unsigned ms) { (void)set; (void)ms; return event(found); }
#ifndef ELDER
int nvmlEventSetWait_v2(void *set, event_t *found, unsigned ms) { (void)set; (void)ms; return event(found); }
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process_t *list) { return processes(device, count, list); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, process_t *list) { (void)device; (void)list; *count = 0; return 0; }
int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *reasons) { (void)device; *reasons = 33; return 0; }
#endif
#endif
