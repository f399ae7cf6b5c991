// Memory for large tables, in huge pages where the system grants them: a table of hundreds of
// megabytes then costs fewer page faults and TLB misses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "kept_memory.hpp"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace msf {

// Bytes that are not set to anything; kept for the next when they are freed (kept_memory.hpp).
class LargeMemory {
 public:
  explicit LargeMemory(std::size_t bytes) : bytes_(bytes), data_(take_memory(bytes).data) {}
  LargeMemory(const LargeMemory&) = delete;
  LargeMemory& operator=(const LargeMemory&) = delete;
  ~LargeMemory() { give_memory(data_); }

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }

 private:
  std::size_t bytes_;
  std::byte* data_;
};

// Zeros. Of memory that is cleared here at once, a few megabytes are still in the cache when they
// are used; of more, pages are taken as they are first touched, by whichever thread that is.
class Zeroed {
 public:
  explicit Zeroed(std::size_t bytes) : bytes_(bytes), cleared_(bytes <= most_cleared) {
    if (cleared_) {
      const Memory memory = take_memory(bytes);
      data_ = memory.data;
      if (!memory.zeros) std::memset(data_, 0, bytes);
      return;
    }
    memory_ = std::calloc(bytes + huge, 1);
    if (memory_ == nullptr) throw std::bad_alloc();
    const auto address = reinterpret_cast<std::uintptr_t>(memory_);
    data_ = reinterpret_cast<std::byte*>((address + huge - 1) / huge * huge);
#ifdef __linux__
    madvise(data_, bytes / huge * huge, MADV_HUGEPAGE);
#endif
  }
  Zeroed(const Zeroed&) = delete;
  Zeroed& operator=(const Zeroed&) = delete;
  ~Zeroed() { cleared_ ? give_memory(data_) : std::free(memory_); }

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }

 private:
  static constexpr std::size_t huge = std::size_t{1} << 21, most_cleared = std::size_t{1} << 25;
  std::size_t bytes_;
  bool cleared_;
  void* memory_ = nullptr;
  std::byte* data_;
};

// `count` values, not set to anything.
template <class T>
class Scratch {
 public:
  explicit Scratch(std::int64_t count) : memory_(static_cast<std::size_t>(count) * sizeof(T)) {}
  T* get() { return reinterpret_cast<T*>(memory_.data()); }

 private:
  LargeMemory memory_;
};

}  // namespace msf
