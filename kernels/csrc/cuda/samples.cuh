// Sources and sinks of the transforms' samples: signals [B, L, H] with channels innermost, or a filter's taps [H, K].
#pragma once

#include <cstdint>

#include "fft.cuh"

namespace vis4mer::cuda {

// One channel of one sequence, of which a thread takes every Step-th sample. Beyond its ends it reads zero and writes
// nothing. A channel that does not exist has length zero, so its threads still reach every barrier.
template <class T, class Storage>
struct SignalColumn {
  Storage* data;
  int length, stride;

  template <int Step>
  __device__ __forceinline__ void load(T (&values)[kRadix], int t) const {
    // A running pointer takes one addition per sample instead of a 64-bit multiplication. The unsigned comparison
    // checks both ends at once: the predecessor of the first block has negative t.
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

  __device__ __forceinline__ SignalColumn<T, Storage> column(int64_t b, int64_t h) const {
    return {data + b * length * channels + h, h < channels ? static_cast<int>(length) : 0, static_cast<int>(channels)};
  }
};

// The taps of one channel, the first one with D added. A thread's accesses are contiguous per channel only, unlike a
// signal's; the filter is read once per call.
template <class T, class Value>
struct TapsColumn {
  Value* kernel;
  Value* D;
  int taps;
  bool exists;  // whether there is such a channel: with K = 0 taps, D remains

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

// kernel [H, K] and D [H] as one filter. As the sink of its gradient, D receives that of the first tap, even with K =
// 0.
template <class T, class Value>
struct Taps {
  Value* kernel;
  Value* D;
  int64_t taps, channels;

  __device__ __forceinline__ TapsColumn<T, Value> column(int64_t, int64_t h) const {
    return {kernel + h * taps, D + h, h < channels ? static_cast<int>(taps) : 0, h < channels};
  }
};

}  // namespace vis4mer::cuda
