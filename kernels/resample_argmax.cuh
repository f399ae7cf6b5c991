// Labels of logits resampled to another grid, without the resampled logits.
//
// A thread makes some labels of a column: class by class it interpolates along columns, then rows,
// then planes, in the order and with the rounding of PyTorch's `interpolate` and of the CPU's
// kernel, and keeps the largest. Where the grid becomes finer, labels lie between the same rows of
// logits, so that what was interpolated along columns is used again. The CPU leaves out classes
// that cannot win; here neighbouring threads share the reads.
#pragma once
#include "tile.cuh"

// Where an output lies along one axis: between two inputs, `far` the weight of the second.
template <class T>
struct Tap {
  int low, high;
  T near, far;

  __device__ __forceinline__ Tap(int output, int inputs, T scale, double exact_scale, int linear,
                                 int align_corners) {
    if (!linear) {  // the nearest, in double precision as nnU-Net
      const double at =
          align_corners ? output * exact_scale + 0.5 : exact_scale * (output + 0.5) - 0.5 + 0.5;
      low = high = min(int(at), inputs - 1);
      near = 1;
      far = 0;
      return;
    }
    const T at =
        align_corners ? scale * T(output) : max(scale * (T(output) + T(0.5)) - T(0.5), T(0));
    low = min(int(at), inputs - 1);
    high = min(low + 1, inputs - 1);
    far = low == high ? T(0) : min(at - T(low), T(1));
    near = 1 - far;
  }
};

// NaN and infinities replaced: none of them may reach a product with zero.
template <class T>
__device__ __forceinline__ T cleaned(T value, T most) {
  const T upper = value < most ? value : most;
  return upper > -most ? upper : -most;
}

constexpr int labels_of_thread = 4;

// One kernel for planes of all batches: `planes` of them in each, of labels; `depth` of logits.
// With `by_threshold` the label is 1 + the last class above the threshold, else the largest's.
template <class T, class L>
__global__ void __launch_bounds__(tile_size, sizeof(T) > 4 ? 2 : 4)
    resample(const T* logits, L* labels, int classes, int depth, int height, int width, int planes,
             int rows, int columns, double scale_z, double scale_y, double scale_x, int linear_z,
             int linear_y, int linear_x, int align_corners, int by_threshold, T threshold, T most) {
  constexpr int made = labels_of_thread;
  const Pixel strip((rows + made - 1) / made, columns);
  if (!strip.exists) return;
  const int batch = strip.plane / planes, plane = strip.plane % planes, begin = made * strip.row;
  const Tap<T> z(plane, depth, T(scale_z), scale_z, linear_z, align_corners);
  const Tap<T> x(strip.column, width, T(scale_x), scale_x, linear_x, align_corners);
  int low[made], high[made], label[made];
  T near[made], far[made], best[made];
#pragma unroll
  for (int r = 0; r < made; ++r) {
    const Tap<T> y(begin + r, height, T(scale_y), scale_y, linear_y, align_corners);
    low[r] = y.low, high[r] = y.high, near[r] = y.near, far[r] = y.far;
    label[r] = 0;
    best[r] = by_threshold ? threshold : -2 * most;  // what any value is above
  }
  const int64 volume = int64(depth) * height * width;
  const T* of_class = logits + batch * classes * volume;
  for (int k = 0; k < classes; ++k, of_class += volume) {
    T value[made];
    // A loop of one or two, for the registers: what differs by plane is not held for both.
#pragma unroll 1
    for (int j = z.low; j <= z.high; ++j) {
      const T* const slice = of_class + int64(j) * height * width;
      const auto along_columns = [&](int i) {
        const T* const row = slice + int64(i) * width;
        return x.near * cleaned(row[x.low], most) + x.far * cleaned(row[x.high], most);
      };
      T above = 0, below = 0;
#pragma unroll
      for (int r = 0; r < made; ++r) {
        if (r == 0 || low[r] != low[r - 1])
          above = r > 0 && low[r] == high[r - 1] ? below : along_columns(low[r]);
        if (r == 0 || high[r] != high[r - 1])
          below = low[r] == high[r] ? above : along_columns(high[r]);
        const T between = low[r] == high[r] ? above : near[r] * above + far[r] * below;
        value[r] = j == z.low ? between : z.near * value[r] + z.far * between;
      }
    }
#pragma unroll
    for (int r = 0; r < made; ++r)
      if (value[r] > best[r]) {
        label[r] = k + by_threshold;
        if (!by_threshold) best[r] = value[r];
      }
  }
  L* const column = labels + (int64(strip.plane) * rows + begin) * columns + strip.column;
#pragma unroll
  for (int r = 0; r < made; ++r)
    if (begin + r < rows) column[int64(r) * columns] = L(label[r]);
}
