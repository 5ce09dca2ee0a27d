// Calls the library's functions, one per command, and prints what they return.

#include <vis4mer.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <thread>

namespace {

using Arguments = std::vector<std::string>;

// Opens each of some bundles, and prints what it is or why it is refused, on one line each.
void open(const Arguments& arguments) {
  for (const std::string& folder : arguments) {
    try {
      const vis4mer::Bundle bundle(folder);
      std::cout << bundle.manifest().format << ' ' << bundle.manifest().window_frames << '\n';
    } catch (const vis4mer::BundleError& error) {
      std::cout << "BundleError: " << error.what() << '\n';
    }
  }
}

// Prints the labels of the first head.
void labels(const Arguments& arguments) {
  const vis4mer::Bundle bundle(arguments.at(0));  // not a temporary: it would end before the loop begins
  for (const std::string& label : bundle.manifest().heads.begin()->second.labels) {
    std::cout << label << '\n';
  }
}

void verify(const Arguments& arguments) { vis4mer::Bundle(arguments.at(0)).verify(); }

// Runs a graph on zeros, with arrays of the given numbers of elements.
void run(const Arguments& arguments) {
  const vis4mer::Model model(arguments.at(0));
  std::vector<float> output(std::stoul(arguments.at(3)));
  if (arguments.at(1) == "encoder") {
    model.encoder().run(std::vector<uint8_t>(std::stoul(arguments.at(2))), output);
  } else {
    model.head(arguments.at(1)).run(std::vector<float>(std::stoul(arguments.at(2))), output);
  }
  for (const float value : output) {
    std::cout << value << '\n';
  }
}

void load(const Arguments& arguments) {
  const vis4mer::Model model(arguments.at(0), arguments.at(1));
  vis4mer::Classifier classifier(model);
  if (arguments.size() > 2) {  // a call that is out of order
    classifier.prediction();
  }
  classifier.finish();
}

// Classifies the same frames twice in a row, and adds more after the end.
void add_after_end(const Arguments& arguments) {
  const vis4mer::Model model(arguments.at(0));
  const std::vector<uint8_t> frame(static_cast<size_t>(model.encoder().interface().input.row()));
  vis4mer::Classifier classifier(model);
  classifier.add(frame);
  classifier.finish();
  std::cout << classifier.finish().size() << '\n';
  classifier.add(frame);
}

// Classifies a file's frames in several threads that share one model, and prints the distinct probabilities.
void threads(const Arguments& arguments) {
  const vis4mer::Model model(arguments.at(0));
  std::ifstream file(arguments.at(1), std::ios::binary);
  const std::vector<uint8_t> frames{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::vector<double>> results(4);
  std::vector<std::thread> workers;
  for (std::vector<double>& result : results) {
    workers.emplace_back([&] {
      vis4mer::Classifier classifier(model);
      classifier.add(frames);
      classifier.finish();
      result = classifier.prediction().heads.begin()->second.probabilities;
    });
  }
  for (std::thread& worker : workers) {
    worker.join();
  }
  std::sort(results.begin(), results.end());
  results.erase(std::unique(results.begin(), results.end()), results.end());
  std::cout << results.size() << '\n';
}

void print_formats(const Arguments&) {
  for (const std::string& format : vis4mer::formats()) {
    std::cout << format << '\n';
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::map<std::string, std::function<void(const Arguments&)>> commands{{"open", open},
                                                                              {"labels", labels},
                                                                              {"verify", verify},
                                                                              {"run", run},
                                                                              {"load", load},
                                                                              {"threads", threads},
                                                                              {"add_after_end", add_after_end},
                                                                              {"formats", print_formats}};
  try {
    commands.at(argv[1])({argv + 2, argv + argc});
  } catch (const vis4mer::BundleError& error) {
    std::cerr << "BundleError: " << error.what() << '\n';
    return 1;
  } catch (const vis4mer::DeviceError& error) {
    std::cerr << "DeviceError: " << error.what() << '\n';
    return 1;
  } catch (const vis4mer::ArgumentError& error) {
    std::cerr << "ArgumentError: " << error.what() << '\n';
    return 1;
  } catch (const vis4mer::Error& error) {
    std::cerr << "Error: " << error.what() << '\n';
    return 1;
  }
}
