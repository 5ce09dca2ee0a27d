// The launches of one call of long_conv: the spectra of the whole filter, then those of the signal, one span of
// channels at a time. Spans bound the scratch memory, and keep most of what one launch writes in the second-level cache
// for the next, so it does not travel to memory and back.
#pragma once

#include <algorithm>

#include "long_conv.cuh"
#include "spectra.cuh"

namespace vis4mer::cuda {

constexpr int64_t kSpanBytes = int64_t{64} << 20;  // signal spectra held at once; more only if one tile needs it

// `launch(kernel, blocks, threads, shared bytes, arguments...)` runs a kernel on the caller's device and stream.
template <class T, int N, class Storage, class Launch>
class LongConv {
 public:
  using Transform = BlockTransform<T, N>;

  LongConv(const ConvShape& shape, const Launch& launch, int64_t span_bytes = kSpanBytes)
      : shape_(shape),
        launch_(launch),
        blocks_((shape.length + N - 1) / N),
        tiles_((shape.channels + kChannels - 1) / kChannels),
        span_tiles_(std::clamp<int64_t>(
            span_bytes / (shape.batch * tile_values() * static_cast<int64_t>(sizeof(Complex<T>))), 1, tiles_)) {}

  // Complex values of scratch memory that either pass needs.
  int64_t forward_workspace() const { return Transform::kTwiddles + filter_values() + span_values(); }
  int64_t backward_workspace() const { return Transform::kTwiddles + 2 * (filter_values() + span_values()); }

  void forward(const Storage* u, const T* kernel, const T* D, Storage* y, Complex<T>* workspace) const {
    Complex<T>* const twiddles = workspace;
    Complex<T>* const filter = twiddles + Transform::kTwiddles;
    Complex<T>* const signal = filter + filter_values();
    prepare(kernel, D, twiddles, filter);
    for (int64_t tile = 0; tile < tiles_; tile += span_tiles_) {
      const Span part = span(tile, span_tiles_);
      transform<-1>(sequences(u), part, shape_.batch, twiddles, signal);
      launch_(convolve_spectra<T>, column_groups(part) * ceil_div(shape_.batch, rows(shape_.batch)),
              dim3(kColumns, rows(shape_.batch)), 0, of_filter<const Complex<T>>(filter, part),
              of_signal<Complex<T>>(signal, part), columns(part), part.blocks, static_cast<int>(shape_.batch));
      invert(sequences(y), part, shape_.batch, twiddles, signal);
    }
  }

  void backward(const Storage* grad, const Storage* u, const T* kernel, const T* D, Storage* du, T* dkernel, T* dD,
                Complex<T>* workspace) const {
    Complex<T>* const twiddles = workspace;
    Complex<T>* const filter = twiddles + Transform::kTwiddles;
    Complex<T>* const filter_grad = filter + filter_values();
    Complex<T>* const signal = filter_grad + filter_values();
    Complex<T>* const upstream = signal + span_values();
    prepare(kernel, D, twiddles, filter);
    for (int64_t tile = 0; tile < tiles_; tile += span_tiles_) {
      const Span part = span(tile, span_tiles_);
      transform<0>(sequences(u), part, shape_.batch, twiddles, signal);
      transform<1>(sequences(grad), part, shape_.batch, twiddles, upstream);
      // First the filter's gradient, summed over the batch. The second correlation overwrites the signal's spectra,
      // which only the first one reads.
      const auto gradients = of_signal<const Complex<T>>(upstream, part);
      correlate(of_signal<const Complex<T>>(signal, part), gradients, of_filter<Complex<T>>(filter_grad, part), part, 1,
                shape_.batch);
      correlate(of_filter<const Complex<T>>(filter, part), gradients, of_signal<Complex<T>>(signal, part), part,
                shape_.batch, 1);
      invert(sequences(du), part, shape_.batch, twiddles, signal);
    }
    invert(Taps<T, T>{dkernel, dD, shape_.taps, shape_.channels}, span(0, tiles_), 1, twiddles, filter_grad);
  }

 private:
  static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
  // Rows of a thread block: elements of the batch, which read the same values of the filter from the first-level cache.
  static int64_t rows(int64_t batch) { return std::min<int64_t>(batch, 8); }

  int64_t tile_values() const { return blocks_ * N * kChannels; }
  int64_t filter_values() const { return tiles_ * tile_values(); }
  int64_t span_values() const { return shape_.batch * span_tiles_ * tile_values(); }
  int columns(const Span& span) const { return span.tiles * N * kChannels; }
  int column_groups(const Span& span) const { return columns(span) / kColumns; }
  Span span(int64_t first, int64_t tiles) const {
    return {static_cast<int>(first), static_cast<int>(std::min(tiles, tiles_ - first)), static_cast<int>(blocks_)};
  }

  template <class Values>
  Signal<T, Values> sequences(Values* data) const {
    return {data, shape_.length, shape_.channels};
  }
  // The filter's spectra hold all tiles and have no batch: with a stride of zero every element reads the same ones. The
  // signal's hold the span's tiles only.
  template <class Value>
  Spectra<Value> of_filter(Value* values, const Span& span) const {
    return {values + int64_t{span.first_tile} * N * kChannels, 0, static_cast<int>(tiles_ * N * kChannels)};
  }
  template <class Value>
  Spectra<Value> of_signal(Value* values, const Span& span) const {
    return {values, blocks_ * columns(span), columns(span)};
  }

  // Launches on one stream run in order, so the transforms find the twiddle factors complete.
  void prepare(const T* kernel, const T* D, Complex<T>* twiddles, Complex<T>* filter) const {
    launch_(fill_twiddles<T, N>, ceil_div(Transform::kTwiddles, 128), dim3(128), 0, twiddles);
    transform<0>(Taps<T, const T>{kernel, D, shape_.taps, shape_.channels}, span(0, tiles_), 1, twiddles, filter);
  }

  template <int Companion, class Source>
  void transform(const Source& source, const Span& span, int64_t batch, const Complex<T>* twiddles,
                 Complex<T>* spectra) const {
    launch_(transform_blocks<T, N, Companion, Source>, batch * span.blocks * span.tiles,
            dim3(Transform::kThreads * kChannels), Transform::kSharedBytes, source, span, twiddles, spectra);
  }

  template <class Sink>
  void invert(const Sink& sink, const Span& span, int64_t batch, const Complex<T>* twiddles,
              const Complex<T>* spectra) const {
    launch_(invert_blocks<T, N, Sink>, batch * span.blocks * span.tiles,
            dim3(Transform::kThreads * kChannels), Transform::kSharedBytes, sink, span, twiddles, spectra);
  }

  // Sums over `terms` elements of the batch into each of `batch` results.
  void correlate(const Spectra<const Complex<T>>& a, const Spectra<const Complex<T>>& z,
                 const Spectra<Complex<T>>& result, const Span& span, int64_t batch, int64_t terms) const {
    const int64_t outputs = batch * ceil_div(blocks_, kRegisterBlocks);
    launch_(correlate_spectra<T>, column_groups(span) * ceil_div(outputs, rows(outputs)),
            dim3(kColumns, rows(outputs)), 0, a, z, result, columns(span), span.blocks,
            static_cast<int>(batch), static_cast<int>(terms));
  }

  ConvShape shape_;
  const Launch& launch_;
  int64_t blocks_;      // P
  int64_t tiles_;       // of kChannels channels
  int64_t span_tiles_;  // tiles whose signal spectra are held at once
};

}  // namespace vis4mer::cuda
