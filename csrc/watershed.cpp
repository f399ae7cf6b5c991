// Watershed from markers by flooding in order (Meyer 1994, Signal Processing 38(1):113-125).
//
// Voxels enter a queue when a neighbour's basin reaches them and leave it by (key, time of entry);
// a key is at least that of the voxel that let it in. What the kernel makes of that:
//
// 1. Keys never fall, so the first entry of a voxel is the first of its entries to leave: later
//    ones have no lower key and are younger. A voxel therefore enters once, and can be given its
//    label when it enters. With lines, a voxel that leaves next to a voxel that has left with
//    another label becomes line, but lets its neighbours enter all the same: so the flooding is the
//    same as without lines, and lines are drawn afterwards, in the order of leaving, by looking at
//    those voxels alone that lie next to another label. (scikit-image has voxels enter once for
//    each neighbour and label them on leaving; a voxel of a line that leaves again lets in nothing
//    that is not in the queue already.)
// 2. Voxels of one key and one label that follow each other in the queue may change places: what
//    they let in follows each other too, with the same label. So the order of the neighbours does
//    not matter, and markers without a free neighbour need not enter. With lines they enter if
//    they touch another label, as the first of two such markers counts as line for its neighbours.
// 3. Free neighbours are found in a bitmap, which stays in the cache where labels would not. Of
//    several voxels with the current key, first all find whom they let in; then the labels of those
//    are fetched together. The bits around the eighth voxel to come and its label are fetched as
//    well, since a branch that waits for them cannot be guessed: 4096 x 4096 in 0.84 of the time
//    without, 69 million voxels in 0.6 (a busy machine). Where almost every key is another (32 and
//    64 bits), the bits of voxels to come are looked at twice: first to fetch the labels of those
//    that they will let in.
// 4. Where labels are as wide as keys, a free voxel's key lies where its label will, so that one
//    line of memory is fetched for both: 69 million voxels in 0.82 of the time.
//
// One thread floods; all threads set up the bitmaps and count keys. Why not more: who takes a voxel
// between two basins depends on the order of entry over the whole image, so parts of it flooded
// apart cannot be joined without repeating that order. What would keep it is to flood each
// generation of a level (what the generation before it let in) by several threads: in the 8-bit
// gradient of a head, 2764 generations let in 3.7 million voxels, most in generations above 2000.
// But that takes two passes, one that finds for each voxel the first that reaches it, by atomic
// claims of 4 bytes a voxel, and one that writes the queue's levels in order. Tried, generations
// below 512 voxels a thread by one thread: the same labels, in 455 ms with two threads and 770 with
// one, where the same code without claims takes 300 to 350 with one thread and this kernel 110 (a
// 4096 x 4096 gradient: 1500, 2900, 1100 to 1400 and 470). In float32 the generations are mostly of
// one voxel, and there is nothing to share. Nor do bytes that tell the step to a voxel's parent,
// instead of labels, pay: the flood of 4096 x 4096 takes a tenth less, and to follow them to the
// markers takes that again.
#include "kernels/watershed.hpp"
#include "watershed_flood.hpp"
#include "watershed_lines.hpp"
#include "watershed_queue.hpp"

namespace msf {
namespace {

template <class Key, class Index>
using QueueFor =
    std::conditional_t<sizeof(Key) <= 2, LevelQueue<Key, Index>, RangeQueue<Key, Index>>;

template <class Queue, class Key, class Index>
void flood(Flooding& f, const PixelKeys<Key>& keys, std::int64_t n, Bitmap& markers, bool lines) {
  Queue queue(keys, n, lines);
  const auto start = [&](std::int64_t v) { queue.start(keys[v], static_cast<Index>(v)); };
  for_each_front_marker(f.footprint, f.free, markers, lines ? &f.labels : nullptr, n, start);
  Step<Index> step(f);
  Ticker tick(1 << 8);
  queue.run(
      [&](const Index* leaving, std::int64_t count) {
        tick();
        step(leaving, count, [&](std::int64_t w, std::uint64_t was) {
          const Key key = f.keys ? static_cast<Key>(was) : keys[w];
          queue.push(key, static_cast<Index>(w));
        });
      },
      [&](std::int64_t v) { step.fetch(v); });
  if (!lines) return;
  Lines draw(f.footprint, f.labels, markers, n);
  queue.each_left([&](Index* left, std::int64_t count) { draw.draw(left, count); });
}

template <class Key>
void flood(Flooding& f, const PixelKeys<Key>& keys, std::int64_t n, Bitmap& markers, bool lines,
           bool wide) {
  using Narrow = QueueFor<Key, std::uint32_t>;
  if (wide || !Narrow::fits(n))
    flood<QueueFor<Key, std::int64_t>, Key, std::int64_t>(f, keys, n, markers, lines);
  else
    flood<Narrow, Key, std::uint32_t>(f, keys, n, markers, lines);
}

// Voxels that no basin has reached have no label.
void clear(const MutableArray& labels, const Bitmap& unreached) {
  visit_bits(labels.dtype, [&]<class T>(Type<T>) {
    T* const label = labels.as<T>();
    parallel_for(words_for(labels.size()), 1 << 12, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        for (Word left = unreached.words()[i]; left; left &= left - 1)
          label[i * word_bits + std::countr_zero(left)] = 0;
    });
  });
}

}  // namespace

void watershed(const Array& image, const std::optional<Array>& mask, const Steps& steps, bool lines,
               bool wide, const Array& given, const MutableArray& labels) {
  const std::int64_t n = image.size();
  if (n == 0) return;
  const Footprint footprint(image, steps);
  Bitmap free(n, footprint.reach()), markers(n, footprint.reach());
  const bool keys = item_size(image.dtype) <= item_size(labels.dtype);
  set_up(image, mask, given, keys, labels, free, markers);
  Flooding flooding(image, footprint, free, labels, keys);
  visit_bits(image.dtype, [&]<class Key>(Type<Key>) {
    flood(flooding, PixelKeys<Key>(image), n, markers, lines, wide);
  });
  if (keys) clear(labels, free);
}

}  // namespace msf
