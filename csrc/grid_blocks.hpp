// Where the pixels of a grid lie in memory: in blocks of 64, so that neighbours are near.
//
// Jamriska, Sykora and Hornung (2012), "Cache-efficient graph cuts on structured grids", CVPR:
// blocks of 8 x 8 pixels or 4 x 4 x 4 voxels. A node's number is block * 64 + place in the block,
// and a neighbour's number is the node's plus a distance that depends on that place alone. Nodes
// that fill up the last block of an axis have no edges.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <type_traits>
#include <vector>

namespace msf {

using GridOffset = std::array<int, 3>;

class GridBlocks {
 public:
  using Node = std::uint32_t;
  static constexpr int block = 64;
  static constexpr int most_directions = 26;

  // offsets: positive ones; direction 2 k is offset k, 2 k + 1 its opposite.
  GridBlocks(const std::array<std::int64_t, 3>& extents, const std::vector<GridOffset>& offsets)
      : extents_(extents), offsets_(offsets) {
    if (extents[0] > 1)
      bits_ = {2, 2, 2};
    else if (extents[1] > 1)
      bits_ = {0, 3, 3};
    for (int axis = 0; axis < 3; ++axis)
      blocks_[axis] = (extents[axis] + (1 << bits_[axis]) - 1) >> bits_[axis];
    // Distances between neighbours are 32-bit.
    if (static_cast<double>(blocks_[0]) * blocks_[1] * blocks_[2] * block >= 0x7fffffff)
      throw std::length_error("a grid of more than 2^31 pixels");
    nodes_ = blocks_[0] * blocks_[1] * blocks_[2] * block;
    for (int d = 0; d < directions(); ++d)
      for (int place = 0; place < block; ++place) steps_[d][place] = step(offset(d), place);
  }

  std::int64_t nodes() const { return nodes_; }
  const std::array<std::int64_t, 3>& blocks() const { return blocks_; }
  int directions() const { return static_cast<int>(2 * offsets_.size()); }
  const std::array<std::int64_t, 3>& extents() const { return extents_; }
  GridOffset offset(int direction) const {
    GridOffset offset = offsets_[direction / 2];
    if (direction & 1)
      for (int& o : offset) o = -o;
    return offset;
  }

  Node neighbour(Node v, int direction) const {
    return v + static_cast<Node>(steps_[direction][v % block]);
  }

  // The node of pixel (z, y, x) is row(z, y) + column(x).
  std::int64_t row(std::int64_t z, std::int64_t y) const {
    const std::int64_t number = (z >> bits_[0]) * blocks_[1] + (y >> bits_[1]);
    const std::int64_t place = (((z & mask(0)) << bits_[1]) + (y & mask(1))) << bits_[2];
    return number * blocks_[2] * block + place;
  }
  std::int64_t column(std::int64_t x) const { return (x >> bits_[2]) * block + (x & mask(2)); }
  std::int64_t node_of(std::int64_t pixel) const {
    const std::int64_t line = pixel / extents_[2];
    return row(line / extents_[1], line % extents_[1]) + column(pixel % extents_[2]);
  }

  // place ^ flip is the place in a block that is mirrored along some axes.
  Node flip(const bool (&axes)[3]) const {
    const std::int64_t z = axes[0] ? mask(0) : 0, y = axes[1] ? mask(1) : 0;
    return static_cast<Node>((((z << bits_[1]) + y) << bits_[2]) + (axes[2] ? mask(2) : 0));
  }

  // Pixels of a row, with those that fill up its last block.
  std::int64_t row_nodes() const { return blocks_[2] << bits_[2]; }
  // Copies a row of nodes, from row() on, to where they lie side by side, and back.
  template <class T>
  void load_row(const T* nodes, T* row) const {
    copy_runs(nodes, block * sizeof(T), row, sizeof(T) << bits_[2], sizeof(T) << bits_[2]);
  }
  template <class T>
  void store_row(const T* row, T* nodes) const {
    copy_runs(row, sizeof(T) << bits_[2], nodes, block * sizeof(T), sizeof(T) << bits_[2]);
  }

  // Layers: the grid cut across its first axis longer than one, a block thick. Layer i has the
  // nodes from i * layer_nodes() on.
  std::int64_t layers() const { return blocks_[layer_axis()]; }
  std::int64_t layer_nodes() const { return nodes_ / std::max<std::int64_t>(layers(), 1); }
  int layer_axis() const { return bits_[0] ? 0 : bits_[1] ? 1 : 2; }
  // Whether a place in a block is the first (side 0) or last (side 1) across the layer.
  bool at_side(std::int64_t place, int side) const {
    const int axis = layer_axis();
    const std::int64_t at = axis == 0   ? place >> (bits_[1] + bits_[2])
                            : axis == 1 ? place >> bits_[2]
                                        : place;
    return at == (side ? mask(axis) : 0);
  }

 private:
  std::int64_t mask(int axis) const { return (1 << bits_[axis]) - 1; }

  // Copies the runs of a row, one per block, from and to places so many bytes apart. Short runs as
  // constants: a call of memcpy takes longer than they do. Compiled once for all types.
  [[gnu::noinline]] void copy_runs(const void* from, std::size_t from_step, void* to,
                                   std::size_t to_step, std::size_t run) const {
    auto* source = static_cast<const char*>(from);
    auto* target = static_cast<char*>(to);
    const auto runs = [&](auto bytes) {
      for (std::int64_t b = 0; b < blocks_[2]; ++b, source += from_step, target += to_step)
        std::memcpy(target, source, bytes);
    };
    switch (run) {
      case 4:
        return runs(std::integral_constant<std::size_t, 4>{});
      case 8:
        return runs(std::integral_constant<std::size_t, 8>{});
      case 16:
        return runs(std::integral_constant<std::size_t, 16>{});
      case 32:
        return runs(std::integral_constant<std::size_t, 32>{});
      default:
        return runs(run);
    }
  }

  std::int32_t step(const GridOffset& offset, int place) const {
    const std::int64_t from[3] = {place >> (bits_[1] + bits_[2]), (place >> bits_[2]) & mask(1),
                                  place & mask(2)};
    std::int64_t block_step = 0, to_place = 0;
    for (int axis = 0; axis < 3; ++axis) {
      const std::int64_t to = from[axis] + offset[axis];
      block_step = block_step * blocks_[axis] + (to >> bits_[axis]);
      to_place = (to_place << bits_[axis]) + (to & mask(axis));
    }
    return static_cast<std::int32_t>(block_step * block + to_place - place);
  }

  std::array<std::int64_t, 3> extents_, blocks_{};
  std::array<int, 3> bits_{0, 0, 6};
  std::int64_t nodes_ = 0;
  std::vector<GridOffset> offsets_;
  std::int32_t steps_[most_directions][block]{};
};

}  // namespace msf
