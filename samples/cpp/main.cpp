// Runs an exported bundle with LibTorch: reads the frames of one window and prints the logits of a head.

#include <ATen/ATen.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/serialization/import.h>
#include <unistd.h>

#include <array>
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

// The SHA-256 digest, in hexadecimal.
std::string sha256(const std::string& bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  if (!EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr))
    throw Error("OpenSSL cannot compute SHA-256");
  std::ostringstream hex;
  hex << std::hex << std::setfill('0');
  for (unsigned int i = 0; i < size; ++i) hex << std::setw(2) << int{digest[i]};
  return hex.str();
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

 private:
  std::string path_;
  Values values_;
};

// One input or output of a graph, as the manifest's "interface" states it. Every first axis is the batch.
class TensorSpec {
 public:
  TensorSpec(const Manifest& manifest, const std::string& path) : manifest_(manifest), path_("interface/" + path) {
    if (const std::string batch = manifest_.text(path_ + "/axes/0"); batch != "batch")
      throw Error(path_ + ": axis 0 is " + batch + ", but must be batch");
  }
  void require_dtype(const std::string& dtype) const {
    const std::string stated = manifest_.text(path_ + "/dtype");
    if (stated != dtype) throw Error(path_ + ": dtype=" + stated + ": must be " + dtype);
  }
  // Size of a fixed axis.
  int64_t size(int axis) const {
    const std::string name = path_ + "/axes/" + std::to_string(axis), stated = manifest_.text(name);
    int64_t value = 0;
    if (!(std::istringstream(stated) >> value) || value < 1) throw Error(name + "=" + stated + ": must be a size");
    return value;
  }

 private:
  const Manifest& manifest_;
  std::string path_;
};

// A graph is a program, so LibTorch receives the very bytes whose digest was checked.
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
  const int memory = memfd_create(file.c_str(), MFD_CLOEXEC);  // the package loader reads paths only
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
  if (schema != "2" && schema != "3")
    throw Error("schema_version=" + schema + ": must be 2 or 3; export the bundle again");
  if (format != "torchscript" && format != "pt2") throw Error("format=" + format + ": must be torchscript or pt2");
  const TensorSpec pixels(manifest, "encoder/inputs/0"), encoded(manifest, "encoder/outputs/0");
  const TensorSpec features(manifest, head + "/inputs/0");
  pixels.require_dtype("uint8");
  features.require_dtype("float32");
  const int64_t height = pixels.size(1), width = pixels.size(2), channels = pixels.size(3);
  const int64_t window = features.size(1) / encoded.size(1);  // a head's tokens over the tokens of a frame

  std::string bytes = read(raw);
  const int64_t size = bytes.size(), frame = height * width * channels;
  if (size < frame || size % frame || size > window * frame)
    throw Error(raw.string() + ": has " + std::to_string(size) + " bytes, but must hold 1 to " +
                std::to_string(window) + " frames of " + std::to_string(frame) + " bytes");
  const at::Tensor frames = at::from_blob(bytes.data(), {size / frame, height, width, channels}, at::kByte);

  const at::InferenceMode inference;
  const at::Tensor tokens = load(bundle, manifest, "encoder")(frames);  // [N, P, D]
  // A window with fewer frames is padded with zeros, as in training.
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
