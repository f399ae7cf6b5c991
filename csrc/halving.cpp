// Max pooling by 2 along every axis, and its gradient, channels last: a vector of channels of each
// window's pixels at a time. A place takes a byte where an index into the map would take eight, and
// the gradient writes each value once.
#include "kernels/halving.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "conv_lanes.hpp"
#include "parallel.hpp"
#include "plan_rows.hpp"

namespace msf {

namespace {

typedef std::uint8_t ByteLanes __attribute__((vector_size(register_bytes / 4)));

template <class T, int depth>
class Halving {
 public:
  // full: the shape of the features before pooling.
  explicit Halving(const Array& full)
      : planes_(full.shape[1]),
        rows_(full.shape[2]),
        columns_(full.shape[3]),
        channels_(full.shape[4]),
        images_(full.shape[0]) {}

  void pool(const T* input, T* output, std::uint8_t* places) const {
    for_rows_of_windows([&](std::int64_t from, std::int64_t row) {
      for (std::int64_t x = 0; x < columns_ / 2; ++x)
        for (std::int64_t c = 0; c < channels_; c += lanes) {
          const std::int64_t left = channels_ - c;
          const T* const first = input + from + 2 * x * channels_ + c;
          Lanes best = load_some(first, left);
          IntLanes place{};
          for (int i = 1; i < windows; ++i) {
            const Lanes value = load_some(first + offset(i), left);
            const IntLanes better = (value > best) | (value != value);
            best = better ? value : best;
            place = better ? i - IntLanes{} : place;
          }
          const std::int64_t at = (row * (columns_ / 2) + x) * channels_ + c;
          store_some(output + at, best, left);
          const auto bytes = __builtin_convertvector(place, ByteLanes);
          std::memcpy(places + at, &bytes, static_cast<std::size_t>(std::min(left, lanes)));
        }
    });
  }

  void spread(const T* gradient, const std::uint8_t* places, T* to) const {
    blank_rest(to);
    for_rows_of_windows([&](std::int64_t from, std::int64_t row) {
      for (std::int64_t x = 0; x < columns_ / 2; ++x)
        for (std::int64_t c = 0; c < channels_; c += lanes) {
          const std::int64_t left = channels_ - c;
          const std::int64_t at = (row * (columns_ / 2) + x) * channels_ + c;
          const Lanes value = load_some(gradient + at, left);
          ByteLanes bytes{};
          std::memcpy(&bytes, places + at, static_cast<std::size_t>(std::min(left, lanes)));
          const auto place = __builtin_convertvector(bytes, IntLanes);
          T* const first = to + from + 2 * x * channels_ + c;
          for (int i = 0; i < windows; ++i)
            store_some(first + offset(i), place == i ? value : Lanes{}, left);
        }
    });
  }

 private:
  static constexpr int windows = 4 * depth;

  std::int64_t offset(int i) const {
    return ((i / 4 * rows_ + i / 2 % 2) * columns_ + i % 2) * channels_;
  }

  // f(where the input's first row begins, the windows' row of all), on all threads.
  template <class F>
  void for_rows_of_windows(F&& f) const {
    const std::int64_t down = rows_ / 2, deep = planes_ / depth;
    parallel_for(images_ * deep * down, 4, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t n = i / (deep * down), z = i / down % deep, y = i % down;
        f(((n * planes_ + depth * z) * rows_ + 2 * y) * columns_ * channels_, i);
      }
    });
  }

  // Zeros where no window is: in the last of an odd number of planes, rows, columns.
  void blank_rest(T* to) const {
    const std::int64_t row = columns_ * channels_;
    if (planes_ % depth == 0 && rows_ % 2 == 0 && columns_ % 2 == 0) return;
    for (std::int64_t n = 0; n < images_; ++n)
      for (std::int64_t z = 0; z < planes_; ++z)
        for (std::int64_t y = 0; y < rows_; ++y) {
          T* const at = to + ((n * planes_ + z) * rows_ + y) * row;
          const bool outside = z >= planes_ / depth * depth || y >= rows_ / 2 * 2;
          const std::int64_t from = outside ? 0 : columns_ / 2 * 2 * channels_;
          std::fill(at + from, at + row, T{0.0f});
        }
  }

  const std::int64_t planes_, rows_, columns_, channels_, images_;
};

template <class F>
void by_type(const Array& full, int depth, F&& f) {
  const auto run = [&]<class T>(Type<T>) {
    if (depth == 2)
      f(Type<T>{}, Halving<T, 2>(full));
    else
      f(Type<T>{}, Halving<T, 1>(full));
  };
  visit_features(full.dtype, run);
}

}  // namespace

void halve(const Array& input, int depth, const MutableArray& output, const MutableArray& places) {
  by_type(input, depth, [&]<class T>(Type<T>, const auto& halving) {
    halving.pool(input.as<T>(), output.as<T>(), places.as<std::uint8_t>());
  });
}

void halve_gradient(const Array& gradient, const Array& places, int depth,
                    const MutableArray& by_input) {
  by_type(by_input, depth, [&]<class T>(Type<T>, const auto& halving) {
    halving.spread(gradient.as<T>(), places.as<std::uint8_t>(), by_input.as<T>());
  });
}

}  // namespace msf
