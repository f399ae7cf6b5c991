#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "array.hpp"

namespace msf {

// A real-valued level set of two or three dimensions, negative inside, that moves in a narrow band.
class LevelSet {
 public:
  struct Step {
    double energy;  // before the step
    double rms;     // of the change of the active voxels, in sides of the smallest voxel
  };

  virtual ~LevelSet() = default;
  // Up to `iterations` steps; fewer where the surface has vanished or a step's rms is at most
  // `tolerance`.
  virtual std::vector<Step> iterate(std::int64_t iterations, double tolerance) = 0;
  virtual void mask(const MutableArray& out) = 0;  // bool: inside
  // Writes the values of the band to float32 distances, and takes `shift` off the others.
  virtual void overlay(const MutableArray& out, double shift) = 0;
};

// init: bool mask or float32 level set. spacing in mm along planes, rows, columns. The image must
// outlive the object.
struct GeodesicWeights {
  double propagation, curvature, advection;
};
std::unique_ptr<LevelSet> geodesic_level_set(const Array& speed, const Array& init,
                                             const std::array<double, 3>& spacing,
                                             const GeodesicWeights& weights);

struct RegionWeights {
  double mu, nu, lambda1, lambda2;
};
// Any dtype; values are taken as (value - low) * scale.
std::unique_ptr<LevelSet> region_level_set(const Array& image, double low, double scale,
                                           const Array& init, const std::array<double, 3>& spacing,
                                           const RegionWeights& weights);

}  // namespace msf
