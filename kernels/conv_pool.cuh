// Convolution with bias, activation and pooling in one pass.
//
// A block makes a tile of 8 by 32 results of 8 output channels. It stages the input that the tile
// needs in its memory, as many channels at a time as fit, with the weights for them; a thread keeps
// the sums of its pooling window (one pixel, or 2 by 2) of all 8 channels in registers, so that a
// value from shared memory serves 8 of them. Volumes are taken plane by plane of taps. Other windows,
// indices of maxima, and maps that are wanted as well, are pooled by a kernel of its own.
#pragma once
#include "half.cuh"
#include "tile.cuh"

constexpr int output_channels = 8;      // of a block
constexpr int staged_bytes = 36 << 10;  // of shared memory: less than registers leave room for

// One axis of a layer, in the order of the host's arguments.
struct Axis {
  int size, taps, stride, before, dilation, full;  // full: of the convolution's result
};

enum Activation { no_activation, relu, leaky_relu, elu, sigmoid };

template <class A> __device__ __forceinline__ A activated(A x, int activation, A slope) {
  switch (activation) {  // NaN stays NaN
    case relu: return x < 0 ? A(0) : x;
    case leaky_relu: return x < 0 ? x * slope : x;
    case elu: return x < 0 ? slope * expm1(x) : x;
    case sigmoid: return A(1) / (A(1) + exp(-x));
    default: return x;
  }
}

// Whether a maximum gives way to another value: the first of equals stays, NaN is the largest.
template <class A> __device__ __forceinline__ bool gives_way(A best, A value) {
  return value > best || (value != value && best == best);
}

// `side` of the windows that are pooled (1: none), by their mean if `mean`. `axes`: 6 numbers each of
// depth, rows and columns; `groups`: of output channels; `held`: input channels staged at a time.
template <class T, int side>
__global__ void __launch_bounds__(tile_size, sizeof(T) > 4 ? 1 : 2)
    convolve(const T* input, const T* weights, const T* bias, T* output, int channels, int outputs,
             int groups, int held, const int* axes, int activation, T slope_of, int mean) {
  using A = typename Computed<T>::type;
  SHARED(A, staged, [staged_bytes / sizeof(A)]);
  const Axis deep{axes[0], axes[1], axes[2], axes[3], axes[4], axes[5]};
  const Axis down{axes[6], axes[7], axes[8], axes[9], axes[10], axes[11]};
  const Axis across{axes[12], axes[13], axes[14], axes[15], axes[16], axes[17]};
  const int rows = down.full / side, columns = across.full / side;
  const Pixel pixel(rows, columns);  // of the result; `plane` counts image, group and depth
  const int z = pixel.plane % deep.full, group = pixel.plane / deep.full % groups;
  const int image = pixel.plane / deep.full / groups, first = group * output_channels;
  const int thread_row = int(threadIdx.x) / tile_columns, thread_column = threadIdx.x % tile_columns;
  const int high = (tile_rows * side - 1) * down.stride + (down.taps - 1) * down.dilation + 1;
  const int wide = (tile_columns * side - 1) * across.stride + (across.taps - 1) * across.dilation + 1;
  const int top = (pixel.row - thread_row) * side * down.stride - down.before;
  const int left = (pixel.column - thread_column) * side * across.stride - across.before;
  const int taps = down.taps * across.taps;
  A* const kernel = staged + held * high * wide;  // [channel][tap][output channel]
  A sums[side * side][output_channels];
#pragma unroll
  for (int w = 0; w < side * side; ++w)
#pragma unroll
    for (int k = 0; k < output_channels; ++k) sums[w][k] = 0;

  for (int t = 0; t < deep.taps; ++t) {
    const int plane = z * deep.stride - deep.before + t * deep.dilation;
    if (plane < 0 || plane >= deep.size) continue;  // the same for all threads
    for (int from = 0; from < channels; from += held) {
      const int here = min(held, channels - from);
      __syncthreads();
      for (int i = threadIdx.x; i < here * high * wide; i += tile_size) {
        const int c = i / (high * wide), at = i % (high * wide);
        const int y = top + at / wide, x = left + at % wide;
        const bool inside = y >= 0 && y < down.size && x >= 0 && x < across.size;
        const int64 channel = int64(image) * channels + from + c;
        staged[i] = inside ? loaded(input[((channel * deep.size + plane) * down.size + y) *
                                              across.size + x])
                           : A(0);
      }
      for (int i = threadIdx.x; i < here * taps * output_channels; i += tile_size) {
        const int k = first + i % output_channels, tap = i / output_channels % taps;
        const int c = from + i / output_channels / taps;
        const int64 at = ((int64(k) * channels + c) * deep.taps + t) * taps + tap;
        kernel[i] = k < outputs ? loaded(weights[at]) : A(0);
      }
      __syncthreads();
      for (int c = 0; c < here; ++c) {
        const A* corner = staged + (c * high + thread_row * side * down.stride) * wide +
                          thread_column * side * across.stride;
        const A* tap = kernel + c * taps * output_channels;
        for (int y = 0; y < down.taps; ++y)
          for (int x = 0; x < across.taps; ++x, tap += output_channels) {
            const A* at = corner + y * down.dilation * wide + x * across.dilation;
#pragma unroll
            for (int w = 0; w < side * side; ++w) {
              const A value = at[w / side * down.stride * wide + w % side * across.stride];
#pragma unroll
              for (int k = 0; k < output_channels; ++k)
                sums[w][k] = multiply_add(value, tap[k], sums[w][k]);
            }
          }
      }
    }
  }
  if (!pixel.exists) return;
  const A slope = loaded(slope_of);
#pragma unroll
  for (int k = 0; k < output_channels; ++k) {
    if (first + k >= outputs) break;
    const A added = loaded(bias[first + k]);
    A best = 0;
#pragma unroll
    for (int w = 0; w < side * side; ++w) {
      const A value = activated(sums[w][k] + added, activation, slope);
      if (w == 0)
        best = value;
      else if (mean)
        best += value;
      else if (gives_way(best, value))
        best = value;
    }
    if (mean) best /= A(side * side);
    const int64 channel = int64(image) * outputs + first + k;
    const int64 place = ((channel * deep.full + z) * rows + pixel.row) * columns + pixel.column;
    stored(output + place, best);
  }
}

// Maxima or means of windows side by side, and where maxima are (none if `indices` is null).
template <class T>
__global__ void __launch_bounds__(256)
    pool_windows(const T* full, int64 n, int depth, int rows, int columns, int deep, int high,
                 int wide, int mean, T* pooled, int64* indices) {
  using A = typename Computed<T>::type;
  const int planes = depth / deep, lines = rows / high, places = columns / wide;
  for (int64 i = global_thread(); i < n; i += global_threads()) {
    const int x = int(i % places), y = int(i / places % lines);
    const int z = int(i / places / lines % planes);
    const T* const channel = full + i / places / lines / planes * depth * rows * columns;
    A best = 0;
    int64 where = -1;
    for (int dz = 0; dz < deep; ++dz)
      for (int dy = 0; dy < high; ++dy)
        for (int dx = 0; dx < wide; ++dx) {
          const int64 at = (int64(z * deep + dz) * rows + y * high + dy) * columns + x * wide + dx;
          const A value = loaded(channel[at]);
          if (mean)
            best += value;
          else if (where < 0 || gives_way(best, value))
            best = value;
          else
            continue;
          where = at;
        }
    stored(pooled + i, mean ? best / A(deep * high * wide) : best);
    if (indices != nullptr) indices[i] = where;
  }
}
