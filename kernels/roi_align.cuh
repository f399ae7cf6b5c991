// ROI Align as He et al. define it ("Mask R-CNN", ICCV 2017): each bin of a box is the mean of
// interpolated samples on a grid.
//
// Where samples fall is computed as torchvision and the CPU's kernel do, in the same type and
// order. Along each axis the samples of a bin give few pixels a share in its mean, the same in all
// channels: a block finds these once for a box, then goes through channels, axis by axis as the CPU
// does.
#pragma once
#include "device.cuh"

// How the bins of a box lie along one axis.
template <class T>
struct Axis {
  T from, bin, grid;  // where the first begins, how long each is, and its number of samples
  int bins, extent;

  Axis() = default;  // in a block's memory
  __device__ __forceinline__ Axis(T low, T high, T scale, unsigned count, int pixels, int samples,
                                  int aligned)
      : bins(int(count)), extent(pixels) {
    const T offset = aligned ? T(0.5) : T(0);
    from = low * scale - offset;
    T size = high * scale - offset - from;
    if (!aligned) size = max(size, T(1));
    bin = size / T(count);
    const T wanted = samples > 0 ? T(samples) : ceil(bin);
    grid = min(max(wanted, T(0)), T(1 << 30));
  }
};

// Samples of one bin along one axis.
template <class T>
struct Samples {
  T start, bin, grid;
  T share;          // of one sample in the mean
  int first, last;  // those that may lie inside
  int extent;

  __device__ __forceinline__ Samples(const Axis<T>& axis, int at)
      : bin(axis.bin), grid(axis.grid), extent(axis.extent) {
    start = axis.from + T(at) * bin;
    share = T(1) / max(grid, T(1));
    first = 0;
    last = int(grid);
    if (last > 64 && bin > 0) {  // most may be outside; positions ascend
      const T before = (T(-1) - start) / bin * grid - 2,
              after = (T(extent) - start) / bin * grid + 2;
      first = int(min(max(before, T(0)), T(last)));
      last = int(min(max(after, T(first)), T(last)));
    }
  }

  // Calls `use` with the pixels of each sample and what it gives them. A pixel without a share is
  // not named: NaN must not spread from it.
  template <class Use>
  __device__ __forceinline__ void each(Use use) const {
    for (int i = first; i < last; ++i) {
      // Half a step is a float's in torchvision.
      const T position = start + T(float(i) + .5f) * bin / grid;
      if (!(position >= T(-1) && position <= T(extent))) continue;
      const T p = max(position, T(0));
      const int low = int(p);
      if (low >= extent - 1) {
        use(extent - 1, share);
        continue;
      }
      const T above = p - T(low);
      use(low, (1 - above) * share);
      if (above != 0) use(low + 1, above * share);
    }
  }
};

constexpr int roi_taps = 256;    // of an axis, in the block's memory
constexpr int roi_channels = 4;  // of a thread at a time

// The pixels that the bins of a box weigh along one axis, each bin's after the other. What does not
// fit is listed in pieces, of some bins or of some of the samples of one.
template <class T>
struct Taps {
  Axis<T> axis;
  int room;         // of a bin
  int wide, parts;  // bins of a piece, pieces of a bin
  int pixels[roi_taps], counts[roi_taps];
  T shares[roi_taps];

  __device__ __forceinline__ void begin(const Axis<T>& of) {
    axis = of;
    // Where positions ascend, a pixel is listed once; 6: the ends' neighbours, and rounding.
    const T most = of.bin >= 0 ? of.bin + 6 : T(roi_taps + 1);
    room = int(min(min(2 * of.grid, most), T(roi_taps + 1)));
    wide = max(min(roi_taps / max(room, 1), of.bins), 1);
    parts = 1;
    if (room <= roi_taps) return;
    T inside = of.grid;  // of the samples, as they are narrowed down
    if (of.bin > 0) inside = min(inside, T(of.extent + 1) / of.bin * of.grid + 6);
    parts = int(inside / (roi_taps / 2)) + 2;
  }
  __device__ __forceinline__ int pieces() const { return (axis.bins + wide - 1) / wide * parts; }
  __device__ __forceinline__ int first_bin(int piece) const { return piece / parts * wide; }
  __device__ __forceinline__ int bins_of(int piece) const {
    return min(axis.bins - first_bin(piece), wide);
  }

