// The generating function of an SSM convolution kernel at M frequencies, on the CPU:
//
//   G = factor dt (S_0 - s S_1 S_2 / (1 + s S_3)),  s = dt beta,
//   S_j = sum_n v_jn / (z - beta p_n) + conj(v_jn) / (z - beta conj(p_n)),  z the numerator.
//
// S_0 to S_3 are the sums over the residues B C^*, B Q^*, P C^* and P Q^* (vis4mer_kernels/reference.py). Both terms of
// a conjugate pair have the denominator q_n = (z - beta p_n)(z - beta conj(p_n)) once they are added, and so do all
// four sums:
//
//   S_j = z sum_n a_jn / q_n - beta sum_n b_jn / q_n,  a = 2 Re v,  b = 2 Re(v conj(p)).
//
// Hence one complex reciprocal serves eight terms, and the coefficients a and b are real and the same at all
// frequencies. The Cauchy matrix [H, M, N] is never stored: a term lives in registers. Frequencies lie along the vector
// lanes. A channel is one thread's work from beginning to end, so results do not depend on the number of threads.
//
// Reference: Gu, Goel & Re, S4 (ICLR 2022), algorithm 1 and lemma C.3.

#include <tuple>
#include <vector>

#include <torch/csrc/stable/library.h>

#include "../shapes.h"
#include "simd.h"

namespace vis4mer::cpu {
namespace {

constexpr int kSums = 4;  // products of {B, P} with {C, Q}
// Vectors of frequencies that the backward pass treats together: their upstream gradients, 16 KiB in either precision,
// stay in the first-level cache while every pole reads them.
constexpr int64_t kSpan = 16;

// The frequency grid as vectors, padded to whole spans, so no loop has a remainder.
template <class T>
struct Grid {
  std::vector<Complex<T>> numerator, factor;
  std::vector<Vector<T>> beta;
  int64_t vectors;

