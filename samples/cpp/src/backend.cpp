#include "backend.h"

#include "errors.h"

namespace vis4mer {
namespace {

struct Backend {
  std::string format;
  std::unique_ptr<Runner> (*open)(const Graph&, const Device&);
};

// The backends that CMake has chosen.
const std::vector<Backend>& backends() {
  static const std::vector<Backend> built{
#ifdef VIS4MER_WITH_ONNXRUNTIME
      {"onnx", open_onnxruntime},
#endif
#ifdef VIS4MER_WITH_TORCH
      {"torchscript", open_torch},
      {"pt2", open_torch},
#endif
#ifdef VIS4MER_TENSORRT_FORMAT
      {VIS4MER_TENSORRT_FORMAT, open_tensorrt},
#endif
  };
  return built;
}

}  // namespace

std::vector<std::string> formats() {
  std::vector<std::string> names;
  for (const Backend& backend : backends()) {
    names.push_back(backend.format);
  }
  return names;
}

std::unique_ptr<Runner> open_runner(const Graph& graph, const Device& device) {
  std::string names;
  for (const Backend& backend : backends()) {
    if (backend.format == graph.format) {
      return backend.open(graph, device);
    }
    names += (names.empty() ? "" : ", ") + backend.format;
  }
  fail<DeviceError>("format", quote(graph.format), "this build runs " + names,
                    "build with the backend of this format, or export another format");
}

std::string shown(int64_t batch, const TensorSpec& spec) {
  std::string text = "[";
  text += std::to_string(batch);
  for (const int64_t size : spec.sizes) {
    text.append(", ").append(std::to_string(size));
  }
  return text + "]";
}

}  // namespace vis4mer
