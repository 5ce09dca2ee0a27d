#include "device.h"

#include <dlfcn.h>

#include <array>
#include <cctype>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

#include "errors.h"
#include "vis4mer.h"

namespace vis4mer {
namespace {

constexpr unsigned int kNonBlocking = 1;  // CU_STREAM_NON_BLOCKING: does not wait for the default stream
constexpr char kOtherDevice[] = "use the device cpu";
constexpr char kSmallerBatch[] = "try a smaller batch";

using Address = uint64_t;  // CUdeviceptr

// Functions of the CUDA driver, of which every release has these versions.
struct Driver {
  int (*init)(unsigned int);
  int (*device_count)(int*);
  int (*retain_context)(void**, int);
  int (*push_context)(void*);
  int (*pop_context)(void**);
  int (*create_stream)(void**, unsigned int);
  int (*destroy_stream)(void*);
  int (*synchronize_stream)(void*);
  int (*allocate)(Address*, size_t);
  int (*free)(Address);
  int (*copy)(Address, Address, size_t, void*);
  int (*clear)(Address, unsigned char, size_t, void*);
  int (*error_name)(int, const char**);
};

template <class Function>
void load(void* library, const char* name, Function& function) {
  void* symbol = dlsym(library, name);
  if (symbol == nullptr) {
    fail<DeviceError>("driver", quote(name), "libcuda.so.1 lacks it", "update the NVIDIA driver");
  }
  function = reinterpret_cast<Function>(symbol);
}

Driver load_driver() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);  // stays loaded, like every user of it
  if (library == nullptr) {
    fail<DeviceError>("device", quote("cuda"), "this machine has no NVIDIA driver (libcuda.so.1)", kOtherDevice);
  }
  Driver driver{};
  load(library, "cuInit", driver.init);
  load(library, "cuDeviceGetCount", driver.device_count);
  load(library, "cuDevicePrimaryCtxRetain", driver.retain_context);
  load(library, "cuCtxPushCurrent_v2", driver.push_context);
  load(library, "cuCtxPopCurrent_v2", driver.pop_context);
  load(library, "cuStreamCreate", driver.create_stream);
  load(library, "cuStreamDestroy_v2", driver.destroy_stream);
  load(library, "cuStreamSynchronize", driver.synchronize_stream);
  load(library, "cuMemAlloc_v2", driver.allocate);
  load(library, "cuMemFree_v2", driver.free);
  load(library, "cuMemcpyAsync", driver.copy);
  load(library, "cuMemsetD8Async", driver.clear);
  load(library, "cuGetErrorName", driver.error_name);
  return driver;
}

const Driver& driver() {
  static const Driver loaded = load_driver();
  return loaded;
}

void check(const Device& device, const std::string& what, int status, std::string_view remedy = "") {
  if (status != 0) {
    const char* name = nullptr;  // stays null for a status that the driver does not recognise
    driver().error_name(status, &name);
    const std::string reason = name != nullptr ? name : "CUDA error " + std::to_string(status);
    fail<DeviceError>("device", quote(device.name()), "cannot " + what + ": " + reason, remedy);
  }
}

// The GPU's primary context, in which CUDA's runtime and so every other library works: addresses are valid in both. It
// is never released, because memory may outlive the stream that allocated it.
void* primary_context(const Device& device) {
  static std::mutex mutex;
  static std::map<int, void*> contexts;
  const std::lock_guard lock(mutex);
  void*& context = contexts[device.index];
  if (context == nullptr) {
    check(device, "start CUDA", driver().init(0));
    int count = 0;
    check(device, "count GPUs", driver().device_count(&count));
    if (device.index >= count) {
      fail<DeviceError>("device", quote(device.name()), "this machine has GPUs: " + std::to_string(count),
                        count > 0 ? "use cuda:0" : kOtherDevice);
    }
    check(device, "use the GPU", driver().retain_context(&context, device.index));  // handles are the indices
  }
  return context;
}

Address address_of(const void* pointer) { return reinterpret_cast<Address>(pointer); }

}  // namespace

Device parse_device(const std::string& name) {
  if (name == "cpu") {
    return {};
  }
  if (name == "cuda") {
    return {true, 0};
  }
  const std::string prefix = "cuda:", digits = name.rfind(prefix, 0) == 0 ? name.substr(prefix.size()) : "";
  const bool number =
      !digits.empty() && digits.size() <= 3 && digits.find_first_not_of("0123456789") == std::string::npos;
  if (!number) {
    fail<ArgumentError>("device", quote(name), "must be cpu, cuda or cuda:N");
  }
  return {true, std::stoi(digits)};
}

void ReleaseMemory::operator()(std::byte* address) const noexcept {
  if (!device.cuda) {
    ::operator delete(address);
    return;
  }
  // A destructor cannot report a failure: after an earlier error of the GPU, every call fails.
  void* previous = nullptr;
  if (driver().push_context(primary_context(device)) == 0) {
    driver().free(address_of(address));
    driver().pop_context(&previous);
  }
}

CurrentDevice::CurrentDevice(const Device& device) {
  if (device.cuda) {
    check(device, "use the GPU", driver().push_context(primary_context(device)));
    pushed_ = true;
  }
}

CurrentDevice::~CurrentDevice() {
  if (pushed_) {
    void* previous = nullptr;
    driver().pop_context(&previous);
  }
}

Stream::Stream(const Device& device) : device_(device) {
  const CurrentDevice current(device);
  if (device.cuda) {
    check(device, "make a stream", driver().create_stream(&handle_, kNonBlocking));
  }
}

Stream::~Stream() {
  void* previous = nullptr;
  if (device_.cuda && driver().push_context(primary_context(device_)) == 0) {
    driver().destroy_stream(handle_);
    driver().pop_context(&previous);
  }
}

DeviceMemory Stream::allocate(size_t bytes) const {
  const size_t size = bytes > 0 ? bytes : 1;
  if (!device_.cuda) {
    void* memory = ::operator new(size, std::nothrow);
    if (memory == nullptr) {
      fail<DeviceError>("device", quote(device_.name()), "cannot allocate " + std::to_string(size) + " bytes",
                        kSmallerBatch);
    }
    return {static_cast<std::byte*>(memory), ReleaseMemory{device_}};
  }
  const CurrentDevice current(device_);
  Address address = 0;
  check(device_, "allocate " + std::to_string(size) + " bytes", driver().allocate(&address, size), kSmallerBatch);
  return {reinterpret_cast<std::byte*>(address), ReleaseMemory{device_}};
}

void Stream::copy(void* to, const void* from, size_t bytes) const {
  if (!device_.cuda) {
    std::memmove(to, from, bytes);
    return;
  }
  const CurrentDevice current(device_);
  check(device_, "copy", driver().copy(address_of(to), address_of(from), bytes, handle_));
}

void Stream::clear(void* address, size_t bytes) const {
  if (!device_.cuda) {
    std::memset(address, 0, bytes);
    return;
  }
  const CurrentDevice current(device_);
  check(device_, "clear memory", driver().clear(address_of(address), 0, bytes, handle_));
}

void Stream::synchronize() const {
  if (device_.cuda) {
    const CurrentDevice current(device_);
    check(device_, "finish earlier work", driver().synchronize_stream(handle_));
  }
}

}  // namespace vis4mer
