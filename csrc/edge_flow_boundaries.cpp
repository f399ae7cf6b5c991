// From pieces of boundary to closed ones: the third part of Ma and Manjunath's EdgeFlow.
//
// A boundary runs between pixels, from one corner of the pixel grid to the next, as the paper has
// it (V and H); so regions touch and every pixel belongs to one. Weak boundaries are dropped by
// two thresholds (the paper leaves them to the merging of regions, which noise makes slow). Then,
// as in the paper, the loose end of an open boundary looks ahead within a half circle about itself
// as wide as the boundary is long, and joins the nearest boundary there; this is repeated a few
// times. Ours looks no farther than `reach`, and the image's border counts as a boundary. A gap is
// closed by a straight line, the nearest that the grid has. What encloses nothing in the end is
// removed.
//
// All ends of a round see the boundaries as they were before it, so their order does not matter.
#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/edge_flow.hpp"
#include "parallel.hpp"
#include "union_find.hpp"

namespace msf {
namespace {

using Index = std::int64_t;

constexpr std::uint8_t to_right = 1, to_below = 2;
constexpr int closes = 2;  // shift of the bits of a closed gap

struct Corner {
  Index row, column;
};
constexpr Index step_row[4] = {-1, 0, 1, 0}, step_column[4] = {0, 1, 0, -1};

// The pieces of boundary around the corners of the pixel grid, 4 at each: up, right, down, left.
// Corner (i, j) is the upper left one of pixel (i, j).
class Grid {
 public:
  Grid(const MutableArray& masks)
      : rows_(masks.shape[0]), columns_(masks.shape[1]), mask_(masks.as<std::uint8_t>()) {}

  // Pixel and bit of the piece that leaves a corner that way; false: along the image's border.
  bool piece(Corner c, int way, Index& pixel, std::uint8_t& bit) const {
    if (way % 2 == 0) {
      const Index row = way == 0 ? c.row - 1 : c.row;
      if (row < 0 || row >= rows_ || c.column < 1 || c.column >= columns_) return false;
      pixel = row * columns_ + c.column - 1, bit = to_right;
    } else {
      const Index column = way == 3 ? c.column - 1 : c.column;
      if (column < 0 || column >= columns_ || c.row < 1 || c.row >= rows_) return false;
      pixel = (c.row - 1) * columns_ + column, bit = to_below;
    }
    return true;
  }
  bool has(Corner c, int way) const {
    Index pixel;
    std::uint8_t bit;
    return piece(c, way, pixel, bit) && (mask_[pixel] & bit);
  }
  int degree(Corner c) const {
    int n = 0;
    for (int way = 0; way < 4; ++way) n += has(c, way);
    return n;
  }
  // Whether the corner, not on the border, is a boundary's end.
  bool loose(Index row, Index column) const {
    const std::uint8_t *const above = mask_ + (row - 1) * columns_ + column, *const here =
                                                                                 above + columns_;
    return (above[-1] & to_right) + (here[-1] & to_right) +
               (((above[-1] & to_below) + (above[0] & to_below)) >> 1) ==
           1;
  }
  bool on_border(Corner c) const {
    return c.row == 0 || c.column == 0 || c.row == rows_ || c.column == columns_;
  }
  bool inside(Corner c) const {
    return c.row >= 0 && c.column >= 0 && c.row <= rows_ && c.column <= columns_;
  }
  Index rows() const { return rows_; }
  Index columns() const { return columns_; }
  std::uint8_t& mask(Index pixel) const { return mask_[pixel]; }

 private:
  const Index rows_, columns_;
  std::uint8_t* const mask_;
};

Corner moved(Corner c, int way) { return {c.row + step_row[way], c.column + step_column[way]}; }

// Hysteresis: pieces above `low` that are connected to one above `high`.
void select(const Array& energy, double low, double high, const Grid& grid) {
  const Index size = grid.rows() * grid.columns();
  const float* const values = energy.as<float>();
  const auto value = [&](Index pixel, std::uint8_t bit) {
    return values[bit == to_right ? pixel : size + pixel];
  };
  std::vector<Corner> todo;
  Ticker tick;
  const auto grow = [&](Corner c, int way) {
    Index pixel;
    std::uint8_t bit;
    if (!grid.piece(c, way, pixel, bit) || (grid.mask(pixel) & bit)) return;
    if (!(value(pixel, bit) > low)) return;
    grid.mask(pixel) |= bit;
    todo.push_back(moved(c, way));
  };
  for (Index pixel = 0; pixel < size; ++pixel) {
    tick();
    for (const std::uint8_t bit : {to_right, to_below}) {
      if (!(value(pixel, bit) > high) || (grid.mask(pixel) & bit)) continue;
      const Index r = pixel / grid.columns(), c = pixel % grid.columns();
      grid.mask(pixel) |= bit;
      todo.push_back({r + 1, c + 1});
      todo.push_back(bit == to_right ? Corner{r, c + 1} : Corner{r + 1, c});
      while (!todo.empty()) {
        const Corner corner = todo.back();
        todo.pop_back();
        tick();
        for (int way = 0; way < 4; ++way) grow(corner, way);
      }
    }
  }
}

class Linker {
 public:
  Linker(const Grid& grid, double reach)
      : grid_(grid),
        reach_(reach),
        longest_(static_cast<Index>(std::ceil(reach)) + 1),
        seen_((grid.rows() + 1) * (grid.columns() + 1), 0) {}

