// Exact Euclidean distance transforms, separable, in linear time.
//
// P. Felzenszwalb and D. Huttenlocher, "Distance transforms of sampled functions", Theory of
// Computing 8 (2012) 415-428; A. Meijster, J. Roerdink and W. Hesselink, "A general algorithm for
// computing distance transforms in linear time", Mathematical Morphology and its Applications to
// Image and Signal Processing (2000) 331-340.
//
// Deviations: the first pass, along rows, copies slices of a table of squares; each later axis goes
// over tiles of adjacent columns (distance_tile.hpp). Squared distances are integers of 16 bits
// while they fit, of 32 bits else, and float64 only where voxel sizes have no common unit. The pass
// over the first axis writes the roots straight into the result.
#include "kernels/distance.hpp"

#include <atomic>

#include "distance_passes.hpp"

namespace msf {
namespace {

// A tile has room for many columns; of an axis so long and few columns it would be far larger than
// the image.
template <class T>
bool columns_alone(const Columns& columns) {
  return columns.n > 1 << 17 && columns.count() <= lanes<T> / 2;
}

// Where a pass puts squared distances: back, or the last one as distances into the result.
template <class T>
struct Destination {
  T* squared;
  const DistanceOutput* output;
  std::atomic<bool>* enough;

  void operator()(const T* e, std::int64_t count, std::int64_t at) const {
    if (!output) {
      std::memmove(squared + at, e, count * sizeof(T));
      return;
    }
    if (!all_reached(e, count)) enough->store(false, std::memory_order_relaxed);
    output->write(e, count, at);
  }
};

// One pass over a tile's columns, from `squared` to write(values, count, offset).
template <class T>
void envelope_of_tile(const TilePlace& place, T* squared, std::int64_t n, const Squares<T>& squares,
                      const TileMemory<T>& tile, const Destination<T>& write) {
  if (tile.data() == nullptr) {
    place.each(0, [&](int, int count, std::int64_t offset) {
      for (int i = 0; i < count; ++i)
        lower_envelope_of_column(squared + offset + i, n, place.stride(), squares.data(),
                                 squares.step());
    });
    for (std::int64_t x = 0; x < n; ++x)
      place.each(x, [&](int, int count, std::int64_t offset) {
        write(squared + offset, static_cast<std::int64_t>(count), offset);
      });
    return;
  }
  place.load<lanes<T>>(squared, n, tile.data());
  TileWriter<T, Destination<T>> writer(place, n, write);
  const auto emit = [&](std::int64_t x, const T* e, const RowIndex<T>*) { writer(x, e); };
  lower_envelope<T>(tile, n, squares.data(), squares.step(), place.used(), false, emit);
}

template <class T>
bool transform(const std::uint8_t* mask, const VoxelSize& voxel, const DistanceAxes& axes,
               const DistanceOutput& output) {
  const int last = axes.count() - 1;
  std::atomic<bool> enough{true};
  const Destination<T> finish{nullptr, &output, &enough};

  // Rows, and the axis before while its planes are in the cache.
  const std::int64_t length = axes.extent[last];
  const Squares<T> along_row(voxel, axes.axis[last], length);
  if (last == 0) {
    std::vector<T> squared(length);
    RowPass<T>(length, along_row, false)(mask, squared.data());
    finish(squared.data(), length, 0);
    return enough;
  }
  Scratch<T> squared(axes.voxels());
  const Destination<T> back{squared.get(), nullptr, nullptr};
  const Columns plane = columns_along(axes.extent, last - 1);
  const bool fused = last > 1;
  const Squares<T> in_plane(voxel, axes.axis[last - 1], plane.n);
  const std::int64_t block =
      fused ? std::max<std::int64_t>(
                  1, (1 << 17) / static_cast<std::int64_t>(sizeof(T)) / (plane.n * length))
            : 1;
  const std::int64_t rows_each =
      fused ? block * plane.n : std::max<std::int64_t>(1, (1 << 16) / length);
  parallel_for(plane.outer * plane.n, rows_each, [&](std::int64_t begin, std::int64_t end) {
    RowPass<T> pass(length, along_row, false);
    Ticker tick(std::max<std::int64_t>(1, (1 << 18) / length));
    for (std::int64_t row = begin; row < end; ++row) {
      tick();
      pass(mask + row * length, squared.get() + row * length);
    }
    if (!fused) return;
    const TileMemory<T> tile(columns_alone<T>(plane) ? 0 : plane.n);
    for_each_tile<T>(plane, begin / plane.n * length, end / plane.n * length,
                     [&](const TilePlace& place) {
                       envelope_of_tile<T>(place, squared.get(), plane.n, in_plane, tile, back);
                     });
  });

  for (int a = fused ? last - 2 : last - 1; a >= 0; --a) {
    const Columns columns = columns_along(axes.extent, a);
    const Squares<T> squares(voxel, axes.axis[a], columns.n);
    parallel_for(columns.count(), columns_of_task<T>(columns.n),
                 [&](std::int64_t begin, std::int64_t end) {
                   if (!enough.load(std::memory_order_relaxed)) return;
                   const TileMemory<T> tile(columns_alone<T>(columns) ? 0 : columns.n);
                   for_each_tile<T>(columns, begin, end, [&](const TilePlace& place) {
                     envelope_of_tile<T>(place, squared.get(), columns.n, squares, tile,
                                         a == 0 ? finish : back);
                   });
                 });
  }
  return enough;
}

}  // namespace

void distance_transform(const Array& mask, const VoxelSize& voxel, const MutableArray& out) {
  const DistanceAxes axes(mask);
  const bool whole = !voxel.multiple.empty();
  with_distance_type(voxel, axes, [&]<class T>(Type<T>) {
    const double unit = whole && std::is_integral_v<T> ? voxel.unit : 1;
    return transform<T>(mask.as<std::uint8_t>(), voxel, axes, DistanceOutput{out, unit});
  });
}

}  // namespace msf
