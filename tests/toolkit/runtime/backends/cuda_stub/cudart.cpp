// The part of the CUDA runtime that ONNX Runtime's CUDA provider needs in order to run: device memory is the host's,
// kernels do nothing, and copies, waits and page-locked allocations are written to stderr.

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#define STUB extern "C" __attribute__((visibility("default")))

static cudaError_t allocate(void** address, size_t size) {
  *address = aligned_alloc(256, (size + 255) / 256 * 256 + 256);
  memset(*address, 0, size);
  return cudaSuccess;
}

static cudaError_t copy(const char* call, void* target, const void* source, size_t size, cudaMemcpyKind kind,
                        cudaStream_t stream) {
  fprintf(stderr, "%s kind=%d stream=%p\n", call, static_cast<int>(kind), static_cast<void*>(stream));
  memmove(target, source, size);
  return cudaSuccess;
}

STUB cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
STUB cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
STUB cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
STUB cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }

STUB cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  memset(p, 0, sizeof *p);
  strcpy(p->name, "stub");
  p->major = 9;
  p->totalGlobalMem = size_t{80} << 30;
  p->sharedMemPerBlock = 49152;
  p->regsPerBlock = 65536;
  p->warpSize = 32;
  p->maxThreadsPerBlock = p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
  p->maxThreadsDim[2] = 64;
  p->maxGridSize[0] = 2147483647;
  p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->multiProcessorCount = 132;
  p->maxThreadsPerMultiProcessor = 2048;
  p->sharedMemPerMultiprocessor = 233472;
  p->sharedMemPerBlockOptin = 232448;
  p->l2CacheSize = 50 << 20;
  return cudaSuccess;
}

STUB cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMultiProcessorCount: *value = 132; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = 49152; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 232448; break;
    case cudaDevAttrWarpSize: *value = 32; break;
    default: *value = 1;
  }
  return cudaSuccess;
}

STUB cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = size_t{70} << 30;
  *total = size_t{80} << 30;
  return cudaSuccess;
}

STUB cudaError_t cudaMalloc(void** address, size_t size) { return allocate(address, size); }
STUB cudaError_t cudaMallocFromPoolAsync(void** address, size_t size, cudaMemPool_t, cudaStream_t) {
  return allocate(address, size);
}
STUB cudaError_t cudaMallocHost(void** address, size_t size) {
  fprintf(stderr, "pinned\n");
  return allocate(address, size);
}
STUB cudaError_t cudaHostAlloc(void** address, size_t size, unsigned) {
  fprintf(stderr, "pinned\n");
  return allocate(address, size);
}
STUB cudaError_t cudaFree(void* address) { return free(address), cudaSuccess; }
STUB cudaError_t cudaFreeHost(void* address) { return free(address), cudaSuccess; }
STUB cudaError_t cudaFreeAsync(void* address, cudaStream_t) { return free(address), cudaSuccess; }

STUB cudaError_t cudaMemcpy(void* target, const void* source, size_t size, cudaMemcpyKind kind) {
  return copy("copy", target, source, size, kind, nullptr);
}
STUB cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t size, cudaMemcpyKind kind,
                                 cudaStream_t stream) {
  return copy("copy", target, source, size, kind, stream);
}
STUB cudaError_t cudaMemset(void* target, int value, size_t size) { return memset(target, value, size), cudaSuccess; }
STUB cudaError_t cudaMemsetAsync(void* target, int value, size_t size, cudaStream_t stream) {
  fprintf(stderr, "set stream=%p\n", static_cast<void*>(stream));
  return memset(target, value, size), cudaSuccess;
}

STUB cudaError_t cudaDeviceSynchronize() { return fprintf(stderr, "wait device\n"), cudaSuccess; }
STUB cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return fprintf(stderr, "wait stream=%p\n", static_cast<void*>(stream)), cudaSuccess;
}
STUB cudaError_t cudaEventSynchronize(cudaEvent_t) { return fprintf(stderr, "wait event\n"), cudaSuccess; }
STUB cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t function, void* data) {
  return function(data), cudaSuccess;
}
STUB cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t stream) {
  return fprintf(stderr, "kernel stream=%p\n", static_cast<void*>(stream)), cudaSuccess;
}

STUB cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = static_cast<cudaStream_t>(malloc(16));
  return cudaSuccess;
}
STUB cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = static_cast<cudaEvent_t>(malloc(16));
  return cudaSuccess;
}
STUB cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
  *pool = static_cast<cudaMemPool_t>(malloc(16));
  return cudaSuccess;
}
STUB cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* found, const void* address) {
  memset(found, 0, sizeof *found);
  found->type = cudaMemoryTypeDevice;
  found->devicePointer = const_cast<void*>(address);
  return cudaSuccess;
}
STUB cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* found, const void*) {
  memset(found, 0, sizeof *found);
  found->maxThreadsPerBlock = 1024;
  found->numRegs = 32;
  return cudaSuccess;
}
STUB cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t,
                                                                        unsigned) {
  return *blocks = 1, cudaSuccess;
}
STUB cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned, unsigned long long,
                                                  cudaDriverEntryPointQueryResult* result) {
  *function = nullptr;
  if (result) *result = cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
STUB const char* cudaGetErrorName(cudaError_t) { return "stub"; }
STUB const char* cudaGetErrorString(cudaError_t) { return "stub"; }

// What the compiler generates for a launch.
STUB void** __cudaRegisterFatBinary(void*) {
  static void* handle[4];
  return handle;
}
STUB unsigned __cudaPushCallConfiguration(dim3, dim3, size_t, cudaStream_t) { return 0; }
STUB cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  *grid = *block = dim3(1);
  *shared = 0;
  *static_cast<void**>(stream) = nullptr;
  return cudaSuccess;
}
