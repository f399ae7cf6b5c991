// What a search starts from: the bits of arcs with capacity, and the roots of the trees with those
// marked that can grow at once.
//
// In blocks a neighbour lies at another distance for each place, so rows are copied to where pixels
// lie side by side; there every direction is one fixed distance and loops vectorise.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "grid_flow.hpp"
#include "parallel.hpp"

namespace msf {

template <class Mask>
class GridMarks {
 public:
  GridMarks(const GridRange<Mask>& all, const GridFlow<Mask>& flow)
      : s_(all.trees),
        flow_(flow),
        blocks_(all.blocks),
        flat_(blocks_.layer_axis() == 1),
        planes_(flat_ ? blocks_.extents()[1] : blocks_.extents()[0]),
        lines_(flat_ ? 1 : blocks_.extents()[1]),
        stride_(blocks_.row_nodes() + 2) {}

  void run() {
    if (blocks_.nodes() == 0) return;
    parallel_for(blocks_.nodes(), 1 << 14,
                 [&](auto begin, auto end) { flow_.mark_out(begin, end); });
    const std::int64_t thick = std::max<std::int64_t>(8, (1 << 15) / (lines_ * stride_));
    parallel_for(planes_, thick, [&](auto begin, auto end) { mark_planes(begin, end); });
  }

 private:
  // A plane of pixels with a margin of one, in which there is nothing.
  struct Plane {
    std::vector<std::uint8_t> side;
    std::vector<Mask> out;
  };

  std::int64_t row(std::int64_t plane, std::int64_t line) const {
    return flat_ ? blocks_.row(0, plane) : blocks_.row(plane, line);
  }

  void load(std::int64_t plane, Plane& to) const {
    if (plane < 0 || plane >= planes_) {
      std::fill(to.side.begin(), to.side.end(), std::uint8_t{0});
      std::fill(to.out.begin(), to.out.end(), Mask{0});
      return;
    }
    for (std::int64_t line = 0; line < lines_; ++line) {
      const std::int64_t at = (line + 1) * stride_ + 1, base = row(plane, line);
      blocks_.load_row(s_.out + base, to.out.data() + at);
      flow_.sides(base, to.side.data() + at);
    }
  }

  void mark_planes(std::int64_t begin, std::int64_t end) {
    Plane ring[3];
    for (Plane& plane : ring) {
      plane.side.assign((lines_ + 2) * stride_, 0);
      plane.out.assign((lines_ + 2) * stride_, 0);
    }
    const auto at = [&](std::int64_t plane) -> Plane& { return ring[(plane + 3) % 3]; };
    load(begin - 1, at(begin - 1));
    load(begin, at(begin));
    std::vector<std::uint8_t> meets(stride_), tree(stride_);
    std::vector<Mask> in(stride_);
    for (std::int64_t plane = begin; plane < end; ++plane) {
      load(plane + 1, at(plane + 1));
      for (std::int64_t line = 0; line < lines_; ++line) {
        const std::int64_t here = (line + 1) * stride_ + 1, n = stride_ - 2;
        const std::uint8_t* const side = at(plane).side.data() + here;
        std::fill(meets.begin(), meets.end(), std::uint8_t{0});
        std::fill(in.begin(), in.end(), Mask{0});
        for (int d = 0; d < blocks_.directions(); ++d) {
          const GridOffset offset = blocks_.offset(d);
          const int across = flat_ ? offset[1] : offset[0], along = flat_ ? 0 : offset[1];
          const Plane& other = at(plane + across);
          const std::int64_t there = here + along * stride_ + offset[2];
          mark_direction(d, n, side, at(plane).out.data() + here, other.side.data() + there,
                         other.out.data() + there, in.data(), meets.data());
        }
        for (std::int64_t x = 0; x < n; ++x)
          tree[x] = static_cast<std::uint8_t>(side[x] | (side[x] ? tree_root : 0) |
                                              (side[x] && meets[x] ? tree_queued : 0));
        blocks_.store_row(in.data(), s_.in + row(plane, line));
        blocks_.store_row(tree.data(), s_.tree + row(plane, line));
      }
    }
  }

  // Bits of arcs that come from direction d; where an arc leads out of the tree that way.
  static void mark_direction(int d, std::int64_t n, const std::uint8_t* __restrict side,
                             const Mask* __restrict out, const std::uint8_t* __restrict other_side,
                             const Mask* __restrict other_out, Mask* __restrict in,
                             std::uint8_t* __restrict meets) {
    const Mask bit = static_cast<Mask>(Mask{1} << d);
    const Mask opposite = static_cast<Mask>(Mask{1} << (d ^ 1));
    constexpr Mask all = static_cast<Mask>(~Mask{0});
    for (std::int64_t x = 0; x < n; ++x) {
      // All ones for yes: selects of bytes, not of bools, become vector code.
      const Mask enters = (other_out[x] & opposite) != 0 ? all : Mask{0};
      const Mask leaves = (out[x] & bit) != 0 ? all : Mask{0};
      const Mask source = side[x] == tree_source ? all : Mask{0};
      in[x] |= static_cast<Mask>(enters & bit);
      const Mask grows = static_cast<Mask>((leaves & source) | (enters & ~source));
      meets[x] |= static_cast<std::uint8_t>(grows & (side[x] ^ other_side[x]));
    }
  }

  const GridForest<Mask> s_;
  const GridFlow<Mask>& flow_;
  const GridBlocks& blocks_;
  bool flat_;  // planes of one line: rows of an image
  std::int64_t planes_, lines_, stride_;
};

}  // namespace msf
