// Runs vis4mer bundles: frames in, probabilities out. Video decoding and resizing stay with the caller.
//
//   vis4mer::Model model("samples/bundle", "cuda:0");
//   vis4mer::Classifier classifier(model);
//   while (read(frames)) {  // uint8 RGB [N, H, W, 3], sampled and resized as model.manifest().preprocessing states
//     classifier.add(frames);
//   }
//   classifier.finish();
//   for (const auto& [head, result] : classifier.prediction().heads) { ... result.label, result.probabilities ... }
//
// Letters in shapes: N frames, H x W pixels, P tokens per frame, D features per token, L tokens per window (the
// window's frames times P), B windows. Arrays are dense and row-major.
//
// Threads: const members may be called from several threads at once, on one object. A Classifier serves one movie and
// one thread at a time; any number of them may share a Model.
//
// Errors are exceptions with a message of one line: name=value: rule; remedy.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace vis4mer {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// The bundle is incomplete, altered, of an unknown schema or format, or not what its manifest states.
struct BundleError : Error {
  using Error::Error;
};
// The device is absent or failed, or no backend of this build runs the bundle on it.
struct DeviceError : Error {
  using Error::Error;
};
// An argument breaks its rule.
struct ArgumentError : Error {
  using Error::Error;
};

// How to take frames from a video; docs/reference/python.md describes every field.
struct Preprocessing {
  double fps = 1;  // frames per second of video: frame i is the one shown at i / fps seconds
  int64_t height = 224, width = 224;
  std::string resize = "stretch";      // or "crop"
  std::string interpolation = "area";  // or "bilinear", "bicubic"
  // Part of the encoder's graph, so that frames stay uint8.
  std::array<double, 3> mean{0, 0, 0}, std{1, 1, 1};
  bool last_frame = false;          // whether the movie's last frame is added to the regular ones
  std::optional<int64_t> segments;  // only for encoders of segments, which Classifier does not run
};

struct Windows {
  double seconds = 60, stride = 1;  // length, and time between the starts of two windows
  std::optional<int64_t> samples;   // only for models of a whole movie, which Classifier does not run
};

struct HeadConfig {
  bool regression = false;          // a classification otherwise
  std::vector<std::string> labels;  // in the order of the logits; empty for a regression, which has one value
};

// An input or output of a graph. The first axis is the batch, of any size; `sizes` are those of the other axes.
struct TensorSpec {
  std::string name, dtype;  // "uint8" or "float32"
  std::vector<int64_t> sizes;
  int64_t row() const;  // elements of one row of the batch
};

struct GraphInterface {
  TensorSpec input, output;
};

struct FileRecord {
  std::string sha256;  // in hexadecimal
  uint64_t bytes = 0;
};

// The content of manifest.json, checked; docs/reference/manifest.md describes the file.
struct Manifest {
  std::string format;     // "onnx", "torchscript", "pt2", "trt" or "trt-rtx"
  std::string precision;  // "fp32", "fp16" or "bf16"
  Preprocessing preprocessing;
  Windows windows;
  int64_t window_frames = 0;  // frames per window; 0 for a bundle of heads alone
  std::map<std::string, HeadConfig> heads;
  std::map<std::string, GraphInterface> interfaces;  // by graph: "encoder", if there is one, and every head
  std::map<std::string, FileRecord> files;
};

// A bundle's folder. Opening it checks the manifest; a graph's digest is checked when the graph is read.
class Bundle {
 public:
  // Throws BundleError.
  explicit Bundle(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  const Manifest& manifest() const { return manifest_; }

  // Name of the file that holds a graph.
  const std::string& file_of(const std::string& graph) const;
  // Content of a listed file, once its size and digest have been compared with the manifest's. Throws BundleError.
  std::string read(const std::string& file) const;
  // Reads every listed file. Throws BundleError for the first that is missing or altered.
  void verify() const;

 private:
  std::filesystem::path folder_;
  Manifest manifest_;
};

// Where an array lies: in host memory, or in that of the model's device, which are the same for "cpu". Arrays on a GPU
// must be complete before the call, and results are complete after it.
enum class Memory { kHost, kDevice };

class Runner;  // one graph on one backend; src/backend.h

// The frame encoder.
class Encoder {
 public:
  const GraphInterface& interface() const { return *interface_; }
  // Computes `tokens` float32 [N, P, D] from `frames` uint8 [N, H, W, 3] for any N >= 1. Both arrays belong to the
  // caller. Throws ArgumentError if a size does not fit, DeviceError if the device fails.
  void run(std::span<const uint8_t> frames, std::span<float> tokens, Memory frames_in = Memory::kHost,
           Memory tokens_in = Memory::kHost) const;

