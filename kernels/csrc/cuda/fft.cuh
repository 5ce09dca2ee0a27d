// Negacyclic transforms of blocks of 2N real samples, eight channels side by side in a thread block.
//
// Products of real polynomials modulo x^(2N) + 1 are products of complex ones modulo x^N - i: samples j and j + N
// become the real and imaginary part of one. With the twist w^j, w = exp(i pi / (2N)), they are cyclic, so a
// complex transform of length N diagonalises them; ../cpu/fft.h derives it. Spectra are only multiplied with each
// other, so the order in which the transform leaves its values does not matter and no pass restores the natural one.
//
// A thread holds kRadix values of one channel in registers and transforms them there. Between passes, the threads of a
// channel exchange values through shared memory (N = 256: 16 x 16; N = 1024: 16 x 16 x 4). Radix 16 keeps the
// exchanges, each with a barrier, to one or two, where radix 4 would take three or four; the values of radix 32 alone
// would fill 64 registers of a thread.
//
// Channels are the fastest index of threads: neighbouring threads touch neighbouring channels of [B, L, H], so global
// accesses fill whole sectors, and the same holds in shared memory.
#pragma once

#include "complex.cuh"

namespace vis4mer::cuda {

constexpr int kChannels = 8;  // channels of a tile: one 32-byte sector of float32, half a sector of bfloat16
constexpr int kRadix = 16;

// cos(pi k / 32) for k >= 0. In an unrolled loop k is a constant and so is the result: no table is read at run time.
__host__ __device__ constexpr double cosine(int k) {
  constexpr double quarter[] = {1.0,
                                0.9951847266721969,
                                0.9807852804032304,
                                0.9569403357322088,
                                0.9238795325112867,
                                0.8819212643483550,
                                0.8314696123025452,
                                0.7730104533627370,
                                0.7071067811865476,
                                0.6343932841636455,
                                0.5555702330196022,
                                0.4713967368259976,
                                0.3826834323650898,
                                0.2902846772544624,
                                0.1950903220161283,
                                0.0980171403295606,
                                0.0};
  // As a function of k the cosine has period 64, is even, and is antisymmetric about 16.
  const int folded = k % 64 > 32 ? 64 - k % 64 : k % 64;
  return folded > 16 ? -quarter[32 - folded] : quarter[folded];
}

// a exp(Sign i pi k / 32)
template <int Sign, class T>
__device__ __forceinline__ Complex<T> rotate(const Complex<T>& a, int k) {
  if (k == 16) {
    return {-Sign * a.im, Sign * a.re};
  }
  // sin(x) = cos(x - pi / 2) = cos(x + 3 pi / 2), which is 48 steps.
  const T c = static_cast<T>(cosine(k)), s = static_cast<T>(Sign * cosine(k + 48));
  return {a.re * c - a.im * s, a.im * c + a.re * s};
}

// The transform of four values in place: no multiplications, since the fourth roots of unity are 1, i, -1 and -i.
template <int Sign, class T>
__device__ __forceinline__ void dft4(Complex<T>& a, Complex<T>& b, Complex<T>& c, Complex<T>& d) {
  const Complex<T> even = a + c, odd = a - c, sum = b + d, turned = times_i(Sign > 0 ? b - d : d - b);
  a = even + sum;
  b = odd + turned;
  c = even - sum;
  d = odd - turned;
}

// v[r] = sum_k v[k] exp(Sign 2 pi i k r / 16), as 4 x 4: transforms down the columns k = j + 4 m, twiddle factors
// exp(Sign 2 pi i j m / 16), transforms along the rows. All loops are unrolled, so that v stays in registers: an array
// with an index known only at run time would lie in local memory.
template <int Sign, class T>
__device__ __forceinline__ void dft16(Complex<T> (&v)[kRadix]) {
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    dft4<Sign>(v[j], v[j + 4], v[j + 8], v[j + 12]);
  }
#pragma unroll
  for (int m = 1; m < 4; ++m) {
#pragma unroll
    for (int j = 1; j < 4; ++j) {
      v[j + 4 * m] = rotate<Sign>(v[j + 4 * m], 4 * j * m);
    }
  }
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    dft4<Sign>(v[4 * m], v[4 * m + 1], v[4 * m + 2], v[4 * m + 3]);
  }
#pragma unroll
  for (int m = 1; m < 4; ++m) {  // v[4 m + n] holds value m + 4 n: a transposition, which costs no instruction
#pragma unroll
    for (int n = 0; n < m; ++n) {
      const Complex<T> held = v[4 * m + n];
      v[4 * m + n] = v[m + 4 * n];
      v[m + 4 * n] = held;
    }
  }
}

// The transform of one channel by N / kRadix threads, and the place of each value between passes.
template <class T, int N>
struct BlockTransform {
  static constexpr int kThreads = N / kRadix;      // threads per channel
  static constexpr int kGroups = N / kRadix;       // groups of kRadix neighbouring positions
  static constexpr int kLast = kThreads / kRadix;  // radix of the third pass; 1 if there is none
  static_assert(kLast == 1 || kLast == 4);
  static constexpr int kTwiddles = N + kRadix * kLast;
  // A group takes seventeen positions, of which one stays empty. In the last pass neighbouring threads access
  // neighbouring groups: at a distance of 16 positions (1,024 bytes in float32) they would all hit the same banks, at
  // 17 they alternate between the two halves of the 32 banks.
  static constexpr int kSharedBytes = kGroups * (kRadix + 1) * kChannels * sizeof(Complex<T>);

