// Doubling by a transposed convolution of kernel 2 and stride 2: each output voxel has one input
// voxel and one tap, so its sum goes over channels alone, in their order.
//
// A thread makes the 2 by 2 outputs of two input pixels for a few output channels; a block stages
// the weights of these for as many input channels at a time as fit. Two pixels, as reading the
// weights of one takes as long as its products. Both planes of a doubled volume read the plane they
// come from.
#pragma once
#include "half.cuh"
#include "tile.cuh"

constexpr int doubled_channels = 4;       // outputs of a block
constexpr int doubled_staged = 16 << 10;  // bytes of weights in the block's memory

template <class T>
struct alignas(2 * sizeof(T)) Pair {
  T left, right;
};

// `planes` and `deep` of the taps are 1 for an image; `groups`: of output channels. The tiles are
// those of every other row of the input, once for each plane of the output.
template <class T>
__global__ void __launch_bounds__(tile_size, sizeof(T) > 4 ? 1 : 2)
    double_by_taps(const T* input, const T* weights, const T* bias, T* output, int channels,
                   int outputs, int groups, int depth, int rows, int columns, int deep) {
  using A = typename Computed<T>::type;
  constexpr int room = doubled_staged / int(sizeof(A)) / (4 * doubled_channels);  // input channels
  SHARED(A, staged, [room * 4 * doubled_channels]);
  // `plane` counts image, group and plane of the output.
  const Pixel pixel((rows + 1) / 2, columns);
  const int planes = depth * deep, plane = pixel.plane % planes;
  const int group = pixel.plane / planes % groups, image = pixel.plane / planes / groups;
  const int first = group * doubled_channels, tap_plane = plane % deep;
  const int row = 2 * pixel.row, high = min(rows - row, 2);
  const int64 size = int64(depth) * rows * columns;
  const T* const from = input + int64(image) * channels * size +
                        (int64(plane / deep) * rows + row) * columns + pixel.column;
  A sums[2][doubled_channels][4] = {};
  for (int base = 0; base < channels; base += room) {
    const int here = min(room, channels - base);
    __syncthreads();
    for (int i = threadIdx.x; i < here * 4 * doubled_channels; i += tile_size) {
      const int tap = i % 4, k = first + i / 4 % doubled_channels,
                c = base + i / 4 / doubled_channels;
      const int64 at = ((int64(c) * outputs + k) * deep + tap_plane) * 4 + tap;
      staged[i] = k < outputs ? loaded(weights[at]) : A(0);
    }
    __syncthreads();
    if (!pixel.exists) continue;
#pragma unroll 4
    for (int c = 0; c < here; ++c) {
      const T* const of = from + (base + c) * size;
      const A values[2] = {loaded(of[0]), loaded(of[high > 1 ? columns : 0])};
      const A* const taps = staged + c * 4 * doubled_channels;
#pragma unroll
      for (int k = 0; k < doubled_channels; ++k)
#pragma unroll
        for (int tap = 0; tap < 4; ++tap)
#pragma unroll
          for (int i = 0; i < 2; ++i)
            sums[i][k][tap] = multiply_add(values[i], taps[4 * k + tap], sums[i][k][tap]);
    }
  }
  if (!pixel.exists) return;
#pragma unroll
  for (int k = 0; k < doubled_channels; ++k) {
    if (first + k >= outputs) break;
    const A added = loaded(bias[first + k]);
    const int64 of = (int64(image) * outputs + first + k) * planes + plane;
    T* const to = output + (of * 2 * rows + 2 * row) * 2 * columns + 2 * pixel.column;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i / 2 >= high) break;
      Pair<T> pair;
      stored(&pair.left, sums[i / 2][k][i % 2 * 2] + added);
      stored(&pair.right, sums[i / 2][k][i % 2 * 2 + 1] + added);
      *reinterpret_cast<Pair<T>*>(to + i * int64(2) * columns) = pair;
    }
  }
}
