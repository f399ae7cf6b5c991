// The watershed's hot loop; watershed.cpp says how the flooding works.
//
// What the voxels of a step let in is found first, from the bitmap alone; then their labels and
// values are fetched, many at once, and only those.
#include "watershed_flood.hpp"

#include <utility>

#include "watershed_queue.hpp"

namespace msf {
namespace {

// Labels those let in as the voxels that let them in.
template <class Index>
void hand_on(Flooding& f, const Index* entering, const Index* by, std::int64_t count,
             std::uint64_t* were) {
  for (std::int64_t i = 0; i < count; ++i) {
    prefetch_to_write(f.labels.address(entering[i]));
    if (!f.keys) prefetch(f.value(entering[i]));
  }
  f.labels.visit([&](auto* labels) {
    for (std::int64_t i = 0; i < count; ++i)
      were[i] = std::exchange(labels[entering[i]], labels[by[i]]);
  });
}

// singles, rows: of the footprint's only block, known when compiling; -1 for any footprint.
template <class Index, int singles, int rows>
std::int64_t claim(Flooding& f, const Index* leaving, std::int64_t leaves, Index* entering,
                   Index* by, std::uint64_t* were) {
  constexpr std::int64_t ahead = 8;
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < leaves; ++i) {
    const std::int64_t v = leaving[i];
    if (singles >= 0 && i + ahead < leaves) {  // by a loop of unknown length no time is saved
      const std::int64_t next = leaving[i + ahead];
      const Footprint::Block& block = f.footprint.blocks()[0];
      for (int c = 0; c < singles + rows; ++c)
        prefetch(f.free.words() + ((next + block.cells[c].offset) >> 6));
      prefetch(f.labels.address(next));
      if (!f.keys) prefetch(f.value(next));
    }
    const auto take = [&](std::int64_t w) {
      f.free.clear(w);
      entering[count] = static_cast<Index>(w);
      by[count++] = static_cast<Index>(v);
      return true;
    };
    if constexpr (singles >= 0) {
      const Footprint::Block& block = f.footprint.blocks()[0];
      Word found = f.footprint.gather<singles, rows>(0, f.free.words(), v);
      for (; found; found &= found - 1) take(v + block.offsets[std::countr_zero(found)]);
    } else {
      f.footprint.each_set(f.free.words(), v, take);
    }
  }
  hand_on(f, entering, by, count, were);
  return count;
}

// Reads ahead what it takes to let the neighbours of v in.
template <int singles, int rows>
void fetch(const Flooding& f, std::int64_t v) {
  const auto near = [&](std::int64_t w) {
    if (!f.keys) prefetch(f.value(w));
    prefetch_to_write(f.labels.address(w));
    return true;
  };
  prefetch(f.labels.address(v));
  if constexpr (singles >= 0) {
    const Footprint::Block& block = f.footprint.blocks()[0];
    Word found = block.gather<singles, rows>(f.free.words(), v);
    for (; found; found &= found - 1) near(v + block.offsets[std::countr_zero(found)]);
  } else {
    f.footprint.each_set(f.free.words(), v, near);
  }
}

}  // namespace

template <class Index>
Step<Index>::Step(Flooding& flooding)
    : flooding_(flooding), claim_(claim<Index, -1, -1>), fetch_(msf::fetch<-1, -1>) {
  const Footprint& footprint = flooding.footprint;
  const std::int64_t room = most_leaving * footprint.count();
  entering_.reset(new Index[room]);
  by_.reset(new Index[room]);
  were_.reset(new std::uint64_t[room]);
  if constexpr (sizeof(Index) < 8) {
    if (footprint.blocks().size() != 1) return;
    const Footprint::Block& block = footprint.blocks()[0];
    const auto use = [&]<int singles, int rows>() {
      if (block.singles == singles && block.rows == rows)
        claim_ = claim<Index, singles, rows>, fetch_ = msf::fetch<singles, rows>;
    };
    use.template operator()<2, 1>();  // 4, 6 and 26 neighbours
    use.template operator()<4, 1>();
    use.template operator()<0, 9>();
  }
}

template class Step<std::uint32_t>;
template class Step<std::int64_t>;

}  // namespace msf
