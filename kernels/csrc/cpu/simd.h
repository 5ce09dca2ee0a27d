// Vectors of numbers, by GCC's and Clang's vector extension: ordinary arithmetic operators work lane by lane.
#pragma once

#include <cstdint>

namespace vis4mer::cpu {

// One AVX-512 register. On narrower machines the compiler splits each vector into several registers.
constexpr int64_t kVectorBytes = 64;

// The attribute does not apply to a type that depends on a template parameter, hence one specialisation per type.
template <class T>
struct Simd;

template <>
struct Simd<float> {
  typedef float Vector __attribute__((vector_size(kVectorBytes)));
};

template <>
struct Simd<double> {
  typedef double Vector __attribute__((vector_size(kVectorBytes)));
};

template <class T>
using Vector = typename Simd<T>::Vector;

template <class T>
constexpr int64_t kLanes = kVectorBytes / sizeof(T);

// The sum over the lanes, in order. In double precision, since it joins a sum over many vectors.
template <class T>
double sum(const Vector<T>& vector) {
  double total = 0;
  for (int64_t lane = 0; lane < kLanes<T>; ++lane) {
    total += vector[lane];
  }
  return total;
}

// Real and imaginary parts in separate registers, so products need no shuffles within a register.
template <class T>
struct Complex {
  Vector<T> re, im;
};

template <class T>
inline Complex<T> operator+(const Complex<T>& a, const Complex<T>& b) {
  return {a.re + b.re, a.im + b.im};
}

template <class T>
inline Complex<T> operator-(const Complex<T>& a, const Complex<T>& b) {
  return {a.re - b.re, a.im - b.im};
}

template <class T>
inline Complex<T> times_i(const Complex<T>& a) {
  return {-a.im, a.re};
}

// a * (c + i s)
template <class T>
inline Complex<T> rotate(const Complex<T>& a, T c, T s) {
  return {a.re * c - a.im * s, a.im * c + a.re * s};
}

}  // namespace vis4mer::cpu
