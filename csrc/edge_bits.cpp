// Hysteresis on bits: runs of weak pixels are joined by union-find as in components.hpp, roots of
// sets with a strong pixel are kept, and their runs written. No table of components is needed.
#include "edge_bits.hpp"

#include <algorithm>
#include <bit>

#include "components.hpp"
#include "parallel.hpp"

namespace msf {

EdgeBits::EdgeBits(std::int64_t rows, std::int64_t columns)
    : rows_(rows),
      columns_(columns),
      words_(words_for(columns)),
      weak_(new Word[rows * words_]),
      strong_(new Word[rows * words_]),
      none_(words_),
      first_(rows + 1) {
  const std::int64_t most = rows * ((columns + 1) / 2);
  parent_.reset(new std::byte[most * (most < INT32_MAX ? 4 : 8)]);
  keep_.reset(new std::uint8_t[most]);
}

void EdgeBits::link(std::uint8_t* out) {
  const std::int64_t grain =
      std::max<std::int64_t>(1, (1 << 18) / std::max<std::int64_t>(columns_, 1));
  parallel_for(rows_, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      std::int64_t count = 0;
      Word before = 0;
      for (std::int64_t w = 0; w < words_; ++w) {
        const Word bits = inside(row)[w];
        count += std::popcount(rises(bits, before));
        before = bits >> 63;
      }
      first_[row + 1] = count;
    }
  });
  for (std::int64_t row = 0; row < rows_; ++row) first_[row + 1] += first_[row];
  if (rows_ * ((columns_ + 1) / 2) < INT32_MAX)
    link(reinterpret_cast<std::int32_t*>(parent_.get()), out);
  else
    link(reinterpret_cast<std::int64_t*>(parent_.get()), out);
}

template <class Index>
void EdgeBits::join(Index* parent) {
  const Known nothing{nullptr, none_.data(), none_.data()};
  const auto join_row = [&](std::int64_t row) {
    if (first_[row] == first_[row + 1]) return;
    BinaryPairs{}.for_each<true>(*this, row, row - 1, nothing, [&](std::int64_t a, std::int64_t b) {
      unite(parent, static_cast<Index>(a), static_cast<Index>(b));
    });
  };
  Slabs slabs(rows_, (1 << 16) / std::max<std::int64_t>(columns_, 1));
  if (slabs.count > 1) slabs.count = std::min(4 * slabs.count, rows_);
  slabs.run([&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t run = first_[begin]; run < first_[end]; ++run) {
      parent[run] = static_cast<Index>(run);
      keep_[run] = 0;
    }
    Ticker tick(64);
    for (std::int64_t row = begin + 1; row < end; ++row, tick()) join_row(row);
  });
  for (std::int64_t slab = 1; slab < slabs.count; ++slab) join_row(slabs.begin(slab));
}

// Every run's parent becomes its root; keeps the roots of runs with a strong pixel.
template <class Index>
void EdgeBits::keep_strong(Index* parent) {
  const std::int64_t grain =
      std::max<std::int64_t>(1, (1 << 17) / std::max<std::int64_t>(columns_, 1));
  parallel_for(rows_, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t run = first_[begin]; run < first_[end]; ++run) {
      Index root = load_shared(parent, static_cast<Index>(run));
      for (Index up; (up = load_shared(parent, root)) != root;) root = up;
      store_shared(parent, static_cast<Index>(run), root);
    }
    for (std::int64_t row = begin; row < end; ++row) {
      std::int64_t run = first_[row] - 1;
      Word before = 0;
      for (std::int64_t w = 0; w < words_; ++w) {
        const Word bits = inside(row)[w], high = strong(row)[w], starts = rises(bits, before);
        // The first strong pixel of a run in this word, and of a stretch of strong pixels.
        for (Word s = high & (starts | ~(high << 1)); s; s &= s - 1) {
          const Index root = parent[run + std::popcount(starts & (s ^ (s - 1)))];
          std::atomic_ref<std::uint8_t>(keep_[root]).store(1, std::memory_order_relaxed);
        }
        run += std::popcount(starts);
        before = bits >> 63;
      }
    }
  });
}

template <class Index>
void EdgeBits::link(Index* parent, std::uint8_t* out) {
  join(parent);
  keep_strong(parent);
  const std::int64_t grain =
      std::max<std::int64_t>(1, (1 << 17) / std::max<std::int64_t>(columns_, 1));
  parallel_for(rows_, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      std::uint8_t* const to = out + row * columns_;
      if (first_[row] == first_[row + 1]) {
        std::fill_n(to, columns_, std::uint8_t{0});
        continue;
      }
      std::int64_t run = first_[row] - 1;
      Word before = 0;
      Word kept = 0;  // the last run: all ones
      for (std::int64_t w = 0; w < words_; ++w) {
        const Word bits = inside(row)[w];
        Word edges = bits & ~(bits + 1) & kept & -before;  // goes on from the word before
        for (Word starts = rises(bits, before); starts; starts &= starts - 1) {
          kept = -Word{keep_[parent[++run]]};
          edges |= fill_up(starts & -starts, bits) & kept;
        }
        before = bits >> 63;
        expand_bits(&edges, std::min<std::int64_t>(64, columns_ - 64 * w), to + 64 * w);
      }
    }
  });
}

}  // namespace msf
