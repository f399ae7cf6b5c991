#include "kernels/watershed.hpp"

#include <limits>

#include "watershed.hpp"
#include "watershed_queue.hpp"

namespace msf {
namespace {

inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
inline void prefetch_to_write(const void* p) { __builtin_prefetch(p, 1, 3); }

template <class Queue, class Key, class Index, bool lines>
void flood(const Array& image, const Footprint& footprint, Bitmap& free, Bitmap& markers,
           Labels labels) {
  const std::int64_t n = image.size();
  const Keys<Key> keys(image);
  Queue queue(keys, n);
  const auto start = [&](std::int64_t v) { queue.start(keys[v], static_cast<Index>(v)); };
  if constexpr (lines)
    for_each_marker(markers, n, start);
  else
    for_each_front_marker(footprint, free, markers, n, start);
  Bitmap edge(n);
  footprint.mark_edge(edge.words());
  Ticker tick;
  queue.run([&](Index v, Index ahead) {
    tick();
    prefetch(labels.address(ahead));
    footprint.each_row([&](std::int64_t offset) {
      const std::int64_t near = static_cast<std::int64_t>(ahead) + offset;
      prefetch(keys.address(near));
      prefetch_to_write(labels.address(near));
    });
    const std::uint64_t label = labels[v];
    if constexpr (lines) {
      bool meets = false;
      footprint.each_set(markers.words(), v, edge[v], [&](std::int64_t w) {
        meets = labels[w] != label;
        return !meets;
      });
      if (!meets)
        markers.set(v);
      else if (markers[v])
        markers.clear(v);
      else
        labels.set(v, 0);
    }
    footprint.each_set(free.words(), v, edge[v], [&](std::int64_t w) {
      free.clear(w);
      labels.set(w, label);
      queue.push(keys[w], static_cast<Index>(w));
      return true;
    });
  });
}

template <class Key, class Index>
void flood(const Array& image, const Footprint& footprint, Bitmap& free, Bitmap& markers,
           bool lines, Labels labels) {
  using Queue = std::conditional_t<sizeof(Key) <= 2, LevelQueue<Key, Index>, KeyQueue<Key, Index>>;
  if (lines)
    flood<Queue, Key, Index, true>(image, footprint, free, markers, labels);
  else
    flood<Queue, Key, Index, false>(image, footprint, free, markers, labels);
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
      free.words()[i] = pack64(bytes);
    });
  });
  const auto with_labels = [&]<class T>(T* label) {
    in_words([&](std::int64_t i, std::int64_t begin, std::int64_t end) {
      std::uint8_t bytes[word_bits] = {};
      for (std::int64_t v = begin; v < end; ++v) bytes[v - begin] = label[v] != 0;
      const Word marked = pack64(bytes), allowed = free.words()[i];
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
  Bitmap free(n), markers(n);
  set_up(image, mask, labels, free, markers);
  const Footprint footprint(image, steps);
  wide = wide || n > std::numeric_limits<std::uint32_t>::max();
  visit(image.dtype, [&]<class T>(Type<T>) {
    if (wide)
      flood<OrderKey<T>, std::int64_t>(image, footprint, free, markers, lines, Labels(labels));
    else
      flood<OrderKey<T>, std::uint32_t>(image, footprint, free, markers, lines, Labels(labels));
  });
}

}  // namespace msf
