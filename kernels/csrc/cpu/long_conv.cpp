// Causal convolution with a skip, on the CPU: y[t] = sum_s kernel[s] u[t - s] + D u[t], channel by channel.
//
// The sequence is cut into P blocks of T samples (partitioned convolution, overlap-add). K_j and X_i are the negacyclic
// transforms (fft.h) of the blocks of the kernel and of the input, padded with T zeros each. The product of two such
// blocks has degree below 2T, so it does not wrap around: Z_i = sum_j K_j X_(i-j) holds block i of the output in its
// real part (samples 0 to T - 1) and the overlap into block i + 1 in its imaginary part (samples T to 2T - 1).
//
// The backward pass is the adjoint of each step. The output is y_i = Re z_i + Im z_(i-1), hence the gradient of z_i is
// g_i + i g_(i+1), of transform dZ_i. Products are complex linear in either factor, so their adjoints multiply with the
// conjugate: dX_m = sum_j conj(K_j) dZ_(m+j) and dK_j = sum_m conj(X_m) dZ_(m+j). The adjoint of a transform is its
// inverse up to the factor T; du_m and the kernel's gradient are the real parts, because the padding is constant.
//
// A tile of channels, one per vector lane, is processed by one thread from beginning to end. No sum crosses threads, so
// results are bit-identical for any number of threads.

#include <algorithm>
#include <memory>
#include <new>
#include <tuple>

#include <torch/csrc/stable/library.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "../shapes.h"
#include "fft.h"

namespace vis4mer::cpu {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

// Largest number of blocks. Shorter blocks keep transforms in the cache, but the products grow with the number squared.
constexpr int64_t kMostBlocks = 8;

// T, the smallest power of two for which kMostBlocks blocks hold the sequence.
int64_t block_size(int64_t length) {
  int64_t size = 16;
  while (size * kMostBlocks < length) {
    size *= 2;
  }
  return size;
}

// Vectors must lie at multiples of their size: the compiler emits aligned loads, which fault elsewhere.
struct FreeAligned {
  void operator()(void* memory) const { ::operator delete(memory, std::align_val_t{kVectorBytes}); }
};

// Spectra of the P blocks of a tile, [P, T]. Not initialised: every transform writes its whole block.
template <class T>
class Spectra {
 public:
  Spectra(int64_t blocks, int64_t size)
      : size_(size),
        values_(static_cast<Complex<T>*>(
            ::operator new(sizeof(Complex<T>) * blocks * size, std::align_val_t{kVectorBytes}))) {}

  Complex<T>* operator[](int64_t block) const { return values_.get() + block * size_; }

 private:
  int64_t size_;
  std::unique_ptr<Complex<T>, FreeAligned> values_;
};

// One sequence [L, H], of which a tile sees neighbouring channels. They are contiguous in memory, so a load fills
// the lanes without a gather, in the order in which the decoder's linear layers leave their output.
template <class T, class Storage>
struct Rows {
  Storage* data;     // the first row's entry of the tile's first channel
  int64_t length;    // L
  int64_t channels;  // H, the distance between rows
  int64_t width;     // channels in the tile, at most the lanes; fewer in the last tile

  // Sample t of every channel, zero beyond the end of the sequence and in unused lanes.
  Vector<T> load(int64_t t) const {
    Vector<T> lanes = {};
    if (t >= length) {
      return lanes;
    }
    const Storage* row = data + t * channels;
    // The constant trip count lets the compiler make one vector load and one conversion of the loop.
    if (width == kLanes<T>) {
      for (int64_t lane = 0; lane < kLanes<T>; ++lane) {
        lanes[lane] = static_cast<T>(row[lane]);
      }
    } else {
      for (int64_t lane = 0; lane < width; ++lane) {
        lanes[lane] = static_cast<T>(row[lane]);
      }
    }
    return lanes;
  }

