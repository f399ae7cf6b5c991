// The lines of a watershed, drawn when all labels are known; watershed.cpp says why that is enough.
#pragma once

#include <cstdint>

#include "watershed.hpp"

namespace msf {

class Lines {
 public:
  // left: the markers; gains the voxels that have left the queue with their label.
  Lines(const Footprint& footprint, const Labels& labels, Bitmap& left, std::int64_t voxels);

  // The next `count` voxels that left the queue, in order; their memory is overwritten.
  template <class Index>
  void draw(Index* voxels, std::int64_t count);

 private:
  const Footprint& footprint_;
  const Labels& labels_;
  Bitmap& left_;
  Bitmap fronts_;  // voxels next to another label, and some others
};
extern template void Lines::draw(std::uint32_t*, std::int64_t);
extern template void Lines::draw(std::int64_t*, std::int64_t);

}  // namespace msf
