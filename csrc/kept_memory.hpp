// Large blocks of memory, which are kept when they are freed, for the next that need as much.
//
// A fresh block costs a page fault for each page and the system's clearing of it, which is up to
// half of the time of a kernel that writes each byte once; a kept one costs nothing. Where no kept
// block fits, as many bytes of kept ones go back to the system as the fresh one takes, so that
// keeping raises no peak of what is allocated here.
#pragma once

#include <cstddef>

namespace msf {

// Smaller blocks come from the system's allocator, which keeps them itself.
constexpr std::size_t least_kept = std::size_t{1} << 20;

struct Memory {
  std::byte* data;  // at a multiple of 64, or of a huge page where there are several
  bool zeros;       // fresh pages of the system, not touched yet; else not set to anything
};

Memory take_memory(std::size_t bytes);
// Zeros. Kept memory is cleared by all threads, and up to some megabytes still in the cache when it
// is used; of more than a hundred, fresh pages are taken as they are first touched.
std::byte* take_zeros(std::size_t bytes);
void give_memory(std::byte* data) noexcept;

// How many bytes of freed blocks may be kept: a block above it never is.
std::size_t kept_limit();
void set_kept_limit(std::size_t bytes);
std::size_t kept_bytes();  // that are

}  // namespace msf