  // One round; whether anything was joined.
  bool run() {
    std::vector<std::pair<Corner, Corner>> links;
    Ticker tick(1 << 10);
    for (Index r = 1; r < grid_.rows(); ++r)
      for (Index c = 1; c < grid_.columns(); ++c) {
        tick();
        if (!grid_.loose(r, c)) continue;
        if (const auto to = target({r, c})) links.push_back({{r, c}, *to});
      }
    for (const auto& [from, to] : links) draw(from, to);
    return !links.empty();
  }

 private:
  std::int32_t& seen(Corner c) { return seen_[c.row * (grid_.columns() + 1) + c.column]; }

  // Where a loose end leads to, if anywhere.
  std::optional<Corner> target(Corner end) {
    ++trace_;
    Corner at = end, behind = end;
    Index length = 0;
    seen(end) = trace_;
    for (int came = -1; length < longest_; ++length) {
      int way = 0;
      while (way < 4 && (way == came || !grid_.has(at, way))) ++way;
      if (way == 4 || (length > 0 && grid_.degree(at) != 2)) break;
      at = moved(at, way);
      came = (way + 2) % 4;
      if (seen(at) == trace_) break;  // a loop
      seen(at) = trace_;
      if (2 * length < longest_) behind = at;
    }
    const double radius = std::min(reach_, static_cast<double>(length));
    const Index reach = static_cast<Index>(radius);
    const Index ahead_row = end.row - behind.row, ahead_column = end.column - behind.column;
    Index nearest = static_cast<Index>(radius * radius), straightest = 0;
    std::optional<Corner> best;
    for (Index r = -reach; r <= reach; ++r)
      for (Index c = -reach; c <= reach; ++c) {
        const Corner there{end.row + r, end.column + c};
        const Index distance = r * r + c * c, ahead = r * ahead_row + c * ahead_column;
        if (distance > nearest || ahead <= 0 || !grid_.inside(there)) continue;
        if (distance == nearest && ahead <= straightest) continue;
        if (seen(there) == trace_ || !(grid_.on_border(there) || grid_.degree(there) > 0)) continue;
        nearest = distance, straightest = ahead, best = there;
      }
    return best;
  }

  // A line from corner to corner; the same in both senses.
  void draw(Corner from, Corner to) {
    if (std::pair(to.row, to.column) < std::pair(from.row, from.column)) std::swap(from, to);
    const Index rows = to.row - from.row, columns = std::abs(to.column - from.column);
    const int across = to.column > from.column ? 1 : 3;
    for (Index r = 0, c = 0; r < rows || c < columns;) {
      const bool sideways = (1 + 2 * c) * rows < (1 + 2 * r) * columns;
      const int way = sideways ? across : 2;
      Index pixel;
      std::uint8_t bit;
      if (grid_.piece(from, way, pixel, bit) && !(grid_.mask(pixel) & bit))
        grid_.mask(pixel) |= static_cast<std::uint8_t>(bit | bit << closes);
      from = moved(from, way);
      sideways ? ++c : ++r;
    }
  }

  const Grid& grid_;
  const double reach_;
  const Index longest_;
  std::vector<std::int32_t> seen_;  // the last trace through each corner
  std::int32_t trace_ = 0;
};

}  // namespace

void link_boundaries(const Array& energy, double low, double high, double reach, int rounds,
                     const MutableArray& masks) {
  const Grid grid(masks);
  std::fill_n(masks.as<std::uint8_t>(), masks.size(), std::uint8_t{0});
  if (masks.size() == 0) return;
  select(energy, low, high, grid);
  if (rounds < 1) return;
  Linker linker(grid, reach);
  while (rounds-- > 0 && linker.run()) {
  }
}

Index label_enclosed(const MutableArray& masks, const MutableArray& labels) {
  const Index rows = masks.shape[0], columns = masks.shape[1], size = masks.size();
  std::uint8_t* const mask = masks.as<std::uint8_t>();
  std::int32_t* const label = labels.as<std::int32_t>();
  Ticker tick;
  for (Index i = 0; i < size; ++i) label[i] = static_cast<std::int32_t>(i);
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) {
      tick();
      const std::int32_t i = static_cast<std::int32_t>(r * columns + c);
      if (c + 1 < columns && !(mask[i] & to_right)) unite(label, i, i + 1);
      if (r + 1 < rows && !(mask[i] & to_below))
        unite(label, i, i + static_cast<std::int32_t>(columns));
    }
  // A parent comes before its children: it holds minus its number by then.
  std::int32_t n = 0;
  for (Index i = 0; i < size; ++i) label[i] = label[i] == i ? -++n : label[label[i]];
  for (Index i = 0; i < size; ++i) label[i] = -label[i];
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) {
      const Index i = r * columns + c;
      constexpr std::uint8_t right = to_right | to_right << closes;
      constexpr std::uint8_t below = to_below | to_below << closes;
      if (c + 1 == columns || label[i] == label[i + 1])
        mask[i] &= static_cast<std::uint8_t>(~right);
      if (r + 1 == rows || label[i] == label[i + columns])
        mask[i] &= static_cast<std::uint8_t>(~below);
    }
  return n;
}

}  // namespace msf
