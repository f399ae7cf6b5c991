// The nearest background voxel (feature transform) by the passes of distance.cpp.
//
// The axes are taken first to last, and of equal candidates the lower row wins in each pass, so
// that the answer is the one whose last coordinate is lowest, then the one before it, and so on:
// SciPy's choice. Each pass stores only which row along its axis it chose, straight into that
// axis's plane of the result; at the end the choices are followed from the last axis to the first.
#include <atomic>
#include <optional>

#include "distance_passes.hpp"

namespace msf {
namespace {

// Along the first axis the image is binary: the nearest background row is the last one above or the
// first one below.
template <class T>
void nearest_rows(const std::uint8_t* tile, std::int64_t n, std::uint32_t* above,
                  std::uint32_t* below) {
  constexpr int width = lanes<T>;
  constexpr std::uint32_t none = 0xffffffff;
  for (int lane = 0; lane < width; ++lane) above[lane] = none;
  for (std::int64_t x = 0; x < n; ++x) {
    const std::uint8_t* const inside = tile + x * width;
    std::uint32_t* const to = above + x * width;
    const std::uint32_t* const from = x ? to - width : to;
    const auto row = static_cast<std::uint32_t>(x);
    for (int lane = 0; lane < width; ++lane) to[lane] = inside[lane] ? from[lane] : row;
  }
  std::uint32_t next[width];
  std::fill_n(next, width, none);
  for (std::int64_t x = n; x-- > 0;) {
    const std::uint8_t* const inside = tile + x * width;
    const std::uint32_t* const up = above + x * width;
    std::uint32_t* const to = below + x * width;
    const auto row = static_cast<std::uint32_t>(x);
    for (int lane = 0; lane < width; ++lane) {
      next[lane] = inside[lane] ? next[lane] : row;
      const std::uint32_t a = up[lane], b = next[lane];
      // Without a row the other wins: 2^32 - 1 is far from every row below 2^31.
      const std::uint32_t to_a = a == none ? none : row - a, to_b = b == none ? none : b - row;
      to[lane] = to_a <= to_b ? a : b;
    }
  }
}

template <class T>
class FeatureTransform {
 public:
  FeatureTransform(const std::uint8_t* mask, const VoxelSize& voxel, const DistanceAxes& axes,
                   const DistanceOutput* output, std::int32_t* indices)
      : mask_(mask), voxel_(voxel), axes_(axes), output_(output), indices_(indices) {
    size_ = 1;
    for (const std::int64_t extent : axes.extent) size_ *= extent;
    if (axes.count() > 1) squared_.reset(new T[size_]);
  }

  bool run() {
    for (int a = 0; a < axes_.count() && enough_; ++a) pass(a);
    return enough_;
  }

 private:
  void pass(int a) {
    const Columns columns = columns_along(axes_.extent, a);
    const Squares<T> squares(voxel_, axes_.axis[a], columns.n);
    std::int32_t* const rows = indices_ + axes_.axis[a] * size_;
    const bool last = a + 1 == axes_.count();
    const auto store = [&](const T* e, std::int64_t count, std::int64_t at) {
      if (!last) {
        std::memcpy(squared_.get() + at, e, count * sizeof(T));
        return;
      }
      T top = 0;
      for (std::int64_t i = 0; i < count; ++i) top = std::max(top, e[i]);
      if (top == unreached<T>) enough_.store(false, std::memory_order_relaxed);
      if (output_) output_->write(e, count, at);
    };
    const auto store_rows = [&](const RowIndex<T>* at, std::int64_t count, std::int64_t offset) {
      for (std::int64_t i = 0; i < count; ++i) rows[offset + i] = static_cast<std::int32_t>(at[i]);
    };
    parallel_for(
        columns.count(), columns_of_task<T>(columns.n), [&](std::int64_t begin, std::int64_t end) {
          const TileMemory<T> tile(columns.n);
          for_each_tile<T>(columns, begin, end, [&](const TilePlace& place) {
            TileWriter<T, decltype(store)> writer(place, columns.n, store);
            TileWriter<RowIndex<T>, decltype(store_rows)> row_writer(place, columns.n, store_rows);
            const auto emit = [&](std::int64_t x, const T* e, const RowIndex<T>* at) {
              writer(x, e);
              row_writer(x, at);
            };
            if (a == 0) {
              first_axis(place, columns.n, squares, emit);
            } else {
              place.load<lanes<T>>(squared_.get(), columns.n, tile.data());
              lower_envelope<T, true>(tile, columns.n, squares.data(), squares.step(), place.used(),
                                      emit);
            }
          });
        });
  }

