// What region growing knows of a region, and how it reads an image of any dtype.
#pragma once

#include <cmath>
#include <cstdint>

#include "array.hpp"

namespace msf {

// Voxels as double, whatever the dtype: a switch that the CPU predicts, in place of one copy of the
// caller's loop for each dtype. 64-bit integers are rounded to double.
class Reader {
 public:
  explicit Reader(const Array& image) : image_(image) {}
  double operator()(std::int64_t i) const {
    return visit(image_.dtype,
                 [&]<class T>(Type<T>) { return static_cast<double>(image_.as<T>()[i]); });
  }

 private:
  const Array& image_;
};

// Running mean and variance without cancellation (Welford 1962, Technometrics 4(3):419-420).
struct RunningStatistics {
  std::int64_t count = 0;
  double mean = 0, squares = 0;  // squares: sum of squared deviations from the mean

  void add(double value) {
    ++count;
    const double deviation = value - mean;
    mean += deviation / static_cast<double>(count);
    squares += deviation * (value - mean);
  }
  // Of the population, as numpy.std.
  double deviation() const { return std::sqrt(squares / static_cast<double>(count)); }
};

}  // namespace msf
