// The op ssm_spectrum on CUDA devices: checks, scratch memory and the choice of the type.

#include <tuple>

#include <torch/csrc/stable/library.h>

#include "../shapes.h"
#include "launch.cuh"
#include "ssm_spectrum_launch.cuh"

namespace vis4mer::cuda {
namespace {

template <class T>
Spectrum<T> spectrum_of(const SpectrumSizes& sizes, const Tensor& dt, const Tensor& poles, const Tensor& residues,
                        const Tensor& numerator, const Tensor& beta, const Tensor& factor) {
  return {data<T>(dt),
          data<Complex<T>>(poles),
          data<Complex<T>>(residues),
          data<Complex<T>>(numerator),
          data<T>(beta),
          data<Complex<T>>(factor),
          sizes.channels,
          sizes.pairs,
          sizes.frequencies};
}

// Calls `run.operator()<T>()` with the type of the inputs.
template <class Run>
void dispatch(const Tensor& dt, const Run& run) {
  if (dt.scalar_type() == ScalarType::Double) {
    run.template operator()<double>();
  } else {
    run.template operator()<float>();
  }
}

Tensor ssm_spectrum(const Tensor& dt, const Tensor& poles, const Tensor& residues, const Tensor& numerator,
                    const Tensor& beta, const Tensor& factor) {
  const SpectrumSizes sizes(dt, poles, residues, numerator, beta, factor);
  require_device(dt, {&poles, &residues, &numerator, &beta, &factor});
  Tensor result = torch::stable::new_empty(dt, {sizes.channels, sizes.frequencies, 2});
  if (sizes.channels == 0 || sizes.frequencies == 0) {
    return result;
  }
  const Launch launch(dt);
  dispatch(dt, [&]<class T>() {
    const auto spectrum = spectrum_of<T>(sizes, dt, poles, residues, numerator, beta, factor);
    run_spectrum_forward(launch, spectrum, data<Complex<T>>(result));
  });
  return result;
}

std::tuple<Tensor, Tensor, Tensor> ssm_spectrum_backward(const Tensor& grad, const Tensor& dt, const Tensor& poles,
                                                         const Tensor& residues, const Tensor& numerator,
                                                         const Tensor& beta, const Tensor& factor) {
  const SpectrumSizes sizes(dt, poles, residues, numerator, beta, factor);
  require_shape(grad, "grad", {sizes.channels, sizes.frequencies, 2});
  STD_TORCH_CHECK(grad.scalar_type() == dt.scalar_type(), "grad must have dt's dtype");
  require_device(dt, {&grad, &poles, &residues, &numerator, &beta, &factor});
  Tensor ddt = torch::stable::empty_like(dt), dpoles = torch::stable::empty_like(poles);
  Tensor dresidues = torch::stable::empty_like(residues);
  if (sizes.channels == 0 || sizes.frequencies == 0 || sizes.pairs == 0) {
    for (Tensor* result : {&ddt, &dpoles, &dresidues}) {
      torch::stable::zero_(*result);
    }
    return {ddt, dpoles, dresidues};
  }
  const Launch launch(dt);
  dispatch(dt, [&]<class T>() {
    const auto spectrum = spectrum_of<T>(sizes, dt, poles, residues, numerator, beta, factor);
    Tensor partial = torch::stable::new_empty(dt, {partial_values(spectrum)});
    run_spectrum_backward(launch, spectrum, data<Complex<T>>(grad), data<T>(partial), data<T>(ddt),
                          data<Complex<T>>(dpoles), data<Complex<T>>(dresidues));
  });
  return {ddt, dpoles, dresidues};
}

}  // namespace
}  // namespace vis4mer::cuda

STABLE_TORCH_LIBRARY_IMPL(vis4mer, CUDA, m) {
  m.impl("ssm_spectrum", TORCH_BOX(&vis4mer::cuda::ssm_spectrum));
  m.impl("ssm_spectrum_backward", TORCH_BOX(&vis4mer::cuda::ssm_spectrum_backward));
}
