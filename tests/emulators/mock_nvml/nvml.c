/* A libnvidia-ml.so.1 for machines without a GPU: enough for dask-cuda to start its workers.
 *
 * The signatures are those by which nvidia-ml-py calls the library. Variables of the environment,
 * read at every call:
 *   MOCK_GPU_COUNT         number of GPUs, 2 where it is not set
 *   MOCK_GPU_MEMORY_BYTES  of each, 16 GiB where it is not set
 *   MOCK_GPU_NAME          of the product
 *   MOCK_GPU_STATE         folder; in it, gpu<i>.util and gpu<i>.used are the utilisation in percent
 *                          and the bytes used, and ctx.<pid> holds the GPU that a process has a
 *                          context on
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define MAX_GPUS 64
#define PATH_SIZE 4096

typedef int result;
enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7 };

typedef struct gpu { unsigned index; } *device;
typedef struct { unsigned long long total, free, used; } memory_info;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_info_v2;
typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } process;
typedef struct {
    char legacy_bus_id[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
} pci_info;

static struct gpu gpus[MAX_GPUS];
static int initialized;

static unsigned long long setting(const char *name, unsigned long long otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static unsigned gpu_count(void) {
    unsigned long long count = setting("MOCK_GPU_COUNT", 2);
    return count > MAX_GPUS ? MAX_GPUS : (unsigned)count;
}

static unsigned long long read_number(const char *path) {
    unsigned long long number = 0;
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fscanf(file, "%llu", &number) != 1) number = 0;
    fclose(file);
    return number;
}

static unsigned long long state_of(unsigned index, const char *what) {
    const char *folder = getenv("MOCK_GPU_STATE");
    char path[PATH_SIZE];
    if (!folder || !*folder) return 0;
    snprintf(path, sizeof path, "%s/gpu%u.%s", folder, index, what);
    return read_number(path);
}

static result copy(char *buffer, unsigned size, const char *text) {
    if (!buffer) return INVALID_ARGUMENT;
    if (strlen(text) + 1 > size) return INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return SUCCESS;
}

static void write_uuid(unsigned index, char *buffer, size_t size) {
    snprintf(buffer, size, "GPU-00000000-0000-0000-0000-%012x", index);
}

API result nvmlInit_v2(void) { initialized = 1; return SUCCESS; }
API result nvmlInit(void) { return nvmlInit_v2(); }
API result nvmlInitWithFlags(unsigned flags) { (void)flags; return nvmlInit_v2(); }
API result nvmlShutdown(void) { return SUCCESS; }
API const char *nvmlErrorString(result code) { (void)code; return "error of the mock NVML"; }
API result nvmlSystemGetDriverVersion(char *b, unsigned n) { return copy(b, n, "580.00.00"); }
API result nvmlSystemGetNVMLVersion(char *b, unsigned n) { return copy(b, n, "13.580.00"); }
API result nvmlSystemGetCudaDriverVersion(int *version) { *version = 13000; return SUCCESS; }
API result nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return SUCCESS; }

API result nvmlDeviceGetCount_v2(unsigned *count) {
    if (!initialized) return UNINITIALIZED;
    *count = gpu_count();
    return SUCCESS;
}
API result nvmlDeviceGetCount(unsigned *count) { return nvmlDeviceGetCount_v2(count); }

API result nvmlDeviceGetHandleByIndex_v2(unsigned index, device *found) {
    if (!initialized) return UNINITIALIZED;
    if (index >= gpu_count()) return INVALID_ARGUMENT;
    gpus[index].index = index;
    *found = &gpus[index];
    return SUCCESS;
}
API result nvmlDeviceGetHandleByIndex(unsigned index, device *found) {
    return nvmlDeviceGetHandleByIndex_v2(index, found);
}
API result nvmlDeviceGetHandleByUUID(const char *wanted, device *found) {
    char uuid[96];
    for (unsigned index = 0; index < gpu_count(); index++) {
        write_uuid(index, uuid, sizeof uuid);
        if (!strcmp(uuid, wanted)) return nvmlDeviceGetHandleByIndex_v2(index, found);
    }
    return NOT_FOUND;
}

API result nvmlDeviceGetUUID(device gpu, char *buffer, unsigned size) {
    char uuid[96];
    write_uuid(gpu->index, uuid, sizeof uuid);
    return copy(buffer, size, uuid);
}
API result nvmlDeviceGetIndex(device gpu, unsigned *index) { *index = gpu->index; return SUCCESS; }
API result nvmlDeviceGetName(device gpu, char *buffer, unsigned size) {
    const char *name = getenv("MOCK_GPU_NAME");
    (void)gpu;
    return copy(buffer, size, name && *name ? name : "Mock T4");
}

API result nvmlDeviceGetMemoryInfo(device gpu, memory_info *memory) {
    memory->total = setting("MOCK_GPU_MEMORY_BYTES", 16ull << 30);
    memory->used = state_of(gpu->index, "used");
    memory->free = memory->total - memory->used;
    return SUCCESS;
}
API result nvmlDeviceGetMemoryInfo_v2(device gpu, memory_info_v2 *memory) {
    memory_info plain;
    nvmlDeviceGetMemoryInfo(gpu, &plain);
    memory->total = plain.total;
    memory->used = plain.used;
    memory->free = plain.free;
    memory->reserved = 0;
    return SUCCESS;
}
API result nvmlDeviceGetUtilizationRates(device gpu, utilization *rates) {
    rates->gpu = (unsigned)state_of(gpu->index, "util");
    rates->memory = 0;
    return SUCCESS;
}
API result nvmlDeviceGetCpuAffinity(device gpu, unsigned size, unsigned long *set) {
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    (void)gpu;
    memset(set, 0, size * sizeof *set);
    for (long cpu = 0; cpu < cpus && (unsigned)(cpu / 64) < size; cpu++)
        set[cpu / 64] |= 1ul << (cpu % 64);
    return SUCCESS;
}
API result nvmlDeviceGetCudaComputeCapability(device gpu, int *major, int *minor) {
    (void)gpu;
    *major = 7;
    *minor = 5;
    return SUCCESS;
}
API result nvmlDeviceGetPciInfo_v3(device gpu, pci_info *pci) {
    memset(pci, 0, sizeof *pci);
    pci->bus = gpu->index + 1;
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", pci->bus);
    snprintf(pci->legacy_bus_id, sizeof pci->legacy_bus_id, "0000:%02X:00.0", pci->bus);
    return SUCCESS;
}

/* No GPU here is cut into MIG instances. */
API result nvmlDeviceGetMigMode(device gpu, unsigned *now, unsigned *pending) {
    (void)gpu; (void)now; (void)pending;
    return NOT_SUPPORTED;
}
API result nvmlDeviceIsMigDeviceHandle(device gpu, unsigned *is_mig) {
    (void)gpu;
    *is_mig = 0;
    return SUCCESS;
}
API result nvmlDeviceGetMaxMigDeviceCount(device gpu, unsigned *count) {
    (void)gpu;
    *count = 0;
    return SUCCESS;
}
API result nvmlDeviceGetMigDeviceHandleByIndex(device gpu, unsigned index, device *found) {
    (void)gpu; (void)index; (void)found;
    return NOT_FOUND;
}
API result nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device mig, device *parent) {
    *parent = mig;
    return SUCCESS;
}

API result nvmlDeviceGetComputeRunningProcesses_v3(device gpu, unsigned *count, process *found) {
    const char *folder = getenv("MOCK_GPU_STATE");
    unsigned capacity = found ? *count : 0, pid;
    DIR *entries = folder && *folder ? opendir(folder) : NULL;
    struct dirent *entry;
    *count = 0;
    while (entries && (entry = readdir(entries))) {
        char path[PATH_SIZE];
        if (sscanf(entry->d_name, "ctx.%u", &pid) != 1) continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (read_number(path) != gpu->index) continue;
        if (*count < capacity) found[*count] = (process){pid, 0, ~0u, ~0u};
        ++*count;
    }
    if (entries) closedir(entries);
    return *count > capacity ? INSUFFICIENT_SIZE : SUCCESS;
}
API result nvmlDeviceGetComputeRunningProcesses_v2(device gpu, unsigned *count, process *found) {
    return nvmlDeviceGetComputeRunningProcesses_v3(gpu, count, found);
}
