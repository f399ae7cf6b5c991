// Compact watershed (Neubert and Protzel 2014, ICPR, 996-1001): a voxel's cost is its value plus
// the compactness times its distance from the marker voxel that its basin reaches it from.
//
// A voxel may be reached at a lower cost later, so it enters the queue once for each neighbour that
// takes its label before it does, and is labelled when its first entry leaves. All costs are
// float64, and computed in scikit-image's order of operations, so that ties are the same.
#include <cmath>

#include "bucket_queue.hpp"
#include "kernels/watershed.hpp"
#include "statistics.hpp"
#include "watershed.hpp"

namespace msf {
namespace {

struct Entry {
  std::int64_t voxel, source;
};

}  // namespace

void watershed_compact(const Array& image, const std::optional<Array>& mask, const Steps& steps,
                       double compactness, const Array& given, const MutableArray& marked) {
  const std::int64_t n = image.size();
  if (n == 0) return;
  const Footprint footprint(image, steps);
  Bitmap free(n, footprint.reach()), markers(n, footprint.reach());
  set_up(image, mask, given, false, marked, free, markers);
  const Reader value(image);
  Labels labels(marked);
  BucketQueue<std::uint64_t, Entry> above(0);
  std::vector<Entry> level;  // those of the current cost, in order of entry
  for_each_front_marker(footprint, free, markers, nullptr, n, [&](std::int64_t v) {
    const std::uint64_t key = order_key(value(v));
    if (key == 0)
      level.push_back({v, v});
    else
      above.push(key, {v, v});
  });
  std::int64_t at[max_dims], source_at[max_dims];
  Ticker tick(1 << 12);
  do {
    for (std::size_t i = 0; i < level.size(); ++i) {
      tick();
      const auto [v, source] = level[i];
      if (v != source) {
        if (!free[v]) continue;
        free.clear(v);
        labels.set(v, labels[source]);
      }
      footprint.coordinates(v, at);
      footprint.coordinates(source, source_at);
      for (std::int64_t s = 0; s < footprint.count(); ++s) {
        const std::int64_t w = v + footprint.offset(s);
        if (!footprint.inside(s, at) || !free[w]) continue;
        double squares = 0;
        for (int axis = 0; axis < image.ndim; ++axis) {
          const auto away =
              static_cast<double>(at[axis] + footprint.step(s)[axis] - source_at[axis]);
          squares += away * away;
        }
        const std::uint64_t key = order_key(value(w) + compactness * std::sqrt(squares));
        if (key <= above.current())
          level.push_back({w, source});
        else
          above.push(key, {w, source});
      }
    }
    level.clear();
  } while (above.advance([&](const Entry& entry) { level.push_back(entry); }));
}

}  // namespace msf
