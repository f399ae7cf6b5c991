#include "watershed.hpp"

namespace msf {

void set_up(const Array& image, const std::optional<Array>& mask, const Array& given, bool keys,
            const MutableArray& labels, Bitmap& free, Bitmap& markers) {
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
  visit_bits(labels.dtype, [&]<class T>(Type<T>) {
    const T* const from = given.as<T>();
    T* const label = labels.as<T>();
    const auto start = [&](auto&& free_label) {
      in_words([&](std::int64_t i, std::int64_t begin, std::int64_t end) {
        const Word allowed = free.words()[i];
        std::uint8_t bytes[word_bits] = {};
        for (std::int64_t v = begin; v < end; ++v) {
          bytes[v - begin] = from[v] != 0;
          label[v] = from[v] != 0 ? from[v] : free_label(v);
        }
        const Word marked = nonzero_bits(bytes);
        markers.words()[i] = marked & allowed;
        free.words()[i] = allowed & ~marked;
        if (allowed == 0) {
          std::fill(label + begin, label + end, T{0});
        } else {
          for (std::int64_t v = begin; ~allowed && v < end; ++v)
            if (!(allowed >> (v - begin) & 1)) label[v] = 0;
        }
      });
    };
    if (!keys) return start([](std::int64_t) { return T{0}; });
    visit_bits(image.dtype, [&]<class Key>(Type<Key>) {
      const PixelKeys<Key> key(image);
      start([&](std::int64_t v) { return static_cast<T>(key[v]); });
    });
  });
}

}  // namespace msf
