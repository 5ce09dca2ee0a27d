// The gradients of ssm_spectrum. Each thread block evaluates a span of nodes again, writes the gradients of their four
// sums to shared memory, and gathers from there what each pole gets; sums over spans follow in a launch of their own,
// so that no sum depends on what ran first.
#pragma once

#include "ssm_spectrum.cuh"

namespace vis4mer::cuda {

constexpr int kPoleThreads = 32;            // poles whose gradients are gathered at once, one a lane
constexpr int kPoleValues = 2 + 2 * kSums;  // gradients of a pole: its own and its residues'

// A node and the gradients of its four sums.
template <class T>
struct alignas(16) Upstream {
  Complex<T> sums[kSums];
  Complex<T> z;
  T beta;
};

// From the gradient of G to those of the four sums; returns that of dt where it stands by itself.
template <class T>
__device__ __forceinline__ T through_woodbury(T dt, T beta, const Complex<T>& factor, const Complex<T>& grad,
                                              const Complex<T> (&sums)[kSums], Upstream<T>& upstream) {
  const Woodbury<T> woodbury(dt, beta, sums);
  const Complex<T> outer = conj(factor) * grad, bracket = dt * outer;
  const Complex<T> right = sums[2] * woodbury.correction;
  upstream.sums[0] = bracket;
  upstream.sums[1] = -woodbury.s * (conj(right) * bracket);
  upstream.sums[2] = -woodbury.s * (conj(woodbury.left) * bracket);
  upstream.sums[3] = woodbury.s * woodbury.s * (conj(woodbury.left * right) * bracket);
  // d(dt bracket)/d(dt) = bracket - s S_1 S_2 / (1 + s S_3)^2
  const Complex<T> by_step = woodbury.value - woodbury.s * (woodbury.product * woodbury.correction);
  return by_step.re * outer.re + by_step.im * outer.im;
}

// What one node contributes to the gradients of one conjugate pair: [pole, residues], real parts before imaginary ones.
template <class T>
__device__ __forceinline__ void through_pair(const Upstream<T>& node, const Complex<T>& pole,
                                             const Complex<T> (&residues)[kSums], T (&grad)[kPoleValues]) {
  const Distances<T> d(node.z, node.beta, pole);
  const Complex<T> r = d.product_reciprocal();
  const Complex<T> c = r * Complex<T>{d.re, d.conjugate_im};  // 1 / (z - beta p)
  const Complex<T> e = r * Complex<T>{d.re, d.im};            // 1 / (z - beta conj(p))
  const Complex<T> both = c + e, apart = c - e;
  Complex<T> direct = {}, mirrored = {};  // sum_j conj(v_j) g_j and sum_j v_j g_j
#pragma unroll
  for (int j = 0; j < kSums; ++j) {
    const Complex<T> g = node.sums[j];
    grad[2 + 2 * j] += both.re * g.re + both.im * g.im;
    grad[3 + 2 * j] += apart.re * g.im - apart.im * g.re;
    multiply_add(direct, conj(residues[j]), g);
    multiply_add(mirrored, residues[j], g);
  }
  // beta (conj(c)^2 direct + e^2 conj(mirrored))
  const Complex<T> by_pole = node.beta * (conj(c * c) * direct + e * e * conj(mirrored));
  grad[0] += by_pole.re;
  grad[1] += by_pole.im;
}

// Grid: `spans` spans of `span_nodes` nodes by H channels. partial [spans, H, 1 + N/2 kPoleValues] gets dt's gradient
// and those of the poles, from the span's nodes alone. Warps take nodes in turn, lanes have one pole each.
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
    Complex<T> pole = {}, residues[kSums] = {};
    if (active) {
      pole = folded[n].pole;
#pragma unroll
      for (int j = 0; j < kSums; ++j) {
        residues[j] = spectrum.residue(j, h, n);
      }
    }
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
        through_pair(upstream[i], pole, residues, sums_of_pole);
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

// Adds the spans' gradients in their order, whatever ran first.
template <class T>
__global__ void sum_partials(const T* partial, int64_t spans, int64_t channels, int64_t pairs, T* ddt,
                             Complex<T>* dpoles, Complex<T>* dresidues) {
  const int64_t values = 1 + pairs * kPoleValues;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= channels * values) {
    return;
  }
  T total = 0;
  for (int64_t span = 0; span < spans; ++span) {
    total += partial[span * channels * values + index];
  }
  const int64_t h = index / values, value = index % values - 1;
  if (value < 0) {
    ddt[h] = total;
    return;
  }
  const int64_t n = value / kPoleValues, k = value % kPoleValues;
  Complex<T>& place = k < 2 ? dpoles[h * pairs + n] : dresidues[((k / 2 - 1) * channels + h) * pairs + n];
  (k % 2 == 0 ? place.re : place.im) = total;
}

}  // namespace vis4mer::cuda
