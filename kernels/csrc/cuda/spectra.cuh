// Products of spectra along a sequence's blocks: convolution for the output, correlation for the gradients. P blocks
// need about P^2 / 2 products per value, each of two operands from memory, so this would be bound by memory. A thread
// has one value of each block, a column, and combines kRegisterBlocks = R blocks at a time in registers: 3 R - 1 loads
// serve R^2 products, which cuts the traffic by a factor of four.
#pragma once

#include <cstdint>

#include "complex.cuh"

namespace vis4mer::cuda {

constexpr int kRegisterBlocks = 6;  // R: 6 sums, 6 values and 11 values are 46 registers in float32
constexpr int kColumns = 32;        // side by side in a thread block: a warp reads 256 contiguous bytes in float32

// Blocks of spectra at a fixed distance, of which a thread sees one value each.
template <class Value>
struct Spectra {
  Value* data;
  int64_t batch_stride;  // in values
  int block_stride;

  __device__ __forceinline__ Spectra column(int64_t b, int64_t index) const {
    return {data + b * batch_stride + index, batch_stride, block_stride};
  }
  __device__ __forceinline__ Value& operator[](int block) const {
    return data[static_cast<int64_t>(block) * block_stride];
  }
};

// values[n] = column[first + n], zero outside of [0, blocks), which spares the products any case distinction
template <class T, int Count, class Value>
__device__ __forceinline__ void load_blocks(Complex<T> (&values)[Count], const Spectra<Value>& column, int first,
                                            int blocks) {
  const auto* from = &column[first];
#pragma unroll
  for (int n = 0; n < Count; ++n, from += column.block_stride) {
    values[n] = static_cast<unsigned>(first + n) < static_cast<unsigned>(blocks) ? *from : Complex<T>{};
  }
}

// sum_n += sum_j tap_(apart + n - j) signal_(m + j) for one square of R output blocks and R input blocks, `apart`
// blocks behind them. On the diagonal (Apart false) an output block sees no input block that follows it.
template <bool Apart, class T>
__device__ __forceinline__ void convolve_part(Complex<T> (&sum)[kRegisterBlocks],
                                              const Spectra<const Complex<T>>& taps, int apart,
                                              const Spectra<Complex<T>>& signal, int m, int blocks) {
  constexpr int R = kRegisterBlocks;
  Complex<T> x[R], k[2 * R - 1];
  load_blocks(x, signal, m, blocks);
  load_blocks(k, taps, apart - (R - 1), blocks);
#pragma unroll
  for (int n = 0; n < R; ++n) {
#pragma unroll
    for (int j = 0; j < R; ++j) {
      if (Apart || j <= n) {
        multiply_add(sum[n], k[n - j + R - 1], x[j]);
      }
    }
  }
}

// signal_i <- sum_j kernel_j signal_(i-j), in place. Blocks are computed from the last to the first, since later ones
// need the earlier ones' old values; within a group of R all operands are in registers before the first is overwritten.
// Columns are independent, so no barrier is needed.
template <class T>
__global__ void convolve_spectra(Spectra<const Complex<T>> kernel, Spectra<Complex<T>> signal, int columns,
                                 int blocks, int batch) {
  constexpr int R = kRegisterBlocks;
  const int groups = columns / kColumns;
  const int index = blockIdx.x % groups * kColumns + threadIdx.x;
  const int b = blockIdx.x / groups * blockDim.y + threadIdx.y;
  if (b >= batch) {
    return;
  }
  const auto taps = kernel.column(0, index);
  const auto values = signal.column(b, index);
  for (int i = (blocks - 1) / R * R; i >= 0; i -= R) {
    Complex<T> sum[R] = {};
    for (int m = 0; m < i; m += R) {
      convolve_part<true>(sum, taps, i - m, values, m, blocks);
    }
    convolve_part<false>(sum, taps, 0, values, i, blocks);
#pragma unroll
    for (int n = 0; n < R; ++n) {
      if (i + n < blocks) {
        values[i + n] = sum[n];
      }
    }
  }
}

// result_m = sum_b sum_j conj(a_j) z_(m+j) over `terms` elements of the batch. One thread adds them in order: without
// atomic additions, the sum over the batch is the same in every run. `a` may have a batch stride of zero.
template <class T>
__global__ void correlate_spectra(Spectra<const Complex<T>> a, Spectra<const Complex<T>> z, Spectra<Complex<T>> result,
                                  int columns, int blocks, int batch, int terms) {
  constexpr int R = kRegisterBlocks;
  const int groups = columns / kColumns, parts = (blocks + R - 1) / R;
  const int index = blockIdx.x % groups * kColumns + threadIdx.x;
  const int row = blockIdx.x / groups * blockDim.y + threadIdx.y;
  const int b = row / parts, m = row % parts * R;
  if (b >= batch) {
    return;
  }
  Complex<T> sum[R] = {};
  for (int term = b * terms; term < (b + 1) * terms; ++term) {
    const auto first = a.column(term, index);
    const auto second = z.column(term, index);
    for (int j = 0; m + j < blocks; j += R) {
      Complex<T> x[R], y[2 * R - 1];
      load_blocks(x, first, j, blocks);
      load_blocks(y, second, m + j, blocks);
#pragma unroll
      for (int n = 0; n < R; ++n) {
#pragma unroll
        for (int k = 0; k < R; ++k) {
          multiply_add(sum[n], conj(x[k]), y[n + k]);
        }
      }
    }
  }
  const auto values = result.column(b, index);
#pragma unroll
  for (int n = 0; n < R; ++n) {
    if (m + n < blocks) {
      values[m + n] = sum[n];
    }
  }
}

}  // namespace vis4mer::cuda
