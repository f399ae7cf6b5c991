// ROI Align as He et al. define it ("Mask R-CNN", ICCV 2017): each bin of a box is the mean of
// interpolated samples on a grid.
//
// A thread makes one bin of one channel, the bins of a channel next to each other. Where samples
// fall is computed as torchvision and the CPU's kernel do, in the same type and order; the sums are
// taken in another order than the CPU's, which goes axis by axis.
#pragma once
#include "tile.cuh"

// Samples of one bin along one axis.
template <class T> struct Samples {
  T start, bin, step;
  int first, last;  // those that may lie inside
  T share;          // of one sample in the mean

  __device__ __forceinline__ Samples(T low, T high, T scale, int at, int bins, int extent,
                                     int samples, int aligned) {
    const T offset = aligned ? T(0.5) : T(0);
    const T from = low * scale - offset, to = high * scale - offset;
    T size = to - from;
    if (!aligned) size = max(size, T(1));
    bin = size / T(bins);
    const T wanted = samples > 0 ? T(samples) : ceil(bin);
    const T grid = min(max(wanted, T(0)), T(1 << 30));
    start = from + T(at) * bin;
    step = grid;
    share = T(1) / max(grid, T(1));
    first = 0;
    last = int(grid);
    if (last > 64 && bin > 0) {  // most may be outside; positions ascend
      const T before = (T(-1) - start) / bin * grid - 2, after = (T(extent) - start) / bin * grid + 2;
      first = int(min(max(before, T(0)), T(last)));
      last = int(min(max(after, T(first)), T(last)));
    }
  }
  // Position of sample i; half a step is a float's in torchvision.
  __device__ __forceinline__ T position(int i) const {
    return start + T(float(i) + .5f) * bin / step;
  }
};

// The two pixels of a sample; false where it lies outside.
template <class T>
__device__ __forceinline__ bool between(T p, int extent, int& low, int& high, T& above) {
  if (!(p >= T(-1) && p <= T(extent))) return false;
  p = max(p, T(0));
  low = int(p);
  if (low >= extent - 1) {
    low = high = extent - 1;
    above = 0;
  } else {
    high = low + 1;
    above = p - T(low);
  }
  return true;
}

// `dims` 2: a single plane. `boxes`: (image, x1, y1, [z1,] x2, y2, [z2]); those that are not finite
// or name no image give zeros. `result` has one bin an entry, n in all.
template <class T, int dims>
__global__ void __launch_bounds__(256, 2)  // without the 2, 40 registers and spills on sm_90
    roi_align(const T* input, const T* boxes, T* result, int64 n, int images, int channels,
              int depth, int height, int width, unsigned bins_z, unsigned bins_y, unsigned bins_x,
              T scale, int samples, int aligned) {
  const int64 at = global_thread();
  if (at >= n) return;
  const unsigned bins = bins_z * bins_y * bins_x;
  const int64 map = at / bins;
  const unsigned bin = unsigned(at - map * bins);
  const int64 box_number = map / channels;
  const int channel = int(map - box_number * channels);
  const T* const box = boxes + box_number * (1 + 2 * dims);
  bool fine = box[0] >= 0 && box[0] < T(images);
  for (int k = 1; k <= 2 * dims; ++k) fine &= box[k] - box[k] == 0;
  T sum = 0;
  if (fine) {
    const T* const corner = box + 1;
    const Samples<T> x(corner[0], corner[dims], scale, bin % bins_x, bins_x, width, samples,
                       aligned);
    const Samples<T> y(corner[1], corner[dims + 1], scale, bin / bins_x % bins_y, bins_y, height,
                       samples, aligned);
    const Samples<T> z(dims == 3 ? corner[2] : T(0), dims == 3 ? corner[dims + 2] : T(1),
                       dims == 3 ? scale : T(1), bin / bins_x / bins_y, bins_z, depth,
                       dims == 3 ? samples : 1, dims == 3 ? aligned : 0);
    const T* const from =
        input + (int64(box[0]) * channels + channel) * depth * int64(height) * width;
    for (int k = z.first; k < z.last; ++k) {
      int z0 = 0, z1 = 0;
      T up = 0;
      if (dims == 3 && !between(z.position(k), depth, z0, z1, up)) continue;
      for (int j = y.first; j < y.last; ++j) {
        int y0, y1;
        T down;
        if (!between(y.position(j), height, y0, y1, down)) continue;
        for (int i = x.first; i < x.last; ++i) {
          int x0, x1;
          T right;
          if (!between(x.position(i), width, x0, x1, right)) continue;
          const auto plane = [&](int p) {
            const T* const row = from + (int64(p) * height + y0) * width;
            const T* const next = from + (int64(p) * height + y1) * width;
            // A pixel without a weight is not read: NaN must not spread from it.
            const T above = right == 0 ? row[x0] : (1 - right) * row[x0] + right * row[x1];
            if (down == 0) return above;
            const T below = right == 0 ? next[x0] : (1 - right) * next[x0] + right * next[x1];
            return (1 - down) * above + down * below;
          };
          const T first = plane(z0);
          sum += up == 0 ? first : (1 - up) * first + up * plane(z1);
        }
      }
    }
    sum = sum * x.share * y.share;
    if (dims == 3) sum *= z.share;
  }
  result[at] = sum;
}

