// The generating function of an SSM convolution kernel at M frequencies:
//
//   G = factor dt (S_0 - s S_1 S_2 / (1 + s S_3)),  s = dt beta,
//   S_j = sum_n v_jn / (z - beta p_n) + conj(v_jn) / (z - beta conj(p_n)),  z the numerator.
//
// Both terms of a conjugate pair have the denominator q_n = (z - beta p_n)(z - beta conj(p_n)) once they are added, and
// so have all four sums: S_j = z sum_n a_jn / q_n - beta sum_n b_jn / q_n with real a = 2 Re v and b = 2 Re(v conj(p)).
// One reciprocal serves all, and the Cauchy matrix [H, M, N] is never stored.
//
// A thread block has one channel and a span of frequencies, one per thread. The channel's poles lie in shared memory:
// all threads read the same one at the same time, which is a broadcast.
//
// Reference: Gu, Goel & Re, S4 (ICLR 2022), algorithm 1 and lemma C.3.
#pragma once

#include <cstdint>

#include "complex.cuh"

namespace vis4mer::cuda {

constexpr int kSums = 4;           // products of {B, P} with {C, Q}
constexpr int kFrequencyThreads = 256;  // frequencies that a thread block evaluates at once

extern __shared__ __align__(16) unsigned char shared_memory[];

// dt [H], poles [H, N/2], residues [4, H, N/2], numerator [M], beta [M], factor [M]
template <class T>
struct Spectrum {
  const T* dt;
  const Complex<T>* poles;
  const Complex<T>* residues;
  const Complex<T>* numerator;
  const T* beta;
  const Complex<T>* factor;
  int64_t channels, pairs, frequencies;

  __device__ __forceinline__ const Complex<T>& residue(int j, int64_t h, int64_t n) const {
    return residues[(j * channels + h) * pairs + n];
  }
};

// z - beta p and z - beta conj(p), which have one real part. Their product is computed from these differences:
// expanded, z^2 - 2 beta Re(p) z + beta^2 |p|^2 cancels near a pole, where it matters most.
template <class T>
struct Distances {
  T re, im, conjugate_im;

  __device__ __forceinline__ Distances(const Complex<T>& z, T beta, const Complex<T>& pole)
      : re(z.re - beta * pole.re), im(z.im - beta * pole.im), conjugate_im(z.im + beta * pole.im) {}

  // 1 / ((z - beta p)(z - beta conj(p)))
  __device__ __forceinline__ Complex<T> product_reciprocal() const {
    return reciprocal(Complex<T>{re * re - im * conjugate_im, re * (im + conjugate_im)});
  }
};

// A pole and the coefficients a_j and b_j of its residues. Its alignment makes three 16-byte loads of it in float32.
template <class T>
struct alignas(16) FoldedPole {
  Complex<T> pole;
  T a[kSums], b[kSums];
};

// Folds one channel's poles into shared memory. Ends with a barrier, so all threads of the block must call it.
template <class T>
__device__ __forceinline__ void fold_poles(const Spectrum<T>& spectrum, int64_t h, FoldedPole<T>* folded) {
  for (int64_t n = threadIdx.x; n < spectrum.pairs; n += blockDim.x) {
    FoldedPole<T>& pole = folded[n];
    pole.pole = spectrum.poles[h * spectrum.pairs + n];
#pragma unroll
    for (int j = 0; j < kSums; ++j) {
      const Complex<T> v = spectrum.residue(j, h, n);
      pole.a[j] = 2 * v.re;
      pole.b[j] = 2 * (v.re * pole.pole.re + v.im * pole.pole.im);
    }
  }
  __syncthreads();
}

// S_0 to S_3 at one frequency.
template <class T>
__device__ __forceinline__ void evaluate_sums(const FoldedPole<T>* folded, int64_t pairs, const Complex<T>& z, T beta,
                                              Complex<T> (&sums)[kSums]) {
  // z and beta do not depend on n: two multiplications at the end, instead of two per pole.
  Complex<T> by_z[kSums] = {}, by_beta[kSums] = {};
  for (int64_t n = 0; n < pairs; ++n) {
    const FoldedPole<T> pole = folded[n];
    const Complex<T> r = Distances<T>(z, beta, pole.pole).product_reciprocal();
#pragma unroll
    for (int j = 0; j < kSums; ++j) {
      by_z[j].re += pole.a[j] * r.re;
      by_z[j].im += pole.a[j] * r.im;
      by_beta[j].re += pole.b[j] * r.re;
      by_beta[j].im += pole.b[j] * r.im;
    }
  }
#pragma unroll
  for (int j = 0; j < kSums; ++j) {
    sums[j] = z * by_z[j] - beta * by_beta[j];
  }
}

// S_0 - s S_1 S_2 / (1 + s S_3), the inverse of diagonal plus rank 1 by the Woodbury identity, and its intermediate
// results, which the gradients need.
template <class T>
struct Woodbury {
  T s;
  Complex<T> correction;  // 1 / (1 + s S_3)
  Complex<T> left;        // S_1 / (1 + s S_3)
  Complex<T> product;     // S_1 S_2 / (1 + s S_3)
  Complex<T> value;       // S_0 - s S_1 S_2 / (1 + s S_3)

  __device__ __forceinline__ Woodbury(T dt, T beta, const Complex<T> (&sums)[kSums])
      : s(dt * beta),
        correction(reciprocal(Complex<T>{T(1) + s * sums[3].re, s * sums[3].im})),
        left(sums[1] * correction),
        product(left * sums[2]),
        value(sums[0] - s * product) {}
};

// Grid: H channels by ceil(M / kFrequencyThreads) spans. result [H, M]
template <class T>
__global__ void __launch_bounds__(kFrequencyThreads) spectrum_forward(Spectrum<T> spectrum, Complex<T>* result) {
  auto* folded = reinterpret_cast<FoldedPole<T>*>(shared_memory);
  const int64_t spans = (spectrum.frequencies + kFrequencyThreads - 1) / kFrequencyThreads;
  const int64_t h = blockIdx.x / spans, l = blockIdx.x % spans * kFrequencyThreads + threadIdx.x;
  fold_poles(spectrum, h, folded);
  if (l >= spectrum.frequencies) {
    return;  // only after the barrier in fold_poles
  }
  Complex<T> sums[kSums];
  const T dt = spectrum.dt[h], beta = spectrum.beta[l];
  evaluate_sums(folded, spectrum.pairs, spectrum.numerator[l], beta, sums);
  result[h * spectrum.frequencies + l] = dt * (spectrum.factor[l] * Woodbury<T>(dt, beta, sums).value);
}

}  // namespace vis4mer::cuda
