// The generating function of an SSM convolution kernel at M nodes, on the CPU:
//
//   G = factor dt (S_0 - s S_1 S_2 / (1 + s S_3)),  s = dt beta,
//   S_j = sum_n v_jn / (z - beta p_n) + conj(v_jn) / (z - beta conj(p_n)),  z the numerator.
//
// The two terms of a conjugate pair share one denominator, q_n = (z - beta p_n)(z - beta conj(p_n)), and so do the four
// sums: S_j = z sum_n a_jn / q_n - beta sum_n b_jn / q_n with real a = 2 Re v and b = 2 Re(v conj(p)). One reciprocal
// serves all. Nodes lie along the vector lanes; a channel is one thread's work from beginning to end.
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
constexpr int64_t kSpan = 16;  // vectors of nodes whose upstream gradients the backward pass keeps in the nearest cache

// [M, 2] or [M] as vectors of nodes, filled up to whole spans; the filling is masked by a zero factor.
template <class T>
struct Nodes {
  std::vector<Complex<T>> numerator, factor;
  std::vector<Vector<T>> beta;
  int64_t vectors;

  Nodes(const SpectrumSizes& sizes, const T* numerators, const T* betas, const T* factors)
      : vectors((sizes.nodes + kLanes<T> * kSpan - 1) / (kLanes<T> * kSpan) * kSpan) {
    const Vector<T> one = Vector<T>{} + T(1);
    // Far from any pole, so that what is not read stays finite.
    numerator.assign(vectors, Complex<T>{one, one});
    factor.assign(vectors, Complex<T>{});
    beta.assign(vectors, Vector<T>{});
    for (int64_t l = 0; l < sizes.nodes; ++l) {
      const int64_t vector = l / kLanes<T>, lane = l % kLanes<T>;
      numerator[vector].re[lane] = numerators[2 * l];
      numerator[vector].im[lane] = numerators[2 * l + 1];
      beta[vector][lane] = betas[l];
      factor[vector].re[lane] = factors[2 * l];
      factor[vector].im[lane] = factors[2 * l + 1];
    }
  }
};

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

// z - beta p and z - beta conj(p); their differences, not their product's expansion, keep accuracy near a pole.
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

// One channel's poles p_n and residues v_jn.
template <class T>
struct Channel {
  T dt;
  const Pair<T>* poles;           // [N/2]
  const Pair<T>* residues[kSums];  // [N/2] each
};

template <class T>
class Spectrum {
 public:
  Spectrum(const SpectrumSizes& sizes, const T* dt, const T* poles, const T* residues, const Nodes<T>& nodes)
      : sizes_(sizes),
        dt_(dt),
        poles_(reinterpret_cast<const Pair<T>*>(poles)),
        residues_(reinterpret_cast<const Pair<T>*>(residues)),
        nodes_(nodes) {}

  void forward(int64_t h, T* spectrum) const {
    const Channel<T> channel = at(h);
    std::vector<T> a(sizes_.pairs * kSums), b(sizes_.pairs * kSums);
    fold(channel, a.data(), b.data());
    for (int64_t vector = 0; vector * kLanes<T> < sizes_.nodes; ++vector) {
      Complex<T> sums[kSums];
      evaluate(channel, a.data(), b.data(), vector, sums);
      const Vector<T> s = channel.dt * nodes_.beta[vector];
      const Complex<T> corrected = multiply(multiply(sums[1], sums[2]), woodbury(sums[3], s));
      const Complex<T> inner = sums[0] - scaled(corrected, s);
      const Complex<T> value = scaled(multiply(nodes_.factor[vector], inner), Vector<T>{} + channel.dt);
      const int64_t start = vector * kLanes<T>;
      for (int64_t lane = 0; lane < kLanes<T> && start + lane < sizes_.nodes; ++lane) {
        spectrum[2 * (h * sizes_.nodes + start + lane)] = value.re[lane];
        spectrum[2 * (h * sizes_.nodes + start + lane) + 1] = value.im[lane];
      }
    }
  }

