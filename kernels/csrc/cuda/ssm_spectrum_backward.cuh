// The gradients of ssm_spectrum. A pole's gradient is a sum over all frequencies, while the gradients w.r.t. the four
// sums S_j at a frequency need all poles, so a thread block switches layouts. With a thread per frequency it evaluates
// the sums again and writes the gradients w.r.t. sum_n a_jn / q_n and sum_n b_jn / q_n to shared memory; then, with a
// lane per pole, it adds up what each pole receives from these frequencies. Reciprocals are computed in both layouts:
// storing them would take M N / 2 values per channel.
//
// Sums over warps, threads and spans are added in a fixed order, over spans by a launch of their own. Atomic additions
// would be simpler, but their order, and with it the rounding, would change from run to run.
#pragma once

#include "ssm_spectrum.cuh"

namespace vis4mer::cuda {

constexpr int kPoleThreads = 32;            // poles whose gradients are summed at once, one per lane
constexpr int kPoleValues = 2 + 2 * kSums;  // gradients w.r.t. Re p and Im p through q, a_j and b_j

// A frequency, and the gradients w.r.t. its sums over a_jn / q_n and over b_jn / q_n.
template <class T>
struct alignas(16) Upstream {
  Complex<T> by_z[kSums], by_beta[kSums];
  Complex<T> z;
  T beta;
};

// Computes the gradients w.r.t. the sums at `upstream`'s z and beta from the gradient w.r.t. G. Returns the gradient
// w.r.t. dt where it is explicit in G; the caller adds the part of the poles, which depend on dt too. With
// t = 1 / (1 + s S_3):
//
//   dG/dS_0 = factor dt,  dG/dS_1 = -factor dt s S_2 t,  dG/dS_2 = -factor dt s S_1 t,
//   dG/dS_3 = factor dt s^2 S_1 S_2 t^2.
//
// As in PyTorch's autograd, the gradient w.r.t. x is conj(df/dx) times the gradient w.r.t. f(x).
template <class T>
__device__ __forceinline__ T through_woodbury(T dt, T beta, const Complex<T>& factor, const Complex<T>& grad,
                                              const Complex<T> (&sums)[kSums], Upstream<T>& upstream) {
  const Woodbury<T> woodbury(dt, beta, sums);
  const Complex<T> outer = conj(factor) * grad, bracket = dt * outer;
  const Complex<T> right = sums[2] * woodbury.correction;
  const Complex<T> by_sum[kSums] = {bracket, -woodbury.s * (conj(right) * bracket),
                                    -woodbury.s * (conj(woodbury.left) * bracket),
                                    woodbury.s * woodbury.s * (conj(woodbury.left * right) * bracket)};
#pragma unroll
  for (int j = 0; j < kSums; ++j) {
    upstream.by_z[j] = conj(upstream.z) * by_sum[j];
    upstream.by_beta[j] = -upstream.beta * by_sum[j];
  }
  // d(s t)/ds = t^2, so d(dt (S_0 - s S_1 S_2 t))/d(dt) = (S_0 - s S_1 S_2 t) - s S_1 S_2 t^2.
  const Complex<T> by_step = woodbury.value - woodbury.s * (woodbury.product * woodbury.correction);
  return by_step.re * outer.re + by_step.im * outer.im;
}

// Adds one frequency's contribution to the gradients of one conjugate pair; `unfold` applies the constant factors of
// the pole's. With r = 1 / q the gradient w.r.t. r is sum_j a_j by_z_j + b_j by_beta_j, and dr/dq = -r^2.
template <class T>
__device__ __forceinline__ void through_pair(const Upstream<T>& point, const FoldedPole<T>& pair,
                                             T (&grad)[kPoleValues]) {
  const Distances<T> d(point.z, point.beta, pair.pole);
  const Complex<T> r = d.product_reciprocal();
  Complex<T> by_r = {};
#pragma unroll
  for (int j = 0; j < kSums; ++j) {
    const Complex<T> gz = point.by_z[j], gb = point.by_beta[j];
    // One product per statement: each becomes one fused multiply-add.
    grad[2 + j] += gz.re * r.re;
    grad[2 + j] += gz.im * r.im;
    grad[2 + kSums + j] += gb.re * r.re;
    grad[2 + kSums + j] += gb.im * r.im;
    by_r.re += pair.a[j] * gz.re;
    by_r.im += pair.a[j] * gz.im;
    by_r.re += pair.b[j] * gb.re;
    by_r.im += pair.b[j] * gb.im;
  }
  // -dq/d(Re p) = 2 beta (z - beta Re p) and -dq/d(Im p) = -2 beta^2 Im p. `unfold` applies 2 and -2 Im p.
  const Complex<T> by_q = point.beta * (conj(r * r) * by_r);
  grad[0] += d.re * by_q.re + point.z.im * by_q.im;
  grad[1] += point.beta * by_q.re;
}

// Grid: H channels by `spans` spans of `span_size` frequencies. Writes to partial [spans, H, 1 + N/2 kPoleValues] the
// gradient w.r.t. dt and the values of the poles, from the span's frequencies alone. The launch bound limits float32 to
// 80 registers per thread, so three thread blocks share a multiprocessor and hide each other's barriers; double
// precision serves checks only.
template <class T>
__global__ void __launch_bounds__(kFrequencyThreads, sizeof(T) == sizeof(float) ? 3 : 1)
    spectrum_backward(Spectrum<T> spectrum, const Complex<T>* grad, int64_t spans, int64_t span_size, T* partial) {
  constexpr int kWarps = kFrequencyThreads / kPoleThreads;
  auto* upstream = reinterpret_cast<Upstream<T>*>(shared_memory);       // [kFrequencyThreads]
  auto* gathered = reinterpret_cast<T*>(upstream + kFrequencyThreads);  // [kPoleValues, kFrequencyThreads]
  auto* folded = reinterpret_cast<FoldedPole<T>*>(gathered + kFrequencyThreads * kPoleValues);  // [N/2]
  const int64_t h = blockIdx.x / spans, first = blockIdx.x % spans * span_size;
  const int64_t last = first + span_size < spectrum.frequencies ? first + span_size : spectrum.frequencies;
  const int lane = threadIdx.x % kPoleThreads, warp = threadIdx.x / kPoleThreads;
  T* const result = partial + (blockIdx.x % spans * spectrum.channels + h) * (1 + spectrum.pairs * kPoleValues);
  const T dt = spectrum.dt[h];
  fold_poles(spectrum, h, folded);
  // One round serves N <= 64, which is the usual size; each further 32 pairs evaluate the frequencies again.
  for (int64_t pole_start = 0; pole_start < spectrum.pairs; pole_start += kPoleThreads) {
    const int64_t n = pole_start + lane;
    const bool active = n < spectrum.pairs;
    const FoldedPole<T> pair = active ? folded[n] : FoldedPole<T>{};
    T step = 0, sums_of_pole[kPoleValues] = {};
    for (int64_t start = first; start < last; start += kFrequencyThreads) {
      const int64_t l = start + threadIdx.x;
      if (l < last) {
        Complex<T> sums[kSums];
        Upstream<T>& point = upstream[threadIdx.x];
        point.z = spectrum.numerator[l];
        point.beta = spectrum.beta[l];
        evaluate_sums(folded, spectrum.pairs, point.z, point.beta, sums);
        step += through_woodbury(dt, point.beta, spectrum.factor[l], grad[h * spectrum.frequencies + l], sums, point);
      }
      __syncthreads();  // every frequency's gradients are written
      // Warps take frequencies in turn: all lanes of a warp read the same one, a broadcast from shared memory.
      const int count = static_cast<int>(last - start < kFrequencyThreads ? last - start : kFrequencyThreads);
      for (int i = warp; active && i < count; i += kWarps) {
        through_pair(upstream[i], pair, sums_of_pole);
      }
      __syncthreads();  // `upstream` is read; the next round may overwrite it
    }
    // Each pole's values are spread over kWarps threads, one per warp. They are added in the order of the warps.
#pragma unroll
    for (int k = 0; k < kPoleValues; ++k) {
      gathered[k * kFrequencyThreads + threadIdx.x] = sums_of_pole[k];
    }
    __syncthreads();
    for (int index = threadIdx.x; index < kPoleThreads * kPoleValues; index += kFrequencyThreads) {
      const int k = index / kPoleThreads, of = index % kPoleThreads;
      T total = 0;
      for (int w = 0; w < kWarps; ++w) {
        total += gathered[k * kFrequencyThreads + w * kPoleThreads + of];
      }
      if (pole_start + of < spectrum.pairs) {
        result[1 + (pole_start + of) * kPoleValues + k] = total;
      }
    }
    __syncthreads();  // `gathered` is read; now it holds every thread's share of dt's gradient
    gathered[threadIdx.x] = step;
    __syncthreads();
    // A binary tree: eight rounds for 256 threads, in a fixed order. Every round, with further poles, writes the same
    // sum.
    for (unsigned half = kFrequencyThreads / 2; half > 0; half /= 2) {
      if (threadIdx.x < half) {
        gathered[threadIdx.x] += gathered[threadIdx.x + half];
      }
      __syncthreads();
    }
    if (threadIdx.x == 0) {
      result[0] = gathered[0];
    }
  }
}

// The adjoint of `fold_poles` for one pole, plus its gradient through q: Re p and Im p enter b as well as q.
template <class T>
__device__ __forceinline__ void unfold(const Spectrum<T>& spectrum, int64_t h, int64_t n, const T (&grad)[kPoleValues],
                                       Complex<T>* dpoles, Complex<T>* dresidues) {
  const Complex<T> pole = spectrum.poles[h * spectrum.pairs + n];
  Complex<T> by_pole = {grad[0], -grad[1] * pole.im};
#pragma unroll
  for (int j = 0; j < kSums; ++j) {
    const Complex<T> v = spectrum.residue(j, h, n);
    const T by_a = grad[2 + j], by_b = grad[2 + kSums + j];
    by_pole = by_pole + by_b * v;
    dresidues[(j * spectrum.channels + h) * spectrum.pairs + n] = {2 * (by_a + pole.re * by_b), 2 * pole.im * by_b};
  }
  dpoles[h * spectrum.pairs + n] = T(2) * by_pole;
}

// Adds the spans' gradients in order. A thread has one channel's dt (n = -1) or one of its poles.
template <class T>
__global__ void sum_partials(Spectrum<T> spectrum, const T* partial, int64_t spans, T* ddt, Complex<T>* dpoles,
                             Complex<T>* dresidues) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t h = index / (1 + spectrum.pairs), n = index % (1 + spectrum.pairs) - 1;
  if (h >= spectrum.channels) {
    return;
  }
  const int64_t values = 1 + spectrum.pairs * kPoleValues;
  T total[kPoleValues] = {};
  for (int64_t span = 0; span < spans; ++span) {
    const T* const channel = partial + (span * spectrum.channels + h) * values;
    if (n < 0) {
      total[0] += channel[0];
      continue;
    }
#pragma unroll
    for (int k = 0; k < kPoleValues; ++k) {
      total[k] += channel[1 + n * kPoleValues + k];
    }
  }
  if (n < 0) {
    ddt[h] = total[0];
  } else {
    unfold(spectrum, h, n, total, dpoles, dresidues);
  }
}

}  // namespace vis4mer::cuda
