// Sums of intensities and of their places by label. Lines are cut into parts whose number depends
// on the image alone and whose sums are added in order, so that rounding does not depend on
// threads.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/regions.hpp"
#include "label_runs.hpp"
#include "load_values.hpp"

namespace msf {

void weighted_sums(const Array& labels, const Array& image, const MutableArray& out) {
  const std::int64_t lines = lines_of(labels), columns = labels.shape[labels.ndim - 1];
  const std::int64_t count = out.shape[0], width = out.shape[1], size = out.size();
  // At most a byte of sums per voxel.
  const std::int64_t parts =
      std::clamp<std::int64_t>(labels.size() / std::max<std::int64_t>(1 << 16, 8 * size), 1, 64);
  std::vector<double> sums(parts * size);
  parallel_tasks(parts, [&](std::int64_t part) {
    double* const mine = sums.data() + part * size;
    std::vector<double> values(columns);
    std::int64_t loaded = -1;
    for_each_label_run(labels, count, lines * part / parts, lines * (part + 1) / parts,
                       [&](std::int64_t label, std::int64_t line, std::int64_t from,
                           std::int64_t to, const auto& index) {
                         if (line != loaded) {
                           load_values(image, line * columns, columns, 1,
                                       -std::numeric_limits<double>::infinity(), values.data());
                           loaded = line;
                         }
                         double weight = 0, along = 0;
                         for (std::int64_t x = from; x < to; ++x) {
                           const double value = std::isnan(values[x]) ? 0 : values[x];
                           weight += value;
                           along += value * static_cast<double>(x);
                         }
                         double* const sum = mine + label * width;
                         sum[0] += weight;
                         for (std::size_t axis = 0; axis < index.size(); ++axis)
                           sum[1 + axis] += weight * static_cast<double>(index[axis]);
                         sum[width - 1] += along;
                       });
  });
  double* const total = out.as<double>();
  std::copy_n(sums.begin(), size, total);
  for (std::int64_t part = 1; part < parts; ++part)
    for (std::int64_t i = 0; i < size; ++i) total[i] += sums[part * size + i];
}

}  // namespace msf
