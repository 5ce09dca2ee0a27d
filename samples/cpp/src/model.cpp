#include "backend.h"
#include "errors.h"
#include "manifest.h"
#include "vis4mer.h"

namespace vis4mer {
namespace {

Graph read_graph(const Bundle& bundle, const std::string& name) {
  const Manifest& manifest = bundle.manifest();
  Graph graph;
  graph.name = name;
  graph.file = bundle.file_of(name);
  graph.format = manifest.format;
  graph.interface = manifest.interfaces.at(name);
  graph.bytes = bundle.read(graph.file);
  for (const auto& [file, record] : manifest.files) {
    if (file.rfind(graph.file + ".", 0) == 0) {
      graph.companions[file] = bundle.read(file);
    }
  }
  return graph;
}

// Runs a graph on zeros: a missing library, or a result of another shape, often shows only then.
void warm_up(Runner& runner, const GraphInterface& interface) {
  const Stream host{Device()};
  const size_t element = interface.input.dtype == "uint8" ? 1 : sizeof(float);
  const size_t bytes = static_cast<size_t>(interface.input.row()) * element;
  const DeviceMemory input = host.allocate(bytes);
  const DeviceMemory output = host.allocate(static_cast<size_t>(interface.output.row()) * sizeof(float));
  host.clear(input.get(), bytes);
  runner.run(input.get(), Memory::kHost, output.get(), Memory::kHost, 1);
}

// Checks the sizes of a call's arrays, and returns the rows in the batch.
int64_t require_batch(const GraphInterface& interface, size_t input, size_t output) {
  const auto input_row = static_cast<size_t>(interface.input.row());
  const auto output_row = static_cast<size_t>(interface.output.row());
  const size_t batch = input / input_row;
  if (batch == 0 || input % input_row != 0) {
    fail<ArgumentError>(interface.input.name, std::to_string(input) + " elements",
                        "must be one or more rows of " + std::to_string(input_row) + " elements, " +
                            shown(1, interface.input) + " each");
  }
  if (output != batch * output_row) {
    fail<ArgumentError>(interface.output.name, std::to_string(output) + " elements",
                        "must have room for exactly " + shown(static_cast<int64_t>(batch), interface.output));
  }
  return static_cast<int64_t>(batch);
}

}  // namespace

Model::Model(const std::filesystem::path& bundle, const std::string& device) : Model(Bundle(bundle), device) {}

Model::Model(const Bundle& bundle, const std::string& name)
    : manifest_(std::make_shared<const Manifest>(bundle.manifest())) {
  const Device device = parse_device(name);
  device_ = device.name();
  const Stream probe(device);  // an absent GPU is reported in the driver's words, before any library's
  for (const auto& [graph, interface] : manifest_->interfaces) {
    std::shared_ptr<Runner> runner = open_runner(read_graph(bundle, graph), device);
    warm_up(*runner, interface);
    const std::shared_ptr<const GraphInterface> shared(manifest_, &interface);
    if (graph == kEncoder) {
      encoder_.emplace();
      encoder_->runner_ = std::move(runner);
      encoder_->interface_ = shared;
    } else {
      Head& head = heads_[graph];
      head.runner_ = std::move(runner);
      head.interface_ = shared;
    }
  }
}

const Encoder& Model::encoder() const {
  if (!encoder_) {
    fail<ArgumentError>("encoder", std::string_view("none"), "the bundle holds heads only",
                        "export it with an encoder: vis4mer export --encoder NAME");
  }
  return *encoder_;
}

const Head& Model::head(const std::string& name) const {
  const auto found = heads_.find(name);
  if (found == heads_.end()) {
    std::string names;
    for (const auto& [known, head] : heads_) {
      names += (names.empty() ? "" : ", ") + known;
    }
    fail<ArgumentError>("head", quote(name), "must be one of " + names);
  }
  return found->second;
}

void Encoder::run(std::span<const uint8_t> frames, std::span<float> tokens, Memory frames_in, Memory tokens_in) const {
  const int64_t batch = require_batch(*interface_, frames.size(), tokens.size());
  runner_->run(frames.data(), frames_in, tokens.data(), tokens_in, batch);
}

void Head::run(std::span<const float> features, std::span<float> logits, Memory features_in, Memory logits_in) const {
  const int64_t batch = require_batch(*interface_, features.size(), logits.size());
  runner_->run(features.data(), features_in, logits.data(), logits_in, batch);
}

}  // namespace vis4mer
