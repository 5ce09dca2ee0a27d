// The op long_conv on CUDA devices: checks, workspace, and the choice of types and of the block size.

#include <tuple>

#include <torch/csrc/stable/library.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "../shapes.h"
#include "launch.cuh"
#include "long_conv_launch.cuh"

namespace vis4mer::cuda {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

ConvShape shape_of(const ConvSizes& sizes) { return {sizes.batch, sizes.length, sizes.channels, sizes.taps}; }

// Kernels index a sequence, and a filter's block of spectra, in 32 bits, which saves registers; the batch in 64 bits.
void require_indexable(const ConvSizes& sizes) {
  constexpr int64_t most = int64_t{1} << 20;
  STD_TORCH_CHECK(sizes.length <= most * 1024, "u must have at most 2^30 samples");
  STD_TORCH_CHECK(sizes.channels <= most, "u must have at most 2^20 channels");
}

bool empty(const ConvSizes& sizes) { return sizes.batch == 0 || sizes.length == 0 || sizes.channels == 0; }

// Scratch memory from PyTorch's allocator: freed on return, and reused only by later work on the same stream.
template <class T>
Tensor workspace(const Tensor& like, int64_t values) {
  const int64_t bytes = values * static_cast<int64_t>(sizeof(Complex<T>));
  return torch::stable::new_empty(like, {bytes}, ScalarType::Byte);
}

// Up to this length blocks of 256 are faster: less padding in the last block. Beyond it blocks of 1,024: the products
// grow with the square of the number of blocks.
constexpr int64_t kLongestOfShortBlocks = 2048;

// Calls `run.operator()<T, N, Storage>()` with the type of the sums, the block size for u's length and u's own type.
// Double precision has one block size only: it serves checks, not speed.
template <class Run>
void dispatch(const Tensor& u, int64_t length, const Run& run) {
  const bool short_blocks = length <= kLongestOfShortBlocks;
  switch (u.scalar_type()) {
    case ScalarType::Float:
      return short_blocks ? run.template operator()<float, 256, float>()
                          : run.template operator()<float, 1024, float>();
    case ScalarType::BFloat16:
      return short_blocks ? run.template operator()<float, 256, BFloat16>()
                          : run.template operator()<float, 1024, BFloat16>();
    case ScalarType::Half:
      return short_blocks ? run.template operator()<float, 256, Half>()
                          : run.template operator()<float, 1024, Half>();
    case ScalarType::Double:
      return run.template operator()<double, 256, double>();
    default:
      STD_TORCH_CHECK(false, "u must be float32, float64, bfloat16 or float16");
  }
}

Tensor long_conv(const Tensor& u, const Tensor& kernel, const Tensor& D) {
  const ConvSizes sizes(u, kernel, D);
  require_device(u, {&kernel, &D});
  require_indexable(sizes);
  Tensor y = torch::stable::empty_like(u);
  if (empty(sizes)) {
    return y;
  }
  const Launch launch(u);
  dispatch(u, sizes.length, [&]<class T, int N, class Storage>() {
    const LongConv<T, N, Storage, Launch> conv(shape_of(sizes), launch);
    Tensor scratch = workspace<T>(u, conv.forward_workspace());
    conv.forward(data<Storage>(u), data<T>(kernel), data<T>(D), data<Storage>(y), data<Complex<T>>(scratch));
  });
  return y;
}

std::tuple<Tensor, Tensor, Tensor> long_conv_backward(const Tensor& grad, const Tensor& u, const Tensor& kernel,
                                                      const Tensor& D) {
  const ConvSizes sizes(u, kernel, D);
  require_shape(grad, "grad", {sizes.batch, sizes.length, sizes.channels});
  STD_TORCH_CHECK(grad.scalar_type() == u.scalar_type(), "grad must have u's dtype");
  require_device(u, {&grad, &kernel, &D});
  require_indexable(sizes);
  Tensor du = torch::stable::empty_like(u);
  Tensor dkernel = torch::stable::empty_like(kernel), dD = torch::stable::empty_like(D);
  // A launch of no blocks is an error in CUDA. Sums over nothing are zero.
  if (empty(sizes)) {
    torch::stable::zero_(dkernel);
    torch::stable::zero_(dD);
    return {du, dkernel, dD};
  }
  const Launch launch(u);
  dispatch(u, sizes.length, [&]<class T, int N, class Storage>() {
    const LongConv<T, N, Storage, Launch> conv(shape_of(sizes), launch);
    Tensor scratch = workspace<T>(u, conv.backward_workspace());
    conv.backward(data<Storage>(grad), data<Storage>(u), data<T>(kernel), data<T>(D), data<Storage>(du),
                  data<T>(dkernel), data<T>(dD), data<Complex<T>>(scratch));
  });
  return {du, dkernel, dD};
}

}  // namespace
}  // namespace vis4mer::cuda

STABLE_TORCH_LIBRARY_IMPL(vis4mer, CUDA, m) {
  m.impl("long_conv", TORCH_BOX(&vis4mer::cuda::long_conv));
  m.impl("long_conv_backward", TORCH_BOX(&vis4mer::cuda::long_conv_backward));
}
