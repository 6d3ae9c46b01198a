/* Stands for NVIDIA's driver library: two GPUs, the second of which does not tell its power. */
#include <stdio.h>
#include <stdlib.h>

typedef struct { unsigned int gpu, memory; } use_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gi, ci; } process_t;

enum { OK = 0, NOT_SUPPORTED = 3, TOO_SMALL = 7 };
static int gpus[2] = {0, 1};
static const unsigned long long GIB = 1ULL << 30;

int nvmlInitWithFlags(unsigned int flags) { return OK; }
int nvmlInit_v2(void) { return OK; }
const char *nvmlErrorString(int code) { return code == NOT_SUPPORTED ? "Not Supported" : "Another Error"; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int n, void **device) { *device = &gpus[n]; return OK; }
int nvmlDeviceGetName(int *device, char *name, unsigned int size) { snprintf(name, size, "Stand-in"); return OK; }
int nvmlDeviceGetUUID(int *device, char *id, unsigned int size) { snprintf(id, size, "GPU-%d", *device); return OK; }
int nvmlDeviceGetUtilizationRates(int *device, use_t *use) { use->gpu = *device ? 20 : 90; use->memory = 1; return OK; }
int nvmlDeviceGetTemperature(int *device, int sensor, unsigned int *degrees) { *degrees = 60 + *device; return OK; }

int nvmlDeviceGetMemoryInfo(int *device, memory_t *memory) {
  memory->total = 80 * GIB;
  memory->used = (*device ? 60 : 40) * GIB;
  memory->free = memory->total - memory->used;
  return OK;
}

int nvmlDeviceGetPowerUsage(int *device, unsigned int *milliwatts) {
  if (*device) return NOT_SUPPORTED;
  *milliwatts = 350000;
  return OK;
}

/* On the first GPU the process whose pid is in the file PIDS holds 30 GiB; another one holds the rest. */
int nvmlDeviceGetComputeRunningProcesses_v3(int *device, unsigned int *count, process_t *found) {
  unsigned int pid = 0;
  FILE *file = getenv("PIDS") ? fopen(getenv("PIDS"), "r") : NULL;
  if (*device || !file) { if (file) fclose(file); *count = 0; return OK; }
  if (fscanf(file, "%u", &pid) != 1) pid = 0;
  fclose(file);
  if (*count < 2) { *count = 2; return TOO_SMALL; }
  *count = 2;
  found[0] = (process_t){pid, 30 * GIB, 0, 0};
  found[1] = (process_t){1, 10 * GIB, 0, 0};
  return OK;
}
