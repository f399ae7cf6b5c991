#include "kernels/watershed.hpp"

#include "watershed.hpp"
#include "watershed_queue.hpp"

namespace msf {
namespace {

inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
inline void prefetch_to_write(const void* p) { __builtin_prefetch(p, 1, 3); }

template <class Key>
struct Flooding {
  const Array& image;
  const Footprint& footprint;
  Bitmap &free, &markers, edge;
  Keys<Key> keys;
  Labels labels;
  bool lines;

  Flooding(const Array& image, const Footprint& footprint, Bitmap& free, Bitmap& markers,
           const MutableArray& labels, bool lines)
      : image(image),
        footprint(footprint),
        free(free),
        markers(markers),
        edge(image.size(), 0),
        keys(image),
        labels(labels),
        lines(lines) {
    footprint.mark_edge(edge.words());
  }
};

// Any footprint, with or without lines.
template <class Queue, class Key, class Index>
void flood(Flooding<Key>& f) {
  const std::int64_t n = f.image.size();
  Queue queue(f.keys, n);
  const auto start = [&](std::int64_t v) { queue.start(f.keys[v], static_cast<Index>(v)); };
  if (f.lines)
    for_each_marker(f.markers, n, start);
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

// No lines, 8 or 16 bits, and a footprint that is known when compiling.
template <class Key, int singles, int rows>
void flood_levels(Flooding<Key>& f) {
  const std::int64_t n = f.image.size();
  const Footprint::Block block = f.footprint.blocks()[0];
  const Keys<Key> keys = f.keys;
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

template <class Key, class Index>
using QueueFor = std::conditional_t<sizeof(Key) <= 2, LevelQueue<Key, Index>, KeyQueue<Key, Index>>;

template <class Key>
void flood(Flooding<Key>& f, bool wide) {
  using Narrow = QueueFor<Key, std::uint32_t>;
  if (wide || !Narrow::fits(f.image.size()))
    return flood<QueueFor<Key, std::int64_t>, Key, std::int64_t>(f);
  if constexpr (sizeof(Key) <= 2) {
    const auto& blocks = f.footprint.blocks();
    const auto has = [&](int singles, int rows) {
      return blocks.size() == 1 && blocks[0].singles == singles && blocks[0].rows == rows;
    };
    if (!f.lines) {
      if (has(2, 1)) return flood_levels<Key, 2, 1>(f);  // 4 neighbours
      if (has(4, 1)) return flood_levels<Key, 4, 1>(f);  // 6
      if (has(0, 9)) return flood_levels<Key, 0, 9>(f);  // 26
    }
  }
  flood<Narrow, Key, std::uint32_t>(f);
}

}  // namespace

void set_up(const Array& image, const std::optional<Array>& mask, const MutableArray& labels,
            Bitmap& free, Bitmap& markers) {
  const std::int64_t n = image.size();
  const auto in_words = [&](auto&& word_of) {
    parallel_for(words_for(n), 1 << 10, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        word_of(i, i * word_bits, std::min(n, (i + 1) * word_bits));
    });
  };
  // Bits of what lies inside go to `free` first.
  const auto* const inside = mask ? mask->as<std::uint8_t>() : nullptr;
  visit(image.dtype, [&]<class T>(Type<T>) {
    in_words([&](std::int64_t i, std::int64_t begin, std::int64_t end) {
      std::uint8_t bytes[word_bits] = {};
      for (std::int64_t v = begin; v < end; ++v) {
        bytes[v - begin] = inside ? inside[v] : 1;
        if constexpr (is_float<T>) bytes[v - begin] &= image.as<T>()[v] == image.as<T>()[v];
      }
      free.words()[i] = nonzero_bits(bytes);
    });
  });
  const auto with_labels = [&]<class T>(T* label) {
    in_words([&](std::int64_t i, std::int64_t begin, std::int64_t end) {
      std::uint8_t bytes[word_bits] = {};
      for (std::int64_t v = begin; v < end; ++v) bytes[v - begin] = label[v] != 0;
      const Word marked = nonzero_bits(bytes), allowed = free.words()[i];
      markers.words()[i] = marked & allowed;
      free.words()[i] = allowed & ~marked;
      for (Word barred = marked & ~allowed; barred; barred &= barred - 1)
        label[begin + std::countr_zero(barred)] = 0;
    });
  };
  switch (item_size(labels.dtype)) {
    case 1:
      return with_labels(labels.as<std::uint8_t>());
    case 2:
      return with_labels(labels.as<std::uint16_t>());
    case 4:
      return with_labels(labels.as<std::uint32_t>());
    default:
      return with_labels(labels.as<std::uint64_t>());
  }
}

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
