#include "model_config.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>

#include "errors.h"
#include "manifest.h"

namespace vis4mer {
namespace {

constexpr int64_t kMaxPixels = 8192;  // per side
constexpr int64_t kMaxOutputs = 1'000'000;
constexpr int64_t kMaxLayers = 62;
constexpr double kMaxFps = 1000, kMaxSeconds = 1e300;
// Largest row of a batch, in elements. Products of sizes beyond it could exceed 64 bits.
constexpr double kMaxElements = 1LL << 40;

std::array<double, 3> triple(const Fields& fields, const char* key, std::array<double, 3> otherwise, bool positive) {
  const Json* value = fields.find(key);
  if (value == nullptr) {
    return otherwise;
  }
  const auto valid = [positive](const Json& item) { return item.is_number() && (!positive || item.get<double>() > 0); };
  if (!value->is_array() || value->size() != 3 || !std::all_of(value->begin(), value->end(), valid)) {
    fields.refuse(key, positive ? "must be three positive numbers" : "must be three numbers");
  }
  return value->get<std::array<double, 3>>();
}

Preprocessing read_preprocessing(const Json& values) {
  const Fields fields(values, "preprocessing",
                      {"fps", "height", "width", "resize", "interpolation", "mean", "std", "last_frame", "segments"});
  Preprocessing result;
  result.fps = fields.positive("fps", result.fps, kMaxFps);
  result.height = fields.count("height", result.height, kMaxPixels);
  result.width = fields.count("width", result.width, kMaxPixels);
  result.resize = fields.choice("resize", result.resize, {"stretch", "crop"});
  result.interpolation = fields.choice("interpolation", result.interpolation, {"area", "bilinear", "bicubic"});
  result.mean = triple(fields, "mean", result.mean, false);
  result.std = triple(fields, "std", result.std, true);
  if (const Json* last = fields.find("last_frame")) {
    if (!last->is_boolean()) {
      fields.refuse("last_frame", "must be true or false");
    }
    result.last_frame = last->get<bool>();
  }
  result.segments = fields.optional_count("segments");
  return result;
}

Windows read_windows(const Json& values) {
  const Fields fields(values, "windows", {"seconds", "stride", "samples"});
  Windows result;
  result.seconds = fields.positive("seconds", result.seconds, kMaxSeconds);
  result.stride = fields.positive("stride", result.stride, kMaxSeconds);
  result.samples = fields.optional_count("samples");
  return result;
}

EncoderShape read_encoder(const Json& values, const Preprocessing& preprocessing) {
  const Fields fields(values, "encoder", {"name", "tokens", "features", "frames"});
  const bool takes_segments = fields.count("frames", 1) > 1;
  if (takes_segments != preprocessing.segments.has_value()) {
    fail<BundleError>("frames", std::to_string(fields.count("frames", 1)),
                      "preprocessing.segments must be set for encoders of segments, and only for them",
                      "export the bundle again");
  }
  return {fields.count("tokens", 197), fields.count("features", 1024)};
}

std::vector<std::string> read_labels(const Fields& fields, bool regression, int64_t d_output) {
  const Json* value = fields.find("labels");
  std::vector<std::string> labels;
  if (value != nullptr) {
    const auto is_text = [](const Json& item) { return item.is_string(); };
    if (!value->is_array() || !std::all_of(value->begin(), value->end(), is_text)) {
      fields.refuse("labels", "must be a list of strings");
    }
    labels = value->get<std::vector<std::string>>();
  }
  if (regression) {
    if (d_output != 1 || !labels.empty()) {
      fields.refuse("task", "a regression must have one output and no labels");
    }
    return labels;
  }
  if (labels.empty()) {
    for (int64_t i = 0; i < d_output; ++i) {
      labels.push_back(std::to_string(i));
    }
  }
  if (static_cast<int64_t>(labels.size()) != d_output ||
      std::set<std::string>(labels.begin(), labels.end()).size() != labels.size()) {
    fields.refuse("labels", "must be d_output=" + std::to_string(d_output) + " distinct names");
  }
  return labels;
}

// A head's name is also that of its file.
void require_head_name(const std::string& name) {
  const auto allowed = [](unsigned char c) { return c < 128 && (std::isalnum(c) != 0 || c == '_' || c == '-'); };
  const bool starts_with_letter = !name.empty() && std::isalpha(static_cast<unsigned char>(name[0])) != 0;
  if (!starts_with_letter || !std::all_of(name.begin(), name.end(), allowed) || name == kEncoder) {
    fail<BundleError>("head", quote(name),
                      "must start with a letter, hold letters, digits, '_' and '-' alone, and not be 'encoder'");
  }
}

// Checks that a head takes one window of the encoder's tokens, and returns the window's frames.
int64_t require_fit(const std::string& head, const HeadShape& shape, int64_t n_layers, const ModelConfig& model) {
  const double frames = model.windows.samples
                            ? static_cast<double>(*model.windows.samples)
                            : std::max(1.0, std::nearbyint(model.windows.seconds * model.preprocessing.fps));
  const double length = frames * static_cast<double>(model.encoder->tokens);
  if (shape.d_input != model.encoder->features) {
    fail<BundleError>(head + ".d_input", std::to_string(shape.d_input),
                      "must equal the encoder's features=" + std::to_string(model.encoder->features));
  }
  // In floating point until here: the window may be far longer than an integer holds.
  if (static_cast<double>(shape.l_max) < length) {
    fail<BundleError>(head + ".l_max", std::to_string(shape.l_max), "must hold the tokens of one window");
  }
  if (std::ldexp(1.0, static_cast<int>(n_layers)) > length) {
    fail<BundleError>(head + ".n_layers", std::to_string(n_layers),
                      "must leave a token of a window after as many halvings");
  }
  return static_cast<int64_t>(frames);
}

void read_head(const std::string& name, const Json& values, ModelConfig& model) {
  require_head_name(name);
  const Fields fields(values, name, {"decoder", "task", "labels"});
  const Fields decoder(fields.at("decoder"), name + ".decoder",
                       {"d_input", "l_max", "d_output", "d_model", "n_layers", "d_state", "dropout", "nodes"});
  const HeadShape shape{decoder.count("d_input"), decoder.count("l_max"), decoder.count("d_output", {}, kMaxOutputs)};
  const int64_t n_layers = decoder.count("n_layers", {}, kMaxLayers);
  HeadConfig config;
  config.regression = fields.choice("task", "classification", {"classification", "regression"}) == "regression";
  config.labels = read_labels(fields, config.regression, shape.d_output);
  if (model.encoder) {
    model.window_frames = require_fit(name, shape, n_layers, model);
  }
  model.shapes[name] = shape;
  model.heads[name] = std::move(config);
}

TensorSpec spec(const char* name, const char* dtype, std::vector<int64_t> sizes) {
  double elements = 1;
  for (const int64_t size : sizes) {
    elements *= static_cast<double>(size);
  }
  if (elements > kMaxElements) {
    fail<BundleError>("tensor", quote(name), "a row of it exceeds 2^40 elements", "export the bundle again");
  }
  return {name, dtype, std::move(sizes)};
}

}  // namespace

int64_t TensorSpec::row() const {
  int64_t elements = 1;
  for (const int64_t size : sizes) {
    elements *= size;
  }
  return elements;
}

int64_t ModelConfig::window_length() const {
  if (encoder) {
    return window_frames * encoder->tokens;
  }
  const auto shorter = [](const auto& a, const auto& b) { return a.second.l_max < b.second.l_max; };
  return std::min_element(shapes.begin(), shapes.end(), shorter)->second.l_max;
}

GraphInterface ModelConfig::interface(const std::string& graph, int64_t length) const {
  if (graph == kEncoder) {
    return {spec("frames", "uint8", {preprocessing.height, preprocessing.width, 3}),
            spec("tokens", "float32", {encoder->tokens, encoder->features})};
  }
  const HeadShape& shape = shapes.at(graph);
  return {spec("features", "float32", {length, shape.d_input}), spec("logits", "float32", {shape.d_output})};
}

ModelConfig read_model(const Json& values) {
  const Fields fields(values, "model", {"heads", "encoder", "preprocessing", "windows"});
  const Json empty = Json::object();
  const auto or_empty = [&](const char* key) -> const Json& { return fields.find(key) ? *fields.find(key) : empty; };
  ModelConfig model;
  model.preprocessing = read_preprocessing(or_empty("preprocessing"));
  model.windows = read_windows(or_empty("windows"));
  if (const Json& encoder = or_empty("encoder"); !encoder.is_null()) {
    model.encoder = read_encoder(encoder, model.preprocessing);
  }
  if (model.preprocessing.segments && !model.windows.samples) {
    fail<BundleError>("samples", std::string_view("null"), "must be set if the encoder takes segments");
  }
  const Json& heads = fields.at("heads");
  if (!heads.is_object() || heads.empty()) {
    fields.refuse("heads", "must be a JSON object of at least one head");
  }
  for (const auto& [name, head] : heads.items()) {
    read_head(name, head, model);
  }
  return model;
}

}  // namespace vis4mer
