// Writes one value per run over an image, in one streaming pass.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "runs.hpp"

namespace msf {

// out[begin, end) = value. Writes whole vectors, so up to 32 bytes past `end` as long as they lie
// before `safe`: in noise most runs are shorter than a vector, and one store without a loop costs a
// fraction of a loop that exits at an unpredictable point.
template <class T>
inline void fill_forward(T* out, std::int64_t begin, std::int64_t end, std::int64_t safe, T value) {
  constexpr std::int64_t step = 32 / sizeof(T);
  if (end + step > safe) {
    for (; begin < end; ++begin) out[begin] = value;
    return;
  }
  for (; begin < end; begin += step)
    for (std::int64_t k = 0; k < step; ++k) out[begin + k] = value;
}

// out = value(run) on runs and gap between them; out has the shape of the image. `blank`: out holds
// gap everywhere already (fresh zero pages), so that long gaps need not be touched.
template <class T, class Value>
void paint(const Runs& runs, T* out, T gap, bool blank, Value&& value) {
  constexpr std::int64_t step = 32 / sizeof(T);
  const std::int64_t length = runs.length();
  const std::int64_t grain =
      std::max<std::int64_t>(1, (1 << 18) / std::max<std::int64_t>(length, 1));
  parallel_for(runs.rows(), grain, [&](std::int64_t first_row, std::int64_t end_row) {
    for (std::int64_t row = first_row; row < end_row; ++row) {
      // What runs past the end of a segment is overwritten by the next one; within the task also
      // across rows, as they come in order.
      const std::int64_t safe = (end_row - row) * length;
      T* const target = out + row * length;
      if (blank && runs.empty(row) && (row == first_row || runs.empty(row - 1))) continue;
      runs.for_each<true>(row, [&](std::int64_t begin, std::int64_t end, std::int64_t run) {
        if (run < 0 && blank) end = std::min(end, begin + step);  // what the last run overran
        fill_forward(target, begin, end, safe, run < 0 ? gap : static_cast<T>(value(run)));
      });
    }
  });
}

// Eight pixels at a time: the labels of the run that holds the first pixel and of those after it,
// each repeated up to the next start.
inline constexpr int lanes = 8;
using Lanes = std::int32_t __attribute__((vector_size(4 * lanes)));

struct LaneTables {
  alignas(32) std::int32_t run[256][lanes]{};   // by starts: which of the runs a pixel is in
  alignas(32) std::int32_t mask[256][lanes]{};  // by bits: all ones where a bit is set
  constexpr LaneTables() {
    for (unsigned bits = 0; bits < 256; ++bits)
      for (unsigned lane = 0, count = 0; lane < lanes; ++lane) {
        const unsigned bit = bits >> lane & 1;
        if (lane > 0) count += bit;
        run[bits][lane] = static_cast<std::int32_t>(count);
        mask[bits][lane] = -static_cast<std::int32_t>(bit);
      }
  }
};
inline constexpr LaneTables lane_tables{};

// labels = ~table[run] where `inside` has a bit, else 0; run 0 is the first pixel's. By reference,
// as builds without AVX have no registers to return it in.
inline void label_lanes(const std::int32_t* table, std::size_t starts, std::size_t inside,
                        Lanes& labels) {
  const std::int32_t* const run = lane_tables.run[starts];
  Lanes up, mask;
#if defined(__AVX2__)
  Lanes values, order;
  std::memcpy(&values, table, sizeof values);
  std::memcpy(&order, run, sizeof order);
  up = __builtin_ia32_permvarsi256(values, order);
#else
  for (int lane = 0; lane < lanes; ++lane) up[lane] = table[run[lane]];
#endif
  std::memcpy(&mask, lane_tables.mask[inside], sizeof mask);
  labels = ~up & mask;
}

// pixels = labels, at most as many bytes at once as a register holds: of a wider vector the
// compiler moves one element after the other.
template <class T>
inline void widen(const Lanes& labels, T* pixels) {
  constexpr int part = sizeof(T) > 4 ? lanes / 2 : lanes;
  using Labels __attribute__((vector_size(part * 4))) = std::int32_t;
  using Pixels __attribute__((vector_size(part * sizeof(T)))) = T;
#pragma GCC unroll 2
  for (int lane = 0; lane < lanes; lane += part) {
    const std::int32_t* const from = reinterpret_cast<const std::int32_t*>(&labels) + lane;
#if defined(__AVX2__)
    // The compiler's own conversion to 64 bits takes four instructions.
    if constexpr (sizeof(T) == 8) {
      std::int32_t __attribute__((vector_size(16))) four;
      std::memcpy(&four, from, sizeof four);
      const auto wide = __builtin_ia32_pmovsxdq256(four);
      std::memcpy(pixels + lane, &wide, sizeof wide);
      continue;
    }
#endif
    Labels some;
    std::memcpy(&some, from, sizeof some);
    const auto wide = __builtin_convertvector(some, Pixels);
    std::memcpy(pixels + lane, &wide, sizeof wide);
  }
}

// out = ~table[run] on runs and 0 between them; `blank` as for paint. No branch depends on where
// runs start, which in noise nothing can predict. Reads table[-1] and table[runs.size() + 7] at
// most, without using them.
template <class T>
void paint_labels(const Runs& runs, const std::int32_t* table, T* out, bool blank) {
  const std::int64_t length = runs.length();
  const std::int64_t grain =
      std::max<std::int64_t>(1, (1 << 18) / std::max<std::int64_t>(length, 1));
  parallel_for(runs.rows(), grain, [&](std::int64_t first_row, std::int64_t end_row) {
    for (std::int64_t row = first_row; row < end_row; ++row) {
      if (blank && runs.empty(row)) continue;
      T* const target = out + row * length;
      // The last eight pixels of a row may run into the next row, which comes after it.
      const std::int64_t safe = (end_row - row) * length - lanes;
      runs.for_each_word(row, [&](std::int64_t begin, Word inside, Word starts, std::int64_t run) {
        const std::int64_t end = std::min(begin + 64, length);
        if (blank && inside == 0) return;
        if (inside == 0 || (starts <= 1 && std::countr_one(inside) == end - begin)) {
          std::fill(
              target + begin, target + end,
              inside ? static_cast<T>(~table[run + static_cast<std::int64_t>(starts)]) : T{0});
          return;
        }
        for (std::int64_t c = begin; c < end; c += lanes, inside >>= lanes, starts >>= lanes) {
          const std::size_t first = starts & 0xff;
          Lanes labels;
          label_lanes(table + run + (first & 1), first, inside & 0xff, labels);
          if (c <= safe) {
            widen(labels, target + c);
          } else {
            T pixels[lanes];
            widen(labels, pixels);
            std::memcpy(target + c, pixels, (end - c) * sizeof(T));
          }
          run += std::popcount(first);
        }
      });
    }
  });
}

}  // namespace msf
