// Doubling by a transposed convolution of kernel 2 and stride 2: each output voxel has one input
// voxel and one tap, so its sum goes over channels alone, in their order.
//
// A thread makes the 2 by 2 outputs of an input pixel for a few output channels; a block stages the
// weights of these for as many input channels at a time as fit. Both planes of a doubled volume read
// the plane they come from.
#pragma once
#include "half.cuh"
#include "tile.cuh"

constexpr int doubled_channels = 4;        // outputs of a block
constexpr int doubled_staged = 16 << 10;  // bytes of weights in the block's memory

// `planes` and `deep` of the taps are 1 for an image; `groups`: of output channels. The tiles are
// those of the input, once for each plane of the output.
template <class T>
__global__ void __launch_bounds__(tile_size)
    double_by_taps(const T* input, const T* weights, const T* bias, T* output, int channels,
                   int outputs, int groups, int depth, int rows, int columns, int deep) {
  using A = typename Computed<T>::type;
  constexpr int room = doubled_staged / int(sizeof(A)) / (4 * doubled_channels);  // input channels
  SHARED(A, staged, [room * 4 * doubled_channels]);
  const Pixel pixel(rows, columns);  // `plane` counts image, group and plane of the output
  const int planes = depth * deep, plane = pixel.plane % planes;
  const int group = pixel.plane / planes % groups, image = pixel.plane / planes / groups;
  const int first = group * doubled_channels, tap_plane = plane % deep;
  const int64 size = int64(depth) * rows * columns;
  const T* const from = input + int64(image) * channels * size +
                        (int64(plane / deep) * rows + pixel.row) * columns + pixel.column;
  A sums[doubled_channels][4] = {};
  for (int base = 0; base < channels; base += room) {
    const int here = min(room, channels - base);
    __syncthreads();
    for (int i = threadIdx.x; i < here * 4 * doubled_channels; i += tile_size) {
      const int tap = i % 4, k = first + i / 4 % doubled_channels, c = base + i / 4 / doubled_channels;
      const int64 at = ((int64(c) * outputs + k) * deep + tap_plane) * 4 + tap;
      staged[i] = k < outputs ? loaded(weights[at]) : A(0);
    }
    __syncthreads();
    if (!pixel.exists) continue;
    for (int c = 0; c < here; ++c) {
      const A value = loaded(from[(base + c) * size]);
      const A* const taps = staged + c * 4 * doubled_channels;
#pragma unroll
      for (int k = 0; k < doubled_channels; ++k)
#pragma unroll
        for (int tap = 0; tap < 4; ++tap)
          sums[k][tap] = multiply_add(value, taps[4 * k + tap], sums[k][tap]);
    }
  }
  if (!pixel.exists) return;
#pragma unroll
  for (int k = 0; k < doubled_channels; ++k) {
    if (first + k >= outputs) break;
    const A added = loaded(bias[first + k]);
    const int64 of = (int64(image) * outputs + first + k) * planes + plane;
    T* const to = output + (of * 2 * rows + 2 * pixel.row) * 2 * columns + 2 * pixel.column;
    for (int tap = 0; tap < 4; ++tap)
      stored(to + (tap / 2) * 2 * columns + tap % 2, sums[k][tap] + added);
  }
}
