// The kernels of pictures.cu, run on the host. device.h replaces the device; all other code is the product's.

#include <algorithm>

#include "device.h"

using std::max;
using std::min;

inline int atomicMax(int* target, int value) {
  const int before = *target;
  *target = std::max(before, value);
  return before;
}

// Thread blocks run one after another, so one copy of an array in a kernel is shared by the threads of a block.
#undef __shared__
#define __shared__ static

#include "pictures.cu"

namespace {

template <class Kernel>
void launch(const unsigned* grid, const unsigned* block, bool descending, const Kernel& kernel) {
  const std::function<void()> body = kernel;
  blockDim = dim3(block[0], block[1], block[2]);
  const unsigned blocks = grid[0] * grid[1] * grid[2];
  for (unsigned turn = 0; turn < blocks; ++turn) {
    const unsigned index = descending ? blocks - 1 - turn : turn;
    blockIdx = dim3(index % grid[0], index / grid[0] % grid[1], index / grid[0] / grid[1]);
    vis4mer::cuda::Block(blockDim, body, descending).run();
  }
}

}  // namespace

extern "C" void resize_pictures_on_host(const unsigned* grid, const unsigned* block, bool descending, Pictures pictures,
                                        ColourMatrix matrix, Taps columns, Taps rows, Byte* images, int width,
                                        int height) {
  launch(grid, block, descending,
         [&] { resize_pictures(pictures, matrix, columns, rows, images, width, height); });
}

extern "C" void track_extremes_on_host(const unsigned* grid, const unsigned* block, bool descending, const Byte* images,
                                       int count, int values, Byte* lowest, Byte* highest, int* brightest,
                                       int* widest) {
  launch(grid, block, descending,
         [&] { track_extremes(images, count, values, lowest, highest, brightest, widest); });
}
