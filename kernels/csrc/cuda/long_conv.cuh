// Causal convolution with a skip, y[t] = sum_s kernel[s] u[t - s] + D u[t], for [B, L, H] with H innermost.
//
// The sequence is cut into P blocks of N samples. A block and its predecessor, times -i, form one negacyclic transform
// X_i, since x^-N = -i modulo x^N - i; then block i of the output is the real part of the inverse of
// Z_i = sum_j K_j X_(i-j) (overlap-save). The adjoint: dZ_i is the transform of block i of the upstream gradient plus i
// times its successor, du_m the real part of the inverse of sum_j conj(K_j) dZ_(m+j), and the kernel's gradient that of
// sum_m conj(X_m) dZ_(m+j), X_m without a predecessor, over the batch. The skip joins the first tap.
//
// Spectra are [B, P, tiles, 16, N / 16, kChannels]; nothing but products combines them, so the order within is free.
#pragma once

#include <cstdint>

#include "fft.cuh"

namespace vis4mer::cuda {

constexpr int kRegisterBlocks = 6;  // blocks of a spectrum that a thread combines in registers
constexpr int kColumns = 32;        // values of a spectrum side by side in a thread block

struct ConvShape {
  int64_t batch;     // B
  int64_t length;    // L
  int64_t channels;  // H
  int64_t taps;      // K <= L
};

// One channel of one sequence, of which a thread takes every Step-th sample; zero beyond its ends.
template <class T, class Storage>
struct SignalColumn {
  Storage* data;
  int length, stride;

  template <int Step>
  __device__ __forceinline__ void load(T (&values)[kRadix], int t) const {
    const Storage* from = data + static_cast<int64_t>(t) * stride;
#pragma unroll
    for (int k = 0; k < kRadix; ++k, t += Step, from += static_cast<int64_t>(Step) * stride) {
      values[k] = static_cast<unsigned>(t) < static_cast<unsigned>(length) ? static_cast<T>(*from) : T(0);
    }
  }
  template <int Step>
  __device__ __forceinline__ void store(const T (&values)[kRadix], int t) const {
    Storage* to = data + static_cast<int64_t>(t) * stride;
#pragma unroll
    for (int k = 0; k < kRadix; ++k, t += Step, to += static_cast<int64_t>(Step) * stride) {
      if (t < length) {
        *to = static_cast<Storage>(values[k]);
      }
    }
  }
};

// [B, L, H]
template <class T, class Storage>
struct Signal {
  Storage* data;
  int64_t length, channels;

  // Nothing, where there is no such channel.
  __device__ __forceinline__ SignalColumn<T, Storage> column(int64_t b, int64_t h) const {
    return {data + b * length * channels + h, h < channels ? static_cast<int>(length) : 0, static_cast<int>(channels)};
  }
};

template <class T, class Value>
struct TapsColumn {
  Value* kernel;
  Value* D;
  int taps;
  bool exists;

  template <int Step>
  __device__ __forceinline__ void load(T (&values)[kRadix], int t) const {
#pragma unroll
    for (int k = 0; k < kRadix; ++k, t += Step) {
      values[k] = (t < taps ? kernel[t] : T(0)) + (t == 0 && exists ? *D : T(0));
    }
  }
  template <int Step>
  __device__ __forceinline__ void store(const T (&values)[kRadix], int t) const {
#pragma unroll
    for (int k = 0; k < kRadix; ++k, t += Step) {
      if (t < taps) {
        kernel[t] = values[k];
      }
      if (t == 0 && exists) {
        *D = values[k];
      }
    }
  }
};

// kernel [H, K] and D [H] as one filter. Its gradient is stored in the same way: D's is that of the first tap.
template <class T, class Value>
struct Taps {
  Value* kernel;
  Value* D;
  int64_t taps, channels;

  __device__ __forceinline__ TapsColumn<T, Value> column(int64_t, int64_t h) const {
    return {kernel + h * taps, D + h, h < channels ? static_cast<int>(taps) : 0, h < channels};
  }
};

// Which channels a launch covers, in tiles, and the blocks of each sequence.
struct Span {
  int first_tile, tiles, blocks;
};

// Where a thread block of a launch over (batch, blocks, tiles) stands, and its thread in the tile.
struct Place {
  int64_t b, h;
  int block, thread, channel;

