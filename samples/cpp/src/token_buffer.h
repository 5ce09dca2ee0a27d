// Holds the tokens of the latest frames, so that any window of them is one contiguous block.
#pragma once

#include "device.h"

namespace vis4mer {

// Frames lie one after the other in one block of device memory. Where the block ends, the frames that a window may
// still need move to its beginning, which costs less than one copy of each frame.
class TokenBuffer {
 public:
  // frame_bytes: size of one frame's tokens. window: frames that stay available, at least.
  TokenBuffer(const Device& device, size_t frame_bytes, int64_t window)
      : stream_(device), frame_bytes_(frame_bytes), window_(window) {}

  // Address for the tokens of the next `frames` frames. Frames before the latest `window` may be dropped.
  void* reserve(int64_t frames);
  // Adds the frames that have been written to the reserved address.
  void add(int64_t frames) { held_ += frames; }
  // Writes zeros behind the latest frame until a window is full. Frames cannot be added afterwards.
  void pad();
  // Address of the block that starts `frames` before the end of the frames added so far.
  const void* latest(int64_t frames) const;

 private:
  void* at(int64_t frame) const { return memory_.get() + static_cast<size_t>(frame) * frame_bytes_; }

  Stream stream_;
  size_t frame_bytes_;
  int64_t window_;
  int64_t capacity_ = 0;  // frames
  int64_t held_ = 0;      // frames
  DeviceMemory memory_;
};

}  // namespace vis4mer