  void store(int64_t t, const Vector<T>& lanes) const {
    Storage* row = data + t * channels;
    if (width == kLanes<T>) {
      for (int64_t lane = 0; lane < kLanes<T>; ++lane) {
        row[lane] = static_cast<Storage>(lanes[lane]);
      }
    } else {
      for (int64_t lane = 0; lane < width; ++lane) {
        row[lane] = static_cast<Storage>(lanes[lane]);
      }
    }
  }
};

// sum += a b
template <class T>
void multiply_add(Complex<T>* sum, const Complex<T>* a, const Complex<T>* b, int64_t size) {
  for (int64_t k = 0; k < size; ++k) {
    sum[k].re += a[k].re * b[k].re - a[k].im * b[k].im;
    sum[k].im += a[k].re * b[k].im + a[k].im * b[k].re;
  }
}

// sum += conj(a) b
template <class T>
void conjugate_multiply_add(Complex<T>* sum, const Complex<T>* a, const Complex<T>* b, int64_t size) {
  for (int64_t k = 0; k < size; ++k) {
    sum[k].re += a[k].re * b[k].re + a[k].im * b[k].im;
    sum[k].im += a[k].re * b[k].im - a[k].im * b[k].re;
  }
}

template <class T>
void zero(Complex<T>* values, int64_t size) {
  std::fill(values, values + size, Complex<T>{});
}

// Sizes and transform of one call, shared by its tiles and read-only, so threads need no lock.
template <class T, class Storage>
class LongConv {
 public:
  LongConv(const ConvSizes& sizes, const T* kernel, const T* D)
      : sizes_(sizes),
        fft_(block_size(sizes.length)),
        blocks_((sizes.length + fft_.size() - 1) / fft_.size()),
        scale_(T(1) / static_cast<T>(fft_.size())),
        kernel_(kernel),
        D_(D) {}

  int64_t tiles() const { return (sizes_.channels + kLanes<T> - 1) / kLanes<T>; }

  // Computes tiles first <= tile < last, with working memory of their own. Tiles are the outer loop because the
  // kernel's spectra serve the whole batch. The spectra of one tile take 3.5 MiB in float32 for L = 11,820.
  void forward(int64_t first, int64_t last, const Storage* u, Storage* y) const {
    // The current block of the output, and the previous one, which holds the overlap.
    const Spectra<T> kernel(blocks_, fft_.size()), input(blocks_, fft_.size()), output(2, fft_.size());
    for (int64_t tile = first; tile < last; ++tile) {
      transform_kernel(tile, kernel);
      for (int64_t b = 0; b < sizes_.batch; ++b) {
        forward_sequence(rows(u, tile, b), kernel, input, output, rows(y, tile, b));
      }
    }
  }

  // Computes the gradients of the same tiles: du [B, L, H], dkernel [H, K] and dD [H].
  void backward(int64_t first, int64_t last, const Storage* grad, const Storage* u, Storage* du, T* dkernel,
                T* dD) const {
    const Spectra<T> kernel(blocks_, fft_.size()), input(blocks_, fft_.size()), output(blocks_, fft_.size());
    const Spectra<T> input_grad(1, fft_.size()), kernel_grad(blocks_, fft_.size());
    for (int64_t tile = first; tile < last; ++tile) {
      // The batch's contributions to the kernel's gradient add up in the frequency domain: one inverse transform for
      // all.
      zero(kernel_grad[0], blocks_ * fft_.size());
      transform_kernel(tile, kernel);
      for (int64_t b = 0; b < sizes_.batch; ++b) {
        transform_input(rows(u, tile, b), input);
        transform_gradient(rows(grad, tile, b), output);
        backward_sequence(kernel, input, output, input_grad[0], kernel_grad, rows(du, tile, b));
      }
      store_kernel_gradient(tile, kernel_grad, dkernel, dD);
    }
  }

 private:
  void forward_sequence(const Rows<T, const Storage>& source, const Spectra<T>& kernel, const Spectra<T>& input,
                        const Spectra<T>& output, const Rows<T, Storage>& result) const {
    const int64_t size = fft_.size();
    for (int64_t block = 0; block < blocks_; ++block) {
      transform_block(source, block, input[block]);
      Complex<T>*sum = output[block % 2], *before = output[(block + 1) % 2];
      zero(sum, size);
      for (int64_t j = 0; j <= block; ++j) {
        multiply_add(sum, kernel[j], input[block - j], size);
      }
      fft_.inverse(sum);
      const int64_t start = block * size, end = std::min(start + size, sizes_.length);
      for (int64_t t = start; t < end; ++t) {
        const Vector<T> overlap = block > 0 ? before[t - start].im : Vector<T>{};
        result.store(t, (sum[t - start].re + overlap) * scale_);
      }
    }
  }

