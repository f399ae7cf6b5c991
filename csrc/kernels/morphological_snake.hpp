#pragma once

#include <cstdint>
#include <memory>

#include "array.hpp"

namespace msf {

// A binary level set of two or three dimensions that morphological operators move (Marquez-Neila,
// Baumela and Alvarez 2014). `level_set` (int8, of the image's shape) holds 0 and 1 and always
// shows the current state after a call; image and level set must outlive the object.
class MorphologicalSnake {
 public:
  virtual ~MorphologicalSnake() = default;
  virtual void iterate(std::int64_t iterations) = 0;
};

// Each iteration moves pixels beside the contour to the side whose mean they are nearer to, then
// smooths. float16 is not taken.
std::unique_ptr<MorphologicalSnake> chan_vese_snake(const Array& image,
                                                    const MutableArray& level_set, int smoothing,
                                                    double lambda1, double lambda2);

// Each iteration moves the contour outwards (balloon > 0) or inwards (< 0) where `open` (bool, may
// be null if balloon is 0) is set, then down the slope of the edge map, then smooths. The edge map
// is float16, float32 or float64.
std::unique_ptr<MorphologicalSnake> geodesic_snake(const Array& edge_map, const Array* open,
                                                   const MutableArray& level_set, int smoothing,
                                                   int balloon);

}  // namespace msf
