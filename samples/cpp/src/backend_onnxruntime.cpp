// ONNX graphs with ONNX Runtime, on the CPU or through its CUDA provider.

#include <onnxruntime_cxx_api.h>

#include "backend.h"
#include "errors.h"

namespace vis4mer {
namespace {

ONNXTensorElementDataType element_type(const TensorSpec& spec) {
  return spec.dtype == "uint8" ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

size_t element_size(const TensorSpec& spec) { return spec.dtype == "uint8" ? 1 : sizeof(float); }

// Whether a graph's tensor is the one that the manifest states; ONNX Runtime writes -1 for a dynamic axis.
bool fits(const std::string& name, const Ort::TypeInfo& type, const TensorSpec& spec) {
  if (name != spec.name || type.GetONNXType() != ONNX_TYPE_TENSOR) {
    return false;
  }
  const auto tensor = type.GetTensorTypeAndShapeInfo();
  std::vector<int64_t> expected{-1};
  expected.insert(expected.end(), spec.sizes.begin(), spec.sizes.end());
  return tensor.GetElementType() == element_type(spec) && tensor.GetShape() == expected;
}

// For headers newer than itself the library returns a null pointer, which ONNX Runtime's classes would use.
const Device& require_api(const Device& device) {
  const OrtApiBase* base = OrtGetApiBase();
  if (base->GetApi(ORT_API_VERSION) == nullptr) {
    fail<DeviceError>("onnxruntime", base->GetVersionString(),
                      "is older than the headers of this build, of API version " + std::to_string(ORT_API_VERSION),
                      "install release 1." + std::to_string(ORT_API_VERSION) + " or later");
  }
  return device;
}

class OnnxRunner : public Runner {
 public:
  OnnxRunner(const Graph& graph, const Device& device)
      : name_(graph.name),
        device_(require_api(device)),
        interface_(graph.interface),
        environment_(ORT_LOGGING_LEVEL_FATAL, "vis4mer"),  // errors also arrive as exceptions
        host_memory_(Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault)),
        device_memory_(device.cuda ? Ort::MemoryInfo("Cuda", OrtDeviceAllocator, device.index, OrtMemTypeDefault)
                                   : Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault)) {
    environment_.DisableTelemetryEvents();
    Ort::SessionOptions options;
    options.SetLogSeverityLevel(ORT_LOGGING_LEVEL_FATAL);
    // A graph may name files to read its weights from, "../../" included. No file lies below a device file.
    options.AddConfigEntry("session.model_external_initializers_file_folder_path", "/dev/null");
    add_companions(graph, options);
    if (device.cuda) {
      add_cuda(options);
    }
    try {
      session_ = Ort::Session(environment_, graph.bytes.data(), graph.bytes.size(), options);
    } catch (const Ort::Exception& error) {
      refuse(error);
    }
    require_interface();
  }

  void run(const void* input, Memory input_in, void* output, Memory output_in, int64_t batch) override {
    try {
      // A binding belongs to one call, so several threads can run the session at the same time. ONNX Runtime has no
      // tensors of constant memory, and does not write to its inputs.
      Ort::IoBinding binding(session_);
      binding.BindInput(interface_.input.name.c_str(),
                        view(const_cast<void*>(input), input_in, interface_.input, batch));
      binding.BindOutput(interface_.output.name.c_str(), view(output, output_in, interface_.output, batch));
      binding.SynchronizeInputs();
      session_.Run(Ort::RunOptions(), binding);
      binding.SynchronizeOutputs();
    } catch (const Ort::Exception& error) {
      fail<DeviceError>(
          "device", quote(device_.name()),
          name_ + " failed on a batch of shape " + shown(batch, interface_.input) + ": " + first_line(error.what()),
          "try a smaller batch");
    }
  }

 private:
  static void add_companions(const Graph& graph, Ort::SessionOptions& options) {
    std::vector<std::string> names;
    std::vector<char*> contents;
    std::vector<size_t> sizes;
    for (const auto& [name, bytes] : graph.companions) {
      names.push_back(name);
      contents.push_back(const_cast<char*>(bytes.data()));  // read only, and copied while the session is made
      sizes.push_back(bytes.size());
    }
    if (!names.empty()) {
      options.AddExternalInitializersFromFilesInMemory(names, contents, sizes);
    }
  }

  // Throws if the provider is missing: nodes that it does not support may run on the CPU, but never the whole graph.
  void add_cuda(Ort::SessionOptions& options) const {
    try {
      Ort::CUDAProviderOptions cuda;
      cuda.Update({{"device_id", std::to_string(device_.index)}, {"use_tf32", "0"}});
      options.AppendExecutionProvider_CUDA_V2(*cuda);
    } catch (const Ort::Exception& error) {
      fail<DeviceError>("device", quote(device_.name()),
                        "ONNX Runtime has no usable CUDA provider: " + first_line(error.what()),
                        "install ONNX Runtime for GPUs with its CUDA and cuDNN, or use the device cpu");
    }
  }

  [[noreturn]] void refuse(const Ort::Exception& error) const {
    const std::string rule = "ONNX Runtime cannot load it on " + device_.name() + ": " + first_line(error.what());
    // ONNX Runtime's CPU provider has no kernels for bf16 products, for example.
    const char* remedy = error.GetOrtErrorCode() == ORT_NOT_IMPLEMENTED ? "export with --precision fp32" : "";
    if (device_.cuda) {
      fail<DeviceError>("graph", quote(name_), rule, remedy);
    }
    fail<BundleError>("graph", quote(name_), rule, remedy);
  }

  void require_interface() const {
    const Ort::AllocatorWithDefaultOptions allocator;
    const bool same =
        session_.GetInputCount() == 1 && session_.GetOutputCount() == 1 &&
        fits(session_.GetInputNameAllocated(0, allocator).get(), session_.GetInputTypeInfo(0), interface_.input) &&
        fits(session_.GetOutputNameAllocated(0, allocator).get(), session_.GetOutputTypeInfo(0), interface_.output);
    if (!same) {
      fail<BundleError>("graph", quote(name_), "its inputs and outputs are not those that the manifest states",
                        "export the bundle again");
    }
  }

  // A tensor over memory that the caller owns.
  Ort::Value view(void* data, Memory in, const TensorSpec& spec, int64_t batch) const {
    std::vector<int64_t> shape{batch};
    shape.insert(shape.end(), spec.sizes.begin(), spec.sizes.end());
    const size_t bytes = static_cast<size_t>(batch * spec.row()) * element_size(spec);
    return Ort::Value::CreateTensor(in == Memory::kDevice ? device_memory_ : host_memory_, data, bytes, shape.data(),
                                    shape.size(), element_type(spec));
  }

  std::string name_;
  Device device_;
  GraphInterface interface_;
  Ort::Env environment_;  // shared by all sessions, which it must outlive
  Ort::MemoryInfo host_memory_, device_memory_;
  Ort::Session session_{nullptr};
};

}  // namespace

std::unique_ptr<Runner> open_onnxruntime(const Graph& graph, const Device& device) {
  return std::make_unique<OnnxRunner>(graph, device);
}

}  // namespace vis4mer