  void backward_sequence(const Spectra<T>& kernel, const Spectra<T>& input, const Spectra<T>& output,
                         Complex<T>* input_grad, const Spectra<T>& kernel_grad, const Rows<T, Storage>& result) const {
    const int64_t size = fft_.size();
    for (int64_t block = 0; block < blocks_; ++block) {
      zero(input_grad, size);
      // dX_m and dK_j read the same dZ_(m+j): one pass over it serves both.
      for (int64_t j = 0; block + j < blocks_; ++j) {
        conjugate_multiply_add(input_grad, kernel[j], output[block + j], size);
        conjugate_multiply_add(kernel_grad[j], input[block], output[block + j], size);
      }
      fft_.inverse(input_grad);
      const int64_t start = block * size, end = std::min(start + size, sizes_.length);
      for (int64_t t = start; t < end; ++t) {
        result.store(t, input_grad[t - start].re * scale_);
      }
    }
  }

  void store_kernel_gradient(int64_t tile, const Spectra<T>& kernel_grad, T* dkernel, T* dD) const {
    const int64_t first = tile * kLanes<T>, width = tile_width(tile);
    for (int64_t block = 0; block < blocks_; ++block) {
      fft_.inverse(kernel_grad[block]);
      const int64_t start = block * fft_.size(), end = std::min(start + fft_.size(), sizes_.taps);
      for (int64_t lane = 0; lane < width; ++lane) {
        for (int64_t t = start; t < end; ++t) {
          dkernel[(first + lane) * sizes_.taps + t] = kernel_grad[block][t - start].re[lane] * scale_;
        }
      }
    }
    // D joined the first tap (`transform_kernel`), so it has that tap's gradient.
    for (int64_t lane = 0; lane < width; ++lane) {
      dD[first + lane] = blocks_ > 0 ? kernel_grad[0][0].re[lane] * scale_ : T(0);
    }
  }

  int64_t tile_width(int64_t tile) const { return std::min(kLanes<T>, sizes_.channels - tile * kLanes<T>); }

  template <class S>
  Rows<T, S> rows(S* data, int64_t tile, int64_t b) const {
    S* first = data + b * sizes_.length * sizes_.channels + tile * kLanes<T>;
    return {first, sizes_.length, sizes_.channels, tile_width(tile)};
  }

  void transform_block(const Rows<T, const Storage>& source, int64_t block, Complex<T>* spectrum) const {
    for (int64_t t = 0; t < fft_.size(); ++t) {
      spectrum[t] = {source.load(block * fft_.size() + t), Vector<T>{}};
    }
    fft_.forward(spectrum);
  }

  void transform_input(const Rows<T, const Storage>& source, const Spectra<T>& spectra) const {
    for (int64_t block = 0; block < blocks_; ++block) {
      transform_block(source, block, spectra[block]);
    }
  }

  // Transforms of g_i + i g_(i+1). Each block of the gradient is read once: it is the real part of its own transform
  // and the imaginary part of the one before, which is complete only then.
  void transform_gradient(const Rows<T, const Storage>& upstream, const Spectra<T>& spectra) const {
    const int64_t size = fft_.size();
    for (int64_t block = 0; block < blocks_; ++block) {
      for (int64_t t = 0; t < size; ++t) {
        const Vector<T> value = upstream.load(block * size + t);
        spectra[block][t] = {value, Vector<T>{}};
        if (block > 0) {
          spectra[block - 1][t].im = value;
        }
      }
      if (block > 0) {
        fft_.forward(spectra[block - 1]);
      }
    }
    if (blocks_ > 0) {
      fft_.forward(spectra[blocks_ - 1]);
    }
  }

  // D multiplies the current sample, as the first tap does. Added to that tap, the skip costs nothing.
  void transform_kernel(int64_t tile, const Spectra<T>& spectra) const {
    const int64_t first = tile * kLanes<T>, width = tile_width(tile);
    for (int64_t block = 0; block < blocks_; ++block) {
      const int64_t start = block * fft_.size(), taps = std::min(fft_.size(), sizes_.taps - start);
      zero(spectra[block], fft_.size());
      for (int64_t t = 0; t < taps; ++t) {
        for (int64_t lane = 0; lane < width; ++lane) {
          spectra[block][t].re[lane] = kernel_[(first + lane) * sizes_.taps + start + t];
        }
      }
      for (int64_t lane = 0; block == 0 && lane < width; ++lane) {
        spectra[block][0].re[lane] += D_[first + lane];
      }
      fft_.forward(spectra[block]);
    }
  }

