// Negacyclic transforms of blocks of 2T real samples, one channel per vector lane.
//
// A block is a real polynomial p(x) of degree below 2T, and the product of two polynomials modulo x^(2T) + 1 is their
// negacyclic convolution. Since x^(2T) + 1 = (x^T - i)(x^T + i), a real p is determined by p mod (x^T - i), where x^T =
// i: coefficients j and j + T become the real and imaginary part of one complex coefficient. Substituting x = w y with
// w = exp(i pi / (2T)), so w^T = i, turns the modulus into y^T - 1: once coefficient j is multiplied by the twist
// w^j, the product is a cyclic convolution of length T, which a complex transform of length T diagonalises.
//
// A real transform of the same block would compute as much and then have to separate conjugate pairs. Here spectra are
// only multiplied with each other, so the order in which the transform leaves its values does not matter, and no pass
// over the data restores the natural one.
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
      // In double precision: recurrences or float arithmetic would add their errors to every transform.
      const double turn = 2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(size);
      roots_[2 * k] = static_cast<T>(std::cos(turn));
      roots_[2 * k + 1] = static_cast<T>(-std::sin(turn));
      twists_[2 * k] = static_cast<T>(std::cos(turn / 4));
      twists_[2 * k + 1] = static_cast<T>(std::sin(turn / 4));
    }
  }

  int64_t size() const { return size_; }

  // Transforms x [T], sample j + i times sample j + T in natural order, to a spectrum in the transform's own order.
  void forward(Complex<T>* x) const {
    for (int64_t j = 0; j < size_; ++j) {
      x[j] = rotate(x[j], twists_[2 * j], twists_[2 * j + 1]);
    }
    decimate(x, size_);
  }

  // The inverse of `forward`, times T. Callers fold the division by T into a factor of their own.
  void inverse(Complex<T>* x) const {
    interpolate(x, size_);
    for (int64_t j = 0; j < size_; ++j) {
      x[j] = rotate(x[j], twists_[2 * j], -twists_[2 * j + 1]);
    }
  }

 private:
  // Decimation in frequency: takes x in natural order and leaves quarter q with the frequencies 4 m + q, each quarter
  // in the same order in turn. Radix 4 has 25 % fewer multiplications than radix 2 and half the passes over memory.
  // Depth first, because a quarter of a quarter soon fits into the first-level cache and then never leaves it.
  void decimate(Complex<T>* x, int64_t n) const {
    if (n == 2) {
      const Complex<T> a = x[0], b = x[1];
      x[0] = a + b;
      x[1] = a - b;
    }
    if (n < 4) {
      return;
    }
    const int64_t quarter = n / 4, step = size_ / n;  // the k-th n-th root of unity is the (k step)-th T-th one
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

  // Decimation in time with conjugate roots: the steps of `decimate` undone in reverse order, up to the factor n. It
  // takes the order that `decimate` leaves, which is why neither needs a permutation.
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
