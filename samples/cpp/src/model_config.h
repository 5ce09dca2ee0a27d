// The manifest's `model`: heads, encoder, preprocessing and windows, and the interfaces that follow from them.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "fields.h"
#include "vis4mer.h"

namespace vis4mer {

struct EncoderShape {
  int64_t tokens;    // P
  int64_t features;  // D
};

struct HeadShape {
  int64_t d_input, l_max, d_output;
};

struct ModelConfig {
  std::optional<EncoderShape> encoder;
  std::map<std::string, HeadShape> shapes;  // by head
  std::map<std::string, HeadConfig> heads;
  Preprocessing preprocessing;
  Windows windows;
  int64_t window_frames = 0;  // 0 without encoder

  // L, tokens in the input of every head: those of a window's frames, or the shortest head's l_max without encoder.
  int64_t window_length() const;
  // Interface of a graph, for heads that take `length` tokens.
  GraphInterface interface(const std::string& graph, int64_t length) const;
};

// Throws BundleError for a value that breaks its rule.
ModelConfig read_model(const Json& values);

}  // namespace vis4mer
