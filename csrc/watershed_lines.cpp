#include "watershed_lines.hpp"

#include <set>

#include "watershed_flood.hpp"

namespace msf {

Lines::Lines(const Footprint& footprint, const Labels& labels, Bitmap& left, std::int64_t voxels)
    : footprint_(footprint), labels_(labels), left_(left), fronts_(voxels, 0) {
  std::set<std::int64_t> offsets;  // both ways, as one of two neighbours may not be the other's
  for (std::int64_t n = 0; n < footprint.count(); ++n)
    offsets.insert({footprint.offset(n), -footprint.offset(n)});
  parallel_for(words_for(voxels), 1 << 10, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      for (const std::int64_t offset : offsets)
        fronts_.words()[i] |= labels.differ(i * word_bits, offset, voxels);
  });
}

template <class Index>
void Lines::draw(Index* voxels, std::int64_t count) {
  constexpr std::int64_t ahead = 8;
  std::int64_t fronts = 0;
  Ticker tick(1 << 18);
  for (std::int64_t i = 0; i < count; ++i) {
    tick();
    const Index v = voxels[i];
    voxels[fronts] = v;
    fronts += fronts_[v];
  }
  labels_.visit([&](auto* labels) {
    for (std::int64_t i = 0; i < fronts; ++i) {
      tick();
      if (i + ahead < fronts) {
        const std::int64_t next = voxels[i + ahead];
        for (std::int64_t n = 0; n < footprint_.count(); ++n)
          prefetch(labels + next + footprint_.offset(n));
      }
      const std::int64_t v = voxels[i];
      bool meets = false;
      footprint_.each_set(left_.words(), v, [&](std::int64_t w) {
        meets = labels[w] != labels[v];
        return !meets;
      });
      if (!meets)
        left_.set(v);
      else if (left_[v])
        left_.clear(v);  // a marker keeps its label, but counts as line
      else
        labels[v] = 0;
    }
  });
}

template void Lines::draw(std::uint32_t*, std::int64_t);
template void Lines::draw(std::int64_t*, std::int64_t);

}  // namespace msf
