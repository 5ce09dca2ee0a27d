// A CUDA driver whose device memory is host memory under addresses that no instruction can use: code that reads device
// memory on the host crashes. A call without a current context, which the real driver refuses, ends the program.

#include "fake_cuda.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr uint64_t kDevice = 1ULL << 62;
int current = 0;  // contexts pushed; tests use one thread
int64_t downloads = 0;

void require(bool holds, const char* what) {
  if (!holds) {
    std::fprintf(stderr, "fake CUDA driver: %s\n", what);
    std::abort();
  }
}

bool on_device(uint64_t address) { return (address & kDevice) != 0; }
void* host(uint64_t address) { return reinterpret_cast<void*>(address & ~kDevice); }

}  // namespace

extern "C" {

void* fake_cuda_memory(const void* address) {
  const auto value = reinterpret_cast<uint64_t>(address);
  return on_device(value) ? host(value) : nullptr;
}
int64_t fake_cuda_downloads() { return downloads; }
int fake_cuda_contexts() { return current; }

int cuInit(unsigned int) { return 0; }
int cuDeviceGetCount(int* count) {
  *count = 1;
  return 0;
}
int cuDevicePrimaryCtxRetain(void** context, int) {
  *context = &current;
  return 0;
}
int cuCtxPushCurrent_v2(void* context) {
  require(context == &current, "not the primary context");
  ++current;
  return 0;
}
int cuCtxPopCurrent_v2(void**) {
  require(current > 0, "no context to pop");
  --current;
  return 0;
}
int cuStreamCreate(void** stream, unsigned int flags) {
  require(current > 0 && flags == 1, "a stream needs a context, and must not wait for the default stream");
  *stream = &downloads;
  return 0;
}
int cuStreamDestroy_v2(void* stream) { return stream == &downloads ? 0 : 400; }
int cuStreamSynchronize(void* stream) { return current > 0 && stream == &downloads ? 0 : 400; }
int cuMemAlloc_v2(uint64_t* address, size_t size) {
  require(current > 0 && size > 0, "an allocation needs a context and a size");
  void* memory = std::malloc(size);
  std::memset(memory, 0xff, size);  // NaN: memory that is read before it is written shows
  *address = reinterpret_cast<uint64_t>(memory) | kDevice;
  return 0;
}
int cuMemFree_v2(uint64_t address) {
  require(current > 0 && on_device(address), "not device memory");
  std::free(host(address));
  return 0;
}
int cuMemcpyAsync(uint64_t to, uint64_t from, size_t size, void* stream) {
  require(current > 0 && stream == &downloads, "a copy needs a context and a stream");
  const char *source = static_cast<char*>(host(from)), *target = static_cast<char*>(host(to));
  require(source + size <= target || target + size <= source, "source and target overlap");
  std::memcpy(host(to), host(from), size);
  downloads += on_device(from) && !on_device(to);
  return 0;
}
int cuMemsetD8Async(uint64_t address, unsigned char value, size_t size, void*) {
  require(current > 0 && on_device(address), "not device memory");
  std::memset(host(address), value, size);
  return 0;
}
int cuGetErrorName(int, const char** name) {
  *name = "CUDA_ERROR_OF_THE_FAKE";
  return 0;
}

}  // extern "C"
