// Transposes a matrix in blocks of 4 x 4 that stay in registers.
#pragma once

#include <cstdint>
#include <cstring>

namespace msf {

// to[c * to_pitch + r] = from[r * from_pitch + c] for r < rows, c < columns. Four rows at a time,
// so that rows a power of two apart do not push each other out of the cache.
template <class T>
[[gnu::noinline]] void transpose(const T* from, std::int64_t from_pitch, T* to,
                                 std::int64_t to_pitch, std::int64_t rows, std::int64_t columns) {
  using Four [[gnu::vector_size(4 * sizeof(T))]] = T;
  const auto load = [&](std::int64_t r, std::int64_t c) {
    Four v;
    std::memcpy(&v, from + r * from_pitch + c, sizeof v);
    return v;
  };
  const auto store = [&](std::int64_t r, std::int64_t c, Four v) {
    std::memcpy(to + c * to_pitch + r, &v, sizeof v);
  };
  const auto plainly = [&](std::int64_t r0, std::int64_t r1, std::int64_t c0, std::int64_t c1) {
    for (std::int64_t c = c0; c < c1; ++c)
      for (std::int64_t r = r0; r < r1; ++r) to[c * to_pitch + r] = from[r * from_pitch + c];
  };
  const std::int64_t whole_rows = rows & ~std::int64_t{3}, whole = columns & ~std::int64_t{3};
  for (std::int64_t r = 0; r < whole_rows; r += 4)
    for (std::int64_t c = 0; c < whole; c += 4) {
      const Four a = load(r, c), b = load(r + 1, c), d = load(r + 2, c), e = load(r + 3, c);
      const Four ad0 = __builtin_shufflevector(a, d, 0, 4, 1, 5);
      const Four ad1 = __builtin_shufflevector(a, d, 2, 6, 3, 7);
      const Four be0 = __builtin_shufflevector(b, e, 0, 4, 1, 5);
      const Four be1 = __builtin_shufflevector(b, e, 2, 6, 3, 7);
      store(r, c, __builtin_shufflevector(ad0, be0, 0, 4, 1, 5));
      store(r, c + 1, __builtin_shufflevector(ad0, be0, 2, 6, 3, 7));
      store(r, c + 2, __builtin_shufflevector(ad1, be1, 0, 4, 1, 5));
      store(r, c + 3, __builtin_shufflevector(ad1, be1, 2, 6, 3, 7));
    }
  plainly(whole_rows, rows, 0, columns);
  plainly(0, whole_rows, whole, columns);
}

}  // namespace msf
