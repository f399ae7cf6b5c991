#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "../array.hpp"

namespace msf {

struct SearchLimits {
  std::int64_t pixels = std::numeric_limits<std::int64_t>::max();  // settled in this run
  double cost = std::numeric_limits<double>::infinity();           // of the last pixel to settle
  double seconds = std::numeric_limits<double>::infinity();        // for this run
};

// A search for least costs from seeds, which can be stopped and continued. Pixels are flat indices
// of the image. Not for two threads at once.
class CostSearch {
 public:
  virtual ~CostSearch() = default;
  // Begins anew at these pixels (int64). With labels (int32, one a seed) each pixel gets that of
  // its nearest seed, of equally near ones the least.
  virtual void start(const Array& seeds, const Array* labels) = 0;
  // What run() goes to: it stops when `count` of these pixels (int64) are settled.
  virtual void aim(const Array& ends, std::int64_t count) = 0;
  // Settles pixels in the order of their costs. Returns how many.
  virtual std::int64_t run(const SearchLimits& limits) = 0;

  virtual bool settled(std::int64_t pixel) const = 0;  // whether its cost is the least one
  virtual bool finished() const = 0;                   // whether all that can be reached is settled
  virtual double cost(std::int64_t pixel) const = 0;   // of a settled pixel
  // Coordinates of the pixels from a seed to this one, one after the other; none: not settled.
  virtual std::vector<std::int64_t> path(std::int64_t pixel) const = 0;
  // Costs (float64) of settled pixels, infinity elsewhere; for each pixel the offset of the step to
  // it (int16), -1 at seeds, -2 where no path was found; table[label] of settled pixels, else 0.
  virtual void copy_costs(const MutableArray& out) const = 0;
  virtual void copy_steps(const MutableArray& out) const = 0;
  virtual void copy_labels(const Array& table, const MutableArray& out) const = 0;
};

using Offsets = std::vector<std::vector<std::int64_t>>;  // one step along each axis

// Paths over `costs`. geometric: a step costs the mean of both pixels' costs times its length; else
// the cost of the pixel it enters, and a path also pays for its first pixel. Pixels whose cost is
// negative, infinite, NaN or above `most` are not entered.
std::unique_ptr<CostSearch> search_costs(const Array& costs, const Offsets& offsets,
                                         const std::vector<double>& lengths, bool geometric,
                                         double most);

// A step costs sqrt((spatial * length)^2 + (intensity * difference)^2). NaN pixels are not entered.
std::unique_ptr<CostSearch> search_geodesic(const Array& image, const Offsets& offsets,
                                            const std::vector<double>& lengths, double spatial,
                                            double intensity, bool labelled);

// Live-wire over a 2D image: a step costs its length times (local[q] + weight * f), where f is from
// the angles of the step with the edges at both its ends. `local` is float32; `gradient` (2, rows,
// columns), float32 or float64, in the units of `lengths`.
std::unique_ptr<CostSearch> search_live_wire(const Array& local, const Array& gradient,
                                             const Offsets& offsets,
                                             const std::vector<std::vector<double>>& moves,
                                             double weight);

}  // namespace msf
