// Causal convolution with a skip, y[t] = sum_s kernel[s] u[t - s] + D u[t], for [B, L, H] with H innermost.
//
// The sequence is cut into P blocks of N samples (partitioned convolution, overlap-save). With one block of N taps, an
// output block needs the block of samples at the same place and its predecessor. In the algebra of fft.cuh, x^N = i, so
// a predecessor at x^-N is a predecessor times -i: X_i is the transform of u_i - i u_(i-1), and block i of the output
// is the real part of the inverse of Z_i = sum_j K_j X_(i-j). The wrapped part lands in the imaginary part. Thus every
// output block is one thread block's own, with nothing to add from a neighbour; the CPU, which computes blocks in
// order, carries an overlap instead (../cpu/long_conv.cpp).
//
// The adjoint. Each block i of the input enters X_i, and X_(i+1) times -i. With g_i the blocks of the upstream
// gradient, let dZ_i be the transform of g_i + i g_(i+1). Then
//
//   du_m = Re inverse(sum_j conj(K_j) dZ_(m+j)),    dkernel_j = Re inverse(sum_b sum_m conj(U_m) dZ_(m+j)),
//
// where U_m is the transform of u_m alone. The skip D joins the first tap, in both passes.
//
// Spectra are [B, P, tiles, 16, N / 16, kChannels]: each of a thread's sixteen values at the same place in sixteen
// rows, so a thread block writes whole rows. Spectra are only multiplied with each other, so the order within a block
// is free.
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

// The channels that a launch covers, as tiles of kChannels, and the blocks of each sequence.
struct Span {
  int first_tile, tiles, blocks;
};

// The position of a thread in a launch over (batch, blocks, tiles). Tiles are fastest: neighbouring thread blocks,
// which run at the same time, read neighbouring channels of the same rows.
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

// Computes spectra of the blocks of a source, each with a companion: the transform of u_i + sqrt(-1) Companion times
// u_(i + Companion). Companion is -1 for the signal, 1 for its upstream gradient, 0 for none.
template <class T, int N, int Companion, class Source>
__global__ void __launch_bounds__(N / kRadix * kChannels)
    transform_blocks(Source source, Span span, const Complex<T>* twiddles, Complex<T>* spectra) {
  using Transform = BlockTransform<T, N>;
  const Place place(span);
  const Transform transform{twiddles, reinterpret_cast<Complex<T>*>(shared_memory), place.thread, place.channel};
  const auto column = source.column(place.b, place.h);
  const int t = place.block * N + place.thread;
  T samples[kRadix], companions[kRadix] = {};
  // All loads are issued before the first use, so that their latencies overlap.
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

// Inverts spectra and stores the real parts.
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
