#include "kept_memory.hpp"

#include <pthread.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

#include "parallel.hpp"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace msf {
namespace {

constexpr std::size_t huge = std::size_t{1} << 21, line = 64;

// Right in front of a block's first byte.
struct Head {
  void* memory;  // what the system gave
  std::size_t mapped, bytes;
};
static_assert(sizeof(Head) <= line);

Head& head_of(std::byte* data) { return reinterpret_cast<Head*>(data)[-1]; }

Memory fresh(std::size_t bytes) {
  if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
  const std::size_t align = bytes < 2 * huge ? line : huge;
  Head head{nullptr, bytes + line + align, bytes};
  const bool small = bytes < least_kept;
#ifdef __linux__
  if (small) {
    head.memory = std::malloc(head.mapped);
  } else {
    head.memory =
        mmap(nullptr, head.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (head.memory == MAP_FAILED) head.memory = nullptr;
  }
#else
  head.memory = small ? std::malloc(head.mapped) : std::calloc(head.mapped, 1);
#endif
  if (head.memory == nullptr) throw std::bad_alloc();
  const std::uintptr_t first = reinterpret_cast<std::uintptr_t>(head.memory) + line;
  auto* const data = reinterpret_cast<std::byte*>((first + align - 1) / align * align);
  head_of(data) = head;
#ifdef __linux__
  if (align == huge) madvise(data, bytes / huge * huge, MADV_HUGEPAGE);
#endif
  return {data, !small};
}

void release(std::byte* data) {
  const Head head = head_of(data);
#ifdef __linux__
  if (head.bytes >= least_kept) {
    munmap(head.memory, head.mapped);
    return;
  }
#endif
  std::free(head.memory);
}

class Kept {
 public:
  std::size_t limit() {
    const std::lock_guard lock(mutex);
    return limit_;
  }
  void set_limit(std::size_t bytes) {
    const std::lock_guard lock(mutex);
    limit_ = bytes;
    release_to(bytes);
  }
  std::size_t bytes() {
    const std::lock_guard lock(mutex);
    return bytes_;
  }

  // The smallest block that fits without wasting a third of it, or null.
  std::byte* take(std::size_t wanted) {
    const std::lock_guard lock(mutex);
    auto best = blocks_.end();
    for (auto i = blocks_.begin(); i != blocks_.end(); ++i) {
      const std::size_t size = head_of(*i).bytes;
      if (size < wanted || size - wanted > wanted / 2) continue;
      if (best == blocks_.end() || size < head_of(*best).bytes) best = i;
    }
    if (best == blocks_.end()) return nullptr;
    std::byte* const data = *best;
    blocks_.erase(best);
    bytes_ -= head_of(data).bytes;
    return data;
  }

  // Before `wanted` bytes come from the system.
  void make_room(std::size_t wanted) {
    const std::lock_guard lock(mutex);
    release_to(bytes_ - std::min(bytes_, wanted));
  }

  void give(std::byte* data) {
    const std::lock_guard lock(mutex);
    const std::size_t size = head_of(data).bytes;
    if (size > limit_) return release(data);
    release_to(limit_ - size);
    blocks_.push_back(data);
    bytes_ += size;
  }

  std::mutex mutex;

 private:
  // The oldest go first.
  void release_to(std::size_t most) {
    auto i = blocks_.begin();
    for (; bytes_ > most; ++i) {
      bytes_ -= head_of(*i).bytes;
      release(*i);
    }
    blocks_.erase(blocks_.begin(), i);
  }

  std::vector<std::byte*> blocks_;
  std::size_t bytes_ = 0, limit_ = 0;
};

// Never destroyed: arrays outlive the module at exit.
Kept& kept() {
  static Kept* const all = [] {
    auto* const made = new Kept;
    static Kept* const forked = made;
    // Whoever forks holds the lock meanwhile, so the child's is free.
    pthread_atfork([] { forked->mutex.lock(); }, [] { forked->mutex.unlock(); },
                   [] { forked->mutex.unlock(); });
    return made;
  }();
  return *all;
}

}  // namespace

Memory take_memory(std::size_t bytes) {
  if (bytes >= least_kept) {
    if (std::byte* const data = kept().take(bytes)) return {data, false};
    kept().make_room(bytes);
  }
  return fresh(bytes);
}

std::byte* take_zeros(std::size_t bytes) {
  constexpr std::size_t most_cleared = std::size_t{1} << 27, piece = std::size_t{1} << 20;
  if (bytes > most_cleared) {
    kept().make_room(bytes);
    return fresh(bytes).data;
  }
  const Memory memory = take_memory(bytes);
  if (memory.zeros) return memory.data;
  try {
    parallel_for(static_cast<std::int64_t>(bytes), piece,
                 [&](std::int64_t begin, std::int64_t end) {
                   std::memset(memory.data + begin, 0, static_cast<std::size_t>(end - begin));
                 });
  } catch (...) {  // interrupted
    give_memory(memory.data);
    throw;
  }
  return memory.data;
}

void give_memory(std::byte* data) noexcept {
  if (data == nullptr) return;
  if (head_of(data).bytes < least_kept) return release(data);
  kept().give(data);
}

std::size_t kept_limit() { return kept().limit(); }
void set_kept_limit(std::size_t bytes) { kept().set_limit(bytes); }
std::size_t kept_bytes() { return kept().bytes(); }

}  // namespace msf
