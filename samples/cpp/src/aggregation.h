// From the logits of windows to results.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "vis4mer.h"

namespace vis4mer {

// The running mean of one head's windows. Probabilities of a movie are the mean of its windows' softmax, and its value,
// for a regression, the mean of its windows' values; in double precision.
//
// Reference: Islam & Bertasius, ViS4mer (ECCV 2022), section 4.2.
class Mean {
 public:
  // `config` must outlive the object.
  Mean(std::string name, const HeadConfig& config) : name_(std::move(name)), config_(&config) {}

  // Adds a window that starts at `start` seconds, and returns its result. Throws Error for a logit that is not finite.
  Result add(double start, std::span<const float> logits);
  // Result for all windows so far, of which there is one at least.
  Result result() const;

 private:
  Result to_result(std::vector<double> outputs) const;

  std::string name_;
  const HeadConfig* config_;
  std::vector<double> sum_;  // of probabilities or values
  int64_t count_ = 0;
};

}  // namespace vis4mer
