// The schema of the native ops. Derivatives and shape inference are registered from Python
// (vis4mer_kernels/autograd.py); the implementations are in cpu/ and cuda/. Complex tensors [...] are passed as pairs
// of reals [..., 2].

#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(vis4mer, m) {
  m.def(
      "ssm_spectrum(Tensor dt, Tensor poles, Tensor residues, Tensor numerator, Tensor beta, Tensor factor) "
      "-> Tensor");
  m.def(
      "ssm_spectrum_backward(Tensor grad, Tensor dt, Tensor poles, Tensor residues, Tensor numerator, Tensor beta, "
      "Tensor factor) -> (Tensor, Tensor, Tensor)");
  m.def("long_conv(Tensor u, Tensor kernel, Tensor D) -> Tensor");
  m.def("long_conv_backward(Tensor grad, Tensor u, Tensor kernel, Tensor D) -> (Tensor, Tensor, Tensor)");
}
