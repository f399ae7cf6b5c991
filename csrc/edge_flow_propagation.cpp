// Edge flow from pixel to pixel until it stands, and where it meets: the second half of Ma and
// Manjunath's EdgeFlow (edge_flow.cpp has the first).
//
// In each step every flow goes to the one of the 8 neighbours that it points to if the flow there
// points the same way (their product is positive), and adds to what is there then; else it stays.
// Where the flow of a pixel goes right and that of the next goes left, a boundary between the two
// has the energy that arrived there, the sum of both (times the size of a pixel, for that is a sum
// over mm); likewise down and up.
//
// All pixels step at once: a result reads the flows of the step before, in a fixed order, so that
// neither threads nor tiles matter. A tile in whose surroundings nothing changed in the last step
// cannot change in this one and is left out; flows reach their boundaries within some 4 sigma, and
// then few tiles are left.
//
// The paper steps until nothing changes. Flows that go round in a circle would do so for ever, thus
// the limit. With unequal spacing a flow points to the neighbour whose direction in voxels is
// nearest.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/edge_flow.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

using Index = std::int64_t;
using Number = std::int32_t;  // as wide as a float, so that loops of both vectorise

constexpr Index frame = 2;       // pixels around the image, without flow
constexpr Index tile_rows = 16;  // 16 KiB of codes and products stay in the L1 cache
constexpr Index tile_columns = 128;
constexpr Index width = tile_columns + 2;
constexpr float diagonal = 0.41421356f;  // tan(22.5 degrees)

// Where a flow goes, 3 * (1 + rows) + 1 + columns; stays: 4.
constexpr Number stays = 4;

class Field {
 public:
  Field(const Array& flow, const std::array<double, 2>& spacing)
      : rows_(flow.shape[1]),
        columns_(flow.shape[2]),
        pitch_(columns_ + 2 * frame + tile_columns),
        size_((rows_ + 2 * frame + tile_rows) * pitch_),
        pixel_height_(static_cast<float>(spacing[0])),
        pixel_width_(static_cast<float>(spacing[1])),
        per_row_(static_cast<float>(1 / spacing[0])),
        per_column_(static_cast<float>(1 / spacing[1])),
        now_(2 * size_),
        next_(2 * size_),
        down_((rows_ + tile_rows - 1) / tile_rows),
        across_((columns_ + tile_columns - 1) / tile_columns) {
    for (Index part = 0; part < 2; ++part)
      for (Index r = 0; r < rows_; ++r)
        std::memcpy(now_.data() + part * size_ + at(r, 0),
                    flow.as<float>() + (part * rows_ + r) * columns_, columns_ * sizeof(float));
    next_ = now_;
  }

  Index run(Index most) {
    std::vector<char> changed(down_ * across_, 1), todo(changed.size());
    std::vector<Index> tiles;
    Index steps = 0;
    for (; steps < most; ++steps) {
      tiles.clear();
      for (Index i = 0; i < down_; ++i)
        for (Index j = 0; j < across_; ++j)
          if (near(changed, i, j)) tiles.push_back(i * across_ + j);
      std::fill(todo.begin(), todo.end(), 0);
      parallel_for(static_cast<Index>(tiles.size()), 4, [&](Index begin, Index end) {
        for (Index t = begin; t < end; ++t) {
          poll();
          todo[tiles[t]] = step(tiles[t] / across_ * tile_rows, tiles[t] % across_ * tile_columns);
        }
      });
      changed.swap(todo);
      now_.swap(next_);
      if (std::find(changed.begin(), changed.end(), 1) == changed.end()) break;
    }
    return steps;
  }

  void meet(float* towards_right, float* towards_below, float* strength) const {
    parallel_for(rows_, 64, [&](Index begin, Index end) {
      for (Index r = begin; r < end; ++r) {
        const float* const down = now_.data() + at(r, 0);
        const float *const below = down + pitch_, *const right = down + size_;
        for (Index c = 0; c < columns_; ++c) {
          const float a = right[c], b = right[c + 1], u = down[c], v = below[c];
          const float x = a > 0 && b < 0 ? (a - b) * pixel_width_ : 0;
          const float y = u > 0 && v < 0 ? (u - v) * pixel_height_ : 0;
          towards_right[r * columns_ + c] = x;
          towards_below[r * columns_ + c] = y;
          strength[r * columns_ + c] = std::sqrt(x * x + y * y);
        }
      }
    });
  }

 private:
  Index at(Index row, Index column) const { return (row + frame) * pitch_ + column + frame; }

  bool near(const std::vector<char>& changed, Index i, Index j) const {
    for (Index a = std::max<Index>(i - 1, 0); a <= std::min(i + 1, down_ - 1); ++a)
      for (Index b = std::max<Index>(j - 1, 0); b <= std::min(j + 1, across_ - 1); ++b)
        if (changed[a * across_ + b]) return true;
    return false;
  }

  // Products of the flows of `width` pixels and those `step` pixels on.
  void products(const float* down, const float* right, Index step, float* out) const {
    for (Index i = 0; i < width; ++i)
      out[i] = down[i] * down[i + step] + right[i] * right[i + step];
  }

