// Pyramid pooling: means over grids of cells, 1x1 convolutions of them, and their interpolation to
// the size of the features they go beside.
#pragma once
#include "half.cuh"
#include "tile.cuh"

constexpr int mean_threads = 128;

template <class T> using Sum = typename Computed<T>::type;

// The mean of one cell of one plane by each block; cells of all grids of `sizes` one after the other.
template <class T>
__global__ void __launch_bounds__(mean_threads)
    cell_means(const T* features, int rows, int columns, const int* sizes, int cells,
               Sum<T>* means) {
  using A = Sum<T>;
  SHARED(double, by_warp, [mean_threads / 32]);
  const unsigned plane = blockIdx.x / cells;
  int cell = int(blockIdx.x % cells), grid = 0;
  while (cell >= sizes[grid] * sizes[grid]) {
    cell -= sizes[grid] * sizes[grid];
    ++grid;
  }
  const int size = sizes[grid], down = cell / size, across = cell % size;
  // As in adaptive pooling: from the floor to the ceiling.
  const int top = int(int64(down) * rows / size);
  const int left = int(int64(across) * columns / size);
  const int high = int((int64(down + 1) * rows + size - 1) / size) - top;
  const int wide = int((int64(across + 1) * columns + size - 1) / size) - left;
  const T* const corner = features + (int64(plane) * rows + top) * columns + left;
  A sum = 0;
  for (int i = threadIdx.x; i < high * wide; i += mean_threads)
    sum += loaded(corner[int64(i / wide) * columns + i % wide]);
  double total = sum;
  for (int by = 16; by > 0; by /= 2) total += __shfl_down_sync(all_lanes, total, by);
  if (threadIdx.x % 32 == 0) by_warp[threadIdx.x / 32] = total;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < mean_threads / 32; ++warp) total += by_warp[warp];
  means[blockIdx.x] = A(total / (double(high) * wide));
}

// A 1x1 convolution of the `size` cells from `begin` on of each channel's `cells`; n results.
template <class A>
__global__ void __launch_bounds__(256)
    mix_cells(const A* means, int channels, int cells, int begin, int size, const A* weights,
              const A* bias, int outputs, int relu, int64 n, A* mixed) {
  for (int64 i = global_thread(); i < n; i += global_threads()) {
    const int cell = int(i % size), output = int(i / size % outputs);
    const A* const from = means + i / size / outputs * channels * cells + begin + cell;
    A sum = bias[output];
    for (int c = 0; c < channels; ++c)
      sum = multiply_add(weights[int64(output) * channels + c], from[int64(c) * cells], sum);
    mixed[i] = relu && sum < 0 ? A(0) : sum;
  }
}

// Where an output lies between the cells of an axis.
template <class A> struct Between {
  int low, high;
  A far;

  __device__ __forceinline__ Between(int at, int outputs, int cells, int align_corners) {
    const A place = align_corners ? A(at) * (A(cells - 1) / A(max(outputs - 1, 1)))
                                  : max((A(at) + A(0.5)) * (A(cells) / A(outputs)) - A(0.5), A(0));
    low = min(int(place), cells - 1);
    high = min(low + 1, cells - 1);
    far = low == high ? A(0) : min(place - A(low), A(1));
  }
};

// One grid interpolated to channels `first` and on of the result; `planes` of it in each image.
template <class T>
__global__ void __launch_bounds__(tile_size)
    stretch_cells(const Sum<T>* grid, int outputs, int size, int rows, int columns, int align_corners,
                  T* result, int channels, int first) {
  using A = Sum<T>;
  const Pixel pixel(rows, columns);
  if (!pixel.exists) return;
  const Between<A> y(pixel.row, rows, size, align_corners);
  const Between<A> x(pixel.column, columns, size, align_corners);
  const A* const cells = grid + int64(pixel.plane) * size * size;
  const auto along = [&](int row) {
    const A* const line = cells + row * size;
    return multiply_add(x.far, line[x.high], (A(1) - x.far) * line[x.low]);
  };
  const A value = multiply_add(y.far, along(y.high), (A(1) - y.far) * along(y.low));
  const int image = pixel.plane / outputs, channel = first + pixel.plane % outputs;
  stored(result + ((int64(image) * channels + channel) * rows + pixel.row) * columns + pixel.column,
         value);
}
