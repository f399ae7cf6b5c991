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

template <class T>
class FeatureTransform {
 public:
  FeatureTransform(const std::uint8_t* mask, const VoxelSize& voxel, const DistanceAxes& axes,
                   const DistanceOutput* output, std::int32_t* indices)
      : mask_(mask),
        voxel_(voxel),
        axes_(axes),
        output_(output),
        indices_(indices),
        size_(axes.voxels()),
        squared_(axes.count() > 1 ? size_ : 0) {}

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
      if (!all_reached(e, count)) enough_.store(false, std::memory_order_relaxed);
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
              nearest_along_first_axis<T>(place, mask_, columns.n, squares, emit);
            } else {
              place.load<lanes<T>>(squared_.get(), columns.n, tile.data());
              lower_envelope<T>(tile, columns.n, squares.data(), squares.step(), place.used(), true,
                                emit);
            }
          });
        });
  }

  const std::uint8_t* mask_;
  const VoxelSize& voxel_;
  const DistanceAxes& axes_;
  const DistanceOutput* output_;
  std::int32_t* indices_;
  std::int64_t size_;
  Scratch<T> squared_;
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
