// Negacyclic transforms of real blocks, one channel per vector lane.
//
// A product of two real polynomials modulo x^(2T) + 1 is a product of complex ones modulo x^T - i: coefficients j and
// j + T become real and imaginary part of one. With the twist w^j, w = exp(i pi / (2T)), that is a cyclic product, for
// which a complex transform of length T serves; no conjugate pairs need be told apart, and the order in which the
// transform leaves its values does not matter. Two blocks of T samples, the second half zero, never wrap around.
#pragma once

#include <cmath>
#include <numbers>
#include <vector>

#include "simd.h"

namespace vis4mer::cpu {

template <class T>
class NegacyclicFFT {
 public:
  // size: T, a power of two.
  explicit NegacyclicFFT(int64_t size) : size_(size), roots_(2 * size), twists_(2 * size) {
    for (int64_t k = 0; k < size; ++k) {
      const double turn = 2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(size);
      roots_[2 * k] = static_cast<T>(std::cos(turn));
      roots_[2 * k + 1] = static_cast<T>(-std::sin(turn));
      twists_[2 * k] = static_cast<T>(std::cos(turn / 4));
      twists_[2 * k + 1] = static_cast<T>(std::sin(turn / 4));
    }
  }

  int64_t size() const { return size_; }

  // x [T] in natural order, its imaginary part being the samples T later, to a spectrum in the transform's own order.
  void forward(Complex<T>* x) const {
    for (int64_t j = 0; j < size_; ++j) {
      x[j] = rotate(x[j], twists_[2 * j], twists_[2 * j + 1]);
    }
    decimate(x, size_);
  }

  // The inverse of `forward`, times T.
  void inverse(Complex<T>* x) const {
    interpolate(x, size_);
    for (int64_t j = 0; j < size_; ++j) {
      x[j] = rotate(x[j], twists_[2 * j], -twists_[2 * j + 1]);
    }
  }

 private:
  // Decimation in frequency, radix 4, depth first, so that the deeper stages find their data in the nearest cache.
  void decimate(Complex<T>* x, int64_t n) const {
    if (n == 2) {
      const Complex<T> a = x[0], b = x[1];
      x[0] = a + b;
      x[1] = a - b;
    }
    if (n < 4) {
      return;
    }
    const int64_t quarter = n / 4, step = size_ / n;
    for (int64_t k = 0; k < quarter; ++k) {
      const Complex<T> a = x[k], b = x[k + quarter], c = x[k + 2 * quarter], d = x[k + 3 * quarter];
      const Complex<T> even = a + c, odd = a - c, sum = b + d, turned = times_i(b - d);
      x[k] = even + sum;
      x[k + quarter] = turn(odd - turned, k * step);
      x[k + 2 * quarter] = turn(even - sum, 2 * k * step);
      x[k + 3 * quarter] = turn(odd + turned, 3 * k * step);
    }
    for (int64_t part = 0; part < 4; ++part) {
      decimate(x + part * quarter, quarter);
    }
  }

  // The mirror image of `decimate`: decimation in time with conjugate roots.
  void interpolate(Complex<T>* x, int64_t n) const {
    if (n == 2) {
      const Complex<T> a = x[0], b = x[1];
      x[0] = a + b;
      x[1] = a - b;
    }
    if (n < 4) {
      return;
    }
    const int64_t quarter = n / 4, step = size_ / n;
    for (int64_t part = 0; part < 4; ++part) {
      interpolate(x + part * quarter, quarter);
    }
    for (int64_t k = 0; k < quarter; ++k) {
      const Complex<T> a = x[k], b = turn_back(x[k + quarter], k * step);
      const Complex<T> c = turn_back(x[k + 2 * quarter], 2 * k * step);
      const Complex<T> d = turn_back(x[k + 3 * quarter], 3 * k * step);
      const Complex<T> even = a + c, odd = a - c, sum = b + d, turned = times_i(b - d);
      x[k] = even + sum;
      x[k + quarter] = odd + turned;
      x[k + 2 * quarter] = even - sum;
      x[k + 3 * quarter] = odd - turned;
    }
  }

  Complex<T> turn(const Complex<T>& a, int64_t root) const { return rotate(a, roots_[2 * root], roots_[2 * root + 1]); }
  Complex<T> turn_back(const Complex<T>& a, int64_t root) const {
    return rotate(a, roots_[2 * root], -roots_[2 * root + 1]);
  }

  int64_t size_;
  std::vector<T> roots_;   // exp(-2 pi i k / T), real and imaginary part in turn
  std::vector<T> twists_;  // exp(i pi k / (2T))
};

}  // namespace vis4mer::cpu
