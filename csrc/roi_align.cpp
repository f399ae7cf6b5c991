// ROI Align as He et al. define it ("Mask R-CNN", ICCV 2017) and torchvision computes it, over
// vectors of channels.
//
// A bin is a weighted sum of pixels that factors into one sum per axis (roi_taps.hpp): along the
// columns of each row a bin needs, then over rows, then over planes. The inner loop adds pixels of
// one block of channels, a few registers wide, so it wants channels next to each other. Input with
// channels last is read where it is. Of other input either the boxes' windows are transposed, block
// by block, or, where boxes overlap so much that this reads more, the whole image, a few blocks at
// a time. The order of the sums is the same in all cases, and for any number of threads. Pooled
// channels are written side by side as they are, or turned into planes.
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <type_traits>

#include "bfloat16.hpp"
#include "kernels/roi_align.hpp"
#include "pack.hpp"
#include "parallel.hpp"
#include "roi_taps.hpp"
#include "scratch_pool.hpp"
#include "stream.hpp"
#include "transpose.hpp"

namespace msf {
namespace {

constexpr std::int64_t chunk = 128;  // pixels transposed at once

// Channels a pass handles together.
template <class T, int registers>
struct Channels {
  using Vector [[gnu::vector_size(register_bytes)]] = T;
  static constexpr std::int64_t lanes = register_bytes / sizeof(T), width = registers * lanes;
  Vector v[registers] = {};

  static Vector load(const T* from) {
    Vector w;
    std::memcpy(&w, from, sizeof w);
    return w;
  }
  static Vector load(const BFloat16* from) { return load_floats(from); }

  template <class S>
  void add(T weight, const S* from) {
    for (int r = 0; r < registers; ++r) v[r] += weight * load(from + r * lanes);
  }
  void add_to(T* to, T weight) const {
    for (int r = 0; r < registers; ++r) {
      const Vector w = load(to + r * lanes) + weight * v[r];
      std::memcpy(to + r * lanes, &w, sizeof w);
    }
  }
};

template <class T>
struct Box {
  std::int64_t image, place;
  std::array<AxisTaps<T>, 3> axis;  // planes, rows, columns
};

// The axes of the arrays, with a single plane in 2D.
struct Geometry {
  std::int64_t images, channels;
  std::array<std::int64_t, 3> extent{1, 1, 1}, bins{1, 1, 1};
  std::int64_t pixels() const { return extent[0] * extent[1] * extent[2]; }
  std::int64_t all_bins() const { return bins[0] * bins[1] * bins[2]; }
  std::int64_t plane_bins() const { return bins[1] * bins[2]; }
};

Geometry geometry(const Array& array, bool channels_last, const RoiPooling& pooling) {
  const int dims = array.ndim - 2, first = channels_last ? 1 : 2;
  Geometry g{array.shape[0], array.shape[channels_last ? array.ndim - 1 : 1]};
  for (int axis = 0; axis < dims; ++axis) {
    g.extent[3 - dims + axis] = array.shape[first + axis];
    g.bins[3 - dims + axis] = pooling.bins[axis];
  }
  return g;
}

template <class T>
std::vector<Box<T>> sample(const Array& boxes, const Array& places, const Geometry& g,
                           const RoiPooling& pooling) {
  const int dims = static_cast<int>(pooling.bins.size());
  std::vector<Box<T>> sampled(boxes.shape[0]);
  parallel_for(boxes.shape[0], 16, [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t i = from; i < to; ++i) {
      const T* corner = boxes.as<T>() + i * (1 + 2 * dims);
      Box<T>& box = sampled[i];
      box.image = static_cast<std::int64_t>(*corner++);
      box.place = places.as<std::int64_t>()[i];
      for (int axis = 0; axis < 3; ++axis) {
        const int from_last = 2 - axis;  // x is the last axis
        if (from_last < dims)
          sample_axis(corner[from_last], corner[dims + from_last], pooling.scale, g.bins[axis],
                      g.extent[axis], pooling.samples, pooling.aligned, box.axis[axis]);
        else
          box.axis[axis].single();
      }
    }
  });
  return sampled;
}

// Where the pixels of a box are, of type S: pitches in elements, and for each axis which index to
// take.
template <class S>
struct Source {
  S* data;
  std::array<std::int64_t, 3> pitch;
  bool packed;

