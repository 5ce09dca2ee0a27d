// TorchScript and pt2 graphs with LibTorch, on the CPU and on NVIDIA GPUs.

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <sys/mman.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/serialization/import.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <sstream>

#include "backend.h"
#include "errors.h"

namespace vis4mer {
namespace {

using Program = std::function<at::Tensor(const at::Tensor&)>;

at::Device to_torch(const Device& device) {
  return device.cuda ? at::Device(at::kCUDA, static_cast<at::DeviceIndex>(device.index)) : at::Device(at::kCPU);
}

void require_gpu(const Device& device) {
  // A LibTorch without CUDA, or one that the driver is too old for, has none.
  const int64_t count = at::hasCUDA() ? at::detail::getCUDAHooks().deviceCount() : 0;
  if (device.index >= count) {
    fail<DeviceError>("device", quote(device.name()), "LibTorch finds GPUs: " + std::to_string(count),
                      "use the device cpu, or a LibTorch with CUDA that this machine's driver supports");
  }
}

Program load_torchscript(const Graph& graph, const Device& device) {
  std::istringstream stream(graph.bytes);
  auto module = std::make_shared<torch::jit::Module>(torch::jit::load(stream, to_torch(device)));
  module->eval();
  return [module](const at::Tensor& input) { return module->forward({input}).toTensor(); };
}

Program load_pt2(const Graph& graph, const Device& device) {
  // The package loader reads paths only. A file in memory holds the very bytes whose digest was checked.
  const int memory = memfd_create(graph.file.c_str(), MFD_CLOEXEC);
  const std::string path = "/proc/self/fd/" + std::to_string(memory);
  const bool written = static_cast<bool>(std::ofstream(path, std::ios::binary) << graph.bytes << std::flush);
  std::shared_ptr<torch::inductor::AOTIModelPackageLoader> package;
  std::string problem = written ? "" : "it does not fit into memory";
  if (written) {
    try {
      const auto index = static_cast<at::DeviceIndex>(device.cuda ? device.index : -1);
      package = std::make_shared<torch::inductor::AOTIModelPackageLoader>(path, "model", false, 1, index);
    } catch (const std::exception& error) {
      problem = first_line(error.what());
    }
  }
  close(memory);
  if (!package) {
    fail<BundleError>("graph", quote(graph.name), "LibTorch cannot load it: " + problem);
  }
  const std::string compiled_for = package->get_metadata()["AOTI_DEVICE_KEY"];
  if (compiled_for != (device.cuda ? "cuda" : "cpu")) {
    fail<DeviceError>("device", quote(device.name()), graph.name + " was compiled for " + compiled_for,
                      "export it with --device " + std::string(device.cuda ? "cuda" : "cpu"));
  }
  return [package](const at::Tensor& input) { return package->run({input}).at(0); };
}

Program load(const Graph& graph, const Device& device) {
  if (device.cuda) {
    require_gpu(device);
    // Rounding to TF32, LibTorch's default for convolutions, costs more accuracy than an export allows.
    at::globalContext().setAllowTF32CuDNN(false);
  }
  try {
    return graph.format == "pt2" ? load_pt2(graph, device) : load_torchscript(graph, device);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    fail<BundleError>("graph", quote(graph.name), "LibTorch cannot load it: " + first_line(error.what()));
  }
}

class TorchRunner : public Runner {
 public:
  TorchRunner(const Graph& graph, const Device& device)
      : name_(graph.name), device_(device), interface_(graph.interface), program_(load(graph, device)) {}

  void run(const void* input, Memory input_in, void* output, Memory output_in, int64_t batch) override {
    at::Tensor result;
    const at::InferenceMode inference;
    const c10::OptionalDeviceGuard guard(to_torch(device_));
    try {
      // LibTorch has no tensors of constant memory; programs do not write to their inputs.
      result = program_(view(const_cast<void*>(input), input_in, interface_.input, batch).to(to_torch(device_)));
    } catch (const std::exception& error) {
      fail<DeviceError>(
          "device", quote(device_.name()),
          name_ + " failed on a batch of shape " + shown(batch, interface_.input) + ": " + first_line(error.what()),
          "try a smaller batch");
    }
    at::Tensor target = view(output, output_in, interface_.output, batch);
    if (result.scalar_type() != target.scalar_type() || result.sizes() != target.sizes()) {
      fail<BundleError>("graph", quote(name_), "its result is not float32" + shown(batch, interface_.output),
                        "export the bundle again");
    }
    target.copy_(result);
    if (device_.cuda) {
      const c10::impl::VirtualGuardImpl queues(at::kCUDA);
      queues.getStream(to_torch(device_)).synchronize();
    }
  }

 private:
  // A tensor over memory that the caller owns.
  at::Tensor view(void* data, Memory in, const TensorSpec& spec, int64_t batch) const {
    std::vector<int64_t> shape{batch};
    shape.insert(shape.end(), spec.sizes.begin(), spec.sizes.end());
    const at::Device device = in == Memory::kDevice ? to_torch(device_) : at::Device(at::kCPU);
    return at::from_blob(data, shape, at::dtype(spec.dtype == "uint8" ? at::kByte : at::kFloat).device(device));
  }

  std::string name_;
  Device device_;
  GraphInterface interface_;
  Program program_;
};

}  // namespace

std::unique_ptr<Runner> open_torch(const Graph& graph, const Device& device) {
  return std::make_unique<TorchRunner>(graph, device);
}

}  // namespace vis4mer
