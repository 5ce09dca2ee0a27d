// Launches on the device and the current stream of a tensor.
#pragma once

#include <climits>

#include <cuda_runtime.h>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

namespace vis4mer::cuda {

using torch::stable::Tensor;

inline void check(cudaError_t error) {
  STD_TORCH_CHECK(error == cudaSuccess, "CUDA error: ", cudaGetErrorString(error));
}

// Launches kernels on a tensor's device and on PyTorch's current stream there. The device is current while the object
// lives, because a launch goes to the current one.
class Launch {
 public:
  explicit Launch(const Tensor& tensor) : guard_(tensor.get_device_index()) {
    // The stable ABI has no C++ function for the stream, hence the C shim.
    void* stream = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }

  template <class... Parameters, class... Arguments>
  void operator()(void (*kernel)(Parameters...), int64_t blocks, dim3 threads, int shared_bytes,
                  const Arguments&... arguments) const {
    // Grids have one axis, of at most 2^31 - 1 blocks; kernels split its index themselves. The other axes end at
    // 65,535.
    STD_TORCH_CHECK(blocks <= INT_MAX, "the batch is too large for one launch; split it");
    if (shared_bytes > kUsualSharedBytes) {
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
    }
    kernel<<<static_cast<unsigned>(blocks), threads, shared_bytes, stream_>>>(arguments...);
    check(cudaGetLastError());
  }

 private:
  static constexpr int kUsualSharedBytes = 48 << 10;  // more must be requested per kernel

  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_ = nullptr;
};

// Kernels follow plain pointers, so all tensors must be on the first one's device.
inline void require_device(const Tensor& first, std::initializer_list<const Tensor*> others) {
  for (const Tensor* other : others) {
    STD_TORCH_CHECK(other->get_device_index() == first.get_device_index() && other->is_cuda(),
                    "all inputs must be on one device");
  }
}

template <class T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
T* data(Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

}  // namespace vis4mer::cuda
