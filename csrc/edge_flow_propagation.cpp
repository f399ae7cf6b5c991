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
// neither threads nor tiles matter. A piece of a row in whose surroundings nothing changed in the
// last step cannot change in this one and is left out; flows reach their boundaries within some 4
// sigma, and then little is left.
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
#include "zeroed.hpp"

namespace msf {
namespace {

using Index = std::int64_t;
using Number = std::int32_t;  // as wide as a float, so that loops of both vectorise

constexpr Index frame = 2;  // pixels around the image, without flow
constexpr Index tile_rows = 16;
constexpr Index tile_columns = 62;  // with a pixel on either side whole vectors
constexpr Index width = tile_columns + 2;
constexpr Index slack = 16;  // read after the last row, not used
using Rows = std::uint32_t;  // a bit for each row of a tile
constexpr Rows all_rows = (Rows{1} << tile_rows) - 1;
constexpr float diagonal = 0.41421356f;  // tan(22.5 degrees)

// Where a flow goes, 3 * (1 + rows) + 1 + columns; stays: 4.
constexpr Number stays = 4;

class Field {
 public:
  Field(const Array& flow, const std::array<double, 2>& spacing)
      : rows_(flow.shape[1]),
        columns_(flow.shape[2]),
        pitch_(columns_ + 2 * frame + width),
        size_((rows_ + 2 * frame + tile_rows) * pitch_),
        pixel_height_(static_cast<float>(spacing[0])),
        pixel_width_(static_cast<float>(spacing[1])),
        per_row_(static_cast<float>(1 / spacing[0])),
        per_column_(static_cast<float>(1 / spacing[1])),
        memory_(4 * size_ * sizeof(float)),
        now_(reinterpret_cast<float*>(memory_.data())),
        next_(now_ + 2 * size_),
        down_((rows_ + tile_rows - 1) / tile_rows),
        across_((columns_ + tile_columns - 1) / tile_columns) {
    parallel_for(rows_, 64, [&](Index begin, Index end) {
      for (Index r = begin; r < end; ++r)
        for (Index part = 0; part < 2; ++part)
          for (float* to : {now_, next_})
            std::memcpy(to + part * size_ + at(r, 0),
                        flow.as<float>() + (part * rows_ + r) * columns_, columns_ * sizeof(float));
    });
  }

  Index run(Index most) {
    std::vector<Rows> changed(down_ * across_, all_rows), changing(changed.size());
    std::vector<std::pair<Index, Rows>> todo;
    Index steps = 0;
    for (; steps < most; ++steps) {
      todo.clear();
      for (Index i = 0; i < down_; ++i)
        for (Index j = 0; j < across_; ++j)
          if (const Rows rows = near(changed, i, j)) todo.push_back({i * across_ + j, rows});
      std::fill(changing.begin(), changing.end(), 0);
      parallel_for(static_cast<Index>(todo.size()), 4, [&](Index begin, Index end) {
        poll();
        for (Index t = begin; t < end; ++t) {
          const auto [tile, rows] = todo[t];
          changing[tile] = step(tile / across_ * tile_rows, tile % across_ * tile_columns, rows);
        }
      });
      changed.swap(changing);
      std::swap(now_, next_);
      if (std::all_of(changed.begin(), changed.end(), [](Rows rows) { return rows == 0; })) break;
    }
    return steps;
  }

  void meet(float* towards_right, float* towards_below, float* strength) const {
    parallel_for(rows_, 64, [&](Index begin, Index end) {
      for (Index r = begin; r < end; ++r) {
        const float* const down = now_ + at(r, 0);
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

  // The rows of a tile that have something changed within two rows, in it or its neighbours.
  Rows near(const std::vector<Rows>& changed, Index i, Index j) const {
    const auto of = [&](Index a) {
      Rows rows = 0;
      if (a >= 0 && a < down_)
        for (Index b = std::max<Index>(j - 1, 0); b <= std::min(j + 1, across_ - 1); ++b)
          rows |= changed[a * across_ + b];
      return rows;
    };
    // Bit 2 is the tile's first row.
    const Rows rows =
        of(i - 1) >> (tile_rows - 2) | of(i) << 2 | (of(i + 1) & 3) << (tile_rows + 2);
    return (rows | rows << 1 | rows << 2 | rows >> 1 | rows >> 2) >> 2 & all_rows;
  }

  // Products of the flows of `width` pixels of a row with those of the next row, `k` - 1 further.
  void products(const float* down, const float* right, float (&out)[3][width]) const {
    for (Index k = 0; k < 3; ++k) {
      const float *const next_down = down + pitch_ + k - 1, *const next_right = next_down + size_;
      for (Index i = 0; i < width; ++i)
        out[k][i] = down[i] * next_down[i] + right[i] * next_right[i];
    }
  }

  // One step of some rows of a tile; those that changed.
  Rows step(Index row, Index column, Rows wanted) {
    Number code[(tile_rows + 2) * width + slack];
    float east[width + 1], below[2][3][width];
    Index known[2] = {-2, -2};                               // rows whose products are in below
    const Rows around = wanted | wanted << 1 | wanted << 2;  // bit 0: the row before the tile
    for (Index r = 0; r < tile_rows + 2; ++r) {
      if (!(around >> r & 1)) continue;
      const float* const down = now_ + at(row - 1 + r, column - 1);
      const float* const right = down + size_;
      for (const Index k : {r - 1, r}) {
        if (known[k & 1] == k) continue;
        known[k & 1] = k;
        products(down + (k - r) * pitch_, right + (k - r) * pitch_, below[k & 1]);
      }
      // With the pixel before in the row.
      for (Index i = 0; i < width + 1; ++i)
        east[i] = down[i - 1] * down[i] + right[i - 1] * right[i];
      classify(down, right, east, below[r & 1], below[(r - 1) & 1], down - pitch_, right - pitch_,
               code + r * width);
    }
    return gather(row, column, code, wanted);
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
  Rows gather(Index row, Index column, const Number* code, Rows wanted) {
    const Index rows = std::min(tile_rows, rows_ - row);
    const Index columns = std::min(tile_columns, columns_ - column);
    Rows changed = 0;
    for (Index r = 0; r < rows; ++r) {
      if (!(wanted >> r & 1)) continue;
      Number different = 0;
      const Number* const codes = code + (r + 1) * width + 1;
      const Index from = at(row + r, column);
      const float *const down = now_ + from, *const right = down + size_;
      float *const to_down = next_ + from, *const to_right = to_down + size_;
      float sum_down[width], sum_right[width];
      const auto add = [&]<Number... way>(std::integer_sequence<Number, way...>) {
        // A flow that goes that way came from the opposite side, one that stays from here.
        constexpr Index row_of[9] = {1, 1, 1, 0, 0, 0, -1, -1, -1};
        constexpr Index column_of[9] = {1, 0, -1, 1, 0, -1, 1, 0, -1};
        for (Index i = 0; i < width; ++i) {
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
      if (different) changed |= Rows{1} << r;
    }
    return changed;
  }

  const Index rows_, columns_, pitch_, size_;
  const float pixel_height_, pixel_width_, per_row_, per_column_;
  Zeroed memory_;
  float *now_, *next_;         // row parts, then column parts, each with its frame
  const Index down_, across_;  // tiles
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
