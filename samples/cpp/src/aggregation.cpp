#include "aggregation.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "errors.h"

namespace vis4mer {
namespace {

// Subtracting the largest logit keeps the exponentials from overflowing.
void softmax(std::vector<double>& values) {
  const double largest = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (double& value : values) {
    value = std::exp(value - largest);
    sum += value;
  }
  for (double& value : values) {
    value /= sum;
  }
}

}  // namespace

Result Mean::add(double start, std::span<const float> logits) {
  // A single NaN in the running sum would silently make the result for the whole movie NaN.
  if (!std::all_of(logits.begin(), logits.end(), [](float value) { return std::isfinite(value); })) {
    char seconds[32];
    std::snprintf(seconds, sizeof seconds, "%.1f s", start);
    fail<Error>("head", quote(name_),
                std::string("returned a non-finite output at ") + seconds + ", so the movie has no prediction",
                "check the checkpoint, or export it with --precision fp32");
  }
  std::vector<double> outputs(logits.begin(), logits.end());
  if (!config_->regression) {
    // A mean of probabilities weighs all windows equally; a mean of logits would favour windows with large ones.
    softmax(outputs);
  }
  sum_.resize(outputs.size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    sum_[i] += outputs[i];
  }
  ++count_;
  return to_result(std::move(outputs));
}

Result Mean::result() const {
  std::vector<double> outputs = sum_;
  for (double& output : outputs) {
    output /= static_cast<double>(count_);
  }
  return to_result(std::move(outputs));
}

Result Mean::to_result(std::vector<double> outputs) const {
  Result result;
  if (config_->regression) {
    result.value = outputs[0];
    return result;
  }
  const auto largest = std::max_element(outputs.begin(), outputs.end()) - outputs.begin();
  result.label = config_->labels[static_cast<size_t>(largest)];
  result.probabilities = std::move(outputs);
  return result;
}

}  // namespace vis4mer
