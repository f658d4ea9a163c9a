/* A libcuda.so.1 for machines without a GPU: enough to make a device current.
 *
 * It obeys CUDA_VISIBLE_DEVICES, by index and by UUID. Whoever retains a primary context leaves
 * ctx.<pid> with the GPU's index in the folder MOCK_GPU_STATE, where the mock NVML finds it. What it
 * does not have answers CUDA_ERROR_NOT_SUPPORTED.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define MAX_GPUS 64

typedef int result;
typedef int device;
typedef void *context;
enum { SUCCESS = 0, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_CONTEXT = 201,
       NOT_SUPPORTED = 801 };
enum { COMPUTE_CAPABILITY_MAJOR = 75, COMPUTE_CAPABILITY_MINOR = 76 };

static int contexts[MAX_GPUS];
static __thread context current;

static int gpu_count(void) {
    const char *text = getenv("MOCK_GPU_COUNT");
    int count = text && *text ? atoi(text) : 2;
    return count > MAX_GPUS ? MAX_GPUS : count;
}

/* The indices of the visible GPUs, in the order in which they are named. */
static int visible(int *indices) {
    const char *named = getenv("CUDA_VISIBLE_DEVICES");
    char buffer[1024], *rest, *name;
    int count = 0;
    if (!named) {
        for (; count < gpu_count(); count++) indices[count] = count;
        return count;
    }
    snprintf(buffer, sizeof buffer, "%s", named);
    for (name = strtok_r(buffer, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        int by_uuid = !strncmp(name, "GPU-", 4);
        int index = by_uuid ? (int)strtoul(strrchr(name, '-') + 1, NULL, 16) : atoi(name);
        if (index < 0 || index >= gpu_count() || count == MAX_GPUS) break;
        indices[count++] = index;
    }
    return count;
}

API result cuInit(unsigned flags) { (void)flags; return gpu_count() ? SUCCESS : NO_DEVICE; }
API result cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
API result cuDeviceGetCount(int *count) {
    int indices[MAX_GPUS];
    *count = visible(indices);
    return SUCCESS;
}
API result cuDeviceGet(device *found, int ordinal) {
    int indices[MAX_GPUS];
    if (ordinal < 0 || ordinal >= visible(indices)) return INVALID_DEVICE;
    *found = ordinal;
    return SUCCESS;
}
API result cuDeviceGetName(char *buffer, int size, device gpu) {
    (void)gpu;
    snprintf(buffer, (size_t)size, "Mock T4");
    return SUCCESS;
}
API result cuDeviceGetUuid(void *uuid, device gpu) {
    int indices[MAX_GPUS];
    if (gpu < 0 || gpu >= visible(indices)) return INVALID_DEVICE;
    memset(uuid, 0, 16);
    ((unsigned char *)uuid)[15] = (unsigned char)indices[gpu];
    return SUCCESS;
}
API result cuDeviceGetUuid_v2(void *uuid, device gpu) { return cuDeviceGetUuid(uuid, gpu); }
API result cuDeviceGetAttribute(int *value, int attribute, device gpu) {
    (void)gpu;
    *value = attribute == COMPUTE_CAPABILITY_MAJOR ? 7
             : attribute == COMPUTE_CAPABILITY_MINOR ? 5 : 1;
    return SUCCESS;
}
API result cuDeviceTotalMem_v2(size_t *bytes, device gpu) {
    const char *text = getenv("MOCK_GPU_MEMORY_BYTES");
    (void)gpu;
    *bytes = text && *text ? strtoull(text, NULL, 10) : 16ull << 30;
    return SUCCESS;
}

API result cuDevicePrimaryCtxGetState(device gpu, unsigned *flags, int *is_active) {
    (void)gpu;
    *flags = 0;
    *is_active = 0;
    return SUCCESS;
}
API result cuDevicePrimaryCtxRetain(context *made, device gpu) {
    const char *folder = getenv("MOCK_GPU_STATE");
    int indices[MAX_GPUS];
    if (gpu < 0 || gpu >= visible(indices)) return INVALID_DEVICE;
    contexts[gpu] = gpu;
    *made = &contexts[gpu];
    if (folder && *folder) {
        char path[4096];
        snprintf(path, sizeof path, "%s/ctx.%d", folder, (int)getpid());
        FILE *file = fopen(path, "w");
        if (!file) return NOT_SUPPORTED;
        fprintf(file, "%d\n", indices[gpu]);
        fclose(file);
    }
    return SUCCESS;
}
API result cuDevicePrimaryCtxRelease_v2(device gpu) { (void)gpu; return SUCCESS; }
API result cuCtxSetCurrent(context wanted) { current = wanted; return SUCCESS; }
API result cuCtxGetCurrent(context *found) { *found = current; return SUCCESS; }
API result cuCtxPushCurrent_v2(context wanted) { current = wanted; return SUCCESS; }
API result cuCtxPopCurrent_v2(context *found) {
    *found = current;
    current = NULL;
    return SUCCESS;
}
API result cuCtxGetDevice(device *gpu) {
    if (!current) return INVALID_CONTEXT;
    *gpu = *(int *)current;
    return SUCCESS;
}
API result cuCtxSynchronize(void) { return SUCCESS; }
API result cuGetErrorName(result code, const char **text) {
    (void)code;
    *text = "CUDA_ERROR_OF_THE_MOCK";
    return SUCCESS;
}
API result cuGetErrorString(result code, const char **text) {
    (void)code;
    *text = "error of the mock CUDA driver";
    return SUCCESS;
}

static result not_supported(void) { return NOT_SUPPORTED; }

/* Finds the newest version of a function in this library. */
API result cuGetProcAddress_v2(
    const char *symbol, void **function, int version, unsigned long long flags, int *status
) {
    Dl_info self;
    void *library = NULL, *found = NULL;
    char name[256];
    (void)version; (void)flags;
    if (dladdr((void *)not_supported, &self)) library = dlopen(self.dli_fname, RTLD_NOLOAD | RTLD_NOW);
    for (int number = 3; library && number >= 1 && !found; number--) {
        snprintf(name, sizeof name, number > 1 ? "%s_v%d" : "%s", symbol, number);
        found = dlsym(library, name);
    }
    if (library) dlclose(library);
    *function = found ? found : (void *)not_supported;
    if (status) *status = 0;
    return SUCCESS;
}
API result cuGetProcAddress(
    const char *symbol, void **function, int version, unsigned long long flags
) {
    return cuGetProcAddress_v2(symbol, function, version, flags, NULL);
}
