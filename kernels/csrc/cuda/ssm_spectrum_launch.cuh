// The launches of one call of ssm_spectrum and of its backward pass.
#pragma once

#include "ssm_spectrum_backward.cuh"

namespace vis4mer::cuda {

// Frequencies whose gradients one thread block adds up. More would leave multiprocessors idle where there are few
// channels; fewer would write more partial sums.
constexpr int64_t kSpanSize = 8 * kFrequencyThreads;

// `launch(kernel, blocks, threads, shared bytes, arguments...)` runs a kernel on the caller's device and stream.
template <class T, class Launch>
void run_spectrum_forward(const Launch& launch, const Spectrum<T>& spectrum, Complex<T>* result) {
  const int64_t spans = (spectrum.frequencies + kFrequencyThreads - 1) / kFrequencyThreads;
  const int shared = static_cast<int>(spectrum.pairs * sizeof(FoldedPole<T>));
  launch(spectrum_forward<T>, spectrum.channels * spans, dim3(kFrequencyThreads), shared, spectrum, result);
}

template <class T>
int64_t gradient_spans(const Spectrum<T>& spectrum) {
  return (spectrum.frequencies + kSpanSize - 1) / kSpanSize;
}

// Real values of scratch memory that the backward pass needs.
template <class T>
int64_t partial_values(const Spectrum<T>& spectrum) {
  return gradient_spans(spectrum) * spectrum.channels * (1 + spectrum.pairs * kPoleValues);
}

template <class T, class Launch>
void run_spectrum_backward(const Launch& launch, const Spectrum<T>& spectrum, const Complex<T>* grad, T* partial,
                           T* ddt, Complex<T>* dpoles, Complex<T>* dresidues) {
  const int64_t spans = gradient_spans(spectrum), sums = spectrum.channels * (1 + spectrum.pairs);
  // The arrays of spectrum_backward, in its order: `upstream`, `gathered`, `folded`.
  const int shared = static_cast<int>(kFrequencyThreads * (sizeof(Upstream<T>) + kPoleValues * sizeof(T)) +
                                      spectrum.pairs * sizeof(FoldedPole<T>));
  launch(spectrum_backward<T>, spectrum.channels * spans, dim3(kFrequencyThreads), shared, spectrum, grad, spans,
         kSpanSize, partial);
  launch(sum_partials<T>, (sums + 255) / 256, dim3(256), 0, spectrum, static_cast<const T*>(partial), spans, ddt,
         dpoles, dresidues);
}

}  // namespace vis4mer::cuda
