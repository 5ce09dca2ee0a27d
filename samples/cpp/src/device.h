// A device by name, its memory, and copies to, from and within it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace vis4mer {

struct Device {
  bool cuda = false;
  int index = 0;

  std::string name() const { return cuda ? "cuda:" + std::to_string(index) : "cpu"; }
};

// Reads "cpu", "cuda" (the first GPU) or "cuda:N". Throws ArgumentError for another name.
Device parse_device(const std::string& name);

struct ReleaseMemory {
  Device device;
  void operator()(std::byte* address) const noexcept;
};
// Memory of a device; its address is that of host memory for the CPU.
using DeviceMemory = std::unique_ptr<std::byte, ReleaseMemory>;

// A queue of copies on a device, in order. On the CPU they are done at once. The GPU is used through the driver's
// library, which every machine with a GPU has, so that the build needs no CUDA. Throws DeviceError.
class Stream {
 public:
  explicit Stream(const Device& device);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // Allocates at least one byte of memory of undefined content.
  DeviceMemory allocate(size_t bytes) const;
  // Copies between host and device memory in either direction, or within either.
  void copy(void* to, const void* from, size_t bytes) const;
  void clear(void* address, size_t bytes) const;
  // Waits for everything queued so far.
  void synchronize() const;
  // CUstream, which is the runtime's cudaStream_t; null on the CPU.
  void* handle() const { return handle_; }

 private:
  Device device_;
  void* handle_ = nullptr;
};

// Makes a GPU current for the calling thread, and then the one that was current before. Does nothing for the CPU.
class CurrentDevice {
 public:
  explicit CurrentDevice(const Device& device);
  ~CurrentDevice();
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  bool pushed_ = false;
};

}  // namespace vis4mer
