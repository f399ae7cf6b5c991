// What a region reads and writes of pixels: comparisons with the interval, sums, masks.
//
// Apart from its growth (region.cpp), as these loops run over vectors of pixels.
#include <bit>
#include <cstring>
#include <utility>

#include "kernels/region.hpp"

namespace msf {
namespace {

// Sums over marked pixels of rows. Pixel x of a row goes to lane x % 8: vector registers of every
// width add in the same order.
struct LaneSums {
  static constexpr int lanes = 8;
  double sum[lanes] = {}, squares[lanes] = {};

  // Pixels 64 w + i of a row of `length` for the bits i of word w.
  template <class T>
  void add(const T* __restrict row, std::int64_t length, std::int64_t w, Word marked) {
    while (marked != 0) {
      const int group = std::countr_zero(marked) / lanes * lanes;
      const auto bits = static_cast<unsigned>(marked >> group & 0xff);
      const std::int64_t x = w * word_bits + group;
      if (x + lanes <= length) {
        for (int lane = 0; lane < lanes; ++lane) add_if(bits >> lane & 1, row[x + lane], lane);
      } else {
        for (int lane = 0; x + lane < length; ++lane) add_if(bits >> lane & 1, row[x + lane], lane);
      }
      marked &= ~(Word{0xff} << group);
    }
  }
  template <class T>
  void add_if(bool marked, T pixel, int lane) {
    const double value = marked ? static_cast<double>(pixel) : 0.0;
    sum[lane] += value;
    squares[lane] += value * value;
  }
  void add_to(Moments& moments) const {
    for (int lane = 0; lane < lanes; ++lane) {
      moments.sum += sum[lane];
      moments.sum_of_squares += squares[lane];
    }
  }
};

}  // namespace

void Region::set_bounds(const Array& bounds) {
  visit_unsigned(image_.dtype, [&]<class T>(Type<T>) {
    const Interval<T> interval{image_.dtype, bounds.as<T>()[0], bounds.as<T>()[1]};
    static_assert(sizeof interval <= sizeof bounds_);
    std::memcpy(bounds_.data(), &interval, sizeof interval);
  });
  known_rows_ = 0;
}

void Region::compare_row(std::int64_t row, Word* bits) const {
  visit_unsigned(image_.dtype, [&]<class T>(Type<T>) {
    alignas(T) std::array<std::uint8_t, sizeof(Interval<T>)> bytes;
    std::memcpy(bytes.data(), bounds_.data(), bytes.size());
    pack_row([inside = std::bit_cast<Interval<T>>(bytes),
              x = image_.as<T>() + row * grid_.length](std::int64_t c) { return inside(x[c]); },
             grid_.length, bits);  // NaN is outside
  });
}

Moments Region::moments() {
  // Fixed lanes, and fixed pieces of rows added in order: always the same rounding.
  if (!summed_) summed_ = make_bits(grid_.places * grid_.words);
  const std::int64_t grain = grid_.rows_per_task();
  std::vector<Moments> parts((grid_.rows + grain - 1) / grain);
  visit(image_.dtype, [&]<class T>(Type<T>) {
    const auto add = [&](std::int64_t begin, std::int64_t end) {
      LaneSums sums;
      Moments& part = parts[begin / grain];
      grid_.walk(begin, end, [&](std::int64_t row, std::int64_t place) {
        if (!(state_[place] & touched)) return;
        const T* const pixels = image_.as<T>() + row * grid_.length;
        const Word* const visited = &visited_[place * grid_.words];
        Word* const summed = &summed_[place * grid_.words];
        for (std::int64_t w = 0; w < grid_.words; ++w) {
          const Word fresh = visited[w] ^ summed[w];
          if (fresh == 0) continue;
          summed[w] = visited[w];
          part.count += std::popcount(fresh);
          sums.add(pixels, grid_.length, w, fresh);
        }
      });
      sums.add_to(part);
    };
    for_rows(add, true);
  });
  for (const Moments& part : parts) {
    moments_.count += part.count;
    moments_.sum += part.sum;
    moments_.sum_of_squares += part.sum_of_squares;
  }
  return moments_;
}

void Region::write_mask(const MutableArray& mask, bool zeroed) {
  const auto write = [&](std::int64_t begin, std::int64_t end) {
    grid_.walk(begin, end, [&](std::int64_t row, std::int64_t place) {
      std::uint8_t* const pixels = mask.as<std::uint8_t>() + row * grid_.length;
      if (state_[place] & touched) {
        expand_bits(&visited_[place * grid_.words], grid_.length, pixels);
      } else if (!zeroed) {
        std::fill_n(pixels, grid_.length, std::uint8_t{0});
      }
    });
  };
  for_rows(write, zeroed);
}

void Region::paint(const MutableArray& target, const Array& value, bool copy) {
  visit_bits(target.dtype, [&]<class T>(Type<T>) {
    const auto write = [&](std::int64_t begin, std::int64_t end) {
      grid_.walk(begin, end, [&](std::int64_t row, std::int64_t place) {
        T* const pixels = target.as<T>() + row * grid_.length;
        if (copy) std::copy_n(image_.as<T>() + row * grid_.length, grid_.length, pixels);
        if (!(state_[place] & touched)) return;
        for_each_run(&visited_[place * grid_.words], grid_.length,
                     [&](std::int64_t first, std::int64_t last) {
                       std::fill(pixels + first, pixels + last, *value.as<T>());
                     });
      });
    };
    for_rows(write, !copy);
  });
}

}  // namespace msf
