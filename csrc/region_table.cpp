// Boxes, sizes and moments of labels, in one pass over their runs. Sums are integers, so threads
// and the order of runs change nothing; squares of indices are added in 128 bits.
#include <algorithm>
#include <vector>

#include "kernels/regions.hpp"
#include "label_runs.hpp"

namespace msf {
namespace {

__extension__ using Wide = __int128;

// One block of numbers per label.
struct Sums {
  int ndim;
  std::vector<std::int64_t> low, high, first;  // (label, axis); first: (label, 1 + axis)
  std::vector<Wide> second;                    // (label, axis, axis at or after it)

  Sums(std::int64_t labels, int ndim)
      : ndim(ndim),
        low(labels * ndim, INT64_MAX),
        high(labels * ndim),
        first(labels * (ndim + 1)),
        second(labels * pairs(ndim)) {}

  static std::int64_t pairs(int ndim) { return ndim * (ndim + 1) / 2; }

  void add(std::int64_t label, std::int64_t begin, std::int64_t end, const std::int64_t* index) {
    const std::int64_t n = end - begin, along = n * begin + n * (n - 1) / 2;
    std::int64_t *const least = &low[label * ndim], *const most = &high[label * ndim];
    std::int64_t* const sum = &first[label * (ndim + 1)];
    Wide* product = &second[label * pairs(ndim)];
    sum[0] += n;
    for (int a = 0; a < ndim - 1; ++a) {
      least[a] = std::min(least[a], index[a]);
      most[a] = std::max(most[a], index[a] + 1);
      sum[1 + a] += n * index[a];
      for (int b = a; b < ndim - 1; ++b) *product++ += Wide{n * index[a]} * index[b];
      *product++ += Wide{along} * index[a];
    }
    least[ndim - 1] = std::min(least[ndim - 1], begin);
    most[ndim - 1] = std::max(most[ndim - 1], end);
    sum[ndim] += along;
    *product +=
        Wide{n * begin} * begin + Wide{begin} * n * (n - 1) + Wide{n} * (n - 1) * (2 * n - 1) / 6;
  }

  void add(const Sums& other) {
    for (std::size_t i = 0; i < low.size(); ++i) {
      low[i] = std::min(low[i], other.low[i]);
      high[i] = std::max(high[i], other.high[i]);
    }
    for (std::size_t i = 0; i < first.size(); ++i) first[i] += other.first[i];
    for (std::size_t i = 0; i < second.size(); ++i) second[i] += other.second[i];
  }
};

}  // namespace

void region_table(const Array& labels, const MutableArray& boxes, const MutableArray& sums,
                  const MutableArray& moments) {
  const std::int64_t count = boxes.shape[0];
  const int ndim = labels.ndim;
  const Slabs slabs = label_slabs(labels, count * (16 * ndim + 16 * Sums::pairs(ndim)));
  std::vector<Sums> parts(slabs.count, Sums(0, ndim));
  slabs.run([&](std::int64_t slab, std::int64_t begin, std::int64_t end) {
    Sums mine(count, ndim);
    for_each_label_run(labels, count, begin, end,
                       [&](std::int64_t label, std::int64_t, std::int64_t from, std::int64_t to,
                           const auto& index) { mine.add(label, from, to, index.data()); });
    parts[slab] = std::move(mine);
  });
  for (std::int64_t slab = 1; slab < slabs.count; ++slab) parts[0].add(parts[slab]);

  const Sums& all = parts[0];
  std::copy(all.first.begin(), all.first.end(), sums.as<std::int64_t>());
  for (std::int64_t label = 0; label < count; ++label) {
    const std::int64_t* const sum = &all.first[label * (ndim + 1)];
    const Wide* product = &all.second[label * Sums::pairs(ndim)];
    std::int64_t* const box = boxes.as<std::int64_t>() + label * 2 * ndim;
    double* const moment = moments.as<double>() + label * ndim * ndim;
    for (int a = 0; a < ndim; ++a) {
      box[a] = sum[0] ? all.low[label * ndim + a] : 0;
      box[ndim + a] = all.high[label * ndim + a];
      for (int b = a; b < ndim; ++b, ++product)
        moment[a * ndim + b] = moment[b * ndim + a] =
            sum[0] ? static_cast<double>(*product * sum[0] - Wide{sum[1 + a]} * sum[1 + b]) /
                         static_cast<double>(sum[0])
                   : 0;
    }
  }
}

void gather_values(const Array& labels, const Array& image, const Array& starts,
                   const MutableArray& values) {
  const std::int64_t count = starts.size() - 1;
  const Slabs slabs = label_slabs(labels, 8 * count);
  // Voxels of each label in each slab, then where the slab's first one goes.
  std::vector<std::int64_t> places(slabs.count * count);
  slabs.run([&](std::int64_t slab, std::int64_t begin, std::int64_t end) {
    std::int64_t* const mine = &places[slab * count];
    for_each_label_run(labels, count, begin, end,
                       [&](std::int64_t label, std::int64_t, std::int64_t from, std::int64_t to,
                           const auto&) { mine[label] += to - from; });
  });
  for (std::int64_t label = 0; label < count; ++label) {
    std::int64_t place = starts.as<std::int64_t>()[label];
    for (std::int64_t slab = 0; slab < slabs.count; ++slab)
      place += std::exchange(places[slab * count + label], place);
  }
  const std::int64_t size = item_size(image.dtype), columns = labels.shape[labels.ndim - 1];
  slabs.run([&](std::int64_t slab, std::int64_t begin, std::int64_t end) {
    std::int64_t* const mine = &places[slab * count];
    for_each_label_run(labels, count, begin, end,
                       [&](std::int64_t label, std::int64_t line, std::int64_t from,
                           std::int64_t to, const auto&) {
                         std::copy_n(image.as<char>() + (line * columns + from) * size,
                                     (to - from) * size, values.as<char>() + mine[label] * size);
                         mine[label] += to - from;
                       });
  });
}

}  // namespace msf
