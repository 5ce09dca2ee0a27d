// Classifies raw frames with a bundle, and prints the prediction as JSON.

#include <vis4mer.h>

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

namespace {

using Json = nlohmann::json;

constexpr char kUsage[] =
    "usage: vis4mer_classify BUNDLE FRAMES [--device cpu|cuda|cuda:N] [--stride SECONDS] [--duration SECONDS]\n"
    "                        [--batch-size N]\n"
    "FRAMES is a file of raw frames, uint8 RGB [N, H, W, 3], or - for standard input.\n";

struct Options {
  std::string bundle, frames, device = "cpu";
  int64_t batch_size = 32;  // frames encoded at once
  vis4mer::ClassifierOptions classifier;
};

Options parse(const std::vector<std::string>& arguments) {
  Options options;
  options.bundle = arguments.at(0);
  options.frames = arguments.at(1);
  for (size_t i = 2; i < arguments.size(); i += 2) {
    const std::string &name = arguments[i], &value = arguments.at(i + 1);
    if (name == "--device") {
      options.device = value;
    } else if (name == "--stride") {
      options.classifier.stride = std::stod(value);
    } else if (name == "--duration") {
      options.classifier.duration = std::stod(value);
    } else if (name == "--batch-size" && std::stoll(value) >= 1) {
      options.batch_size = std::stoll(value);
    } else {
      throw std::invalid_argument(name);
    }
  }
  return options;
}

Json to_json(const vis4mer::Result& result) {
  if (result.value) {
    return {{"value", *result.value}};
  }
  return {{"label", result.label}, {"probabilities", result.probabilities}};
}

Json to_json(const std::map<std::string, vis4mer::Result>& heads) {
  Json values;
  for (const auto& [name, result] : heads) {
    values[name] = to_json(result);
  }
  return values;
}

void append(std::vector<vis4mer::Window> windows, Json& values) {
  for (const vis4mer::Window& window : windows) {
    values.push_back({{"start", window.start}, {"end", window.end}, {"heads", to_json(window.heads)}});
  }
}

Json classify(const Options& options, std::istream& input) {
  const vis4mer::Model model(options.bundle, options.device);
  vis4mer::Classifier classifier(model, options.classifier);
  const auto frame = static_cast<size_t>(model.encoder().interface().input.row());
  std::vector<uint8_t> frames(static_cast<size_t>(options.batch_size) * frame);
  Json windows = Json::array();
  while (input) {
    input.read(reinterpret_cast<char*>(frames.data()), static_cast<std::streamsize>(frames.size()));
    if (const auto count = static_cast<size_t>(input.gcount()); count > 0) {
      append(classifier.add(std::span(frames).first(count)), windows);
    }
  }
  append(classifier.finish(), windows);
  const vis4mer::Prediction prediction = classifier.prediction();
  return {{"device", model.device()},
          {"frames", prediction.frames},
          {"padded", prediction.padded},
          {"windows", std::move(windows)},
          {"heads", to_json(prediction.heads)}};
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  try {
    options = parse({argv + 1, argv + argc});
  } catch (const std::exception&) {
    std::cerr << kUsage;
    return 2;
  }
  try {
    std::ifstream file;
    if (options.frames != "-") {
      file.open(options.frames, std::ios::binary);
      if (!file) {
        throw vis4mer::ArgumentError("frames=" + Json(options.frames).dump() + ": cannot be read");
      }
    }
    std::cout << classify(options, options.frames == "-" ? std::cin : file) << std::endl;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
  return std::cout ? 0 : 1;
}
