// The CUDA ops' kernels and launches, run on the host. device.h replaces the device; all other code is the product's.

#include "device.h"

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "long_conv_launch.cuh"
#include "ssm_spectrum_launch.cuh"

namespace vis4mer::cuda {
namespace {

constexpr int64_t kHostSpanBytes = 64 << 10;  // small, so that few channels already make several spans

// Scratch memory full of NaN: a device's is not initialised either.
template <class T>
std::vector<T> scratch(int64_t values) {
  std::vector<T> memory(values);
  std::memset(static_cast<void*>(memory.data()), 0xff, values * sizeof(T));
  return memory;
}

template <class T, int N, class Storage>
void run_conv(const ConvShape& shape, bool descending, const void* const* inputs, void* const* outputs) {
  const HostLaunch launch(descending);
  const LongConv<T, N, Storage, HostLaunch> conv(shape, launch, kHostSpanBytes);
  const auto* u = static_cast<const Storage*>(inputs[0]);
  const auto *kernel = static_cast<const T*>(inputs[1]), *D = static_cast<const T*>(inputs[2]);
  if (inputs[3] == nullptr) {
    conv.forward(u, kernel, D, static_cast<Storage*>(outputs[0]),
                 scratch<Complex<T>>(conv.forward_workspace()).data());
  } else {
    conv.backward(static_cast<const Storage*>(inputs[3]), u, kernel, D, static_cast<Storage*>(outputs[0]),
                  static_cast<T*>(outputs[1]), static_cast<T*>(outputs[2]),
                  scratch<Complex<T>>(conv.backward_workspace()).data());
  }
}

template <class T, class Storage>
void run_conv(const ConvShape& shape, int block, bool descending, const void* const* inputs, void* const* outputs) {
  if (block == 256) {
    run_conv<T, 256, Storage>(shape, descending, inputs, outputs);
  } else if constexpr (sizeof(T) == sizeof(float)) {
    run_conv<T, 1024, Storage>(shape, descending, inputs, outputs);
  }
}

template <class T>
void run_spectrum(const int64_t* sizes, bool descending, const void* const* inputs, void* const* outputs) {
  const HostLaunch launch(descending);
  const Spectrum<T> spectrum{static_cast<const T*>(inputs[0]),
                             static_cast<const Complex<T>*>(inputs[1]),
                             static_cast<const Complex<T>*>(inputs[2]),
                             static_cast<const Complex<T>*>(inputs[3]),
                             static_cast<const T*>(inputs[4]),
                             static_cast<const Complex<T>*>(inputs[5]),
                             sizes[0],
                             sizes[1],
                             sizes[2]};
  if (inputs[6] == nullptr) {
    run_spectrum_forward(launch, spectrum, static_cast<Complex<T>*>(outputs[0]));
  } else {
    run_spectrum_backward(launch, spectrum, static_cast<const Complex<T>*>(inputs[6]),
                          scratch<T>(partial_values(spectrum)).data(), static_cast<T*>(outputs[0]),
                          static_cast<Complex<T>*>(outputs[1]), static_cast<Complex<T>*>(outputs[2]));
  }
}

}  // namespace
}  // namespace vis4mer::cuda

// sizes: B, L, H, K. inputs: u, kernel, D, grad or null (forward). outputs: y, or du, dkernel, dD.
extern "C" void long_conv(const int64_t* sizes, char type, int block, bool descending, const void* const* inputs,
                          void* const* outputs) {
  using namespace vis4mer::cuda;
  const ConvShape shape{sizes[0], sizes[1], sizes[2], sizes[3]};
  switch (type) {
    case 'd':
      return run_conv<double, double>(shape, block, descending, inputs, outputs);
    case 'f':
      return run_conv<float, float>(shape, block, descending, inputs, outputs);
    case 'b':
      return run_conv<float, torch::headeronly::BFloat16>(shape, block, descending, inputs, outputs);
    case 'h':
      return run_conv<float, torch::headeronly::Half>(shape, block, descending, inputs, outputs);
  }
}

// sizes: H, N/2, M. inputs: dt, poles, residues, numerator, beta, factor, grad or null (forward). outputs: the
// spectrum, or the gradients of dt, poles, residues.
extern "C" void ssm_spectrum(const int64_t* sizes, char type, bool descending, const void* const* inputs,
                             void* const* outputs) {
  using namespace vis4mer::cuda;
  return type == 'd' ? run_spectrum<double>(sizes, descending, inputs, outputs)
                     : run_spectrum<float>(sizes, descending, inputs, outputs);
}
