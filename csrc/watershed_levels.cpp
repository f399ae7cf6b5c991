// The watershed's hot loop for integers and footprints whose cells are known when compiling: twice
// as fast as the generic one in watershed.cpp, which says how the flooding works.
#include "watershed_flood.hpp"

namespace msf {
namespace {

template <class Key, int singles, int rows>
void flood_known(Flooding<Key>& f) {
  const std::int64_t n = f.image.size();
  const Footprint::Block block = f.footprint.blocks()[0];
  const PixelKeys<Key> keys = f.keys;
  Labels labels = f.labels;
  LevelQueue<Key, std::uint32_t> queue(keys, n);
  for_each_front_marker(f.footprint, f.free, f.markers, n,
                        [&](std::int64_t v) { queue.start(keys[v], v); });
  Ticker tick;
  Word* const free = f.free.words();
  const Word* const edge = f.edge.words();
  queue.run([&](std::int64_t v, std::int64_t ahead) {
    tick();
    for (int i = 0; i < singles + rows; ++i) {
      prefetch(keys.address(ahead + block.cells[i].offset));
      prefetch_to_write(labels.address(ahead + block.cells[i].offset));
    }
    Word found = block.gather<singles, rows>(free, v);
    if (edge[v >> 6] >> (v & 63) & 1) [[unlikely]]
      found &= f.footprint.inside(0, v);
    const std::uint64_t label = labels[v];
    for (; found; found &= found - 1) {
      const std::int64_t w = v + block.offsets[std::countr_zero(found)];
      free[w >> 6] &= ~(Word{1} << (w & 63));
      labels.set(w, label);
      queue.push(keys[w], static_cast<std::uint32_t>(w));
    }
  });
}

}  // namespace

template <class Key>
bool flood_levels(Flooding<Key>& f) {
  const auto& blocks = f.footprint.blocks();
  if (f.lines || blocks.size() != 1 || !LevelQueue<Key, std::uint32_t>::fits(f.image.size()))
    return false;
  const auto has = [&](int singles, int rows) {
    return blocks[0].singles == singles && blocks[0].rows == rows;
  };
  if (has(2, 1))
    flood_known<Key, 2, 1>(f);
  else if (has(4, 1))
    flood_known<Key, 4, 1>(f);
  else if (has(0, 9))
    flood_known<Key, 0, 9>(f);
  else
    return false;
  return true;
}

template bool flood_levels(Flooding<std::uint8_t>&);
template bool flood_levels(Flooding<std::uint16_t>&);

}  // namespace msf