  // The k-th plane or row that is read, or the column of tap k.
  template <class T>
  std::int64_t at(const AxisTaps<T>& axis, std::int64_t k) const {
    return packed ? k : axis.pixels[k];
  }
  template <class T>
  const std::int64_t* columns(const AxisTaps<T>& axis) const {
    return packed ? axis.packed.data() : axis.at.data();
  }
};

// Where pooled boxes go; `streamed`: past the caches, which is for planes alone.
template <class S>
struct Target {
  S* data;
  bool channels_last, streamed;
};

// Where a box begins: image, plane, row and column, then what makes the order unique; its index.
using Corner = std::array<std::int64_t, 6>;

// From top to bottom: rows stay in the cache.
void sort_corners(std::vector<Corner>& corners) { std::sort(corners.begin(), corners.end()); }

// Channels go in blocks of `width`, four registers or one. Sums are of T; pixels may be of a
// narrower type S.
template <class T>
struct Kernel {
  const Geometry& g;
  const int registers;
  const std::int64_t width;

  explicit Kernel(const Geometry& g)
      : g(g),
        registers(g.channels >= Channels<T, 4>::width ? 4 : 1),
        width(registers * Channels<T, 1>::lanes) {}

  std::int64_t blocks() const { return (g.channels + width - 1) / width; }
  std::int64_t in_block(std::int64_t block) const {
    return std::min(width, g.channels - block * width);
  }
  // Tiles that a pass over channels-last input fills: as many as half of an L2 cache holds.
  std::int64_t tiles_at_once() const {
    const std::int64_t fit = (std::int64_t{1} << 18) / sizeof(T) / tile_size();
    return std::clamp<std::int64_t>(fit, 1, blocks());
  }
  // With room behind it for a plane's bins, or for those of a block on their way to memory.
  std::int64_t tile_size() const { return 2 * g.all_bins() * width; }

  // Adds the pixels of one plane to `tile`, for `n` blocks of channels `step` elements apart. A
  // row's pixels are read for all of them, so that channels-last input streams.
  template <class S>
  void pool_plane(const Source<S>& source, S* plane, const Box<T>& box, std::int64_t n,
                  std::int64_t step, T* tile, std::int64_t tile_step) const {
    if (registers == 4)
      pool_plane<Channels<T, 4>>(source, plane, box, n, step, tile, tile_step);
    else
      pool_plane<Channels<T, 1>>(source, plane, box, n, step, tile, tile_step);
  }
  template <class Lanes, class S>
  void pool_plane(const Source<S>& source, S* plane, const Box<T>& box, std::int64_t n,
                  std::int64_t step, T* tile, std::int64_t tile_step) const {
    const AxisTaps<T>&y = box.axis[1], &x = box.axis[2];
    const std::int64_t* const columns = source.columns(x);
    const std::int64_t pitch = source.pitch[2], bins = g.bins[2];
    for (std::int64_t k = 0; k < y.count(); ++k)
      for (std::int64_t block = 0; block < n; ++block) {
        S* const row = plane + source.at(y, k) * source.pitch[1] + block * step;
        T* const to = tile + block * tile_step;
        for (std::int64_t bin = 0; bin < bins; ++bin) {
          Lanes sum;
          for (std::int64_t i = x.begin[bin]; i < x.begin[bin + 1]; ++i)
            sum.add(x.weight[i], row + columns[i] * pitch);
          for (std::int64_t u = y.use[k]; u < y.use[k + 1]; ++u)
            sum.add_to(to + (y.use_bin[u] * bins + bin) * Lanes::width, y.use_weight[u]);
        }
      }
  }