  Grid(const SpectrumSizes& sizes, const T* numerators, const T* betas, const T* factors)
      : vectors((sizes.frequencies + kLanes<T> * kSpan - 1) / (kLanes<T> * kSpan) * kSpan) {
    const Vector<T> one = Vector<T>{} + T(1);
    // The padding must stay finite in both passes: with beta = 0 its denominators are z^2, and a zero factor keeps it
    // out of every gradient.
    numerator.assign(vectors, Complex<T>{one, one});
    factor.assign(vectors, Complex<T>{});
    beta.assign(vectors, Vector<T>{});
    for (int64_t l = 0; l < sizes.frequencies; ++l) {
      const int64_t vector = l / kLanes<T>, lane = l % kLanes<T>;
      numerator[vector].re[lane] = numerators[2 * l];
      numerator[vector].im[lane] = numerators[2 * l + 1];
      beta[vector][lane] = betas[l];
      factor[vector].re[lane] = factors[2 * l];
      factor[vector].im[lane] = factors[2 * l + 1];
    }
  }
};

// One complex number as it lies in memory.
template <class T>
struct Pair {
  T re, im;
};

template <class T>
Complex<T> multiply(const Complex<T>& a, const Complex<T>& b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

// conj(a) b
template <class T>
Complex<T> conjugate_multiply(const Complex<T>& a, const Complex<T>& b) {
  return {a.re * b.re + a.im * b.im, a.re * b.im - a.im * b.re};
}

template <class T>
Complex<T> reciprocal(const Complex<T>& a) {
  const Vector<T> scale = T(1) / (a.re * a.re + a.im * a.im);
  return {a.re * scale, -a.im * scale};
}

template <class T>
Complex<T> scaled(const Complex<T>& a, const Vector<T>& by) {
  return {a.re * by, a.im * by};
}

// z - beta p and z - beta conj(p), which have one real part. Their product is computed from these differences:
// expanded, z^2 - 2 beta Re(p) z + beta^2 |p|^2 cancels near a pole, where it matters most.
template <class T>
struct Distances {
  Vector<T> re, im, conjugate_im;

  Distances(const Complex<T>& z, const Vector<T>& beta, const Pair<T>& pole)
      : re(z.re - beta * pole.re), im(z.im - beta * pole.im), conjugate_im(z.im + beta * pole.im) {}

  // 1 / ((z - beta p)(z - beta conj(p)))
  Complex<T> product_reciprocal() const {
    return reciprocal(Complex<T>{re * re - im * conjugate_im, re * (im + conjugate_im)});
  }
};

// One channel's step, poles p_n and residues v_jn.
template <class T>
struct Channel {
  T dt;
  const Pair<T>* poles;           // [N/2]
  const Pair<T>* residues[kSums];  // [N/2] each
};

// One call's inputs, shared by its channels and read-only.
template <class T>
class Spectrum {
 public:
  Spectrum(const SpectrumSizes& sizes, const T* dt, const T* poles, const T* residues, const Grid<T>& grid)
      : sizes_(sizes),
        dt_(dt),
        poles_(reinterpret_cast<const Pair<T>*>(poles)),
        residues_(reinterpret_cast<const Pair<T>*>(residues)),
        grid_(grid) {}

  // Writes the spectrum of channel h to spectrum [H, M, 2].
  void forward(int64_t h, T* spectrum) const {
    const Channel<T> channel = at(h);
    std::vector<T> a(sizes_.pairs * kSums), b(sizes_.pairs * kSums);
    fold(channel, a.data(), b.data());
    for (int64_t vector = 0; vector * kLanes<T> < sizes_.frequencies; ++vector) {
      Complex<T> sums[kSums];
      evaluate(channel, a.data(), b.data(), vector, sums);
      const Vector<T> s = channel.dt * grid_.beta[vector];
      const Complex<T> corrected = multiply(multiply(sums[1], sums[2]), woodbury(sums[3], s));
      const Complex<T> inner = sums[0] - scaled(corrected, s);
      const Complex<T> value = scaled(multiply(grid_.factor[vector], inner), Vector<T>{} + channel.dt);
      const int64_t start = vector * kLanes<T>;
      for (int64_t lane = 0; lane < kLanes<T> && start + lane < sizes_.frequencies; ++lane) {
        spectrum[2 * (h * sizes_.frequencies + start + lane)] = value.re[lane];
        spectrum[2 * (h * sizes_.frequencies + start + lane) + 1] = value.im[lane];
      }
    }
  }

  // Writes the gradients of channel h, given grad [H, M, 2], to ddt [H], dpoles [H, N/2, 2] and dresidues [4, H, N/2,
  // 2]. As in PyTorch's autograd, a complex gradient holds the derivatives w.r.t. the real and the imaginary part, so
  // that the gradient w.r.t. x is conj(df/dx) times the gradient w.r.t. f(x).
  //
  // Each span of frequencies is visited twice. The first visit evaluates the sums again and derives the gradients
  // w.r.t. them, with frequencies in the outer loop; the second collects what each pole receives, with poles in the
  // outer loop, so that a pole's ten sums stay in registers. Reciprocals are computed on both visits: cheaper than
  // storing [M, N/2] of them.
  void backward(int64_t h, const T* grad, T* ddt, T* dpoles, T* dresidues) const {
    const Channel<T> channel = at(h);
    const int64_t pairs = sizes_.pairs;
    std::vector<T> a(pairs * kSums), b(pairs * kSums);
    fold(channel, a.data(), b.data());
    // Sums over many spans, with much cancellation in that of dt, so in double precision.
    std::vector<PairGrad> totals(pairs);
    double step_grad = 0;
    for (int64_t start = 0; start < grid_.vectors; start += kSpan) {
      Upstream upstream;
      Vector<T> span_step_grad = {};
      for (int64_t i = 0; i < kSpan; ++i) {
        const Complex<T> z = grid_.numerator[start + i];
        const Vector<T> beta = grid_.beta[start + i];
        Complex<T> sums[kSums], by_sum[kSums];
        evaluate(channel, a.data(), b.data(), start + i, sums);
        span_step_grad += through_woodbury(channel.dt, start + i, load(grad, h, start + i), sums, by_sum);
        for (int j = 0; j < kSums; ++j) {
          upstream.by_z[j][i] = conjugate_multiply(z, by_sum[j]);
          upstream.by_beta[j][i] = scaled(by_sum[j], -beta);
        }
      }
      step_grad += sum<T>(span_step_grad);
      for (int64_t n = 0; n < pairs; ++n) {
        through_pair(channel.poles[n], &a[n * kSums], &b[n * kSums], start, upstream, totals[n]);
      }
    }
    ddt[h] = static_cast<T>(step_grad);
    for (int64_t n = 0; n < pairs; ++n) {
      unfold(channel, n, totals[n], dpoles + 2 * (h * pairs + n), dresidues + 2 * (h * pairs + n));
    }
  }

 private:
  // Gradients w.r.t. sum_n a_jn / q_n and sum_n b_jn / q_n at a span of frequencies.
  struct Upstream {
    Complex<T> by_z[kSums][kSpan];
    Complex<T> by_beta[kSums][kSpan];
  };

  // Gradients w.r.t. a_jn, b_jn and, through q_n alone, p_n, without the constant factors that `unfold` applies.
  struct PairGrad {
    double a[kSums] = {};
    double b[kSums] = {};
    double pole[2] = {};
  };

  Channel<T> at(int64_t h) const {
    Channel<T> channel{dt_[h], poles_ + h * sizes_.pairs, {}};
    for (int j = 0; j < kSums; ++j) {
      channel.residues[j] = residues_ + (j * sizes_.channels + h) * sizes_.pairs;
    }
    return channel;
  }

  // a = 2 Re v and b = 2 Re(v conj(p)), [N/2, 4] each.
  void fold(const Channel<T>& channel, T* a, T* b) const {
    for (int64_t n = 0; n < sizes_.pairs; ++n) {
      const Pair<T> pole = channel.poles[n];
      for (int j = 0; j < kSums; ++j) {
        const Pair<T> residue = channel.residues[j][n];
        a[n * kSums + j] = 2 * residue.re;
        b[n * kSums + j] = 2 * (residue.re * pole.re + residue.im * pole.im);
      }
    }
  }

  // The four sums at one vector of frequencies.
  void evaluate(const Channel<T>& channel, const T* a, const T* b, int64_t vector, Complex<T>* sums) const {
    const Complex<T> z = grid_.numerator[vector];
    const Vector<T> beta = grid_.beta[vector];
    // Sixteen accumulators in registers. The loop must be unrolled for that: an array with a variable index is memory.
    Complex<T> by_z[kSums] = {}, by_beta[kSums] = {};
    for (int64_t n = 0; n < sizes_.pairs; ++n) {
      const Complex<T> r = Distances<T>(z, beta, channel.poles[n]).product_reciprocal();
#pragma GCC unroll 4
      for (int j = 0; j < kSums; ++j) {
        const T aj = a[n * kSums + j], bj = b[n * kSums + j];
        by_z[j].re += aj * r.re;
        by_z[j].im += aj * r.im;
        by_beta[j].re += bj * r.re;
        by_beta[j].im += bj * r.im;
      }
    }
    for (int j = 0; j < kSums; ++j) {
      sums[j] = multiply(z, by_z[j]) - scaled(by_beta[j], beta);
    }
  }

  // 1 / (1 + s S_3), the scalar that the Woodbury identity leaves to invert.
  static Complex<T> woodbury(const Complex<T>& sum, const Vector<T>& s) {
    return reciprocal(Complex<T>{T(1) + s * sum.re, s * sum.im});
  }

  // Computes the gradients w.r.t. the four sums from the gradient w.r.t. G. Returns the gradient w.r.t. dt where
  // it is explicit in G; the caller adds the part of the poles dt w, which depend on dt too. With t = 1 / (1 + s S_3):
  //
  //   dG/dS_0 = factor dt,  dG/dS_1 = -factor dt s S_2 t,  dG/dS_2 = -factor dt s S_1 t,
  //   dG/dS_3 = factor dt s^2 S_1 S_2 t^2.
  Vector<T> through_woodbury(T dt, int64_t vector, const Complex<T>& grad, const Complex<T>* sums,
                             Complex<T>* by_sum) const {
    const Vector<T> beta = grid_.beta[vector], s = dt * beta;
    const Complex<T> t = woodbury(sums[3], s);
    const Complex<T> left = multiply(sums[1], t), right = multiply(sums[2], t);
    const Complex<T> product = multiply(left, sums[2]);  // S_1 S_2 / (1 + s S_3)
    const Complex<T> inner = sums[0] - scaled(product, s);
    // The gradients w.r.t. dt (S_0 - ...) and w.r.t. the expression in parentheses.
    const Complex<T> outer = conjugate_multiply(grid_.factor[vector], grad);
    const Complex<T> bracket = scaled(outer, Vector<T>{} + dt);
    by_sum[0] = bracket;
    by_sum[1] = scaled(conjugate_multiply(right, bracket), -s);
    by_sum[2] = scaled(conjugate_multiply(left, bracket), -s);
    by_sum[3] = scaled(conjugate_multiply(multiply(left, right), bracket), s * s);
    // d(s t)/ds = t^2, so d(dt (S_0 - s S_1 S_2 t))/d(dt) = (S_0 - s S_1 S_2 t) - s S_1 S_2 t^2.
    const Complex<T> by_step = inner - scaled(multiply(product, t), s);
    return by_step.re * outer.re + by_step.im * outer.im;
  }

  // Adds a span's contribution to the gradients of one conjugate pair. With r = 1 / q the gradient w.r.t. r is
  // sum_j a_j by_z_j + b_j by_beta_j, and dr/dq = -r^2.
  void through_pair(const Pair<T>& pole, const T* a, const T* b, int64_t start, const Upstream& upstream,
                    PairGrad& total) const {
    Vector<T> by_a[kSums] = {}, by_b[kSums] = {}, by_re = {}, by_im = {};
    for (int64_t i = 0; i < kSpan; ++i) {
      const Complex<T> z = grid_.numerator[start + i];
      const Vector<T> beta = grid_.beta[start + i];
      const Distances<T> d(z, beta, pole);
      const Complex<T> r = d.product_reciprocal();
      Complex<T> by_r = {};
#pragma GCC unroll 4
      for (int j = 0; j < kSums; ++j) {
        const Complex<T> gz = upstream.by_z[j][i], gb = upstream.by_beta[j][i];
        // One product per statement, so that each becomes one fused multiply-add on its accumulator. A sum of two
        // products on the right would take a third instruction.
        by_a[j] += gz.re * r.re;
        by_a[j] += gz.im * r.im;
        by_b[j] += gb.re * r.re;
        by_b[j] += gb.im * r.im;
        by_r.re += a[j] * gz.re;
        by_r.im += a[j] * gz.im;
        by_r.re += b[j] * gb.re;
        by_r.im += b[j] * gb.im;
      }
      // -dq/d(Re p) = 2 beta (z - beta Re p) and -dq/d(Im p) = -2 beta^2 Im p. `unfold` applies 2 and -2 Im p.
      const Complex<T> by_q = scaled(conjugate_multiply(multiply(r, r), by_r), beta);
      by_re += d.re * by_q.re + z.im * by_q.im;
      by_im += beta * by_q.re;
    }
    for (int j = 0; j < kSums; ++j) {
      total.a[j] += sum<T>(by_a[j]);
      total.b[j] += sum<T>(by_b[j]);
    }
    total.pole[0] += sum<T>(by_re);
    total.pole[1] += sum<T>(by_im);
  }

  // The adjoint of `fold`, plus the gradient w.r.t. the pole through q: Re p and Im p enter b as well as q.
  void unfold(const Channel<T>& channel, int64_t n, const PairGrad& grad, T* dpole, T* dresidue) const {
    const Pair<T> pole = channel.poles[n];
    double by_re = grad.pole[0], by_im = -grad.pole[1] * pole.im;
    for (int j = 0; j < kSums; ++j) {
      const Pair<T> residue = channel.residues[j][n];
      by_re += residue.re * grad.b[j];
      by_im += residue.im * grad.b[j];
      T* pair = dresidue + 2 * j * sizes_.channels * sizes_.pairs;
      pair[0] = static_cast<T>(2 * (grad.a[j] + pole.re * grad.b[j]));
      pair[1] = static_cast<T>(2 * pole.im * grad.b[j]);
    }
    dpole[0] = static_cast<T>(2 * by_re);
    dpole[1] = static_cast<T>(2 * by_im);
  }

  Complex<T> load(const T* grad, int64_t h, int64_t vector) const {
    Complex<T> lanes = {};
    const int64_t start = vector * kLanes<T>;
    for (int64_t lane = 0; lane < kLanes<T> && start + lane < sizes_.frequencies; ++lane) {
      lanes.re[lane] = grad[2 * (h * sizes_.frequencies + start + lane)];
      lanes.im[lane] = grad[2 * (h * sizes_.frequencies + start + lane) + 1];
    }
    return lanes;
  }

  SpectrumSizes sizes_;
  const T* dt_;
  const Pair<T>* poles_;
  const Pair<T>* residues_;
  const Grid<T>& grid_;
};

template <class T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

// Channels run in parallel; each writes its own part of every result.
template <class T>
void run_forward(const SpectrumSizes& sizes, const Tensor& dt, const Tensor& poles, const Tensor& residues,
                 const Tensor& numerator, const Tensor& beta, const Tensor& factor, Tensor& result) {
  const Grid<T> grid(sizes, data<T>(numerator), data<T>(beta), data<T>(factor));
  const Spectrum<T> spectrum(sizes, data<T>(dt), data<T>(poles), data<T>(residues), grid);
  auto* values = static_cast<T*>(result.mutable_data_ptr());
  torch::stable::parallel_for(0, sizes.channels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t h = begin; h < end; ++h) {
      spectrum.forward(h, values);
    }
  });
}

template <class T>
void run_backward(const SpectrumSizes& sizes, const Tensor& grad, const Tensor& dt, const Tensor& poles,
                  const Tensor& residues, const Tensor& numerator, const Tensor& beta, const Tensor& factor,
                  Tensor& ddt, Tensor& dpoles, Tensor& dresidues) {
  const Grid<T> grid(sizes, data<T>(numerator), data<T>(beta), data<T>(factor));
  const Spectrum<T> spectrum(sizes, data<T>(dt), data<T>(poles), data<T>(residues), grid);
  auto* step_grad = static_cast<T*>(ddt.mutable_data_ptr());
  auto* pole_grad = static_cast<T*>(dpoles.mutable_data_ptr());
  auto* residue_grad = static_cast<T*>(dresidues.mutable_data_ptr());
  torch::stable::parallel_for(0, sizes.channels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t h = begin; h < end; ++h) {
      spectrum.backward(h, data<T>(grad), step_grad, pole_grad, residue_grad);
    }
  });
}

