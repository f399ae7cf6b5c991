// Memory for large tables, which is kept for the next when it is freed (kept_memory.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kept_memory.hpp"

namespace msf {

class LargeMemory {
 public:
  LargeMemory(const LargeMemory&) = delete;
  LargeMemory& operator=(const LargeMemory&) = delete;
  ~LargeMemory() { give_memory(data_); }

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }

 protected:
  LargeMemory(std::byte* data, std::size_t bytes) : bytes_(bytes), data_(data) {}

 private:
  std::size_t bytes_;
  std::byte* data_;
};

class Zeroed : public LargeMemory {
 public:
  explicit Zeroed(std::size_t bytes) : LargeMemory(take_zeros(bytes), bytes) {}
};

// `count` values, not set to anything.
template <class T>
class Scratch : private LargeMemory {
 public:
  explicit Scratch(std::int64_t count)
      : LargeMemory(take_memory(size_of(count)).data, size_of(count)) {}
  T* get() { return reinterpret_cast<T*>(data()); }

 private:
  static std::size_t size_of(std::int64_t count) {
    return static_cast<std::size_t>(count) * sizeof(T);
  }
};

}  // namespace msf
