// Classifies random movies on the CPU and on the stand-in's device: the results must be the same to the last bit.

#include <vis4mer.h>

#include <cstdio>
#include <cstdlib>
#include <random>

#include "fake_cuda.h"

namespace {

std::mt19937 random_bits(0);

int64_t draw(int64_t smallest, int64_t largest) {
  return std::uniform_int_distribution<int64_t>(smallest, largest)(random_bits);
}

void require(bool holds, const char* what) {
  if (!holds) {
    std::fprintf(stderr, "%s\n", what);
    std::exit(1);
  }
}

bool equal(const std::map<std::string, vis4mer::Result>& a, const std::map<std::string, vis4mer::Result>& b) {
  for (const auto& [name, result] : a) {
    if (result.probabilities != b.at(name).probabilities || result.value != b.at(name).value) {
      return false;
    }
  }
  return a.size() == b.size();
}

void append(std::vector<vis4mer::Window> windows, std::vector<vis4mer::Window>& all) {
  all.insert(all.end(), windows.begin(), windows.end());
}

}  // namespace

int main(int, char** argv) {
  const vis4mer::Model on_host(argv[1], "cpu"), on_gpu(argv[1], "cuda:0");
  const auto frame = static_cast<size_t>(on_host.encoder().interface().input.row());
  for (int movie = 0; movie < 200; ++movie) {
    vis4mer::ClassifierOptions options;
    options.stride = static_cast<double>(draw(1, 9));
    vis4mer::Classifier expected(on_host, options), actual(on_gpu, options);
    std::vector<vis4mer::Window> expected_windows, actual_windows;
    for (int64_t batch = draw(1, 12); batch > 0; --batch) {
      std::vector<uint8_t> frames(static_cast<size_t>(draw(1, 11)) * frame);
      for (uint8_t& pixel : frames) {
        pixel = static_cast<uint8_t>(draw(0, 255));
      }
      append(expected.add(frames), expected_windows);
      append(actual.add(frames), actual_windows);
    }
    append(expected.finish(), expected_windows);
    append(actual.finish(), actual_windows);
    require(equal(expected.prediction().heads, actual.prediction().heads), "the predictions differ");
    require(expected_windows.size() == actual_windows.size(), "the numbers of windows differ");
    for (size_t i = 0; i < actual_windows.size(); ++i) {
      require(equal(expected_windows[i].heads, actual_windows[i].heads), "a window differs");
    }
  }
  require(fake_cuda_downloads() == 0, "tokens were copied to the host");
  require(fake_cuda_contexts() == 0, "a context was left current");
}
