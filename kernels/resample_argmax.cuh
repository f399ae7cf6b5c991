// Labels of logits resampled to another grid, without the resampled logits.
//
// A thread makes one label: class by class it interpolates along columns, then rows, then planes, in
// the order and with the rounding of PyTorch's `interpolate` and of the CPU's kernel, and keeps the
// largest. The CPU leaves out classes that cannot win; here neighbouring threads share the reads.
#pragma once
#include "tile.cuh"

// Where an output lies along one axis: between two inputs, `far` the weight of the second.
template <class T> struct Tap {
  int low, high;
  T near, far;

  __device__ __forceinline__ Tap(int output, int inputs, T scale, double exact_scale, int linear,
                                 int align_corners) {
    if (!linear) {  // the nearest, in double precision as nnU-Net
      const double at = align_corners ? output * exact_scale + 0.5
                                      : exact_scale * (output + 0.5) - 0.5 + 0.5;
      low = high = min(int(at), inputs - 1);
      near = 1;
      far = 0;
      return;
    }
    const T at = align_corners ? scale * T(output)
                               : max(scale * (T(output) + T(0.5)) - T(0.5), T(0));
    low = min(int(at), inputs - 1);
    high = min(low + 1, inputs - 1);
    far = low == high ? T(0) : min(at - T(low), T(1));
    near = 1 - far;
  }
};

// NaN and infinities replaced: none of them may reach a product with zero.
template <class T> __device__ __forceinline__ T cleaned(T value, T most) {
  const T upper = value < most ? value : most;
  return upper > -most ? upper : -most;
}

// One kernel for planes of all batches: `planes` of them in each, of labels; `depth` of logits.
// With `by_threshold` the label is 1 + the last class above the threshold, else the largest's.
template <class T, class L>
__global__ void __launch_bounds__(tile_size)
    resample(const T* logits, L* labels, int classes, int depth, int height, int width, int planes,
             int rows, int columns, double scale_z, double scale_y, double scale_x, int linear_z,
             int linear_y, int linear_x, int align_corners, int by_threshold, T threshold,
             T most) {
  const Pixel pixel(rows, columns);
  if (!pixel.exists) return;
  const int batch = pixel.plane / planes, plane = pixel.plane % planes;
  const Tap<T> z(plane, depth, T(scale_z), scale_z, linear_z, align_corners);
  const Tap<T> y(pixel.row, height, T(scale_y), scale_y, linear_y, align_corners);
  const Tap<T> x(pixel.column, width, T(scale_x), scale_x, linear_x, align_corners);
  const int64 volume = int64(depth) * height * width;
  const T* of_class = logits + batch * classes * volume;
  const auto along_columns = [&](int k, int j) {
    const T* const row = of_class + (int64(k) * height + j) * width;
    return x.near * cleaned(row[x.low], most) + x.far * cleaned(row[x.high], most);
  };
  const auto along_rows = [&](int k) {
    const T first = along_columns(k, y.low);
    return y.low == y.high ? first : y.near * first + y.far * along_columns(k, y.high);
  };
  int label = 0;
  T best = 0;
  for (int k = 0; k < classes; ++k, of_class += volume) {
    const T first = along_rows(z.low);
    const T value = z.low == z.high ? first : z.near * first + z.far * along_rows(z.high);
    if (by_threshold) {
      if (value > threshold) label = k + 1;
    } else if (k == 0 || value > best) {
      best = value;
      label = k;
    }
  }
  labels[pixel.index] = L(label);
}