  // Channels of one box from `first` on, of which the source has `channels`.
  template <class S, class Out>
  void pool(const Source<S>& source, const Box<T>& box, std::int64_t first, std::int64_t channels,
            T* tile, const Target<Out>& out) const {
    const AxisTaps<T>& z = box.axis[0];
    const std::int64_t n = (channels + width - 1) / width, size = g.all_bins() * width;
    std::fill_n(tile, n * size, T(0));
    if (z.one) {
      pool_plane(source, source.data, box, n, width, tile, size);
    } else {
      T* const plane = tile + n * size;
      const std::int64_t plane_size = g.plane_bins() * width;
      for (std::int64_t k = 0; k < z.count(); ++k) {
        std::fill_n(plane, n * plane_size, T(0));
        pool_plane(source, source.data + source.at(z, k) * source.pitch[0], box, n, width, plane,
                   plane_size);
        for (std::int64_t u = z.use[k]; u < z.use[k + 1]; ++u)
          for (std::int64_t block = 0; block < n; ++block) {
            T* const to = tile + block * size + z.use_bin[u] * plane_size;
            const T* const from = plane + block * plane_size;
            for (std::int64_t i = 0; i < plane_size; ++i) to[i] += z.use_weight[u] * from[i];
          }
      }
    }
    Out* const to = out.data + box.place * g.channels * g.all_bins();
    for (std::int64_t block = 0; block < n; ++block) {
      const std::int64_t c = first + block * width, count = std::min(width, g.channels - c);
      if constexpr (std::is_same_v<Out, T>)
        if (!out.channels_last) {
          T* const planes = to + c * g.all_bins();
          T* const near = out.streamed ? tile + n * size : planes;  // after what has been summed up
          transpose(tile + block * size, width, near, g.all_bins(), g.all_bins(), count);
          if (out.streamed) stream(near, count * g.all_bins() * sizeof(T), planes);
          continue;
        }
      write(tile + block * size, c, count, to);
    }
  }

  // `count` channels from c on of a box's tile, side by side.
  template <class Out>
  void write(const T* tile, std::int64_t c, std::int64_t count, Out* to) const {
    for (std::int64_t bin = 0; bin < g.all_bins(); ++bin, tile += width)
      copy_values(tile, to + bin * g.channels + c, count);
  }
  static void copy_values(const T* from, T* to, std::int64_t count) {
    std::copy_n(from, count, to);
  }
  static void copy_values(const T* from, BFloat16* to, std::int64_t count) {
    std::int64_t i = 0;
    for (; i + floats_in_register <= count; i += floats_in_register)
      store_floats(to + i, load_floats(from + i));
    for (; i < count; ++i) to[i] = BFloat16(from[i]);
  }

  // The reverse of pool_plane: adds to the pixels what the bins' gradients say.
  void spread_plane(const Source<T>& source, T* plane, const Box<T>& box, const T* tile) const {
    if (registers == 4)
      spread_plane<Channels<T, 4>>(source, plane, box, tile);
    else
      spread_plane<Channels<T, 1>>(source, plane, box, tile);
  }
  template <class Lanes>
  void spread_plane(const Source<T>& source, T* plane, const Box<T>& box, const T* tile) const {
    const AxisTaps<T>&y = box.axis[1], &x = box.axis[2];
    for (std::int64_t k = 0; k < y.count(); ++k) {
      T* const row = plane + y.pixels[k] * source.pitch[1];
      for (std::int64_t bin = 0; bin < g.bins[2]; ++bin) {
        Lanes sum;
        for (std::int64_t u = y.use[k]; u < y.use[k + 1]; ++u)
          sum.add(y.use_weight[u], tile + (y.use_bin[u] * g.bins[2] + bin) * Lanes::width);
        for (std::int64_t i = x.begin[bin]; i < x.begin[bin + 1]; ++i)
          sum.add_to(row + x.at[i] * source.pitch[2], x.weight[i]);
      }
    }
  }