  ConvSizes sizes_;
  NegacyclicFFT<T> fft_;
  int64_t blocks_;  // P
  T scale_;         // 1 / T, which `inverse` leaves out
  const T* kernel_;
  const T* D_;
};

template <class T, class Storage>
void run_forward(const ConvSizes& sizes, const Tensor& u, const Tensor& kernel, const Tensor& D, Tensor& y) {
  const LongConv<T, Storage> conv(sizes, static_cast<const T*>(kernel.const_data_ptr()),
                                  static_cast<const T*>(D.const_data_ptr()));
  const auto* source = static_cast<const Storage*>(u.const_data_ptr());
  auto* result = static_cast<Storage*>(y.mutable_data_ptr());
  torch::stable::parallel_for(0, conv.tiles(), 1, [&](int64_t begin, int64_t end) {
    conv.forward(begin, end, source, result);
  });
}

template <class T, class Storage>
void run_backward(const ConvSizes& sizes, const Tensor& grad, const Tensor& u, const Tensor& kernel, const Tensor& D,
                  Tensor& du, Tensor& dkernel, Tensor& dD) {
  const LongConv<T, Storage> conv(sizes, static_cast<const T*>(kernel.const_data_ptr()),
                                  static_cast<const T*>(D.const_data_ptr()));
  const auto* upstream = static_cast<const Storage*>(grad.const_data_ptr());
  const auto* source = static_cast<const Storage*>(u.const_data_ptr());
  auto* source_grad = static_cast<Storage*>(du.mutable_data_ptr());
  auto* kernel_grad = static_cast<T*>(dkernel.mutable_data_ptr());
  auto* skip_grad = static_cast<T*>(dD.mutable_data_ptr());
  torch::stable::parallel_for(0, conv.tiles(), 1, [&](int64_t begin, int64_t end) {
    conv.backward(begin, end, upstream, source, source_grad, kernel_grad, skip_grad);
  });
}

Tensor long_conv(const Tensor& u, const Tensor& kernel, const Tensor& D) {
  const ConvSizes sizes(u, kernel, D);
  Tensor y = torch::stable::empty_like(u);
  switch (u.scalar_type()) {
    case ScalarType::Float:
      run_forward<float, float>(sizes, u, kernel, D, y);
      break;
    case ScalarType::Double:
      run_forward<double, double>(sizes, u, kernel, D, y);
      break;
    case ScalarType::BFloat16:
      run_forward<float, BFloat16>(sizes, u, kernel, D, y);
      break;
    case ScalarType::Half:
      run_forward<float, Half>(sizes, u, kernel, D, y);
      break;
    default:
      STD_TORCH_CHECK(false, "u must be a real floating-point tensor");
  }
  return y;
}

std::tuple<Tensor, Tensor, Tensor> long_conv_backward(const Tensor& grad, const Tensor& u, const Tensor& kernel,
                                                      const Tensor& D) {
  const ConvSizes sizes(u, kernel, D);
  require_shape(grad, "grad", {sizes.batch, sizes.length, sizes.channels});
  STD_TORCH_CHECK(grad.scalar_type() == u.scalar_type(), "grad must have u's dtype");
  Tensor du = torch::stable::empty_like(u);
  Tensor dkernel = torch::stable::empty_like(kernel), dD = torch::stable::empty_like(D);
  switch (u.scalar_type()) {
    case ScalarType::Float:
      run_backward<float, float>(sizes, grad, u, kernel, D, du, dkernel, dD);
      break;
    case ScalarType::Double:
      run_backward<double, double>(sizes, grad, u, kernel, D, du, dkernel, dD);
      break;
    case ScalarType::BFloat16:
      run_backward<float, BFloat16>(sizes, grad, u, kernel, D, du, dkernel, dD);
      break;
    case ScalarType::Half:
      run_backward<float, Half>(sizes, grad, u, kernel, D, du, dkernel, dD);
      break;
    default:
      STD_TORCH_CHECK(false, "u must be a real floating-point tensor");
  }
  return {du, dkernel, dD};
}

}  // namespace
}  // namespace vis4mer::cpu

STABLE_TORCH_LIBRARY_IMPL(vis4mer, CPU, m) {
  m.impl("long_conv", TORCH_BOX(&vis4mer::cpu::long_conv));
  m.impl("long_conv_backward", TORCH_BOX(&vis4mer::cpu::long_conv_backward));
}
