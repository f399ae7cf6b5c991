// Copies past the caches: of what is too large to stay in them, reading what is to be overwritten
// is saved.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "pack.hpp"

namespace msf {

// Bytes of a result from which on it pays: half of a usual last-level cache, of which whoever reads
// the result would find little.
inline constexpr std::int64_t much_for_caches = std::int64_t{16} << 20;

// Whole cache lines are streamed, what is left at both ends is copied. (<immintrin.h> is not
// included for this: after its pragmas GCC 12 forgets -ffp-contract=fast.)
template <std::int64_t width = register_bytes>  // so that builds of two widths may be linked
void stream(const void* source, std::int64_t bytes, void* target) {
  auto* from = static_cast<const std::byte*>(source);
  auto* to = static_cast<std::byte*>(target);
#if defined(__SSE2__)
  using Line = Pack<float, width>;
  constexpr std::int64_t line = 64;
  const std::int64_t before = std::min<std::int64_t>(
      bytes, -reinterpret_cast<std::uintptr_t>(to) & static_cast<std::uintptr_t>(line - 1));
  std::memcpy(to, from, static_cast<std::size_t>(before));
  for (from += before, to += before, bytes -= before; bytes >= line;
       from += line, to += line, bytes -= line)
    for (std::int64_t i = 0; i < Line::count; ++i) {
      const auto v = Line::load(reinterpret_cast<const float*>(from)).part[i];
      auto* const piece = reinterpret_cast<float*>(to) + i * (Line::size / Line::count);
#if defined(__clang__)
      __builtin_nontemporal_store(v, reinterpret_cast<typename Line::Vector*>(piece));
#elif defined(__AVX512F__)
      __builtin_ia32_movntps512(piece, v);
#elif defined(__AVX__)
      __builtin_ia32_movntps256(piece, v);
#else
      __builtin_ia32_movntps(piece, v);
#endif
    }
#endif
  std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

// Before another thread reads what was streamed.
inline void finish_streams() {
#if defined(__SSE2__)
  __builtin_ia32_sfence();
#endif
}

}  // namespace msf
