// Watershed from markers by flooding in order (Meyer 1994, Signal Processing 38(1):113-125).
//
// Voxels enter a queue when a neighbour's basin reaches them and leave it by (key, time of entry);
// a key is at least that of the voxel that let it in. What the kernel makes of that:
//
// 1. PixelKeys never fall, so the first entry of a voxel is the first of its entries to leave:
// later
//    ones have no lower key and are younger. A voxel therefore enters once, and can be given its
//    label when it enters. With lines, the label given on entry is provisional: on leaving, a voxel
//    next to a voxel that has left with another label becomes line, and lets its neighbours enter
//    all the same. (scikit-image has voxels enter once for each neighbour and label them on
//    leaving; a voxel of a line that leaves again lets in nothing that is not in the queue
//    already.)
// 2. Voxels of one key and one label that follow each other in the queue may change places: what
//    they let in follows each other too, with the same label. So the order of the neighbours does
//    not matter, and markers without a free neighbour need not enter. With lines they enter if
//    they touch another label, as the first of two such markers counts as line for its neighbours.
// 3. Free neighbours are found in a bitmap, which stays in the cache where labels would not. The
//    cache lines of those that leave soon are fetched ahead.
//
// One thread floods; all threads set up the bitmaps and count levels. Why not more: who takes a
// voxel between two basins depends on the order of entry over the whole image, so parts of it
// flooded apart cannot be joined without repeating that order. What would keep it is to flood each
// generation of a level (what the generation before it let in) by several threads: in the 8-bit
// gradient of a head, 2764 generations let in 3.7 million voxels, most in generations above 2000.
// But that takes two passes, one that finds for each voxel the first that reaches it, by atomic
// claims, and one that counts and writes the queue's levels in order, where one pass does now at 20
// to 40 ns for each voxel let in. Two threads would gain little or nothing; for many it is open.
#include "kernels/watershed.hpp"
#include "watershed_flood.hpp"

namespace msf {
namespace {

// Any footprint, with or without lines.
template <class Queue, class Key, class Index>
void flood(Flooding<Key>& f) {
  const std::int64_t n = f.image.size();
  Queue queue(f.keys, n);
  const auto start = [&](std::int64_t v) { queue.start(f.keys[v], static_cast<Index>(v)); };
  const auto start_where_it_matters = [&](std::int64_t v) {
    const std::uint64_t label = f.labels[v];
    bool matters = false;
    const auto first = [&](std::int64_t) { return !(matters = true); };
    const auto other = [&](std::int64_t w) { return !(matters = f.labels[w] != label); };
    f.footprint.each_set(f.free.words(), v, f.edge[v], first);
    if (!matters) f.footprint.each_set(f.markers.words(), v, f.edge[v], other);
    if (matters) start(v);
  };
  if (f.lines)
    for_each_marker(f.markers, n, start_where_it_matters);
  else
    for_each_front_marker(f.footprint, f.free, f.markers, n, start);
  Ticker tick;
  queue.run([&](Index v, Index ahead) {
    tick();
    prefetch(f.labels.address(ahead));
    for (const Footprint::Block& block : f.footprint.blocks()) {
      for (int i = 0; i < block.singles + block.rows; ++i) {
        const std::int64_t near = static_cast<std::int64_t>(ahead) + block.cells[i].offset;
        prefetch(f.keys.address(near));
        prefetch_to_write(f.labels.address(near));
      }
    }
    const std::uint64_t label = f.labels[v];
    const bool edge = f.edge[v];
    if (f.lines) {
      bool meets = false;
      f.footprint.each_set(f.markers.words(), v, edge, [&](std::int64_t w) {
        meets = f.labels[w] != label;
        return !meets;
      });
      if (!meets)
        f.markers.set(v);
      else if (f.markers[v])
        f.markers.clear(v);
      else
        f.labels.set(v, 0);
    }
    f.footprint.each_set(f.free.words(), v, edge, [&](std::int64_t w) {
      f.free.clear(w);
      f.labels.set(w, label);
      queue.push(f.keys[w], static_cast<Index>(w));
      return true;
    });
  });
}

template <class Key, class Index>
using QueueFor = std::conditional_t<sizeof(Key) <= 2, LevelQueue<Key, Index>, KeyQueue<Key, Index>>;

template <class Key>
void flood(Flooding<Key>& f, bool wide) {
  using Narrow = QueueFor<Key, std::uint32_t>;
  if (wide || !Narrow::fits(f.image.size()))
    return flood<QueueFor<Key, std::int64_t>, Key, std::int64_t>(f);
  if constexpr (sizeof(Key) <= 2)
    if (flood_levels(f)) return;
  flood<Narrow, Key, std::uint32_t>(f);
}

}  // namespace

void watershed(const Array& image, const std::optional<Array>& mask, const Steps& steps, bool lines,
               bool wide, const MutableArray& labels) {
  const std::int64_t n = image.size();
  if (n == 0) return;
  const Footprint footprint(image, steps);
  Bitmap free(n, footprint.reach()), markers(n, footprint.reach());
  set_up(image, mask, labels, free, markers);
  const auto run = [&]<class Key>(Key) {
    Flooding<Key> flooding(image, footprint, free, markers, labels, lines);
    flood(flooding, wide);
  };
  switch (item_size(image.dtype)) {
    case 1:
      return run(std::uint8_t{});
    case 2:
      return run(std::uint16_t{});
    case 4:
      return run(std::uint32_t{});
    default:
      return run(std::uint64_t{});
  }
}

}  // namespace msf