  void spread(const Source<T>& source, const Box<T>& box, std::int64_t channels, const T* gradient,
              T* tile) const {
    const AxisTaps<T>& z = box.axis[0];
    transpose(gradient, g.all_bins(), tile, width, channels, g.all_bins());
    if (z.one) return spread_plane(source, source.data, box, tile);
    T* const plane = tile + g.all_bins() * width;
    for (std::int64_t k = 0; k < z.count(); ++k) {
      std::fill_n(plane, g.plane_bins() * width, T(0));
      for (std::int64_t u = z.use[k]; u < z.use[k + 1]; ++u) {
        const T* const from = tile + z.use_bin[u] * g.plane_bins() * width;
        for (std::int64_t i = 0; i < g.plane_bins() * width; ++i)
          plane[i] += z.use_weight[u] * from[i];
      }
      spread_plane(source, source.data + z.pixels[k] * source.pitch[0], box, plane);
    }
  }

  // Pitches of a copy with `columns` pixels a row, channels of a block next to each other.
  std::array<std::int64_t, 3> pitches(std::int64_t rows, std::int64_t columns) const {
    return {rows * columns * width, columns * width, width};
  }

  // The pixels that a box reads, of the block of channels that starts at `input`.
  template <class S>
  Source<const T> copy_window(const S* input, bool channels_last, const Box<T>& box,
                              std::int64_t channels, T* to) const {
    const auto& [z, y, x] = box.axis;
    const std::int64_t columns = x.packed_size(), step = channels_last ? g.channels : 1;
    Source<const T> window{to, pitches(y.count(), columns), true};
    for (std::int64_t p = 0; p < z.count(); ++p)
      for (std::int64_t r = 0; r < y.count(); ++r, to += columns * width) {
        const S* row = input + ((z.pixels[p] * g.extent[1]) + y.pixels[r]) * g.extent[2] * step;
        if constexpr (std::is_same_v<S, T>)
          if (!channels_last && x.whole) {
            transpose(row + x.first(), g.pixels(), to, width, channels, columns);
            continue;
          }
        const std::int64_t next = channels_last ? 1 : g.pixels();
        for (std::int64_t c = 0; c < columns; ++c) {
          const S* pixel = row + (x.whole ? x.first() + c : x.pixels[c]) * step;
          for (std::int64_t i = 0; i < channels; ++i) to[c * width + i] = pixel[i * next];
        }
      }
    return window;
  }

  template <class S>
  void by_box(const S* input, bool channels_last, const std::vector<Box<T>>& boxes,
              const Target<S>& out) const {
    std::int64_t window = 0;
    if (!channels_last || g.channels % width != 0)
      for (const Box<T>& box : boxes)
        window = std::max(
            window, box.axis[0].count() * box.axis[1].count() * box.axis[2].packed_size() * width);
    const std::int64_t at_once = channels_last ? tiles_at_once() : 1;
    ScratchPool scratch((window + at_once * tile_size()) * sizeof(T), num_threads());
    std::vector<Corner> order;
    for (std::size_t i = 0; i < boxes.size(); ++i) {
      const auto& [z, y, x] = boxes[i].axis;
      order.push_back({boxes[i].image, z.first(), y.first(), x.first(), boxes[i].place,
                       static_cast<std::int64_t>(i)});
    }
    sort_corners(order);
    parallel_tasks(static_cast<std::int64_t>(boxes.size()), [&](std::int64_t i) {
      const ScratchPool::Lease lease(scratch);
      T* const tile = reinterpret_cast<T*>(lease.memory());
      const Box<T>& box = boxes[order[i].back()];
      for (std::int64_t first = 0, n = 0; first < g.channels; first += n) {
        n = std::min(at_once * width, (g.channels - first) / width * width);
        if (n == 0) n = g.channels - first;
        const S* const image =
            input + box.image * g.channels * g.pixels() + first * (channels_last ? 1 : g.pixels());
        if (!channels_last || n < width)
          pool(copy_window(image, channels_last, box, n, tile + at_once * tile_size()), box, first,
               n, tile, out);
        else
          pool(Source<const S>{image,
                               {g.extent[1] * g.extent[2] * g.channels, g.extent[2] * g.channels,
                                g.channels},
                               false},
               box, first, n, tile, out);
        poll();
      }
      if (out.streamed) finish_streams();
    });
  }