  __device__ __forceinline__ explicit Place(const Span& span)
      : b(blockIdx.x / span.tiles / span.blocks),
        h((span.first_tile + static_cast<int64_t>(blockIdx.x % span.tiles)) * kChannels + threadIdx.x % kChannels),
        block(static_cast<int>(blockIdx.x / span.tiles % span.blocks)),
        thread(static_cast<int>(threadIdx.x / kChannels)),
        channel(static_cast<int>(threadIdx.x % kChannels)) {}
};

extern __shared__ __align__(16) unsigned char shared_memory[];

// Spectra of blocks i, to whose samples i Companion times those of block i + Companion are added (0: none).
template <class T, int N, int Companion, class Source>
__global__ void __launch_bounds__(N / kRadix * kChannels)
    transform_blocks(Source source, Span span, const Complex<T>* twiddles, Complex<T>* spectra) {
  using Transform = BlockTransform<T, N>;
  const Place place(span);
  const Transform transform{twiddles, reinterpret_cast<Complex<T>*>(shared_memory), place.thread, place.channel};
  const auto column = source.column(place.b, place.h);
  const int t = place.block * N + place.thread;
  T samples[kRadix], companions[kRadix] = {};
  column.template load<Transform::kThreads>(samples, t);
  if constexpr (Companion != 0) {
    column.template load<Transform::kThreads>(companions, t + Companion * N);
  }
  Complex<T> v[kRadix];
#pragma unroll
  for (int k = 0; k < kRadix; ++k) {
    v[k] = {samples[k], Companion * companions[k]};
  }
  transform.forward(v);
#pragma unroll
  for (int k = 0; k < kRadix; ++k) {
    spectra[(static_cast<int64_t>(blockIdx.x) * kRadix + k) * blockDim.x + threadIdx.x] = v[k];
  }
}

// Real parts of what has these spectra.
template <class T, int N, class Sink>
__global__ void __launch_bounds__(N / kRadix * kChannels)
    invert_blocks(Sink sink, Span span, const Complex<T>* twiddles, const Complex<T>* spectra) {
  using Transform = BlockTransform<T, N>;
  const Place place(span);
  const Transform transform{twiddles, reinterpret_cast<Complex<T>*>(shared_memory), place.thread, place.channel};
  const auto column = sink.column(place.b, place.h);
  Complex<T> v[kRadix];
#pragma unroll
  for (int k = 0; k < kRadix; ++k) {
    v[k] = spectra[(static_cast<int64_t>(blockIdx.x) * kRadix + k) * blockDim.x + threadIdx.x];
  }
  transform.inverse(v);
  T samples[kRadix];
#pragma unroll
  for (int k = 0; k < kRadix; ++k) {
    samples[k] = v[k].re * (T(1) / N);
  }
  column.template store<Transform::kThreads>(samples, place.block * N + place.thread);
}

// Blocks of spectra one behind the other, of which a thread sees one value each.
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

// values[n] = column[first + n], zero outside of [0, blocks)
template <class T, int Count, class Value>
__device__ __forceinline__ void load_blocks(Complex<T> (&values)[Count], const Spectra<Value>& column, int first,
                                            int blocks) {
  const auto* from = &column[first];
#pragma unroll
  for (int n = 0; n < Count; ++n, from += column.block_stride) {
    values[n] = static_cast<unsigned>(first + n) < static_cast<unsigned>(blocks) ? *from : Complex<T>{};
  }
}

// sum_n += sum_j tap_(apart + n - j) signal_(m + j); blocks that are not apart do not see those that follow them.
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

// signal_i <- sum_j kernel_j signal_(i-j), in place: later blocks first, for they need the earlier ones.
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

// result_m = sum_b sum_j conj(a_j) z_(m+j), over `terms` elements of the batch, in order; their stride may be zero.
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
