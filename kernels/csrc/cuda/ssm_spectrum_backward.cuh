// The gradients of ssm_spectrum. Each thread block evaluates a span of nodes again, writes the gradients of their eight
// sums, over a_jn / q_n and over b_jn / q_n, to shared memory, and gathers from there what each pole gets; sums over
// spans follow in a launch of their own, so that no sum depends on what ran first.
#pragma once

#include "ssm_spectrum.cuh"

namespace vis4mer::cuda {

constexpr int kPoleThreads = 32;            // poles whose gradients are gathered at once, one a lane
constexpr int kPoleValues = 2 + 2 * kSums;  // gradients by q, that is by Re p and Im p, by a_j and by b_j

// A node and the gradients of its sums over a_jn / q_n and over b_jn / q_n.
template <class T>
struct alignas(16) Upstream {
  Complex<T> by_z[kSums], by_beta[kSums];
  Complex<T> z;
  T beta;
};

// From the gradient of G to those of the sums at `upstream`'s z and beta; returns that of dt where it stands by itself.
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
  // d(dt bracket)/d(dt) = bracket - s S_1 S_2 / (1 + s S_3)^2
  const Complex<T> by_step = woodbury.value - woodbury.s * (woodbury.product * woodbury.correction);
  return by_step.re * outer.re + by_step.im * outer.im;
}

// What one node contributes to the gradients of one conjugate pair; the pole's lack factors that `unfold` knows.
template <class T>
__device__ __forceinline__ void through_pair(const Upstream<T>& node, const FoldedPole<T>& pair,
                                             T (&grad)[kPoleValues]) {
  const Distances<T> d(node.z, node.beta, pair.pole);
  const Complex<T> r = d.product_reciprocal();
  Complex<T> by_r = {};
#pragma unroll
  for (int j = 0; j < kSums; ++j) {
    const Complex<T> gz = node.by_z[j], gb = node.by_beta[j];
    // One product a statement: each is a fused multiply-add.
    grad[2 + j] += gz.re * r.re;
    grad[2 + j] += gz.im * r.im;
    grad[2 + kSums + j] += gb.re * r.re;
    grad[2 + kSums + j] += gb.im * r.im;
    by_r.re += pair.a[j] * gz.re;
    by_r.im += pair.a[j] * gz.im;
    by_r.re += pair.b[j] * gb.re;
    by_r.im += pair.b[j] * gb.im;
  }
  // -dq/d(Re p) = 2 beta (z - beta Re p), -dq/d(Im p) = -2 beta^2 Im p
  const Complex<T> by_q = node.beta * (conj(r * r) * by_r);
  grad[0] += d.re * by_q.re + node.z.im * by_q.im;
  grad[1] += node.beta * by_q.re;
}

// Grid: `spans` spans of `span_nodes` nodes by H channels. partial [spans, H, 1 + N/2 kPoleValues] gets dt's gradient
// and the values of the poles, from the span's nodes alone. Warps take nodes in turn, lanes have one pole each.
template <class T>
__global__ void __launch_bounds__(kNodeThreads, sizeof(T) == sizeof(float) ? 3 : 1)
    spectrum_backward(Spectrum<T> spectrum, const Complex<T>* grad, int64_t spans, int64_t span_nodes, T* partial) {
  constexpr int kWarps = kNodeThreads / kPoleThreads;
  auto* upstream = reinterpret_cast<Upstream<T>*>(shared_memory);         // [kNodeThreads]
  auto* gathered = reinterpret_cast<T*>(upstream + kNodeThreads);         // [kNodeThreads, kPoleValues]
  auto* folded = reinterpret_cast<FoldedPole<T>*>(gathered + kNodeThreads * kPoleValues);  // [N/2]
  const int64_t h = blockIdx.x / spans, first = blockIdx.x % spans * span_nodes;
  const int64_t last = first + span_nodes < spectrum.nodes ? first + span_nodes : spectrum.nodes;
  const int lane = threadIdx.x % kPoleThreads, warp = threadIdx.x / kPoleThreads;
  T* const result = partial + (blockIdx.x % spans * spectrum.channels + h) * (1 + spectrum.pairs * kPoleValues);
  const T dt = spectrum.dt[h];
  fold_poles(spectrum, h, folded);
  // One round serves N <= 64; more poles evaluate the nodes again.
  for (int64_t pole_start = 0; pole_start < spectrum.pairs; pole_start += kPoleThreads) {
    const int64_t n = pole_start + lane;
    const bool active = n < spectrum.pairs;
    const FoldedPole<T> pair = active ? folded[n] : FoldedPole<T>{};
    T step = 0, sums_of_pole[kPoleValues] = {};
    for (int64_t start = first; start < last; start += kNodeThreads) {
      const int64_t l = start + threadIdx.x;
      if (l < last) {
        Complex<T> sums[kSums];
        Upstream<T>& node = upstream[threadIdx.x];
        node.z = spectrum.numerator[l];
        node.beta = spectrum.beta[l];
        evaluate_sums(folded, spectrum.pairs, node.z, node.beta, sums);
        step += through_woodbury(dt, node.beta, spectrum.factor[l], grad[h * spectrum.nodes + l], sums, node);
      }
      __syncthreads();
      const int count = static_cast<int>(last - start < kNodeThreads ? last - start : kNodeThreads);
      for (int i = warp; active && i < count; i += kWarps) {
        through_pair(upstream[i], pair, sums_of_pole);
      }
      __syncthreads();
    }
#pragma unroll
    for (int k = 0; k < kPoleValues; ++k) {
      gathered[k * kNodeThreads + threadIdx.x] = sums_of_pole[k];
    }
    __syncthreads();
    for (int index = threadIdx.x; index < kPoleThreads * kPoleValues; index += kNodeThreads) {
      const int k = index / kPoleThreads, of = index % kPoleThreads;
      T total = 0;
      for (int w = 0; w < kWarps; ++w) {
        total += gathered[k * kNodeThreads + w * kPoleThreads + of];
      }
      if (pole_start + of < spectrum.pairs) {
        result[1 + (pole_start + of) * kPoleValues + k] = total;
      }
    }
    __syncthreads();
    gathered[threadIdx.x] = step;
    __syncthreads();
    for (unsigned half = kNodeThreads / 2; half > 0; half /= 2) {
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

// The adjoint of `fold_poles` for one pole.
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

// Adds the spans' gradients in their order, whatever ran first. A thread has one channel's dt or one pole.
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
