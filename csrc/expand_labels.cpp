// Labels grow into the background as far as a distance: the feature transform of
// nearest_background.cpp with labels instead of coordinates. Each pass moves the label of the voxel
// that it chose, and no pass looks farther than the distance.
#include <optional>

#include "distance_passes.hpp"
#include "kernels/distance.hpp"

namespace msf {
namespace {

// The labels of a tile, which move as bytes: their width is known at run time.
template <class T>
struct LabelTile {
  virtual ~LabelTile() = default;
  // The tile at `place`, from `labels`.
  virtual void load(const TilePlace& place, const void* labels) = 0;
  // Row x of the result: of each lane the label in row at[lane]; 0 unless near[lane] is all ones
  // (null: all are).
  virtual void move(std::int64_t x, const RowIndex<T>* at, const RowIndex<T>* near) = 0;
};

template <class T, class U>
class LabelTileOf final : public LabelTile<T> {
  static constexpr int width = lanes<T>;
  struct Store {
    U* out;
    void operator()(const U* l, std::int64_t count, std::int64_t at) const {
      std::memcpy(out + at, l, count * sizeof(U));
    }
  };

 public:
  LabelTileOf(std::int64_t n, void* out)
      : n_(n), store_{static_cast<U*>(out)}, label_(new U[n * width]) {}

  void load(const TilePlace& place, const void* labels) override {
    place.load<width>(static_cast<const U*>(labels), n_, label_.get());
    writer_.emplace(place, n_, store_);
  }
  void move(std::int64_t x, const RowIndex<T>* at, const RowIndex<T>* near) override {
    U moved[width];
    const U* const label = label_.get();
    for (int lane = 0; lane < width; ++lane)
      moved[lane] = label[static_cast<std::int64_t>(at[lane]) * width + lane];
    if (near)
      for (int lane = 0; lane < width; ++lane) moved[lane] = near[lane] ? moved[lane] : U(0);
    (*writer_)(x, moved);
  }

 private:
  std::int64_t n_;
  Store store_;
  std::unique_ptr<U[]> label_;
  std::optional<TileWriter<U, Store, width>> writer_;
};

template <class T>
std::unique_ptr<LabelTile<T>> label_tile(DType dtype, std::int64_t n, void* out) {
  return visit_bits(dtype, [&]<class U>(Type<U>) -> std::unique_ptr<LabelTile<T>> {
    return std::make_unique<LabelTileOf<T, U>>(n, out);
  });
}

template <class T>
void expand(const std::uint8_t* background, const Array& labels, const VoxelSize& voxel,
            const DistanceAxes& axes, double unit, double distance, const MutableArray& out) {
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
      const std::unique_ptr<LabelTile<T>> label =
          label_tile<T>(labels.dtype, n, out.as<std::uint8_t>());
      for_each_tile<T>(columns, begin, end, [&](const TilePlace& place) {
        const auto keep = [&](const T* e, std::int64_t count, std::int64_t at) {
          std::memcpy(squared.get() + at, e, count * sizeof(T));
        };
        TileWriter<T, decltype(keep)> writer(place, n, keep);
        label->load(place, a == 0 ? labels.data : out.data);
        RowIndex<T> near[width];
        const auto emit = [&](std::int64_t x, const T* e, const RowIndex<T>* at) {
          if (last)
            for (int lane = 0; lane < width; ++lane)
              near[lane] = unit * std::sqrt(static_cast<double>(e[lane])) <= distance &&
                                   e[lane] != unreached<T>
                               ? static_cast<RowIndex<T>>(-1)
                               : 0;
          else
            writer(x, e);
          label->move(x, at, last ? near : nullptr);
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
    expand<T>(background.as<std::uint8_t>(), labels, voxel, axes, unit, distance, out);
  };
  const std::int64_t longest = *std::max_element(axes.extent.begin(), axes.extent.end());
  if (!voxel.multiple.empty() && distance < 255 * voxel.unit && longest <= 0xffff)
    run(Type<std::uint16_t>{}, voxel.unit);
  else
    run(Type<double>{}, 1.0);
}

}  // namespace msf