  __device__ __forceinline__ void list(int piece, int bin) {
    int* const of = pixels + bin * room;
    T* const by = shares + bin * room;
    Samples<T> some(axis, first_bin(piece) + bin);
    if (parts > 1) {
      some.first += piece % parts * (roi_taps / 2);
      some.last = min(some.last, some.first + roi_taps / 2);
    }
    int n = 0;
    some.each([&](int pixel, T share) {
      int at = n;
      if (n > 0 && of[n - 1] == pixel) at = n - 1;
      if (n > 1 && of[n - 2] == pixel) at = n - 2;
      of[at] = pixel;
      by[at] = at < n ? by[at] + share : share;
      n = max(n, at + 1);
    });
    counts[bin] = n;
  }

  // Calls `use` with the pixels of a listed bin and their shares.
  template <class Use>
  __device__ __forceinline__ void each(int bin, Use use) const {
#pragma unroll 1
    for (int k = bin * room, end = k + counts[bin]; k < end; ++k) use(pixels[k], shares[k]);
  }
};

// `dims` 2: a single plane. `boxes`: (image, x1, y1, [z1,] x2, y2, [z2]); those that are not finite
// or name no image give zeros. A block makes `share` channels of a box, which has `parts` blocks;
// its threads lie along the bins of a channel, and of as many others as fit.
template <class T, int dims>
__global__ void __launch_bounds__(256, dims == 3 || sizeof(T) > 4 ? 2 : 3)
    roi_align(const T* input, const T* boxes, T* result, int images, int channels, int share,
              unsigned parts, int depth, int height, int width, unsigned bins_z, unsigned bins_y,
              unsigned bins_x, T scale, int samples, int aligned) {
  SHARED(Taps<T>, taps, [dims]);
  const int me = threadIdx.x, box_number = int(blockIdx.x / parts);
  const int first = int(blockIdx.x % parts) * share, end = min(first + share, channels);
  const T* const box = boxes + int64(box_number) * (1 + 2 * dims);
  bool fine = box[0] >= 0 && box[0] < T(images);
  for (int k = 1; k <= 2 * dims; ++k) fine &= box[k] - box[k] == 0;
  if (me < dims) {
    Axis<T> axis(box[1 + me], box[1 + me + dims], scale,
                 me == 0   ? bins_x
                 : me == 1 ? bins_y
                           : bins_z,
                 me == 0   ? width
                 : me == 1 ? height
                           : depth,
                 samples, aligned);
    if (!fine) axis.grid = 0;
    taps[me].begin(axis);
  }
  __syncthreads();

  Taps<T>&x = taps[0], &y = taps[1], &z = taps[dims - 1];
  const int64 plane_size = int64(height) * width, size = depth * plane_size;
  const T* const image = input + (fine ? int64(box[0]) : 0) * channels * size;
  const auto pool = [&](int in_z, int in_y, int in_x) {
    const int wide = x.bins_of(in_x), high = y.bins_of(in_y),
              deep = dims == 3 ? z.bins_of(in_z) : 1;
    __syncthreads();  // the piece before is used
    for (int i = me; i < wide + high + (dims == 3 ? deep : 0); i += blockDim.x)
      if (i < wide)
        x.list(in_x, i);
      else if (i < wide + high)
        y.list(in_y, i - wide);
      else
        z.list(in_z, i - wide - high);
    __syncthreads();
    const bool more = in_x % x.parts + in_y % y.parts + (dims == 3 ? in_z % z.parts : 0) > 0;
    const int bins = wide * high * deep, rows = max(int(blockDim.x) / bins, 1);
    if (rows > 1 && me >= rows * bins) return;
    for (int bin = rows > 1 ? me % bins : me; bin < bins; bin += blockDim.x) {
      const int bin_x = bin % wide, bin_y = bin / wide % high, bin_z = bin / wide / high;
      const int64 at =
          (int64(dims == 3 ? z.first_bin(in_z) + bin_z : 0) * bins_y + y.first_bin(in_y) + bin_y) *
              bins_x +
          x.first_bin(in_x) + bin_x;
      for (int c = first + (rows > 1 ? me / bins : 0); c < end; c += rows * roi_channels) {
        const int exist = (end - c + rows - 1) / rows;
        T sums[roi_channels] = {};
        // Those that do not exist are the last one again, so that all loads start at once.
        const T* of[roi_channels];
#pragma unroll
        for (int k = 0; k < roi_channels; ++k)
          of[k] = image + (c + min(k, exist - 1) * rows) * size;
        const auto add = [&](int64 plane, T by_plane) {
          y.each(bin_y, [&](int line, T by_line) {
            const int64 begin = plane + int64(line) * width;
            T means[roi_channels] = {};
            x.each(bin_x, [&](int column, T by_column) {
              T values[roi_channels];
#pragma unroll
              for (int k = 0; k < roi_channels; ++k) values[k] = of[k][begin + column];
#pragma unroll
              for (int k = 0; k < roi_channels; ++k) means[k] += by_column * values[k];
            });
#pragma unroll
            for (int k = 0; k < roi_channels; ++k) sums[k] += by_plane * by_line * means[k];
          });
        };
        if (dims == 2)
          add(0, T(1));
        else
          z.each(bin_z, [&](int plane, T by_plane) { add(plane * plane_size, by_plane); });
        T* const to = result + (int64(box_number) * channels + c) * bins_z * bins_y * bins_x + at;
        const int64 step = int64(rows) * bins_z * bins_y * bins_x;
#pragma unroll
        for (int k = 0; k < roi_channels; ++k)
          if (k < exist) to[k * step] = more ? to[k * step] + sums[k] : sums[k];
      }
    }
  };
  for (int in_z = 0; in_z < (dims == 3 ? z.pieces() : 1); ++in_z)
    for (int in_y = 0; in_y < y.pieces(); ++in_y)
      for (int in_x = 0; in_x < x.pieces(); ++in_x) pool(in_z, in_y, in_x);
}

