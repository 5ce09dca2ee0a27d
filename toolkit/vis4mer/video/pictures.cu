// Kernels for decoded pictures in a GPU's memory. `device_pictures.py` launches them; it loads the PTX beside this file,
// which `python -m tests.toolkit.video.device_code` compiles.

typedef unsigned char Byte;

// A thread block computes a tile of an image; one warp, a row of the tile.
constexpr int kColumns = 32;
constexpr int kRows = 8;
constexpr int kColours = 3;

// Weights along one axis of the image. Pixel i of the image is the sum of weight(t, i) * source pixel (first[i] + t).
struct Taps {
  const int* first;      // [pixels], ascending; first[i] + count never exceeds the source
  const float* weights;  // [count, pixels] along rows, [pixels, count] along columns: as a warp reads them
  int count;
};

// Pictures as they are shown: rotation and mirroring are in the strides.
struct Pictures {
  const Byte* data;  // upper left pixel of the first picture; the colours of a pixel are neighbours
  long long picture_stride;
  long long row_stride;
  long long column_stride;
};

// Correction of the colours, for red, green and blue.
struct ColourMatrix {
  float rows[kColours][kColours];
  int is_identity;
};

__device__ __forceinline__ float clamp_level(float value) { return fminf(fmaxf(value, 0.0f), 255.0f); }

// Converts as PyAV's path does, which has 8 bits per colour before it resizes: what exceeds them is lost there too.
__device__ __forceinline__ float corrected(const float (&row)[kColours], float red, float green, float blue) {
  return clamp_level(row[0] * red + row[1] * green + row[2] * blue);
}

// Resizes pictures to uint8 images [pictures, height, width, 3].
//
// The block walks down the source rows that its tile depends on, as many at a time as it has warps. Each warp resamples
// one of them horizontally, from device memory to shared memory. Then each thread adds those rows to its pixel, with
// their vertical weights. So every source row is read once per tile, and nothing but the image is written.
//
// Grid: tiles along x and y, pictures along z. Block: kColumns x kRows.
extern "C" __global__ void __launch_bounds__(kColumns* kRows)
    resize_pictures(Pictures pictures, ColourMatrix matrix, Taps columns, Taps rows, Byte* images, int width,
                    int height) {
  __shared__ float lines[kRows][kColours][kColumns];
  const int lane = threadIdx.x, warp = threadIdx.y;
  const int x = blockIdx.x * kColumns + lane, y = blockIdx.y * kRows + warp;
  // Threads beyond the image compute its last pixels again and write nothing. They must not return: all threads of the
  // block meet at the barriers.
  const int column = min(x, width - 1), row = min(y, height - 1);
  const Byte* const picture = pictures.data + blockIdx.z * pictures.picture_stride;

  const int first_column = columns.first[column], first_row = rows.first[row];
  const int begin = rows.first[blockIdx.y * kRows];
  const int end = rows.first[min(static_cast<int>(blockIdx.y) * kRows + kRows - 1, height - 1)] + rows.count;
  float sums[kColours] = {0.0f, 0.0f, 0.0f};
  for (int base = begin; base < end; base += kRows) {
    float red = 0.0f, green = 0.0f, blue = 0.0f;
    if (base + warp < end) {
      const Byte* const line = picture + (base + warp) * pictures.row_stride;
      for (int tap = 0; tap < columns.count; ++tap) {
        const Byte* const pixel = line + (first_column + tap) * pictures.column_stride;
        float r = pixel[0], g = pixel[1], b = pixel[2];
        if (!matrix.is_identity) {
          const float corrected_r = corrected(matrix.rows[0], r, g, b);
          const float corrected_g = corrected(matrix.rows[1], r, g, b);
          b = corrected(matrix.rows[2], r, g, b);
          r = corrected_r;
          g = corrected_g;
        }
        const float weight = columns.weights[tap * width + column];
        red += weight * r;
        green += weight * g;
        blue += weight * b;
      }
    }
    lines[warp][0][lane] = red;
    lines[warp][1][lane] = green;
    lines[warp][2][lane] = blue;
    __syncthreads();
    for (int i = 0; i < kRows; ++i) {
      const int tap = base + i - first_row;
      if (tap >= 0 && tap < rows.count) {
        const float weight = rows.weights[row * rows.count + tap];
        for (int colour = 0; colour < kColours; ++colour) {
          sums[colour] += weight * lines[i][colour][lane];
        }
      }
    }
    // The next rows overwrite these, which other threads may still read.
    __syncthreads();
  }
  if (x < width && y < height) {
    Byte* const pixel = images + ((static_cast<long long>(blockIdx.z) * height + y) * width + x) * kColours;
    for (int colour = 0; colour < kColours; ++colour) {
      // Rounds half to even, as NumPy does. The bicubic filter overshoots at edges.
      pixel[colour] = static_cast<Byte>(rintf(clamp_level(sums[colour])));
    }
  }
}

// Updates the smallest and largest level of each value of an image over a movie, uint8 [values] each, with more images
// [count, values]; then the largest level of all, and the largest difference between the two.
//
// Grid and block: along x, a thread per value.
extern "C" __global__ void track_extremes(const Byte* images, int count, int values, Byte* lowest, Byte* highest,
                                          int* brightest, int* widest) {
  const int value = blockIdx.x * blockDim.x + threadIdx.x;
  if (value >= values) {
    return;
  }
  int low = lowest[value], high = highest[value];
  for (long long i = 0; i < count; ++i) {
    const int level = images[i * values + value];
    low = min(low, level);
    high = max(high, level);
  }
  lowest[value] = static_cast<Byte>(low);
  highest[value] = static_cast<Byte>(high);
  // Both results only grow. Reading them first, however stale, spares almost all threads the atomic operation.
  if (high > *brightest) {
    atomicMax(brightest, high);
  }
  if (high - low > *widest) {
    atomicMax(widest, high - low);
  }
}
