// Checks of the ops' arguments, and the sizes that follow from them; the same on every device.
#pragma once

#include <cstdint>
#include <initializer_list>

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

namespace vis4mer {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// The ops index raw pointers, so a tensor of another shape or layout would be read out of bounds.
inline void require_shape(const Tensor& tensor, const char* name, std::initializer_list<int64_t> shape) {
  bool equal = tensor.dim() == static_cast<int64_t>(shape.size());
  int64_t axis = 0;
  for (int64_t size : shape) {
    equal = equal && tensor.size(axis++) == size;
  }
  STD_TORCH_CHECK(equal, name, " has a wrong shape");
  STD_TORCH_CHECK(tensor.is_contiguous(), name, " must be contiguous");
}

// Sizes of ssm_spectrum: dt [H], poles [H, N/2, 2], residues [4, H, N/2, 2], numerator [M, 2], beta [M], factor [M, 2].
struct SpectrumSizes {
  int64_t channels;     // H
  int64_t pairs;        // N/2, conjugate pairs of poles
  int64_t frequencies;  // M

  SpectrumSizes(const Tensor& dt, const Tensor& poles, const Tensor& residues, const Tensor& numerator,
                const Tensor& beta, const Tensor& factor)
      : channels(dt.size(0)), pairs(poles.size(1)), frequencies(beta.size(0)) {
    require_shape(dt, "dt", {channels});
    require_shape(poles, "poles", {channels, pairs, 2});
    require_shape(residues, "residues", {4, channels, pairs, 2});
    require_shape(numerator, "numerator", {frequencies, 2});
    require_shape(beta, "beta", {frequencies});
    require_shape(factor, "factor", {frequencies, 2});
    const ScalarType type = dt.scalar_type();
    STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, "dt must be float32 or float64");
    for (const Tensor* tensor : {&poles, &residues, &numerator, &beta, &factor}) {
      STD_TORCH_CHECK(tensor->scalar_type() == type, "all inputs of ssm_spectrum must have one dtype");
    }
  }
};

// Sizes of long_conv: u [B, L, H] of any floating type, kernel [H, K] and D [H] of the type that sums are computed in.
struct ConvSizes {
  int64_t batch;     // B
  int64_t length;    // L
  int64_t channels;  // H
  int64_t taps;      // K <= L

  ConvSizes(const Tensor& u, const Tensor& kernel, const Tensor& D)
      : batch(u.size(0)), length(u.size(1)), channels(u.size(2)), taps(kernel.size(1)) {
    require_shape(u, "u", {batch, length, channels});
    require_shape(kernel, "kernel", {channels, taps});
    require_shape(D, "D", {channels});
    STD_TORCH_CHECK(taps <= length, "kernel must have at most as many taps as u is long");
    const ScalarType accumulated = u.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
    STD_TORCH_CHECK(kernel.scalar_type() == accumulated && D.scalar_type() == accumulated,
                    "kernel and D must be float32, or float64 where u is");
  }
};

}  // namespace vis4mer