Tensor ssm_spectrum(const Tensor& dt, const Tensor& poles, const Tensor& residues, const Tensor& numerator,
                    const Tensor& beta, const Tensor& factor) {
  const SpectrumSizes sizes(dt, poles, residues, numerator, beta, factor);
  Tensor result = torch::stable::new_empty(dt, {sizes.channels, sizes.frequencies, 2});
  if (dt.scalar_type() == ScalarType::Double) {
    run_forward<double>(sizes, dt, poles, residues, numerator, beta, factor, result);
  } else {
    run_forward<float>(sizes, dt, poles, residues, numerator, beta, factor, result);
  }
  return result;
}

std::tuple<Tensor, Tensor, Tensor> ssm_spectrum_backward(const Tensor& grad, const Tensor& dt, const Tensor& poles,
                                                         const Tensor& residues, const Tensor& numerator,
                                                         const Tensor& beta, const Tensor& factor) {
  const SpectrumSizes sizes(dt, poles, residues, numerator, beta, factor);
  require_shape(grad, "grad", {sizes.channels, sizes.frequencies, 2});
  STD_TORCH_CHECK(grad.scalar_type() == dt.scalar_type(), "grad must have dt's dtype");
  Tensor ddt = torch::stable::empty_like(dt), dpoles = torch::stable::empty_like(poles);
  Tensor dresidues = torch::stable::empty_like(residues);
  if (dt.scalar_type() == ScalarType::Double) {
    run_backward<double>(sizes, grad, dt, poles, residues, numerator, beta, factor, ddt, dpoles, dresidues);
  } else {
    run_backward<float>(sizes, grad, dt, poles, residues, numerator, beta, factor, ddt, dpoles, dresidues);
  }
  return {ddt, dpoles, dresidues};
}

}  // namespace
}  // namespace vis4mer::cpu

STABLE_TORCH_LIBRARY_IMPL(vis4mer, CPU, m) {
  m.impl("ssm_spectrum", TORCH_BOX(&vis4mer::cpu::ssm_spectrum));
  m.impl("ssm_spectrum_backward", TORCH_BOX(&vis4mer::cpu::ssm_spectrum_backward));
}
