// Engines of TensorRT or of TensorRT for RTX: two products with one API, of which a build links one.

#include <NvInferRuntime.h>

#include <algorithm>
#include <mutex>

#include "backend.h"
#include "errors.h"

namespace vis4mer {
namespace {

using nvinfer1::DataType;

// TensorRT reports a failure by an entry of the log and a null. Later errors are consequences of the first.
class Log : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    const std::lock_guard lock(mutex_);
    const bool error = severity == Severity::kERROR || severity == Severity::kINTERNAL_ERROR;
    if (error && first_error_.empty()) {
      try {
        first_error_ = first_line(message);
      } catch (const std::exception&) {
        // Out of memory: the failure itself is reported all the same.
      }
    }
  }

  // The first error since the last call.
  std::string reason() {
    const std::lock_guard lock(mutex_);
    std::string reason = first_error_.empty() ? "no reason was given" : first_error_;
    first_error_.clear();
    return reason;
  }

 private:
  std::mutex mutex_;
  std::string first_error_;
};

size_t row_bytes(const TensorSpec& spec) {
  return static_cast<size_t>(spec.row()) * (spec.dtype == "uint8" ? 1 : sizeof(float));
}

nvinfer1::Dims to_dims(int64_t batch, const TensorSpec& spec) {
  nvinfer1::Dims dims{};
  dims.nbDims = static_cast<int32_t>(spec.sizes.size()) + 1;
  dims.d[0] = batch;
  std::copy(spec.sizes.begin(), spec.sizes.end(), dims.d + 1);
  return dims;
}

// An engine takes batches of the sizes in its profile. A larger batch is run in parts, and a smaller one at the
// smallest size. Memory for the largest size is allocated once.
class TensorRTRunner : public Runner {
 public:
  TensorRTRunner(const Graph& graph, const Device& device)
      : name_(graph.name), device_(require_gpu(device)), interface_(graph.interface), stream_(device) {
    const CurrentDevice current(device_);
    runtime_.reset(nvinfer1::createInferRuntime(log_));
    if (runtime_) {
      // Engines for several versions of TensorRT contain code, whose digest has been checked with the engine's.
      runtime_->setEngineHostCodeAllowed(true);
      engine_.reset(runtime_->deserializeCudaEngine(graph.bytes.data(), graph.bytes.size()));
    }
    if (!engine_) {
      fail<DeviceError>(
          "device", quote(device_.name()), "TensorRT cannot load the engine " + name_ + ": " + log_.reason(),
          "engines are bound to the GPU type and the version they were built with: export on this machine");
    }
    require_interface();
    const char* input = interface_.input.name.c_str();
    smallest_ = engine_->getProfileShape(input, 0, nvinfer1::OptProfileSelector::kMIN).d[0];
    largest_ = engine_->getProfileShape(input, 0, nvinfer1::OptProfileSelector::kMAX).d[0];
    context_.reset(engine_->createExecutionContext());
    if (!context_ || smallest_ < 1 || largest_ < smallest_) {
      fail<DeviceError>("device", quote(device_.name()), name_ + " cannot be prepared: " + log_.reason());
    }
    source_ = bind(interface_.input);
    result_ = bind(interface_.output);
  }

  ~TensorRTRunner() override {
    // TensorRT frees its memory on the current GPU. The driver has no reason to refuse one that has been in use.
    try {
      const CurrentDevice current(device_);
      context_.reset();
      engine_.reset();
      runtime_.reset();
    } catch (const Error&) {
    }
  }

  void run(const void* input, Memory, void* output, Memory, int64_t batch) override {
    // A context holds the shapes and addresses of one call, so calls take turns.
    const std::lock_guard lock(mutex_);
    const CurrentDevice current(device_);
    const size_t input_row = row_bytes(interface_.input), output_row = row_bytes(interface_.output);
    for (int64_t start = 0; start < batch; start += largest_) {
      const int64_t rows = std::min(largest_, batch - start);
      stream_.copy(source_.get(), static_cast<const std::byte*>(input) + start * input_row, rows * input_row);
      execute(std::max(rows, smallest_));
      stream_.copy(static_cast<std::byte*>(output) + start * output_row, result_.get(), rows * output_row);
      stream_.synchronize();
    }
  }

 private:
  static const Device& require_gpu(const Device& device) {
    if (!device.cuda) {
      fail<DeviceError>("device", quote(device.name()), "TensorRT engines run on NVIDIA GPUs only",
                        "use the device cuda, or export with --format onnx");
    }
    return device;
  }

  void require_interface() const {
    if (engine_->getNbIOTensors() != 2 || !holds(interface_.input, nvinfer1::TensorIOMode::kINPUT) ||
        !holds(interface_.output, nvinfer1::TensorIOMode::kOUTPUT)) {
      fail<BundleError>("graph", quote(name_), "its inputs and outputs are not those that the manifest states",
                        "export the bundle again");
    }
  }

  bool holds(const TensorSpec& spec, nvinfer1::TensorIOMode mode) const {
    const char* name = spec.name.c_str();
    const bool known = engine_->getTensorIOMode(name) == mode;  // kNONE for a name that the engine does not have
    const DataType type = spec.dtype == "uint8" ? DataType::kUINT8 : DataType::kFLOAT;
    const nvinfer1::Dims shape = engine_->getTensorShape(name), expected = to_dims(-1, spec);
    return known && engine_->getTensorDataType(name) == type && shape.nbDims == expected.nbDims &&
           std::equal(shape.d, shape.d + shape.nbDims, expected.d);
  }

  // Allocates memory for the largest batch. Its address never changes, so a call sets only the shape of its batch.
  DeviceMemory bind(const TensorSpec& spec) {
    DeviceMemory memory = stream_.allocate(static_cast<size_t>(largest_) * row_bytes(spec));
    if (!context_->setTensorAddress(spec.name.c_str(), memory.get())) {
      fail<DeviceError>("device", quote(device_.name()), name_ + " cannot be prepared: " + log_.reason());
    }
    return memory;
  }

  // Rows beyond the batch's own hold old memory, which is harmless: rows are independent.
  void execute(int64_t rows) {
    const bool accepted = context_->setInputShape(interface_.input.name.c_str(), to_dims(rows, interface_.input));
    if (!accepted || !context_->enqueueV3(static_cast<cudaStream_t>(stream_.handle()))) {
      fail<DeviceError>("device", quote(device_.name()),
                        name_ + " failed on a batch of shape " + shown(rows, interface_.input) + ": " + log_.reason(),
                        "try a smaller batch");
    }
  }

  std::string name_;
  Device device_;
  GraphInterface interface_;
  std::mutex mutex_;
  Log log_;
  Stream stream_;
  DeviceMemory source_, result_;
  int64_t smallest_ = 1, largest_ = 1;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
};

}  // namespace

std::unique_ptr<Runner> open_tensorrt(const Graph& graph, const Device& device) {
  return std::make_unique<TensorRTRunner>(graph, device);
}

}  // namespace vis4mer
