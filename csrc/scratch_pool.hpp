// Pieces of scratch memory, one for each task that runs at once, allocated up front.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>

namespace msf {

class ScratchPool {
 public:
  ScratchPool(std::int64_t bytes, int pieces)
      : pitch_((bytes + 127) / 64 * 64),
        pieces_(pieces),
        memory_(new std::byte[pitch_ * pieces + 64]()),  // zeros: vectors run past the end of rows
        busy_(new std::atomic<bool>[pieces]()) {}

  // Holds a piece until it goes out of scope.
  class Lease {
   public:
    explicit Lease(ScratchPool& pool) : pool_(pool) {
      for (;;) {
        for (piece_ = 0; piece_ < pool.pieces_; ++piece_)
          if (!pool.busy_[piece_].exchange(true, std::memory_order_acquire)) return;
        std::this_thread::yield();  // more threads than at the plan's making
      }
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() { pool_.busy_[piece_].store(false, std::memory_order_release); }

    std::byte* memory() const {  // at a multiple of 64
      std::byte* const start = pool_.memory_.get();
      return start + (-reinterpret_cast<std::uintptr_t>(start) & 63) + piece_ * pool_.pitch_;
    }

   private:
    ScratchPool& pool_;
    int piece_ = 0;
  };

 private:
  std::int64_t pitch_;
  int pieces_;
  std::unique_ptr<std::byte[]> memory_;
  std::unique_ptr<std::atomic<bool>[]> busy_;
};

}  // namespace msf