  struct Work {
    std::int64_t image, block;
  };

  // Boxes by image, in their order: those of image i are [from[i], from[i + 1]).
  void by_image(const std::vector<Box<T>>& boxes, std::vector<std::int64_t>& order,
                std::vector<std::int64_t>& from) const {
    from.assign(g.images + 1, 0);
    for (const Box<T>& box : boxes) ++from[box.image + 1];
    for (std::int64_t i = 0; i < g.images; ++i) from[i + 1] += from[i];
    order.resize(boxes.size());
    std::vector<std::int64_t> next(from.begin(), from.end() - 1);
    for (std::size_t i = 0; i < boxes.size(); ++i)
      order[next[boxes[i].image]++] = static_cast<std::int64_t>(i);
  }

  void whole_images(const T* input, const std::vector<Box<T>>& boxes, const Target<T>& out) const {
    std::vector<std::int64_t> order, from;
    by_image(boxes, order, from);
    std::vector<Work> work;
    for (std::int64_t image = 0; image < g.images; ++image)
      for (std::int64_t block = 0; block < blocks() && from[image] < from[image + 1]; ++block)
        work.push_back({image, block});
    const auto all = static_cast<std::int64_t>(work.size());
    const std::int64_t at_once = std::min<std::int64_t>(all, num_threads());
    const std::int64_t pixels = g.pixels(), copy = pixels * width;
    const std::unique_ptr<T[]> copies(new T[at_once * copy]);
    if (g.channels % width != 0) std::fill_n(copies.get(), at_once * copy, T(0));
    ScratchPool tiles(tile_size() * sizeof(T), num_threads());
    for (std::int64_t begin = 0; begin < all; begin += at_once) {
      const std::int64_t end = std::min(all, begin + at_once);
      parallel_for((end - begin) * pixels, 16 * chunk, [&](std::int64_t p, std::int64_t last) {
        while (p < last) {
          const std::int64_t w = p / pixels, first = p % pixels;
          const std::int64_t n = std::min({chunk, last - p, pixels - first});
          const auto [image, block] = work[begin + w];
          transpose(input + (image * g.channels + block * width) * pixels + first, pixels,
                    copies.get() + w * copy + first * width, width, in_block(block), n);
          p += n;
        }
      });
      std::vector<std::int64_t> jobs{0};  // of each image and block, in eights
      for (std::int64_t w = begin; w < end; ++w)
        jobs.push_back(jobs.back() + (from[work[w].image + 1] - from[work[w].image] + 7) / 8);
      parallel_tasks(jobs.back(), [&](std::int64_t job) {
        const ScratchPool::Lease lease(tiles);
        const std::int64_t w = std::upper_bound(jobs.begin(), jobs.end(), job) - jobs.begin() - 1;
        const auto [image, block] = work[begin + w];
        const Source<T> source{copies.get() + w * copy, pitches(g.extent[1], g.extent[2]), false};
        const std::int64_t first = from[image] + 8 * (job - jobs[w]);
        for (std::int64_t i = first; i < std::min(first + 8, from[image + 1]); ++i) {
          const Box<T>& box = boxes[order[i]];
          pool(source, box, block * width, in_block(block), reinterpret_cast<T*>(lease.memory()),
               out);
        }
        if (out.streamed) finish_streams();
      });
    }
  }

