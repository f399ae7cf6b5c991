// Distance to the other side of a mask, both ways at once: every voxel is at distance 0 from one
// side, so one image of squared distances serves both. A tile is split into its inside and its
// outside, each with zeros where the other is, and the two envelopes add up.
#include <atomic>

#include "distance_passes.hpp"

namespace msf {
namespace {

template <class T>
class SignedTransform {
 public:
  SignedTransform(const std::uint8_t* mask, const VoxelSize& voxel, const DistanceAxes& axes,
                  const DistanceOutput& output)
      : mask_(mask), voxel_(voxel), axes_(axes), output_(output), squared_(axes.voxels()) {}

  bool run() {
    const int last = axes_.count() - 1;
    const std::int64_t length = axes_.extent[last];
    const Columns rows = columns_along(axes_.extent, last);
    const Squares<T> squares(voxel_, axes_.axis[last], length);
    const std::int64_t each = std::max<std::int64_t>(1, (1 << 16) / length);
    parallel_for(rows.outer, each, [&](std::int64_t begin, std::int64_t end) {
      RowPass<T> pass(length, squares, true);
      for (std::int64_t row = begin; row < end; ++row) {
        T* const out = squared_.get() + row * length;
        pass(mask_ + row * length, out);
        if (last == 0) finish(out, length, row * length);
      }
    });
    for (int a = last - 1; a >= 0 && enough_; --a) columns_pass(a);
    return enough_;
  }

 private:
  void columns_pass(int a) {
    constexpr int width = lanes<T>;
    const Columns columns = columns_along(axes_.extent, a);
    const Squares<T> squares(voxel_, axes_.axis[a], columns.n);
    const std::int64_t n = columns.n;
    const auto store = [&](const T* e, std::int64_t count, std::int64_t at) {
      if (a == 0)
        finish(e, count, at);
      else
        std::memcpy(squared_.get() + at, e, count * sizeof(T));
    };
    parallel_for(columns.count(), columns_of_task<T>(n), [&](std::int64_t begin, std::int64_t end) {
      const TileMemory<T> inner(n), outer(n), sum(n);
      const std::unique_ptr<std::uint8_t[]> inside(new std::uint8_t[n * width]);
      for_each_tile<T>(columns, begin, end, [&](const TilePlace& place) {
        place.load<width>(squared_.get(), n, inner.data());
        place.load<width>(mask_, n, inside.get());
        for (std::int64_t i = 0; i < n * width; ++i) {
          const T value = inner.data()[i];
          inner.data()[i] = inside[i] ? value : T(0);
          outer.data()[i] = inside[i] ? T(0) : value;
        }
        const auto keep = [&](std::int64_t x, const T* e, const RowIndex<T>*) {
          std::memcpy(sum.row(x), e, tile_row_bytes);
        };
        lower_envelope<T>(inner, n, squares.data(), squares.step(), place.used(), false, keep);
        TileWriter<T, decltype(store)> writer(place, n, store);
        const auto add = [&](std::int64_t x, const T* e, const RowIndex<T>*) {
          T both[width];
          for (int i = 0; i < width; ++i) both[i] = static_cast<T>(e[i] + sum.row(x)[i]);
          writer(x, both);
        };
        lower_envelope<T>(outer, n, squares.data(), squares.step(), place.used(), false, add);
      });
    });
  }

  void finish(const T* squared, std::int64_t count, std::int64_t at) {
    if (!all_reached(squared, count)) enough_.store(false, std::memory_order_relaxed);
    output_.write(squared, count, at);
    const std::uint8_t* const inside = mask_ + at;
    const auto negate = [=](auto* to) {
      for (std::int64_t i = 0; i < count; ++i) to[i] = inside[i] ? -to[i] : to[i];
    };
    if (output_.out.dtype == DType::float64)
      negate(output_.out.template as<double>() + at);
    else
      negate(output_.out.template as<float>() + at);
  }

  const std::uint8_t* mask_;
  const VoxelSize& voxel_;
  const DistanceAxes& axes_;
  const DistanceOutput& output_;
  Scratch<T> squared_;
  std::atomic<bool> enough_{true};
};

}  // namespace

void signed_distance(const Array& mask, const VoxelSize& voxel, const MutableArray& out) {
  const DistanceAxes axes(mask);
  const bool whole = !voxel.multiple.empty();
  with_distance_type(voxel, axes, [&]<class T>(Type<T>) {
    const DistanceOutput output{out, whole && std::is_integral_v<T> ? voxel.unit : 1};
    return SignedTransform<T>(mask.as<std::uint8_t>(), voxel, axes, output).run();
  });
}

}  // namespace msf
