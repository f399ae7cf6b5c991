// A grid with a margin that neighbours of its border fall into, so that no step checks its
// coordinates.
//
// Rows (and planes, ...) share their margins: what lies before the first pixel of a row is the
// margin behind the row before. Axes along which no offset can stay inside have no margin.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "array.hpp"
#include "kernels/cost_search.hpp"

namespace msf {

class PaddedGrid {  // of at least one axis
 public:
  // Of `offsets`, those that would leave the grid from everywhere get no flat step.
  PaddedGrid(const Array& image, const Offsets& offsets)
      : shape_(image.shape.begin(), image.shape.begin() + image.ndim) {
    const std::size_t ndim = shape_.size();
    std::vector<std::int64_t> reach(ndim, 0);
    for (const auto& offset : offsets)
      if (can_stay(offset))
        for (std::size_t a = 0; a < ndim; ++a) reach[a] = std::max(reach[a], std::abs(offset[a]));
    strides_.assign(ndim, 1);
    for (std::size_t a = ndim; a-- > 1;) strides_[a - 1] = strides_[a] * (shape_[a] + reach[a]);
    for (std::size_t a = 0; a < ndim; ++a) lead_ += reach[a] * strides_[a];
    size_ = lead_ + strides_[0] * shape_[0] + lead_;
  }

  std::int64_t size() const { return size_; }  // with margins
  const std::vector<std::int64_t>& shape() const { return shape_; }

  bool can_stay(const std::vector<std::int64_t>& offset) const {
    for (std::size_t a = 0; a < shape_.size(); ++a)
      if (std::abs(offset[a]) >= shape_[a]) return false;
    return true;
  }
  std::int64_t step(const std::vector<std::int64_t>& offset) const {
    std::int64_t flat = 0;
    for (std::size_t a = 0; a < shape_.size(); ++a) flat += offset[a] * strides_[a];
    return flat;
  }

  // The index here of a flat index in the image.
  std::int64_t inside(std::int64_t flat) const {
    std::int64_t v = lead_;
    for (std::size_t a = shape_.size(); a-- > 0;) {
      v += flat % shape_[a] * strides_[a];
      flat /= shape_[a];
    }
    return v;
  }
  void coordinates(std::int64_t v, std::int64_t* to) const {
    v -= lead_;
    for (std::size_t a = 0; a < shape_.size(); ++a) {
      to[a] = v / strides_[a];
      v %= strides_[a];
    }
  }

  // f(flat index, index here, length) for every row.
  template <class F>
  void rows(F&& f) const {
    std::int64_t n = 1;
    for (const std::int64_t extent : shape_) n *= extent;
    const std::int64_t length = shape_.back();
    for (std::int64_t flat = 0; flat < n; flat += length) f(flat, inside(flat), length);
  }

 private:
  std::vector<std::int64_t> shape_, strides_;
  std::int64_t lead_ = 0, size_ = 0;
};

}  // namespace msf