  const Complex<T>* twiddles;  // [kTwiddles] of `fill_twiddles`
  Complex<T>* shared;
  int thread;  // s, among those of its channel
  int channel;

  // Transforms v[k] = sample s + k N / 16 to values in the transform's own order.
  //
  // The twist w^(s + k N / 16) has two factors: w^(k N / 16) = exp(i pi k / 32) is a constant of the unrolled loop, and
  // w^s joins the twiddle factors after the first pass, to which it is a common factor of all sixteen inputs.
  __device__ __forceinline__ void forward(Complex<T> (&v)[kRadix]) const {
#pragma unroll
    for (int k = 1; k < kRadix; ++k) {
      v[k] = rotate<1>(v[k], k);
    }
    dft16<-1>(v);
#pragma unroll
    for (int r = 0; r < kRadix; ++r) {
      at_first(r) = v[r] * twiddles[r * kThreads + thread];
    }
    __syncthreads();  // the next pass reads values that other threads wrote
    if constexpr (kLast > 1) {
      // A thread writes its results to the places that it alone has read, so no barrier separates reading and writing.
#pragma unroll
      for (int k = 0; k < kRadix; ++k) {
        v[k] = at_second(k);
      }
      dft16<-1>(v);
#pragma unroll
      for (int r = 0; r < kRadix; ++r) {
        at_second(r) = v[r] * twiddles[N + r * kLast + thread % kLast];
      }
      __syncthreads();
    }
#pragma unroll
    for (int k = 0; k < kRadix; ++k) {
      v[k] = at_last(k);
    }
    last_pass<-1>(v);
  }

  // The inverse of `forward`, times N: the same passes in reverse order, with conjugate factors. Neither direction ends
  // with a barrier, so a thread block must not use `shared` again without one.
  __device__ __forceinline__ void inverse(Complex<T> (&v)[kRadix]) const {
    last_pass<1>(v);
#pragma unroll
    for (int k = 0; k < kRadix; ++k) {
      at_last(k) = v[k];
    }
    __syncthreads();
    if constexpr (kLast > 1) {
#pragma unroll
      for (int r = 0; r < kRadix; ++r) {
        v[r] = at_second(r) * conj(twiddles[N + r * kLast + thread % kLast]);
      }
      dft16<1>(v);
#pragma unroll
      for (int k = 0; k < kRadix; ++k) {
        at_second(k) = v[k];
      }
      __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < kRadix; ++r) {
      v[r] = at_first(r) * conj(twiddles[r * kThreads + thread]);
    }
    dft16<1>(v);
#pragma unroll
    for (int k = 1; k < kRadix; ++k) {
      v[k] = rotate<-1>(v[k], k);
    }
  }

 private:
  // Within sixteen neighbouring positions, which one thread holds: one transform of sixteen, or four of four.
  template <int Sign>
  static __device__ __forceinline__ void last_pass(Complex<T> (&v)[kRadix]) {
    if constexpr (kLast == 1) {
      dft16<Sign>(v);
    } else {
#pragma unroll
      for (int k = 0; k < kRadix; k += 4) {
        dft4<Sign>(v[k], v[k + 1], v[k + 2], v[k + 3]);
      }
    }
  }

  __device__ __forceinline__ Complex<T>& place(int group, int position) const {
    return shared[(group * (kRadix + 1) + position) * kChannels + channel];
  }
  // The thread's sixteen positions in each pass. First: r N/16 + s, with distance N/16. Second, within one of those
  // sixteen parts of N/16 positions: with distance N/256. Last: neighbours.
  __device__ __forceinline__ Complex<T>& at_first(int r) const {
    return place(r * kLast + thread / kRadix, thread % kRadix);
  }
  __device__ __forceinline__ Complex<T>& at_second(int k) const {
    return place(thread / kLast * kLast + k * kLast / kRadix, thread % kLast + k * kLast % kRadix);
  }
  __device__ __forceinline__ Complex<T>& at_last(int k) const { return place(thread, k); }
};

// Fills [kTwiddles] with the factors of the first pass, the twist w^s included: exp(i pi s (1 - 4 r) / (2N)) for [16,
// N/16] values (r, s); then with those of the second pass, exp(-2 pi i s r 16 / N) for [16, kLast]. Computed in double
// precision for either type. They cost one small launch per call; a cache would have to be kept per device and stream.
template <class T, int N>
__global__ void fill_twiddles(Complex<T>* twiddles) {
  using Transform = BlockTransform<T, N>;
  const int index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (index >= Transform::kTwiddles) {
    return;
  }
  const bool first = index < N;
  const int threads = first ? Transform::kThreads : Transform::kLast;
  const int r = (first ? index : index - N) / threads, s = index % threads;
  const double turn = first ? s * (1.0 - 4.0 * r) / (2 * N) : -2.0 * s * r / Transform::kThreads;
  double sine, cosine;
  sincospi(turn, &sine, &cosine);
  twiddles[index] = {static_cast<T>(cosine), static_cast<T>(sine)};
}

}  // namespace vis4mer::cuda