 private:
  friend class Model;
  std::shared_ptr<Runner> runner_;
  std::shared_ptr<const GraphInterface> interface_;
};

// One S4 decoder.
class Head {
 public:
  const GraphInterface& interface() const { return *interface_; }
  // Computes `logits` float32 [B, d_output] from `features` float32 [B, L, D] for any B >= 1. The features are the
  // tokens of one window's frames, one frame after the other; zeros stand for frames that a short movie lacks. Both
  // arrays belong to the caller. Throws ArgumentError if a size does not fit, DeviceError if the device fails.
  void run(std::span<const float> features, std::span<float> logits, Memory features_in = Memory::kHost,
           Memory logits_in = Memory::kHost) const;

 private:
  friend class Model;
  std::shared_ptr<Runner> runner_;
  std::shared_ptr<const GraphInterface> interface_;
};

// The graphs of a bundle on one device. Copies are cheap and share the graphs.
class Model {
 public:
  // Loads every graph and runs it once on zeros, so that a device that cannot run it is found now.
  // device: "cpu", "cuda" (the first GPU) or "cuda:N". Nothing falls back to another device.
  // Throws BundleError, DeviceError, or ArgumentError for the name of a device.
  explicit Model(const std::filesystem::path& bundle, const std::string& device = "cpu");
  explicit Model(const Bundle& bundle, const std::string& device = "cpu");

  const Manifest& manifest() const { return *manifest_; }
  const std::string& device() const { return device_; }
  bool has_encoder() const { return encoder_.has_value(); }
  // Throws ArgumentError if the bundle has none.
  const Encoder& encoder() const;
  // Throws ArgumentError if the bundle has no head of this name.
  const Head& head(const std::string& name) const;

 private:
  std::shared_ptr<const Manifest> manifest_;
  std::string device_;
  std::optional<Encoder> encoder_;
  std::map<std::string, Head> heads_;
};

// One head's result for a window or for a movie.
struct Result {
  std::string label;                  // most probable label; empty for a regression
  std::vector<double> probabilities;  // of the head's labels, in their order, with sum 1; empty for a regression
  std::optional<double> value;        // of a regression
};

struct Window {
  double start, end;  // seconds from the movie's first frame
  std::map<std::string, Result> heads;
};

struct Prediction {
  std::map<std::string, Result> heads;  // means over the windows
  int64_t windows = 0;                  // windows so far
  int64_t frames = 0;                   // frames up to the end of the last window
  bool padded = false;                  // whether the movie is shorter than one window; zeros stand for the rest
};

struct ClassifierOptions {
  std::optional<double> stride;  // seconds between the starts of windows, rounded to frames; the model's by default
  // Duration of the movie in seconds, if it is known: the last window ends no later.
  double duration = std::numeric_limits<double>::infinity();
};

// Classifies one movie, whose frames arrive in batches of any size. Every frame is encoded once, however windows
// overlap. At most about two windows of tokens are held, on the model's device; their number does not grow with the
// movie. After an exception the movie has no prediction, and a new Classifier is needed.
class Classifier {
 public:
  // Throws ArgumentError for a model without encoder or without windows of seconds, or for an option out of range.
  explicit Classifier(const Model& model, const ClassifierOptions& options = {});
  ~Classifier();
  Classifier(Classifier&&) noexcept;
  Classifier& operator=(Classifier&&) noexcept;

  // Adds consecutive frames uint8 [N, H, W, 3], N >= 1, which may be freed afterwards. Returns the windows that they
  // complete. Throws ArgumentError, DeviceError, or Error for a logit that is not finite.
  std::vector<Window> add(std::span<const uint8_t> frames, Memory frames_in = Memory::kHost);

  // Ends the movie. Returns the window that ends on its last frame, if add() has not returned it already. Throws
  // ArgumentError for a movie without frames, and as add() does.
  std::vector<Window> finish();

  // The prediction for all windows so far, which is the movie's after finish(). Throws ArgumentError before the first
  // window.
  Prediction prediction() const;

 private:
  class State;
  std::unique_ptr<State> state_;
};

// Formats that this build runs, such as {"onnx", "torchscript", "pt2"}.
std::vector<std::string> formats();

}  // namespace vis4mer