  // One image and block of channels is one task: its boxes add up in their order.
  void backward(const T* gradient, const std::vector<Box<T>>& boxes, T* out) const {
    std::vector<std::int64_t> order, from;
    by_image(boxes, order, from);
    const std::int64_t pixels = g.pixels(), copy = pixels * width;
    ScratchPool scratch((copy + tile_size()) * sizeof(T),
                        boxes.empty() ? 0
                                      : static_cast<int>(std::min<std::int64_t>(
                                            num_threads(), g.images * blocks())));
    parallel_tasks(g.images * blocks(), [&](std::int64_t task) {
      const std::int64_t image = task / blocks(), block = task % blocks();
      const std::int64_t channels = in_block(block);
      T* const to = out + (image * g.channels + block * width) * pixels;
      if (from[image] == from[image + 1]) {
        std::fill_n(to, channels * pixels, T(0));
        return;
      }
      const ScratchPool::Lease lease(scratch);
      T *const tile = reinterpret_cast<T*>(lease.memory()), *const sum = tile + tile_size();
      std::fill_n(sum, copy, T(0));
      const Source<T> source{sum, pitches(g.extent[1], g.extent[2]), false};
      for (std::int64_t i = from[image]; i < from[image + 1]; ++i) {
        const Box<T>& box = boxes[order[i]];
        spread(source, box, channels,
               gradient + (box.place * g.channels + block * width) * g.all_bins(), tile);
        poll();
      }
      for (std::int64_t p = 0; p < pixels; p += chunk)
        for (std::int64_t c = 0; c < channels; c += 4)
          transpose(sum + p * width + c, width, to + c * pixels + p, pixels,
                    std::min(chunk, pixels - p), std::min<std::int64_t>(4, channels - c));
    });
  }
};

template <class F>
void with_kernel(DType dtype, const Geometry& g, F&& f) {
  if (dtype == DType::float64)
    f(Kernel<double>(g), Type<double>{});
  else
    f(Kernel<float>(g), Type<float>{});
}

}  // namespace

void roi_align(const Array& input, bool channels_last, const Array& boxes, const Array& to,
               const RoiPooling& pooling, const MutableArray& out, bool out_channels_last) {
  const Geometry g = geometry(input, channels_last, pooling);
  with_kernel(input.dtype, g, [&]<class T>(const auto& kernel, Type<T>) {
    const std::vector<Box<T>> sampled = sample<T>(boxes, to, g, pooling);
    if constexpr (std::is_same_v<T, float>)
      if (input.dtype == DType::bfloat16)
        return kernel.by_box(input.as<BFloat16>(), true, sampled,
                             Target<BFloat16>{out.as<BFloat16>(), true, false});
    const bool much = out.size() * static_cast<std::int64_t>(sizeof(T)) >= much_for_caches;
    const Target<T> target{out.as<T>(), out_channels_last, much && !out_channels_last};
    std::vector<bool> has_boxes(g.images);
    std::int64_t read = 0, there = 0;
    for (const Box<T>& box : sampled) {
      read += box.axis[0].count() * box.axis[1].count() * box.axis[2].packed_size();
      if (!has_boxes[box.image]) there += g.pixels();
      has_boxes[box.image] = true;
    }
    if (channels_last || 10 * read < 7 * there)
      kernel.by_box(input.as<T>(), channels_last, sampled, target);
    else
      kernel.whole_images(input.as<T>(), sampled, target);
  });
}

void roi_align_backward(const Array& gradient, const Array& boxes, const Array& from,
                        const RoiPooling& pooling, const MutableArray& out) {
  const Geometry g = geometry(out, false, pooling);
  with_kernel(out.dtype, g, [&]<class T>(const auto& kernel, Type<T>) {
    kernel.backward(gradient.as<T>(), sample<T>(boxes, from, g, pooling), out.as<T>());
  });
}

}  // namespace msf
