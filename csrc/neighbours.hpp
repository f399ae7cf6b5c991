// Neighbours of a voxel by flat index, in any number of dimensions, without padding the image.
//
// Away from the image's border a neighbour is the flat index plus a fixed offset. On the border the
// voxel's coordinates say which offsets would leave the image. Axes of length 1 have no neighbours
// and are dropped, so that a single plane is not all border.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "array.hpp"

namespace msf {

class VoxelNeighbours {
 public:
  // connectivity: how many coordinates may differ by one, 1 .. image.ndim.
  VoxelNeighbours(const Array& image, int connectivity) : size_(image.size()) {
    for (int axis = 0; axis < image.ndim; ++axis)
      if (image.shape[axis] > 1) extents_.push_back(image.shape[axis]);
    strides_.assign(extents_.size(), 1);
    for (std::size_t axis = extents_.size(); axis-- > 1;)
      strides_[axis - 1] = strides_[axis] * extents_[axis];
    add_offsets(0, connectivity, {0, 0, 0});
  }

  std::int64_t size() const { return size_; }

  // f(w) for every neighbour w of v inside the image, in raster order; inside: v is not on_border.
  template <class F>
  void each(std::int64_t v, bool inside, F&& f) const {
    if (inside) {
      for (const Offset& offset : offsets_) f(v + offset.flat);
      return;
    }
    std::uint64_t first = 0, last = 0;  // axes along which v is at the first, the last coordinate
    ends(v, first, last);
    for (const Offset& offset : offsets_)
      if (!(offset.down & first) && !(offset.up & last)) f(v + offset.flat);
  }

  bool on_border(std::int64_t v) const {
    std::uint64_t first = 0, last = 0;
    ends(v, first, last);
    return first | last;
  }

  // status[v] |= bit for every v on the border of the image.
  void mark_border(std::uint8_t* status, std::uint8_t bit) const {
    if (size_ > 0) mark(status, 0, bit);
  }

 private:
  struct Offset {
    std::int64_t flat;
    std::uint64_t down, up;  // axes along which it steps by -1, by +1, as bits
  };

  // Depth first over the axes with steps -1, 0, 1: flat offsets come out in ascending order.
  void add_offsets(std::size_t axis, int steps_left, Offset offset) {
    if (axis == extents_.size()) {
      if (offset.down | offset.up) offsets_.push_back(offset);
      if (offsets_.size() > most) throw std::invalid_argument("connectivity: too many neighbours");
      return;
    }
    const std::uint64_t bit = std::uint64_t{1} << axis;
    const Offset down{offset.flat - strides_[axis], offset.down | bit, offset.up};
    const Offset up{offset.flat + strides_[axis], offset.down, offset.up | bit};
    if (steps_left > 0) add_offsets(axis + 1, steps_left - 1, down);
    add_offsets(axis + 1, steps_left, offset);
    if (steps_left > 0) add_offsets(axis + 1, steps_left - 1, up);
  }

  void ends(std::int64_t v, std::uint64_t& first, std::uint64_t& last) const {
    for (std::size_t axis = extents_.size(); axis-- > 0;) {
      const std::int64_t extent = extents_[axis];
      // Twice as fast as the 64-bit division where it is enough.
      const std::int64_t next =
          v >> 32 ? v / extent : static_cast<std::uint32_t>(v) / static_cast<std::uint64_t>(extent);
      const std::int64_t coordinate = v - next * extent;
      first |= static_cast<std::uint64_t>(coordinate == 0) << axis;
      last |= static_cast<std::uint64_t>(coordinate == extent - 1) << axis;
      v = next;
    }
  }

  void mark(std::uint8_t* status, std::size_t axis, std::uint8_t bit) const {
    if (axis == extents_.size()) return;
    const std::int64_t extent = extents_[axis], stride = strides_[axis];
    for (const std::int64_t side : {std::int64_t{0}, extent - 1})
      for (std::int64_t i = 0; i < stride; ++i) status[side * stride + i] |= bit;
    for (std::int64_t i = 1; i < extent - 1; ++i) mark(status + i * stride, axis + 1, bit);
  }

  static constexpr std::size_t most = 1 << 16;  // 3^10: beyond ten axes something is wrong
  std::int64_t size_;
  std::vector<std::int64_t> extents_, strides_;
  std::vector<Offset> offsets_;
};

}  // namespace msf