  // One step of a tile; whether anything changed.
  bool step(Index row, Index column) {
    Number code[(tile_rows + 2) * width];
    // Products with the next pixel of a row (begins one pixel earlier) and the three of the next.
    float east[width + 1], below[2][3][width];
    const float* down = now_.data() + at(row - 1, column - 1);
    const float* right = down + size_;
    for (Index k = 0; k < 3; ++k)
      products(down - pitch_, right - pitch_, pitch_ + k - 1, below[1][k]);
    for (Index r = 0; r < tile_rows + 2; ++r, down += pitch_, right += pitch_) {
      auto &here = below[r % 2], &above = below[1 - r % 2];
      for (Index k = 0; k < 3; ++k) products(down, right, pitch_ + k - 1, here[k]);
      for (Index i = 0; i < width + 1; ++i)
        east[i] = down[i - 1] * down[i] + right[i - 1] * right[i];
      classify(down, right, east, here, above, down - pitch_, right - pitch_, code + r * width);
    }
    return gather(row, column, code);
  }

  void classify(const float* down, const float* right, const float* east,
                const float (&below)[3][width], const float (&above)[3][width],
                const float* down_above, const float* right_above, Number* code) const {
    float north_west[width], north_east[width];
    // above[k] holds pixel i above times pixel i + k - 1 here.
    for (Index i = 1; i < width; ++i) north_west[i] = above[2][i - 1];
    for (Index i = 0; i + 1 < width; ++i) north_east[i] = above[0][i + 1];
    const auto product = [&](Index i, Index j) {
      return down_above[i] * down[j] + right_above[i] * right[j];
    };
    north_west[0] = product(-1, 0);
    north_east[width - 1] = product(width, width - 1);
    for (Index i = 0; i < width; ++i) {
      const float y = down[i] * per_row_, x = right[i] * per_column_;
      const float ay = std::fabs(y), ax = std::fabs(x);
      const bool moves_y = ay > diagonal * ax, moves_x = ax > diagonal * ay;
      const bool up = y < 0, left = x < 0;
      const float flat = left ? east[i] : east[i + 1];
      const float steep = up ? above[1][i] : below[1][i];
      const float slanted =
          up ? (left ? north_west[i] : north_east[i]) : (left ? below[0][i] : below[2][i]);
      const float along = moves_x ? (moves_y ? slanted : flat) : steep;
      const Number rows = moves_y ? (up ? -3 : 3) : 0, columns = moves_x ? (left ? -1 : 1) : 0;
      code[i] = along > 0 ? stays + rows + columns : stays;
    }
  }

  // What stays and what comes, to next_.
  bool gather(Index row, Index column, const Number* code) {
    const Index rows = std::min(tile_rows, rows_ - row);
    const Index columns = std::min(tile_columns, columns_ - column);
    Number different = 0;
    for (Index r = 0; r < rows; ++r) {
      const Number* const codes = code + (r + 1) * width + 1;
      const Index from = at(row + r, column);
      const float *const down = now_.data() + from, *const right = down + size_;
      float *const to_down = next_.data() + from, *const to_right = to_down + size_;
      float sum_down[tile_columns], sum_right[tile_columns];
      const auto add = [&]<Number... way>(std::integer_sequence<Number, way...>) {
        // A flow that goes that way came from the opposite side, one that stays from here.
        constexpr Index row_of[9] = {1, 1, 1, 0, 0, 0, -1, -1, -1};
        constexpr Index column_of[9] = {1, 0, -1, 1, 0, -1, 1, 0, -1};
        for (Index i = 0; i < tile_columns; ++i) {
          float y = 0, x = 0;
          const auto one = [&](Number w) {
            const bool comes = codes[i + row_of[w] * width + column_of[w]] == w;
            const Index there = i + row_of[w] * pitch_ + column_of[w];
            // Arithmetic instead of a choice: a load that depends on one would stay alone.
            const Number all = -static_cast<Number>(comes);
            y += std::bit_cast<float>(std::bit_cast<Number>(down[there]) & all);
            x += std::bit_cast<float>(std::bit_cast<Number>(right[there]) & all);
          };
          (one(way), ...);
          sum_down[i] = y, sum_right[i] = x;
        }
      };
      add(std::integer_sequence<Number, stays, 0, 1, 2, 3, 5, 6, 7, 8>{});
      for (Index i = 0; i < columns; ++i) {
        different |= sum_down[i] != down[i] || sum_right[i] != right[i];
        to_down[i] = sum_down[i];
        to_right[i] = sum_right[i];
      }
    }
    return different != 0;
  }

  const Index rows_, columns_, pitch_, size_;
  const float pixel_height_, pixel_width_, per_row_, per_column_;
  std::vector<float> now_, next_;  // row parts, then column parts, each with its frame
  const Index down_, across_;      // tiles
};

}  // namespace

Index meet_flows(const Array& flow, const std::array<double, 2>& spacing, Index most,
                 const MutableArray& energy, const MutableArray& strength) {
  const Index size = flow.shape[1] * flow.shape[2];
  if (size == 0) return 0;
  Field field(flow, spacing);
  const Index steps = field.run(most);
  field.meet(energy.as<float>(), energy.as<float>() + size, strength.as<float>());
  return steps;
}

}  // namespace msf