// Share of a pixel in the mean of a bin's samples along one axis.
template <class T>
__device__ __forceinline__ T share_of(int pixel, const Samples<T>& samples, int extent) {
  const T end = samples.start + samples.bin;
  if (T(pixel) < min(samples.start, end) - 1 || T(pixel) > max(samples.start, end) + 1) return 0;
  T sum = 0;
  for (int i = samples.first; i < samples.last; ++i) {
    int low, high;
    T above;
    if (!between(samples.position(i), extent, low, high, above)) continue;
    if (low == pixel) sum += 1 - above;
    if (high == pixel) sum += above;
  }
  return sum * samples.share;
}

// Whether a box may have samples near positions `first` to `last` along an axis.
template <class T>
__device__ __forceinline__ bool reaches(T low, T high, T scale, int aligned, int first, int last) {
  const T from = low * scale - (aligned ? T(0.5) : T(0));
  T size = high * scale - low * scale;
  if (!aligned) size = max(size, T(1));
  return max(from, from + size) >= T(first - 2) && min(from, from + size) <= T(last + 2);
}

constexpr int backward_channels = 4;  // of a thread

// The gradient of the input: each pixel gathers from the boxes that reach it, in their order, so
// that sums are the same on every run; torchvision's atomics are not. A block looks through 256 boxes
// at a time for those that reach its tile.
template <class T, int dims>
__global__ void __launch_bounds__(tile_size, sizeof(T) > 4 ? 1 : 2)
    roi_align_backward(const T* gradient, const T* boxes, int count, T* result, int images,
                       int channels, int groups, int depth, int height, int width, unsigned bins_z,
                       unsigned bins_y, unsigned bins_x, T scale, int samples, int aligned) {
  SHARED(uint8, wanted, [tile_size]);
  const Pixel pixel(height, width);  // `plane` counts image, group of channels and plane
  const int me = threadIdx.x, plane = pixel.plane % depth;
  const int first = pixel.plane / depth % groups * backward_channels;
  const int image = pixel.plane / depth / groups;
  const int row = pixel.row - me / tile_columns, column = pixel.column - me % tile_columns;
  const int64 bins = int64(bins_z) * bins_y * bins_x;
  T sums[backward_channels] = {};
  for (int base = 0; base < count; base += tile_size) {
    bool near = base + me < count;
    if (near) {
      const T* const box = boxes + int64(base + me) * (1 + 2 * dims);
      near = box[0] >= 0 && box[0] < T(images) && int(box[0]) == image;
      for (int k = 1; k <= 2 * dims; ++k) near &= box[k] - box[k] == 0;
      near = near && reaches(box[1], box[1 + dims], scale, aligned, column, column + tile_columns) &&
             reaches(box[2], box[2 + dims], scale, aligned, row, row + tile_rows);
      if (dims == 3) near = near && reaches(box[3], box[3 + dims], scale, aligned, plane, plane);
    }
    wanted[me] = near;
    if (__syncthreads_count(near) == 0) continue;
    for (int j = 0; j < min(tile_size, count - base); ++j) {
      if (!wanted[j] || !pixel.exists) continue;
      const T* const corner = boxes + int64(base + j) * (1 + 2 * dims) + 1;
      for (unsigned z = 0; z < bins_z; ++z) {
        T by_z = 1;
        if (dims == 3)
          by_z = share_of(plane, Samples<T>(corner[2], corner[dims + 2], scale, z, bins_z, depth,
                                            samples, aligned), depth);
        if (by_z == 0) continue;
        for (unsigned y = 0; y < bins_y; ++y) {
          const T by_y = by_z * share_of(pixel.row, Samples<T>(corner[1], corner[dims + 1], scale, y,
                                                               bins_y, height, samples, aligned),
                                         height);
          if (by_y == 0) continue;
          for (unsigned x = 0; x < bins_x; ++x) {
            const T by_x = by_y * share_of(pixel.column,
                                           Samples<T>(corner[0], corner[dims], scale, x, bins_x,
                                                      width, samples, aligned),
                                           width);
            if (by_x == 0) continue;
            const T* const of = gradient + (int64(base + j) * channels + first) * bins +
                                (z * bins_y + y) * bins_x + x;
#pragma unroll
            for (int c = 0; c < backward_channels; ++c)
              if (first + c < channels) sums[c] += of[c * bins] * by_x;
          }
        }
      }
    }
    __syncthreads();
  }
  if (!pixel.exists) return;
  const int64 places = int64(depth) * height * width;
  const int64 at = (int64(plane) * height + pixel.row) * width + pixel.column;
#pragma unroll
  for (int c = 0; c < backward_channels; ++c)
    if (first + c < channels) result[(int64(image) * channels + first + c) * places + at] = sums[c];
}
