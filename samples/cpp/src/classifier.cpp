#include <algorithm>
#include <cmath>

#include "aggregation.h"
#include "device.h"
#include "errors.h"
#include "token_buffer.h"
#include "vis4mer.h"

namespace vis4mer {
namespace {

constexpr double kMostFrames = 1LL << 52;  // larger strides would lose whole frames in floating point

int64_t stride_frames(const Manifest& manifest, const ClassifierOptions& options) {
  const double stride = options.stride.value_or(manifest.windows.stride);
  if (!(stride > 0) || !std::isfinite(stride)) {
    fail<ArgumentError>("stride", std::to_string(stride), "must be a positive number of seconds");
  }
  return static_cast<int64_t>(std::clamp(std::nearbyint(stride * manifest.preprocessing.fps), 1.0, kMostFrames));
}

// Throws for a model that cannot classify a movie window by window.
const Manifest& require_windows(const Model& model) {
  const Manifest& manifest = model.manifest();
  if (manifest.windows.samples) {
    fail<ArgumentError>("samples", std::to_string(*manifest.windows.samples),
                        "the model takes samples of a whole movie, so it has no windows in time",
                        "evaluate it with vis4mer eval");
  }
  model.encoder();
  return manifest;
}

}  // namespace

class Classifier::State {
 public:
  State(const Model& model, const ClassifierOptions& options)
      : model_(model),
        manifest_(require_windows(model_)),
        encoder_(model_.encoder()),
        frame_tokens_(encoder_.interface().output.row()),
        length_(manifest_.window_frames),
        stride_(stride_frames(manifest_, options)),
        duration_(options.duration),
        tokens_(parse_device(model_.device()), static_cast<size_t>(frame_tokens_) * sizeof(float), length_) {
    if (std::isnan(duration_)) {
      fail<ArgumentError>("duration", std::string_view("nan"), "must be a number of seconds");
    }
    for (const auto& [name, config] : manifest_.heads) {
      means_.emplace(name, Mean(name, config));
    }
  }

  std::vector<Window> add(std::span<const uint8_t> frames, Memory frames_in) {
    if (finished_) {
      fail<ArgumentError>("frames", std::to_string(frames.size()) + " elements", "the movie has been finished",
                          "make a Classifier for each movie");
    }
    const auto count = static_cast<int64_t>(frames.size()) / encoder_.interface().input.row();
    auto* target = static_cast<float*>(tokens_.reserve(count));
    encoder_.run(frames, {target, static_cast<size_t>(count * frame_tokens_)}, frames_in, Memory::kDevice);
    tokens_.add(count);
    seen_ += count;
    std::vector<Window> windows;
    // With a stride beyond the length, the next window may start at a frame that has not arrived.
    while (start_ + length_ <= seen_) {
      windows.push_back(run_heads(start_, length_));
      start_ += stride_;
    }
    return windows;
  }

  // The last window ends on the movie's last frame. If no multiple of the stride leads there, it follows its
  // predecessor by less than a stride. A movie shorter than one window has a single window, which is padded with zeros.
  std::vector<Window> finish() {
    if (seen_ == 0) {
      fail<ArgumentError>("frames", std::string_view("0"), "a prediction needs at least one frame");
    }
    std::vector<Window> windows;
    if (!finished_ && seen_ < length_) {
      tokens_.pad();
      windows.push_back(run_heads(0, seen_));
    } else if (!finished_ && (seen_ - length_) % stride_ != 0) {
      windows.push_back(run_heads(seen_ - length_, length_));
    }
    finished_ = true;
    return windows;
  }

  Prediction prediction() const {
    if (prediction_.windows == 0) {
      fail<ArgumentError>("windows", std::string_view("0"), "a prediction needs at least one window",
                          "add frames, or call finish() for a movie shorter than one window");
    }
    Prediction prediction = prediction_;
    for (const auto& [name, mean] : means_) {
      prediction.heads[name] = mean.result();
    }
    return prediction;
  }

 private:
  Window run_heads(int64_t start, int64_t frames) {
    const auto* features = static_cast<const float*>(tokens_.latest(seen_ - start));
    Window window;
    window.start = static_cast<double>(start) / manifest_.preprocessing.fps;
    window.end = end_of(start + frames);
    for (auto& [name, mean] : means_) {
      const Head& head = model_.head(name);
      std::vector<float> logits(static_cast<size_t>(head.interface().output.row()));
      head.run({features, static_cast<size_t>(head.interface().input.row())}, logits, Memory::kDevice, Memory::kHost);
      window.heads[name] = mean.add(window.start, logits);
    }
    ++prediction_.windows;
    prediction_.frames = start + frames;
    prediction_.padded = prediction_.padded || frames < length_;
    return window;
  }

  // Time in seconds at which a window ends whose last frame precedes `frame`. A frame stands for 1 / fps seconds. The
  // movie may end within the last one, and then so does the window. A duration that ends before the last frame even
  // starts is wrong, and is ignored.
  double end_of(int64_t frame) const {
    const double fps = manifest_.preprocessing.fps;
    const double end = static_cast<double>(frame) / fps, last_frame = static_cast<double>(frame - 1) / fps;
    return duration_ > last_frame ? std::min(end, duration_) : end;
  }

  Model model_;  // keeps the graphs alive
  const Manifest& manifest_;
  const Encoder& encoder_;
  int64_t frame_tokens_;  // elements: P times D
  int64_t length_;        // frames per window
  int64_t stride_;        // frames
  double duration_;       // seconds
  TokenBuffer tokens_;
  std::map<std::string, Mean> means_;
  int64_t seen_ = 0;   // frames that have arrived
  int64_t start_ = 0;  // first frame of the next window
  bool finished_ = false;
  Prediction prediction_;  // without the heads' results
};

Classifier::Classifier(const Model& model, const ClassifierOptions& options)
    : state_(std::make_unique<State>(model, options)) {}
Classifier::~Classifier() = default;
Classifier::Classifier(Classifier&&) noexcept = default;
Classifier& Classifier::operator=(Classifier&&) noexcept = default;

std::vector<Window> Classifier::add(std::span<const uint8_t> frames, Memory frames_in) {
  return state_->add(frames, frames_in);
}
std::vector<Window> Classifier::finish() { return state_->finish(); }
Prediction Classifier::prediction() const { return state_->prediction(); }

}  // namespace vis4mer