  template <class Emit>
  void first_axis(const TilePlace& place, std::int64_t n, const Squares<T>& squares, Emit&& emit) {
    constexpr int width = lanes<T>;
    const std::unique_ptr<std::uint8_t[]> inside(new std::uint8_t[n * width]);
    const std::unique_ptr<std::uint32_t[]> above(new std::uint32_t[n * width]);
    place.load<width>(mask_, n, inside.get());
    nearest_rows<T>(inside.get(), n, above.get(), above.get());
    T e[width];
    RowIndex<T> at[width];
    for (std::int64_t x = 0; x < n; ++x) {
      const std::uint32_t* const nearest = above.get() + x * width;
      for (int lane = 0; lane < width; ++lane) {
        at[lane] = static_cast<RowIndex<T>>(nearest[lane]);
        e[lane] = nearest[lane] == 0xffffffff
                      ? unreached<T>
                      : squares.data()[std::abs(x - static_cast<std::int64_t>(nearest[lane]))];
      }
      emit(x, e, at);
    }
  }

  const std::uint8_t* mask_;
  const VoxelSize& voxel_;
  const DistanceAxes& axes_;
  const DistanceOutput* output_;
  std::int32_t* indices_;
  std::int64_t size_;
  std::unique_ptr<T[]> squared_;
  std::atomic<bool> enough_{true};
};

// Row numbers along each axis become coordinates: what the last axis chose says where to look up
// the choice of the axis before, and so on. The planes of one axis's choices that share all
// coordinates up to it are kept while they are overwritten.
void follow(const DistanceAxes& axes, std::int64_t size, std::int32_t* indices) {
  std::int64_t slab = 1;  // voxels that share all coordinates up to this axis
  for (int a = axes.count() - 2; a >= 0; --a) {
    slab *= axes.extent[a + 1];
    std::int32_t* const rows = indices + axes.axis[a] * size;
    const std::int64_t each = std::max<std::int64_t>(1, (1 << 16) / slab);
    parallel_for(size / slab, each, [&](std::int64_t begin, std::int64_t end) {
      const std::unique_ptr<std::int32_t[]> kept(new std::int32_t[slab]);
      for (std::int64_t s = begin; s < end; ++s) {
        poll();
        std::memcpy(kept.get(), rows + s * slab, slab * sizeof(std::int32_t));
        constexpr std::int64_t piece = 4096;
        std::int64_t flat[piece];
        for (std::int64_t from = 0; from < slab; from += piece) {
          const std::int64_t count = std::min(piece, slab - from);
          std::fill_n(flat, count, 0);
          for (int b = a + 1; b < axes.count(); ++b) {
            const std::int32_t* const chosen = indices + axes.axis[b] * size + s * slab + from;
            const std::int64_t extent = axes.extent[b];
            for (std::int64_t i = 0; i < count; ++i) flat[i] = flat[i] * extent + chosen[i];
          }
          for (std::int64_t i = 0; i < count; ++i) rows[s * slab + from + i] = kept[flat[i]];
        }
      }
    });
  }
}

}  // namespace

void nearest_background(const Array& mask, const VoxelSize& voxel, const MutableArray* distances,
                        const MutableArray& indices) {
  const DistanceAxes axes(mask);
  const bool whole = !voxel.multiple.empty();
  std::int32_t* const rows = indices.as<std::int32_t>();
  const std::int64_t size = mask.size();
  for (int a = 0; a < mask.ndim; ++a)
    if (mask.shape[a] == 1 && a != axes.axis[0]) std::fill_n(rows + a * size, size, 0);
  const std::int64_t longest = *std::max_element(axes.extent.begin(), axes.extent.end());
  with_distance_type(voxel, axes, [&]<class T>(Type<T>) {
    if (sizeof(T) == 2 && longest > 0xffff) return false;
    const double unit = whole && std::is_integral_v<T> ? voxel.unit : 1;
    const DistanceOutput* output = nullptr;
    std::optional<DistanceOutput> kept;
    if (distances) output = &kept.emplace(DistanceOutput{*distances, unit});
    return FeatureTransform<T>(mask.as<std::uint8_t>(), voxel, axes, output, rows).run();
  });
  follow(axes, size, rows);
}

}  // namespace msf
