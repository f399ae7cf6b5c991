// Labels grow into the background as far as a distance: the feature transform of
// nearest_background.cpp with labels instead of coordinates. Each pass moves the label of the voxel
// that it chose, and no pass looks farther than the distance.
#include "kernels/distance.hpp"

#include "distance_passes.hpp"

namespace msf {
namespace {

// U: an unsigned integer as wide as a label, which is only copied.
template <class T, class U>
void expand(const std::uint8_t* background, const U* labels, const VoxelSize& voxel,
            const DistanceAxes& axes, double unit, double distance, U* out) {
  // A little beyond the distance; the last pass decides.
  const double reach = std::min(distance / unit, 1e150);
  const double square = reach * reach * (1 + 1e-9) + 1;
  T most = unreached<T>;
  if (square < static_cast<double>(most)) most = static_cast<T>(square);
  Scratch<T> squared(axes.count() > 1 ? axes.voxels() : 0);
  for (int a = 0; a < axes.count(); ++a) {
    const bool last = a + 1 == axes.count();
    const Columns columns = columns_along(axes.extent, a);
    const std::int64_t n = columns.n;
    const Squares<T> squares(voxel, axes.axis[a], n, most);
    parallel_for(columns.count(), columns_of_task<T>(n), [&](std::int64_t begin, std::int64_t end) {
      constexpr int width = lanes<T>;
      const TileMemory<T> tile(n);
      const std::unique_ptr<U[]> label(new U[n * width]);
      for_each_tile<T>(columns, begin, end, [&](const TilePlace& place) {
        const auto keep = [&](const T* e, std::int64_t count, std::int64_t at) {
          std::memcpy(squared.get() + at, e, count * sizeof(T));
        };
        const auto store = [&](const U* l, std::int64_t count, std::int64_t at) {
          std::memcpy(out + at, l, count * sizeof(U));
        };
        TileWriter<T, decltype(keep)> writer(place, n, keep);
        TileWriter<U, decltype(store), width> label_writer(place, n, store);
        place.load<width>(a == 0 ? labels : out, n, label.get());
        const auto emit = [&](std::int64_t x, const T* e, const RowIndex<T>* at) {
          U moved[width];
          for (int lane = 0; lane < width; ++lane)
            moved[lane] = label[static_cast<std::int64_t>(at[lane]) * width + lane];
          if (last)
            for (int lane = 0; lane < width; ++lane)
              moved[lane] = unit * std::sqrt(static_cast<double>(e[lane])) <= distance &&
                                    e[lane] != unreached<T>
                                ? moved[lane]
                                : U(0);
          else
            writer(x, e);
          label_writer(x, moved);
        };
        if (a == 0) {
          nearest_along_first_axis<T>(place, background, n, squares, emit);
        } else {
          place.load<width>(squared.get(), n, tile.data());
          lower_envelope<T>(tile, n, squares.data(), squares.step(), place.used(), true, emit);
        }
      });
    });
  }
}

}  // namespace

void expand_labels(const Array& background, const Array& labels, const VoxelSize& voxel,
                   double distance, const MutableArray& out) {
  const DistanceAxes axes(labels);
  const auto run = [&]<class T>(Type<T>, double unit) {
    const auto with_label = [&]<class U>(Type<U>) {
      expand<T, U>(background.as<std::uint8_t>(), labels.as<U>(), voxel, axes, unit, distance,
                   out.as<U>());
    };
    visit_bits(labels.dtype, with_label);
  };
  const std::int64_t longest = *std::max_element(axes.extent.begin(), axes.extent.end());
  if (!voxel.multiple.empty() && distance < 255 * voxel.unit && longest <= 0xffff)
    run(Type<std::uint16_t>{}, voxel.unit);
  else
    run(Type<double>{}, 1.0);
}

}  // namespace msf