  // Gradients by the convention of complex autograd: a pair holds the derivatives by its real and imaginary part.
  void backward(int64_t h, const T* grad, T* ddt, T* dpoles, T* dresidues) const {
    const Channel<T> channel = at(h);
    const int64_t pairs = sizes_.pairs;
    std::vector<T> a(pairs * kSums), b(pairs * kSums);
    fold(channel, a.data(), b.data());
    std::vector<PairGrad> totals(pairs);
    double step_grad = 0;
    for (int64_t start = 0; start < nodes_.vectors; start += kSpan) {
      Upstream upstream;
      Vector<T> span_step_grad = {};
      for (int64_t i = 0; i < kSpan; ++i) {
        const Complex<T> z = nodes_.numerator[start + i];
        const Vector<T> beta = nodes_.beta[start + i];
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
  // Gradients of sum_n a_jn / q_n and sum_n b_jn / q_n at a span of nodes.
  struct Upstream {
    Complex<T> by_z[kSums][kSpan];
    Complex<T> by_beta[kSums][kSpan];
  };

  // Gradients of a_jn, b_jn and, as far as q_n depends on it, p_n, but for the factors that `unfold` knows.
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

  // The four sums at one vector of nodes.
  void evaluate(const Channel<T>& channel, const T* a, const T* b, int64_t vector, Complex<T>* sums) const {
    const Complex<T> z = nodes_.numerator[vector];
    const Vector<T> beta = nodes_.beta[vector];
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

  // 1 / (1 + s S_3)
  static Complex<T> woodbury(const Complex<T>& sum, const Vector<T>& s) {
    return reciprocal(Complex<T>{T(1) + s * sum.re, s * sum.im});
  }

  // From the gradient of G to those of the four sums; returns that of dt where it stands by itself.
  Vector<T> through_woodbury(T dt, int64_t vector, const Complex<T>& grad, const Complex<T>* sums,
                             Complex<T>* by_sum) const {
    const Vector<T> beta = nodes_.beta[vector], s = dt * beta;
    const Complex<T> t = woodbury(sums[3], s);
    const Complex<T> left = multiply(sums[1], t), right = multiply(sums[2], t);
    const Complex<T> product = multiply(left, sums[2]);  // S_1 S_2 / (1 + s S_3)
    const Complex<T> inner = sums[0] - scaled(product, s);
    // Upstream gradient of dt (S_0 - ...), and of the bracket alone.
    const Complex<T> outer = conjugate_multiply(nodes_.factor[vector], grad);
    const Complex<T> bracket = scaled(outer, Vector<T>{} + dt);
    by_sum[0] = bracket;
    by_sum[1] = scaled(conjugate_multiply(right, bracket), -s);
    by_sum[2] = scaled(conjugate_multiply(left, bracket), -s);
    by_sum[3] = scaled(conjugate_multiply(multiply(left, right), bracket), s * s);
    // d(bracket)/d(dt) = -beta S_1 S_2 / (1 + s S_3)^2
    const Complex<T> by_step = inner - scaled(multiply(product, t), s);
    return by_step.re * outer.re + by_step.im * outer.im;
  }

  // Adds to the gradients of one conjugate pair what a span of nodes contributes.
  void through_pair(const Pair<T>& pole, const T* a, const T* b, int64_t start, const Upstream& upstream,
                    PairGrad& total) const {
    Vector<T> by_a[kSums] = {}, by_b[kSums] = {}, by_re = {}, by_im = {};
    for (int64_t i = 0; i < kSpan; ++i) {
      const Complex<T> z = nodes_.numerator[start + i];
      const Vector<T> beta = nodes_.beta[start + i];
      const Distances<T> d(z, beta, pole);
      const Complex<T> r = d.product_reciprocal();
      Complex<T> by_r = {};
#pragma GCC unroll 4
      for (int j = 0; j < kSums; ++j) {
        const Complex<T> gz = upstream.by_z[j][i], gb = upstream.by_beta[j][i];
        // One product a statement: each is a fused multiply-add.
        by_a[j] += gz.re * r.re;
        by_a[j] += gz.im * r.im;
        by_b[j] += gb.re * r.re;
        by_b[j] += gb.im * r.im;
        by_r.re += a[j] * gz.re;
        by_r.im += a[j] * gz.im;
        by_r.re += b[j] * gb.re;
        by_r.im += b[j] * gb.im;
      }
      // -dq/d(Re p) = 2 beta (z - beta Re p), -dq/d(Im p) = -2 beta^2 Im p; the constants follow in `unfold`.
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

  // The adjoint of `fold`.
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
    for (int64_t lane = 0; lane < kLanes<T> && start + lane < sizes_.nodes; ++lane) {
      lanes.re[lane] = grad[2 * (h * sizes_.nodes + start + lane)];
      lanes.im[lane] = grad[2 * (h * sizes_.nodes + start + lane) + 1];
    }
    return lanes;
  }

  SpectrumSizes sizes_;
  const T* dt_;
  const Pair<T>* poles_;
  const Pair<T>* residues_;
  const Nodes<T>& nodes_;
};

template <class T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
void run_forward(const SpectrumSizes& sizes, const Tensor& dt, const Tensor& poles, const Tensor& residues,
                 const Tensor& numerator, const Tensor& beta, const Tensor& factor, Tensor& result) {
  const Nodes<T> nodes(sizes, data<T>(numerator), data<T>(beta), data<T>(factor));
  const Spectrum<T> spectrum(sizes, data<T>(dt), data<T>(poles), data<T>(residues), nodes);
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
  const Nodes<T> nodes(sizes, data<T>(numerator), data<T>(beta), data<T>(factor));
  const Spectrum<T> spectrum(sizes, data<T>(dt), data<T>(poles), data<T>(residues), nodes);
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
  Tensor result = torch::stable::new_empty(dt, {sizes.channels, sizes.nodes, 2});
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
  require_shape(grad, "grad", {sizes.channels, sizes.nodes, 2});
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