// Whether a box may have samples near positions `first` to `last` along an axis.
template <class T>
__device__ __forceinline__ bool reaches(T low, T high, T scale, int aligned, int first, int last) {
  const T from = low * scale - (aligned ? T(0.5) : T(0));
  T size = high * scale - low * scale;
  if (!aligned) size = max(size, T(1));
  return max(from, from + size) >= T(first - 2) && min(from, from + size) <= T(last + 2);
}

// Share of a pixel in the mean of a bin's samples along one axis.
template <class T>
__device__ __forceinline__ T share_of(int pixel, const Samples<T>& samples) {
  const T end = samples.start + samples.bin;
  if (T(pixel) < min(samples.start, end) - 1 || T(pixel) > max(samples.start, end) + 1) return 0;
  T sum = 0;
  samples.each([&](int at, T share) {
    if (at == pixel) sum += share;
  });
  return sum;
}

constexpr int back_side = 8;  // pixels of a block's square, and bins of a square that it stages
constexpr int back_channels = 32;             // of a block: a lane's each
constexpr int back_line = back_channels + 1;  // of staged values: no two lanes on one bank

// The gradient of the input: each pixel gathers from the boxes that reach it, in their order, so
// that sums are the same on every run; torchvision's atomics are not. A block has a square of
// pixels in 32 channels: each warp a row of it, each lane a channel. It looks through 256 boxes at
// a time for those that reach the square. Of each it finds the shares of its pixels once for all
// channels, and stages the gradient of 8 by 8 bins.
template <class T, int dims>
__global__ void __launch_bounds__(256, sizeof(T) > 4 ? 2 : 3)
    roi_align_backward(const T* gradient, const T* boxes, int count, T* result, int images,
                       int channels, int groups, int depth, int height, int width, unsigned bins_z,
                       unsigned bins_y, unsigned bins_x, T scale, int samples, int aligned) {
  constexpr int square = back_side * back_side;
  SHARED(unsigned, near, [back_side]);           // a bit for each box
  SHARED(unsigned, reached, [4]);                // a bit for each share that is not 0: 8 a bin
  SHARED(T, shares, [2][back_side][back_side]);  // of pixels along x and y, for each bin
  SHARED(T, staged, [square * back_line]);
  const int me = threadIdx.x, lane = me % 32, warp = me / 32;
  const unsigned across = (width + back_side - 1) / back_side;
  const unsigned squares = across * ((height + back_side - 1) / back_side);
  const unsigned tile = blockIdx.x % squares, layer = blockIdx.x / squares;
  const int row = int(tile / across) * back_side, column = int(tile % across) * back_side;
  const int plane = int(layer % depth), image = int(layer / depth / groups);
  const int first = int(layer / depth % groups) * back_channels;
  const int here = min(channels - first, back_channels);
  const int64 bins = int64(bins_z) * bins_y * bins_x;
  T sums[back_side] = {};

  // The bins [z][y, y + 8)[x, x + 8) of a box.
  const auto add = [&](int box_number, int z, int y, int x) {
    const T* const corner = boxes + int64(box_number) * (1 + 2 * dims) + 1;
    const int high = min(int(bins_y) - y, back_side), wide = min(int(bins_x) - x, back_side);
    __syncthreads();  // what was staged before is used
    if (me < 2 * square) {
      const int upright = me / square, bin = me / back_side % back_side, pixel = me % back_side;
      T share = 0;
      if (bin < (upright ? high : wide)) {
        const Axis<T> axis(corner[upright], corner[upright + dims], scale,
                           upright ? bins_y : bins_x, upright ? height : width, samples, aligned);
        share =
            share_of((upright ? row : column) + pixel, Samples<T>(axis, (upright ? y : x) + bin));
        if (dims == 3 && upright && share != 0)
          share *= share_of(plane, Samples<T>(Axis<T>(corner[dims - 1], corner[2 * dims - 1], scale,
                                                      bins_z, depth, samples, aligned),
                                              z));
      }
      shares[upright][bin][pixel] = share;
      const unsigned some = __ballot_sync(all_lanes, share != 0);
      if (lane == 0) reached[warp] = some;
    }
    __syncthreads();
    if ((reached[0] | reached[1]) == 0 || (reached[2] | reached[3]) == 0) return;
    const int bin_x = me % back_side, bin_y = me / back_side % back_side;
    if ((reached[bin_x / 4] >> bin_x % 4 * 8 & 255) != 0 &&
        (reached[2 + bin_y / 4] >> bin_y % 4 * 8 & 255) != 0) {
      const T* const from = gradient + (int64(box_number) * channels + first) * bins +
                            (int64(z) * bins_y + y + bin_y) * bins_x + x + bin_x;
      T* const to = staged + me % square * back_line;
#pragma unroll 1
      for (int c = me / square; c < here; c += 4 * 256 / square) {
        T values[4];  // channels beyond the last are that one again: all loads start at once
#pragma unroll
        for (int k = 0; k < 4; ++k) values[k] = from[min(c + k * (256 / square), here - 1) * bins];
#pragma unroll
        for (int k = 0; k < 4; ++k) to[c + k * (256 / square)] = values[k];
      }
    }
    __syncthreads();
    for (int i = 0; i < high; ++i) {
      const T by_row = shares[1][i][warp];
      if (by_row == 0) continue;
      for (int j = 0; j < wide; ++j) {
        const T value = by_row * staged[(i * back_side + j) * back_line + lane];
#pragma unroll
        for (int k = 0; k < back_side; ++k) {
          const T by_column = shares[0][j][k];
          if (by_column != 0) sums[k] += by_column * value;
        }
      }
    }
  };

  for (int base = 0; base < count; base += 256) {
    bool wanted = base + me < count;
    if (wanted) {
      const T* const box = boxes + int64(base + me) * (1 + 2 * dims);
      wanted = box[0] >= 0 && box[0] < T(images) && int(box[0]) == image;
      for (int k = 1; k <= 2 * dims; ++k) wanted &= box[k] - box[k] == 0;
      wanted = wanted &&
               reaches(box[1], box[1 + dims], scale, aligned, column, column + back_side - 1) &&
               reaches(box[2], box[2 + dims], scale, aligned, row, row + back_side - 1);
      if (dims == 3)
        wanted = wanted && reaches(box[dims], box[2 * dims], scale, aligned, plane, plane);
    }
    const unsigned some = __ballot_sync(all_lanes, wanted);
    __syncthreads();
    if (lane == 0) near[warp] = some;
    __syncthreads();
    for (int word = 0; word < back_side; ++word)
      for (unsigned left = near[word]; left != 0; left &= left - 1)
        for (int z = 0; z < int(bins_z); ++z)
          for (int y = 0; y < int(bins_y); y += back_side)
            for (int x = 0; x < int(bins_x); x += back_side)
              add(base + word * 32 + __ffs(int(left)) - 1, z, y, x);
  }

  // By way of the block's memory, so that neighbours in a row are written together.
  __syncthreads();
#pragma unroll
  for (int k = 0; k < back_side; ++k) staged[(warp * back_side + k) * back_line + lane] = sums[k];
  __syncthreads();
  for (int i = me; i < square * here; i += 256) {
    const int y = row + i % square / back_side, x = column + i % back_side, c = i / square;
    if (y < height && x < width)
      result[(((int64(image) * channels + first + c) * depth + plane) * height + y) * width + x] =
          staged[i % square * back_line + c];
  }
}
