// Runs an exported bundle with LibTorch: the frames of one window in, the logits of a head out.

#include <ATen/ATen.h>
#include <sys/mman.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/serialization/import.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iomanip>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

#include "sha256.h"

namespace {

using Error = std::runtime_error;
using Graph = std::function<at::Tensor(const at::Tensor&)>;
using Values = std::map<std::string, std::string>;

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!std::filesystem::is_regular_file(path) || !file) throw Error(path.string() + ": cannot be read");
  std::string bytes(std::filesystem::file_size(path), '\0');
  if (!file.read(bytes.data(), bytes.size())) throw Error(path.string() + ": cannot be read to its end");
  return bytes;
}

// Adds a JSON value's numbers and strings to `values` by path, such as "/files/encoder.ts/sha256".
void flatten(std::istream& json, const std::string& path, Values& values) {
  const bool object = (json >> std::ws).peek() == '{';
  if (object || json.peek() == '[') {
    const char end = object ? '}' : ']';
    char mark = static_cast<char>(json.get());
    if ((json >> std::ws).peek() == end) mark = static_cast<char>(json.get());
    for (int index = 0; json && mark != end; json >> mark, ++index) {
      std::string key = std::to_string(index);
      if (object) json >> std::quoted(key) >> mark;
      flatten(json, path + "/" + key, values);
    }
  } else if (json.peek() == '"') {
    json >> std::quoted(values[path]);
  } else {
    while (json && !std::strchr(",]} \r\n", json.peek())) values[path] += static_cast<char>(json.get());
  }
}

class Manifest {
 public:
  explicit Manifest(const std::filesystem::path& path) : path_(path.string()) {
    std::istringstream json(read(path));
    flatten(json, "", values_);
    if (!json) throw Error(path_ + ": is not JSON");
  }
  std::string text(const std::string& name) const {
    const auto found = values_.find("/" + name);
    if (found == values_.end()) throw Error(path_ + ": holds no " + name);
    return found->second;
  }
  double number(const std::string& name) const {
    double value = 0;
    if (!(std::istringstream(text(name)) >> value)) throw Error(name + "=" + text(name) + ": must be a number");
    return value;
  }

 private:
  std::string path_;
  Values values_;
};

// A graph is a program: what LibTorch gets are the very bytes whose digest was checked.
Graph load(const std::filesystem::path& bundle, const Manifest& manifest, const std::string& name) {
  const bool pt2 = manifest.text("format") == "pt2";
  const std::string file = name + (pt2 ? ".pt2" : ".ts");
  const std::string digest = manifest.text("files/" + file + "/sha256");
  std::string bytes = read(bundle / file);
  if (sha256(bytes) != digest) throw Error((bundle / file).string() + ": is not the file that was exported");
  if (!pt2) {
    std::istringstream stream(std::move(bytes));
    return [module = torch::jit::load(stream, at::kCPU)](const at::Tensor& input) mutable {
      return module.forward({input}).toTensor();
    };
  }
  const int memory = memfd_create(file.c_str(), MFD_CLOEXEC);  // the loader of packages takes nothing but a path
  const std::string path = "/proc/self/fd/" + std::to_string(memory);
  if (!(std::ofstream(path, std::ios::binary) << bytes << std::flush)) throw Error(file + ": does not fit into memory");
  const auto package = std::make_shared<torch::inductor::AOTIModelPackageLoader>(path);
  close(memory);
  if (package->get_metadata()["AOTI_DEVICE_KEY"] != "cpu") throw Error(file + ": is not compiled for a CPU");
  return [package](const at::Tensor& input) { return package->run({input}).at(0); };
}

void run(const std::filesystem::path& bundle, const std::filesystem::path& raw, const std::string& head) {
  const Manifest manifest(bundle / "manifest.json");
  const std::string schema = manifest.text("schema_version"), format = manifest.text("format");
  if (schema != "1") throw Error("schema_version=" + schema + ": must be 1");
  if (format != "torchscript" && format != "pt2") throw Error("format=" + format + ": must be torchscript or pt2");
  const auto height = static_cast<int64_t>(manifest.number("model/preprocessing/height"));
  const auto width = static_cast<int64_t>(manifest.number("model/preprocessing/width"));
  const double seconds = manifest.number("model/windows/seconds"), fps = manifest.number("model/preprocessing/fps");
  const auto window = std::max<int64_t>(1, std::llrint(seconds * fps));

  std::string pixels = read(raw);
  const int64_t size = pixels.size(), frame = height * width * 3;
  if (frame < 1 || size < frame || size % frame || size > window * frame)
    throw Error(raw.string() + ": has " + std::to_string(size) + " bytes, but must hold 1 to " +
                std::to_string(window) + " frames of " + std::to_string(frame) + " bytes");
  const at::Tensor frames = at::from_blob(pixels.data(), {size / frame, height, width, 3}, at::kByte);

  const at::InferenceMode inference;
  const at::Tensor tokens = load(bundle, manifest, "encoder")(frames);  // [N, P, D]
  const at::Tensor padded = at::zeros({window, tokens.size(1), tokens.size(2)});
  padded.narrow(0, 0, tokens.size(0)).copy_(tokens);
  const at::Tensor logits = load(bundle, manifest, head)(padded.flatten(0, 1).unsqueeze(0));  // [1, d_output]

  std::cout.precision(std::numeric_limits<float>::max_digits10);
  for (int64_t i = 0; i < logits.size(1); ++i) std::cout << (i ? " " : "") << logits[0][i].item<float>();
  if (!(std::cout << std::endl)) throw Error("stdout: cannot be written");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: " << argv[0] << " BUNDLE FRAMES HEAD\n";
    return 2;
  }
  try {
    run(argv[1], argv[2], argv[3]);
  } catch (const std::exception& error) {
    const std::string message = error.what();  // LibTorch appends a backtrace
    std::cerr << "error: " << message.substr(0, message.find('\n')) << '\n';
    return 1;
  }
  return 0;
}
