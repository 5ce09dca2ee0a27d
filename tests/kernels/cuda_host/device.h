// A CUDA device on the host: enough of the language for the ops' kernels, one thread block after another.
//
// The threads of a block are fibers that yield at barriers. They run in ascending or descending order; where a barrier
// is missing, the two orders compute different numbers. Shared memory holds NaN when a block begins, so a value read
// before it is written is visible in the result.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __device__
#define __host__
#define __global__
#define __shared__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

inline dim3 threadIdx, blockIdx, blockDim;

inline float __fdividef(float a, float b) { return a / b; }

inline void sincospi(double turn, double* sine, double* cosine) {
  *sine = std::sin(turn * 3.14159265358979323846);
  *cosine = std::cos(turn * 3.14159265358979323846);
}

namespace vis4mer::cuda {

constexpr int kMostShared = 99 << 10;  // bytes of shared memory per block that all devices since sm_80 allow: sm_86, 89, 120
alignas(16) inline unsigned char shared_memory[kMostShared];

// Runs the threads of one block to their end.
class Block {
 public:
  Block(dim3 threads, const std::function<void()>& body, bool descending)
      : threads_(threads), count_(threads.x * threads.y), body_(body), descending_(descending), fibers_(count_) {}

  void run() {
    current_ = this;
    std::memset(shared_memory, 0xff, sizeof(shared_memory));
    for (Fiber& fiber : fibers_) {
      fiber.stack.reset(new char[kStackBytes]);
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStackBytes;
      fiber.context.uc_link = &scheduler_;
      makecontext(&fiber.context, &Block::enter, 0);
    }
    // One turn of every unfinished thread takes all of them from one barrier to the next, as the device does.
    for (unsigned done = 0; done < count_;) {
      done = 0;
      for (unsigned turn = 0; turn < count_; ++turn) {
        running_ = descending_ ? count_ - 1 - turn : turn;
        if (!fibers_[running_].done) {
          threadIdx = dim3(running_ % threads_.x, running_ / threads_.x);
          swapcontext(&scheduler_, &fibers_[running_].context);
        }
        done += fibers_[running_].done;
      }
    }
  }

  static void barrier() { swapcontext(&current_->fibers_[current_->running_].context, &current_->scheduler_); }

 private:
  static constexpr size_t kStackBytes = 64 << 10;

  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    bool done = false;
  };

  static void enter() {
    Block* const block = current_;
    block->body_();
    block->fibers_[block->running_].done = true;
  }

  static inline Block* current_ = nullptr;

  dim3 threads_;
  unsigned count_;
  const std::function<void()>& body_;
  bool descending_;
  std::vector<Fiber> fibers_;
  ucontext_t scheduler_;
  unsigned running_ = 0;
};

// The counterpart of cuda/launch.cuh: the order of thread blocks changes with that of threads.
class HostLaunch {
 public:
  explicit HostLaunch(bool descending) : descending_(descending) {}

  template <class... Parameters, class... Arguments>
  void operator()(void (*kernel)(Parameters...), int64_t blocks, dim3 threads, int shared_bytes,
                  const Arguments&... arguments) const {
    if (shared_bytes > kMostShared || threads.x * threads.y > 1024) {
      std::fprintf(stderr, "a launch exceeds the device\n");
      std::abort();
    }
    const std::function<void()> body = [&] { kernel(arguments...); };
    blockDim = threads;
    for (int64_t turn = 0; turn < blocks; ++turn) {
      blockIdx = dim3(static_cast<unsigned>(descending_ ? blocks - 1 - turn : turn));
      Block(threads, body, descending_).run();
    }
  }

 private:
  bool descending_;
};

}  // namespace vis4mer::cuda

inline void __syncthreads() { vis4mer::cuda::Block::barrier(); }
