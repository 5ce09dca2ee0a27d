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
#include "samples.cuh"

namespace vis4mer::cuda {

struct ConvShape {
  int64_t batch;     // B
  int64_t length;    // L
  int64_t channels;  // H
  int64_t taps;      // K <= L
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

}  // namespace vis4mer::cuda
