// Complex numbers, aligned to their whole size so that the compiler loads and stores one as a single vector access.
#pragma once

namespace vis4mer::cuda {

template <class T>
struct alignas(2 * sizeof(T)) Complex {
  T re, im;
};

template <class T>
__device__ __forceinline__ Complex<T> operator+(const Complex<T>& a, const Complex<T>& b) {
  return {a.re + b.re, a.im + b.im};
}

template <class T>
__device__ __forceinline__ Complex<T> operator-(const Complex<T>& a, const Complex<T>& b) {
  return {a.re - b.re, a.im - b.im};
}

template <class T>
__device__ __forceinline__ Complex<T> operator*(const Complex<T>& a, const Complex<T>& b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

template <class T>
__device__ __forceinline__ Complex<T> operator*(T a, const Complex<T>& b) {
  return {a * b.re, a * b.im};
}

template <class T>
__device__ __forceinline__ Complex<T> conj(const Complex<T>& a) {
  return {a.re, -a.im};
}

template <class T>
__device__ __forceinline__ Complex<T> times_i(const Complex<T>& a) {
  return {-a.im, a.re};
}

// sum += a b. One product per statement: each becomes one fused multiply-add, four in all, where a product and a sum of
// complex numbers would take six instructions.
template <class T>
__device__ __forceinline__ void multiply_add(Complex<T>& sum, const Complex<T>& a, const Complex<T>& b) {
  sum.re += a.re * b.re;
  sum.re -= a.im * b.im;
  sum.im += a.re * b.im;
  sum.im += a.im * b.re;
}

// Accurate to two units in the last place and about ten instructions shorter than the division. It returns zero for |a|
// > 2^126, far beyond any product of distances from poles.
__device__ __forceinline__ float reciprocal(float a) { return __fdividef(1.0f, a); }
__device__ __forceinline__ double reciprocal(double a) { return 1.0 / a; }

// 1 / a
template <class T>
__device__ __forceinline__ Complex<T> reciprocal(const Complex<T>& a) {
  const T scale = reciprocal(a.re * a.re + a.im * a.im);
  return {a.re * scale, -a.im * scale};
}

}  // namespace vis4mer::cuda
