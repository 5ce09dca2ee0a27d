#include "token_buffer.h"

#include <algorithm>

namespace vis4mer {

void* TokenBuffer::reserve(int64_t frames) {
  if (held_ + frames > capacity_) {
    const int64_t kept = std::min(held_, window_);
    // With room for two windows and the new frames, the kept frames and their new place cannot overlap.
    const int64_t needed = 2 * window_ + frames;
    DeviceMemory larger;
    std::byte* target = memory_.get();
    if (needed > capacity_) {
      larger = stream_.allocate(static_cast<size_t>(needed) * frame_bytes_);
      target = larger.get();
    }
    if (kept > 0) {
      stream_.copy(target, at(held_ - kept), static_cast<size_t>(kept) * frame_bytes_);
      stream_.synchronize();  // other libraries use the memory on streams of their own
    }
    if (larger) {
      memory_ = std::move(larger);
      capacity_ = needed;
    }
    held_ = kept;
  }
  return at(held_);
}

void TokenBuffer::pad() {
  const int64_t missing = window_ - held_;
  if (missing > 0) {
    stream_.clear(reserve(missing), static_cast<size_t>(missing) * frame_bytes_);
    stream_.synchronize();
  }
}

const void* TokenBuffer::latest(int64_t frames) const { return at(held_ - frames); }

}  // namespace vis4mer
