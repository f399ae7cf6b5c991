// The extreme of several rows, element by element: the one loop of all morphology.
//
// Vectors are said outright (GCC's and Clang's generic ones, any instruction set): nothing else
// tells g++ 12 that an output which is also an input needs no check and no scalar twin.
#pragma once

#include <cstdint>

#include "morphology.hpp"

namespace msf::morphology {

inline constexpr Index vector_bytes = 32;

template <class K>
using Vector [[gnu::vector_size(vector_bytes), gnu::aligned(sizeof(K)), gnu::may_alias]] = K;

template <class K>
struct Least {
  using Cell = K;
  static void join(Vector<K>& best, const Vector<K>& other) { best = other < best ? other : best; }
};
template <class K>
struct Greatest {
  using Cell = K;
  static void join(Vector<K>& best, const Vector<K>& other) { best = best < other ? other : best; }
};
template <class K>
struct Common {
  using Cell = K;
  static void join(Vector<K>& best, const Vector<K>& other) { best &= other; }
};

// N vectors at `offset` bytes of each of `count` rows.
template <class Op, int N>
void combine_block(const void* const* rows, int count, void* to, Index offset) {
  using V = Vector<typename Op::Cell>;
  const auto at = [&](int k) {
    return reinterpret_cast<const V*>(static_cast<const char*>(rows[k]) + offset);
  };
  V best[N];
  for (int i = 0; i < N; ++i) best[i] = at(0)[i];
  for (int k = 1; k < count; ++k)
    for (int i = 0; i < N; ++i) Op::join(best[i], at(k)[i]);
  V* const out = reinterpret_cast<V*>(static_cast<char*>(to) + offset);
  for (int i = 0; i < N; ++i) out[i] = best[i];
}

template <class Op, int Count>
void combine_few(const void* const* rows, void* to, Index bytes) {
  const void* in[Count];
  for (int k = 0; k < Count; ++k) in[k] = rows[k];
  for (Index i = 0; i < bytes; i += vector_bytes) combine_block<Op, 1>(in, Count, to, i);
}

// See Cells::combine. A vector is read before it is written, so `to` may be one of the first
// four rows, and all of them shifted forward from it.
template <class Op>
void combine(const void* const* rows, int count, void* to, Index n) {
  const Index bytes = n * Index{sizeof(typename Op::Cell)};
  switch (count) {
    case 1:
      return combine_few<Op, 1>(rows, to, bytes);
    case 2:
      return combine_few<Op, 2>(rows, to, bytes);
    case 3:
      return combine_few<Op, 3>(rows, to, bytes);
    case 4:
      return combine_few<Op, 4>(rows, to, bytes);
    default:
      break;
  }
  constexpr int many = 4;
  Index i = 0;
  for (; i + many * vector_bytes <= bytes; i += many * vector_bytes)
    combine_block<Op, many>(rows, count, to, i);
  for (; i < bytes; i += vector_bytes) combine_block<Op, 1>(rows, count, to, i);
}

}  // namespace msf::morphology
